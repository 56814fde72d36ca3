//! The built or installed programs, and runs of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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

/// File of the fake driver.
const FAKE_NVML: &str = "libfake_nvml.so";

/// Returns the root of the project's tree.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the project").to_owned()
}

/// Returns the directory of the programs that cargo has built: it has the directory of the running test, `deps`.
///
/// # Panics
/// When the test is not where cargo puts it.
#[must_use]
pub fn build_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a path");
    exe.ancestors().nth(2).expect("target/debug/deps/test").to_owned()
}

/// Returns the path of a program: in `MIG_CDI_BIN_DIR`, the directory of installed programs, else as cargo has built it
/// for `cargo test --workspace`.
///
/// # Panics
/// When it is not there, or older than one of its sources.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("MIG_CDI_BIN_DIR") {
        let path = Path::new(&dir).join(name);
        assert!(path.exists(), "{} is not there; run tests/stage", path.display());
        return path;
    }
    let path = build_dir().join(name);
    if let Err(why) = is_current(&path) {
        panic!(
            "{}: {why}; run cargo build --workspace, or tests/stage for MIG_CDI_BIN_DIR",
            path.display()
        );
    }
    path
}

/// Checks that a program is newer than its sources, which cargo lists beside it: of another package than the one whose
/// tests run, cargo builds no program by itself.
fn is_current(path: &Path) -> Result<(), String> {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let built = changed(path).map_err(|e| e.to_string())?;
    let list = fs::read_to_string(path.with_extension("d")).map_err(|e| e.to_string())?;
    let sources = list.split_whitespace().skip(1).map(Path::new);
    let newer = sources.filter(|source| changed(source).is_ok_and(|time| time > built)).next();
    newer.map_or(Ok(()), |source| Err(format!("older than {}", source.display())))
}

/// Returns the path of the fake driver: that of `MIG_CDI_BIN_DIR` if it has one, for programs of another
/// architecture.
#[must_use]
pub fn fake_nvml() -> PathBuf {
    let installed = std::env::var_os("MIG_CDI_BIN_DIR").map(|dir| Path::new(&dir).join(FAKE_NVML));
    let installed = installed.filter(|path| path.exists());
    installed.unwrap_or_else(|| build_dir().join("deps").join(FAKE_NVML))
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
