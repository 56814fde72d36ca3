//! Golden files: from a node description, the whole output byte for byte. That is the spec, the table, the messages
//! and the exit codes of the real program. Each description is a case: on a simulated node for anyone, and on a fake
//! host, with a real dlopen of the fake driver, for root.
//!
//! `cargo xtask golden` writes the current output of the fake hosts into the files; read the diff.

use crate::{FakeHost, Run, mig_cdi, project, run};
use mig_cdi_sim::PRESETS;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

type Files = BTreeMap<String, String>;

/// Node description, and the directory of its expected output.
#[derive(Debug, Clone)]
pub struct GoldenCase {
    /// `presets::a100-80gb`, `faults::lost-gpu`.
    pub name: String,
    description: String,
    dir: PathBuf,
}

/// Returns all cases: the presets, and the directories of `tests/golden/faults`.
///
/// # Panics
/// When a description cannot be read.
#[must_use]
pub fn cases() -> Vec<GoldenCase> {
    let golden = project().join("tests/golden");
    let presets = PRESETS.map(|(name, description)| GoldenCase {
        name: format!("presets::{name}"),
        description: description.to_owned(),
        dir: golden.join("presets").join(name),
    });
    let faults = fs::read_dir(golden.join("faults")).expect("the cases are there");
    let mut faults: Vec<_> = faults.map(|entry| entry.expect("an entry").path()).collect();
    faults.sort();
    assert!(faults.len() >= 30, "the faulty nodes are there");
    let faults = faults.into_iter().map(|dir| GoldenCase {
        name: format!("faults::{}", dir.file_name().expect("a name").display()),
        description: fs::read_to_string(dir.join("node.toml")).expect("a description"),
        dir,
    });
    presets.into_iter().chain(faults).collect()
}

impl GoldenCase {
    /// Asserts that the simulated node gives the expected output.
    ///
    /// # Panics
    /// When it does not.
    pub fn check_simulated(&self) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::write(path("node.toml"), &self.description).expect("write the description");
        fs::create_dir(path("cdi")).expect("make a directory");
        let simulated = |args: &[&str]| {
            let run = run(&mut mig_cdi(args.iter().chain(&["--node", &path("node.toml")])));
            let tidy = |text: String| text.replace(&dir.path().display().to_string(), "TMP");
            Run { code: run.code, stdout: tidy(run.stdout), stderr: tidy(run.stderr) }
        };
        let output = format!("--output={}", path("cdi/nvidia.com-mig.json"));
        let generated = simulated(&["generate", &output]);
        let found = files(&generated, simulated(&["list"]), &dir.path().join("cdi"));
        let printed = simulated(&["generate", "--output=-"]);
        let spec = found.get("nvidia.com-mig.json").map_or("", String::as_str);
        similar_asserts::assert_eq!(printed.stdout, spec, "{}", printed.stderr);
        assert_eq!(printed.code, generated.code, "{}", printed.stderr);
        let expected = self.read().into_iter().map(|(name, text)| (name, of_simulated(&text)));
        self.assert_same(&found, &expected.collect(), &generated.stderr);
    }

    /// Asserts that the fake host gives the expected output, or writes it if `UPDATE_GOLDEN` is set.
    ///
    /// # Panics
    /// When it does not, or without root.
    pub fn check_fake_host(&self) {
        let host = FakeHost::with_nodes(&self.description);
        let generated = host.generate(&[]);
        let found = files(&generated, host.run(&["list"]), &host.out());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            return self.replace(&found);
        }
        self.assert_same(&found, &self.read(), &generated.stderr);
    }

    fn assert_same(&self, found: &Files, expected: &Files, stderr: &str) {
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(found), names(expected), "files of {}: {stderr}", self.dir.display());
        for (name, content) in found {
            let path = self.dir.join(name);
            similar_asserts::assert_eq!(content, &expected[name], "{}: {stderr}", path.display());
        }
    }

    fn replace(&self, files: &Files) {
        fs::create_dir_all(&self.dir).expect("make the directory");
        for name in self.read().keys() {
            fs::remove_file(self.dir.join(name)).expect("remove an old file");
        }
        for (name, content) in files {
            fs::write(self.dir.join(name), content).expect("write a file");
        }
    }

    /// Returns the expected files. The description is among them on disk, but is input.
    fn read(&self) -> Files {
        let mut files = read_files(&self.dir);
        files.remove("node.toml");
        files
    }
}

/// Returns the files that the runs give, with what they wrote into a directory.
fn files(generated: &Run, listed: Run, dir: &Path) -> Files {
    let mut files = read_files(dir);
    files.remove(".mig-cdi.lock");
    files.insert("exit.txt".into(), format!("generate {}\nlist {}\n", generated.code, listed.code));
    files.insert("generate.txt".into(), format!("{}{}", generated.stdout, generated.stderr));
    files.insert("list.txt".into(), listed.stdout + &listed.stderr);
    files
}

/// Converts the output of a fake host to that of a simulated node, which has no directory and no path of its library.
fn of_simulated(text: &str) -> String {
    const LIBRARY: &str = "TMP/root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";
    text.replace(LIBRARY, "libnvidia-ml.so.1 of the simulated node")
        .replace("TMP/root/", "/")
        .replace(" devices, cdi", " devices of a simulated node, cdi")
        .replace(" device, cdi", " device of a simulated node, cdi")
}

fn read_files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").display().to_string();
    paths.map(|path| (name(&path), fs::read_to_string(&path).expect("text"))).collect()
}
