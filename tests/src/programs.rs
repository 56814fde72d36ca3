//! The built or installed programs, and runs of them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Directories of the crates that are shipped, from the lowest up (ARCHITECTURE.md). The others are for development:
/// `tests`, the fake NVML, `xtask`.
pub const SHIPPED_CRATES: [&str; 11] = [
    "model",
    "layout",
    "sys",
    "sim",
    "config",
    "cdi-gen",
    "partition",
    "args",
    "cli",
    "hook",
    "kubelet",
];

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
pub(crate) fn fake_nvml() -> PathBuf {
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

/// Copies a tree with all attributes.
///
/// # Panics
/// When it does not exist.
pub fn copy_tree(from: &Path, to: &Path) {
    assert!(from.is_dir(), "{} is not there; run tests/setup.sh", from.display());
    let copied = run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
    assert_eq!(copied.code, 0, "{}", copied.stderr);
}
