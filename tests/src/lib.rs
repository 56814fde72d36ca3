//! Shared code of the tests: the built programs, and a fake host of files, device nodes and a fake
//! `libnvidia-ml.so.1`, all made from one node description.

pub mod chart;
pub mod configure_host;
pub mod containerd;
pub mod daemon;
pub mod debian_release;
pub mod docker;
pub mod docs;
pub mod driver;
pub mod engine_checks;
pub mod fake_api_server;
pub mod fake_cluster;
pub mod fake_kubelet;
pub mod fake_pod_resources;
pub mod geometries;
pub mod hook;
pub mod kubernetes;
pub mod nvml_call;
pub mod partition_host;
pub mod podman;
pub mod prepared_container;
pub mod running_plugin;
pub mod watch;

use driver::DistributionLayout;
use mig_cdi_sim::{ProcTree, SimulatedNode};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;

/// Returns the root of the project's tree.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the project").to_owned()
}

/// Returns the directory of the built programs and of the fake driver.
///
/// `MIG_CDI_BIN_DIR` names another one: that of an installed package.
pub fn build_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // The whole workspace, as tests/run has built it: cargo unifies features of shared dependencies over the
        // selected packages, so another selection would build those again.
        build.args(["build", "--quiet", "--workspace"]);
        let exe = std::env::current_exe().expect("a test has a path");
        let dir = exe.ancestors().nth(2).expect("target/debug/deps/test");
        if dir.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(project()).status().expect("cargo runs");
        assert!(built.success(), "cargo build of the binaries failed");
        dir.to_owned()
    })
}

/// Builds a package as it is shipped, and returns the target directory.
fn build_shipped(arguments: &[&str]) -> &'static Path {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet"]).args(arguments).current_dir(project());
    assert!(build.status().expect("cargo runs").success(), "{build:?} failed; run tests/setup.sh");
    build_dir().parent().expect("target/debug is below target")
}

/// Returns the hook as it is shipped: static and optimised, whatever the profile of the tests.
fn built_hook() -> &'static Path {
    static HOOK: OnceLock<PathBuf> = OnceLock::new();
    HOOK.get_or_init(|| {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let how = ["--package=mig-cdi-hook", "--profile=hook", "--target", &target];
        build_shipped(&how).join(target).join("hook/mig-cdi-hook")
    })
}

/// Returns the device plugin: as it is shipped for a benchmark, with the profile of the tests for a test.
fn built_kubelet() -> &'static Path {
    static KUBELET: OnceLock<PathBuf> = OnceLock::new();
    KUBELET.get_or_init(|| {
        if build_dir().ends_with("release") {
            let how = ["--package=mig-cdi-kubelet", "--profile=kubelet"];
            return build_shipped(&how).join("kubelet/mig-cdi-kubelet");
        }
        build_dir().join("mig-cdi-kubelet")
    })
}

/// Returns the path of a built or installed program.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let built = match name {
        "mig-cdi-hook" => built_hook().to_owned(),
        "mig-cdi-kubelet" => built_kubelet().to_owned(),
        _ => build_dir().join(name),
    };
    std::env::var_os("MIG_CDI_BIN_DIR").map_or(built, |dir| Path::new(&dir).join(name))
}

/// Returns the path of the fake driver: that of `MIG_CDI_BIN_DIR` if it has one, for programs of another
/// architecture.
fn fake_nvml() -> PathBuf {
    let beside = program("libfake_nvml.so");
    if beside.exists() { beside } else { build_dir().join("libfake_nvml.so") }
}

/// Runs `make install` of the built programs below a directory, for a prefix such as `/usr`.
///
/// # Panics
/// When it fails.
pub fn make_install(destination: &Path, prefix: &str) {
    let mut make = Command::new("make");
    make.arg("-C").arg(project().join("packaging")).args(["--no-print-directory", "install"]);
    make.arg(format!("PREFIX={prefix}"))
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("BUILD={}", build_dir().display()))
        .arg(format!("KUBELET={}", program("mig-cdi-kubelet").display()))
        .arg(format!("HOOK={}", program("mig-cdi-hook").display()));
    let made = run(&mut make);
    assert_eq!(made.code, 0, "{}", made.stderr);
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Exit code; 128 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started, or prints anything but UTF-8.
pub fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Run {
        code: output.status.code().unwrap_or(128),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Clears the environment, except for the file of the coverage profile (`tests/coverage`).
pub fn bare(command: &mut Command) -> &mut Command {
    const PROFILE: &str = "LLVM_PROFILE_FILE";
    command.env_clear().envs(std::env::var_os(PROFILE).map(|file| (PROFILE, file)))
}

/// Returns `mig-cdi` with these arguments only: no fake host, and no configuration of this machine.
#[must_use]
pub fn mig_cdi<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program("mig-cdi"));
    bare(&mut command).args(args);
    command
}

