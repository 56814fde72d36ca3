//! Fake host: files, device nodes and a fake `libnvidia-ml.so.1`, all made from one node description.

use crate::{
    driver::{self, DistributionLayout, DriverLayout},
    driver_release,
    programs::{Run, bare, copy_program, copy_tree, fake_nvml, mig_cdi, program, project, run},
};
use mig_cdi_sim::{ProcTree, SimulatedNode};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// Directory of the fake hosts.
pub const BASE: &str = "/var/lib/mig-cdi-tests";

/// Makes a temporary directory that only root can reach: mig-cdi uses driver files of no other. It is in [`BASE`], or in a directory
/// there that `tests/run` has made for its own run.
pub(crate) fn trusted_tempdir() -> TempDir {
    let own = std::env::var("MIG_CDI_TESTS_DIR").ok().filter(|dir| !dir.is_empty());
    let base = own.unwrap_or_else(|| BASE.to_owned());
    let made = fs::create_dir_all(&base).and_then(|()| tempfile::tempdir_in(&base));
    made.unwrap_or_else(|e| {
        panic!("make a directory in {base}: {e}; run the test as root: tests/run host")
    })
}

/// Fake host below a temporary directory.
#[derive(Debug)]
pub struct FakeHost {
    dir: TempDir,
    has_nodes: bool,
    layout: Option<&'static DriverLayout>,
}

impl FakeHost {
    /// Makes the host of a node description, without device nodes, as on a machine where the driver was just loaded.
    ///
    /// # Panics
    /// When the description is impossible.
    #[must_use]
    pub fn new(description: &str) -> FakeHost {
        FakeHost::in_dir(tempfile::tempdir().expect("a temporary directory"), description, false)
    }

    /// Makes the host of a node description with its device nodes.
    ///
    /// # Panics
    /// When the description is impossible, or without root, which alone can make device nodes.
    #[must_use]
    pub fn with_nodes(description: &str) -> FakeHost {
        FakeHost::in_dir(trusted_tempdir(), description, true)
    }

    fn in_dir(dir: TempDir, description: &str, has_nodes: bool) -> FakeHost {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        let host = FakeHost { dir, has_nodes, layout: None };
        host.write(&ProcTree::of(&node));
        fs::write(host.dir.path().join("node.toml"), description).expect("write the description");
        fs::create_dir(host.out()).expect("make the output directory");
        host.put_nvml("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", &node.driver);
        // Without driver files a spec that has to list them is an error.
        fs::write(host.config(), "capabilities = \"none\"\n").expect("write the configuration");
        host
    }

