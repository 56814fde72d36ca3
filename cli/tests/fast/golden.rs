//! Golden files: from a node description, the whole output byte for byte. That is the spec, the table, the messages
//! and the exit codes, of the real program with a real dlopen of a fake driver.
//!
//! `cargo xtask golden` writes the current output into the files; read the diff.

use mig_cdi_sim::PRESETS;
use mig_cdi_tests::{FakeHost, Run, mig_cdi, project, run};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

type Files = BTreeMap<String, String>;

/// Returns all output for a node description.
fn output(description: &str) -> Files {
    let host = FakeHost::new(description);
    let generated = host.generate(&[]);
    let listed = host.run(&["list"]);
    let mut files = Files::new();
    files.insert("exit.txt".into(), format!("generate {}\nlist {}\n", generated.code, listed.code));
    files.insert("generate.txt".into(), format!("{}{}", generated.stdout, generated.stderr));
    files.insert("list.txt".into(), listed.stdout + &listed.stderr);
    for entry in fs::read_dir(host.out()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == ".mig-cdi.lock" {
            continue;
        }
        files.insert(name, fs::read_to_string(entry.path()).unwrap());
    }
    simulated_is_the_same(description, &files, &generated);
    files
}

/// Asserts that the simulated node gives the same bytes and exit code as the fake host.
fn simulated_is_the_same(description: &str, files: &Files, generated: &Run) {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.toml");
    fs::write(&node, description).unwrap();
    let node = node.to_str().unwrap();
    let simulated = run(&mut mig_cdi(["generate", "--output=-", "--node", node]));
    let spec = files.get("nvidia.com-mig.json").map_or("", String::as_str);
    similar_asserts::assert_eq!(simulated.stdout, spec, "simulated and fake host differ");
    assert_eq!(simulated.code, generated.code, "{}", simulated.stderr);
}

fn check(dir: &Path, description: &str) {
    let found = output(description);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(dir).unwrap();
        for name in read(dir).keys() {
            fs::remove_file(dir.join(name)).unwrap();
        }
        for (name, content) in &found {
            fs::write(dir.join(name), content).unwrap();
        }
        return;
    }
    let expected = read(dir);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "files of {}", dir.display());
    for (name, content) in &found {
        similar_asserts::assert_eq!(content, &expected[name], "{}", dir.join(name).display());
    }
}

/// Returns the expected files. The description is among them on disk, but is input.
fn read(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let files =
        entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_name() != "node.toml");
    let content = |path: PathBuf| fs::read_to_string(path).unwrap();
    files.map(|f| (f.file_name().into_string().unwrap(), content(f.path()))).collect()
}

#[test]
fn every_preset_gives_its_expected_output() {
    for (name, description) in PRESETS {
        check(&project().join("tests/golden/presets").join(name), description);
    }
}

#[test]
fn every_faulty_node_gives_its_expected_output() {
    let mut dirs: Vec<_> = fs::read_dir(project().join("tests/golden/faults"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    dirs.sort();
    assert!(dirs.len() >= 30, "the fault cases are there");
    for dir in dirs {
        check(&dir, &fs::read_to_string(dir.join("node.toml")).unwrap());
    }
}
