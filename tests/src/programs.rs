//! The built or installed programs, and runs of them.

use crate::deadline::{self, run_within};
use std::{
    path::{Path, PathBuf},
    process::Command,
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

/// Returns the path of a program: in `MIG_CDI_BIN_DIR`, the directory of installed programs, else where cargo builds it.
///
/// `cargo test` builds the programs of the packages whose tests it runs, so `cargo test --workspace` builds all. With
/// `--package` those of other packages stay as they are.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let installed = std::env::var_os("MIG_CDI_BIN_DIR");
    let path = installed.map_or_else(build_dir, PathBuf::from).join(name);
    let cure = "run cargo build --workspace, or tests/stage for MIG_CDI_BIN_DIR";
    assert!(path.exists(), "{} is not there; {cure}", path.display());
    path
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
    run(&mut make).assert_code(0);
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

impl Run {
    /// Asserts the exit code; the message has all output.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn assert_code(&self, expected: i32) -> &Run {
        let Run { code, stdout, stderr } = self;
        assert!(*code == expected, "exit code {code}, expected {expected}\n{stdout}{stderr}");
        self
    }
}

/// Runs a command to its end, within [`deadline::PROGRAM`].
///
/// # Panics
/// When it cannot be started, does not end, or prints anything but UTF-8.
pub fn run(command: &mut Command) -> Run {
    run_within(command, None, deadline::PROGRAM)
}

/// Writes a program, so that it can be run at once.
///
/// Another process writes it. A child that another thread of this process forks meanwhile has a copy of every file
/// that is open here until it executes its program, and the kernel refuses to execute a file that any process has open
/// for writing (execve(2), ETXTBSY, "text file busy"). Every program that a test makes and then runs has to come from
/// here, from [`copy_program`], or from a compiler.
///
/// # Panics
/// When it cannot be written.
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    run_within(&mut install, Some(content.as_ref()), deadline::PROGRAM).assert_code(0);
}

/// Makes a program of a shell script; see [`write_program`].
///
/// # Panics
/// When it cannot be written.
pub fn script_program(path: &Path, script: &str) {
    write_program(path, format!("#!/bin/sh\n{script}\n"));
}

/// Copies a program to a path, so that it can be run at once; see [`write_program`].
///
/// # Panics
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755"]).arg(from).arg(to)).assert_code(0);
}

/// Clears the environment, except for the file of the coverage profile (`tests/coverage`).
pub fn bare(command: &mut Command) -> &mut Command {
    const PROFILE: &str = "LLVM_PROFILE_FILE";
    command.env_clear().envs(std::env::var_os(PROFILE).map(|file| (PROFILE, file)))
}

/// Returns a command that root runs without some capabilities: `-sys_ptrace,-dac_override`.
#[must_use]
pub fn without_capabilities(command: &Command, capabilities: &str) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args([format!("--inh-caps={capabilities}"), format!("--bounding-set={capabilities}")]);
    through(setpriv, command)
}

/// Returns a command that another program runs, which takes it as its last arguments.
#[must_use]
pub fn through(mut program: Command, command: &Command) -> Command {
    program.arg(command.get_program()).args(command.get_args());
    program.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    program
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
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).assert_code(0);
}