    /// Makes the host of a node description with its device nodes, and with the driver's files in the layout of a
    /// distribution.
    ///
    /// # Panics
    /// As [`FakeHost::with_nodes`].
    #[must_use]
    pub fn with_driver(description: &str, layout: DistributionLayout) -> FakeHost {
        let mut host = FakeHost::with_nodes(description);
        fs::remove_file(host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")).expect("there");
        host.layout = Some(layout.places());
        let version = SimulatedNode::parse(description).expect("it was parsed").driver;
        driver::install(&host.root(), layout, &version);
        let DriverLayout { root, libraries, .. } = layout.places();
        host.put_nvml(&format!("{root}{libraries}/libnvidia-ml.so.{version}"), &version);
        fs::write(host.config(), "").expect("write the configuration");
        host
    }

    /// Makes the host of a node description with the driver's real files, which Debian ships and `tests/setup.sh`
    /// unpacks, and with their version. There is no driver behind them.
    ///
    /// # Panics
    /// As [`FakeHost::with_nodes`].
    #[must_use]
    pub fn with_real_driver(description: &str) -> FakeHost {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        let host = FakeHost::with_nodes(&description.replace(&node.driver, "550.163.01"));
        fs::remove_dir_all(host.path("/usr")).expect("there");
        copy_tree(&project().join("target/test-deps/nvidia/usr"), &host.path("/usr"));
        // The files belong to the user who ran the script; on a real host they are root's.
        run(Command::new("chown").args(["-R", "0:0"]).arg(host.path("/usr"))).assert_code(0);
        fs::write(host.config(), "").expect("write the configuration");
        host
    }

    /// Puts the fake NVML of a driver version at a path of the host.
    fn put_nvml(&self, path: &str, driver: &str) {
        let (fake, path) = (fake_nvml(), self.path(path));
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make a directory");
        fs::copy(&fake, &path).unwrap_or_else(|e| panic!("copy {fake:?}: {e}"));
        if driver_release::is_old(driver) {
            let mut library = fs::read(&path).expect("it was copied");
            driver_release::without_newer_functions(&mut library, driver);
            fs::write(&path, library).expect("write the library");
        }
        let description = format!("{}.toml", path.display());
        std::os::unix::fs::symlink(self.dir.path().join("node.toml"), description).expect("link");
    }

    /// Installs the programs as a package does, owned by root and in one directory, and returns it.
    ///
    /// # Panics
    /// When they cannot be copied.
    pub fn install(&self) -> PathBuf {
        let bin = self.dir.path().join("bin");
        if !bin.exists() {
            fs::create_dir(&bin).expect("make a directory");
            for name in ["mig-cdi", "mig-cdi-hook"] {
                copy_program(&program(name), &bin.join(name));
            }
            std::os::unix::fs::symlink("mig-cdi-hook", bin.join("mig-cdi-runtime")).expect("link");
        }
        bin
    }

    /// Changes the node: `/proc`, `/dev` and the answers of NVML become those of another description.
    ///
    /// # Panics
    /// As [`FakeHost::new`].
    pub fn replace_node(&self, description: &str) {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        for dir in ["/proc", "/dev"] {
            fs::remove_dir_all(self.path(dir)).expect("there");
        }
        let _ = fs::remove_dir_all(self.path("/sys/bus"));
        self.write(&ProcTree::of(&node));
        fs::write(self.dir.path().join("node.toml"), description).expect("write the description");
    }

    /// Returns the path of the configuration that programs on this host read.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn write(&self, tree: &ProcTree) {
        for dir in ["/dev", "/proc"].map(str::to_owned).iter().chain(&tree.dirs) {
            fs::create_dir_all(self.path(dir)).expect("make a directory");
        }
        for (path, content) in &tree.files {
            let path = self.path(path);
            fs::create_dir_all(path.parent().expect("a file has a parent"))
                .expect("make a directory");
            fs::write(path, content).expect("write a file");
        }
        for (path, node) in tree.nodes.iter().filter(|_| self.has_nodes) {
            let path = self.path(path);
            fs::create_dir_all(path.parent().expect("a node has a parent"))
                .expect("make a directory");
            let numbers = makedev(node.major.0.into(), node.minor.0.into());
            let made = mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(node.mode), numbers);
            made.unwrap_or_else(|e| {
                panic!("mknod {path:?}: {e}; run the test as root: tests/run host")
            });
            // mknod(2) has removed the bits of the umask.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(node.mode);
            fs::set_permissions(path, mode).expect("set a node's mode");
        }
    }

    /// Returns the directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Returns a path of the host.
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root().join(absolute.trim_start_matches('/'))
    }

    /// Returns the directory for specs.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.dir.path().join("cdi")
    }

    /// Returns the path of the spec in that directory.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.out().join("nvidia.com-mig.json")
    }

    /// Returns the flags that point a program to this host.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let root = self.root().display().to_string();
        let roots = ["dev", "proc"].iter().map(|kind| format!("--{kind}-root={root}"));
        let driver = self.layout.map_or("", |row| row.root);
        roots
            .chain([format!("--driver-root={root}{driver}")])
            .chain([format!("--config={}", self.config().display())])
            .collect()
    }

    /// Returns the environment variable that the fake driver needs.
    #[must_use]
    pub fn env(&self) -> (&'static str, PathBuf) {
        ("FAKE_NVML_NODE", self.dir.path().join("node.toml"))
    }

    /// Returns `mig-cdi` with the flags of this host.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let (key, value) = self.env();
        let mut command = mig_cdi(args);
        let installed = self.dir.path().join("bin/mig-cdi");
        // A spec names only hooks in a directory of root, so tests with hooks install the programs.
        if installed.exists() {
            command = Command::new(installed);
            bare(&mut command).args(args);
        }
        let own_config = args.contains(&"--config");
        let flags =
            self.flags().into_iter().filter(|flag| !(own_config && flag.starts_with("--config")));
        command.args(flags).env(key, value);
        command
    }

    /// Runs `mig-cdi` on this host; its output has the temporary path written as `TMP`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Run {
        let run = run(&mut self.command(args));
        let tidy = |text: String| text.replace(&self.dir.path().display().to_string(), "TMP");
        Run { code: run.code, stdout: tidy(run.stdout), stderr: tidy(run.stderr) }
    }

    /// Runs `generate` into [`FakeHost::spec`].
    #[must_use]
    pub fn generate(&self, args: &[&str]) -> Run {
        let output = format!("--output={}", self.spec().display());
        self.run(&[&["generate", &output], args].concat())
    }

    /// Reads the current spec.
    #[must_use]
    pub fn read_spec(&self) -> Option<String> {
        fs::read_to_string(self.spec()).ok()
    }
}