/// Directory of the fake hosts.
pub const BASE: &str = "/var/lib/mig-cdi-tests";

/// Makes a temporary directory that only root can reach: mig-cdi uses driver files of no other.
fn trusted_tempdir() -> TempDir {
    let made = fs::create_dir_all(BASE).and_then(|()| tempfile::tempdir_in(BASE));
    made.unwrap_or_else(|e| {
        panic!("make a directory in {BASE}: {e}; run the tests as root: tests/run")
    })
}

/// Fake host below a temporary directory.
#[derive(Debug)]
pub struct FakeHost {
    dir: TempDir,
}

impl FakeHost {
    /// Makes the host of a node description.
    ///
    /// # Panics
    /// When the description is impossible, or when device nodes cannot be made without root.
    #[must_use]
    pub fn new(description: &str) -> FakeHost {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        let host = FakeHost { dir: trusted_tempdir() };
        host.write(&ProcTree::of(&node));
        fs::write(host.dir.path().join("node.toml"), description).expect("write the description");
        fs::create_dir(host.out()).expect("make the output directory");
        host.put_nvml("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
        fs::write(host.config(), "capabilities = \"none\"\n").expect("write the configuration");
        host
    }

    /// Makes the host of a node description with the driver's files in the layout of a distribution.
    ///
    /// # Panics
    /// As [`FakeHost::new`].
    #[must_use]
    pub fn with_driver(description: &str, layout: DistributionLayout) -> FakeHost {
        let host = FakeHost::new(description);
        fs::remove_file(host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")).expect("there");
        let version = SimulatedNode::parse(description).expect("it was parsed").driver;
        driver::install(&host.root(), layout, &version);
        host.put_nvml(&format!("{}/libnvidia-ml.so.{version}", driver::library_dir(layout)));
        fs::write(host.config(), "").expect("write the configuration");
        host
    }

    /// Makes the host of a node description with the driver's real files, which Debian ships and `tests/setup.sh`
    /// unpacks, and with their version. There is no driver behind them.
    ///
    /// # Panics
    /// As [`FakeHost::new`].
    #[must_use]
    pub fn with_real_driver(description: &str) -> FakeHost {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        let host = FakeHost::new(&description.replace(&node.driver, "550.163.01"));
        fs::remove_dir_all(host.path("/usr")).expect("there");
        podman::copy(&project().join("target/test-deps/nvidia/usr"), &host.path("/usr"));
        // The files belong to the user who ran the script; on a real host they are root's.
        let owned = run(Command::new("chown").args(["-R", "0:0"]).arg(host.path("/usr")));
        assert_eq!(owned.code, 0, "{}", owned.stderr);
        fs::write(host.config(), "").expect("write the configuration");
        host
    }

    /// Puts the fake NVML at a path of the host.
    fn put_nvml(&self, path: &str) {
        let (fake, path) = (fake_nvml(), self.path(path));
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make a directory");
        fs::copy(&fake, &path).unwrap_or_else(|e| panic!("copy {fake:?}: {e}"));
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
            // Another process copies them: a file that this one has open for writing could be inherited by a child of
            // another thread, and execve(2) then fails with ETXTBSY.
            let programs = ["mig-cdi", "mig-cdi-hook"].map(program);
            let copied = run(Command::new("cp").args(programs).arg(&bin));
            assert_eq!(copied.code, 0, "{}", copied.stderr);
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
        for (path, node) in &tree.nodes {
            let path = self.path(path);
            fs::create_dir_all(path.parent().expect("a node has a parent"))
                .expect("make a directory");
            let numbers = makedev(node.major.0.into(), node.minor.0.into());
            let made = mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(node.mode), numbers);
            made.unwrap_or_else(|e| {
                panic!("mknod {path:?}: {e}; run the tests as root: tests/run")
            });
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
        let roots = ["driver", "dev", "proc"].iter().map(|kind| format!("--{kind}-root={root}"));
        roots.chain([format!("--config={}", self.config().display())]).collect()
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
