//! Engines that are daemons, in namespaces of their own for mounts, processes and the network: nothing of
//! them is left when their test ends, also when it is killed.

mod files;

use crate::{
    FakeHost,
    podman::{Variant, make_rootfs, runtime_program},
    project,
    root::{Root, version},
    run,
    watch::until,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Which engine, and what it runs on.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// `containerd`, `docker` or `crio`.
    pub engine: &'a str,
    /// Whose it is, and whose programs it finds.
    pub root: Root,
    /// The OCI runtime of containers that ask for none, and the cgroup version.
    pub variant: Variant,
}

impl Setting<'_> {
    /// The version that the engine says it has.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn version(&self) -> String {
        let program = match self.engine {
            "docker" => "dockerd".into(),
            "crio" => self.crio().display().to_string(),
            other => other.to_owned(),
        };
        version(&run(self.root.command(&program).arg("--version")).stdout)
    }

    /// The CRI-O that whoever runs the tests names: no Debian has one.
    fn crio(&self) -> PathBuf {
        PathBuf::from(std::env::var_os("CRIO").expect("CRIO names a CRI-O"))
    }
}

/// An engine that runs; dropping it ends it and all its containers.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    child: Child,
    root: Root,
}

impl Daemon {
    /// Starts an engine on the directory of specs of a host, as `mig-cdi configure` has configured it. Its runtime
    /// `mig-cdi` is [`FakeHost::runtime`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(setting: &Setting<'_>, host: &FakeHost) -> Daemon {
        let Setting { engine, root, variant } = *setting;
        let dir = tempfile::Builder::new().prefix("mig-cdi-").tempdir().expect("a directory");
        make_rootfs(&dir.path().join("rootfs"));
        configure(setting, host, dir.path());
        let engines = project().join("tests/engines");
        let mut command = root.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh"]);
        command.arg(engines.join("ns.sh")).args([variant.1, "sh"]);
        command.arg(engines.join("daemon.sh")).arg(engine).arg(dir.path());
        command.env("HOME", dir.path());
        if let Some(over) = root.of_daemons(variant.0).over() {
            command.env("OVER", over);
        }
        if engine == "crio" {
            command.env("CRIO", setting.crio());
        }
        let child = command.stdin(Stdio::piped()).spawn().expect("unshare starts");
        let mut daemon = Daemon { dir, child, root };
        let (ready, child) = (daemon.dir.path().join("ready"), &mut daemon.child);
        let ended = |child: &mut Child| child.try_wait().expect("its state").is_some();
        until("the engine is up", || ready.exists() || ended(child));
        assert!(ready.exists(), "{engine} did not come up: {}", daemon.log());
        daemon
    }

    /// Where all of it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// A program in the namespaces of the engine, for mounts, processes and the network. It does not
    /// outlive them.
    ///
    /// # Panics
    /// When the engine has gone.
    #[must_use]
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let first = child_of(self.child.id()).expect("the engine runs");
        let mut inside = self.command("nsenter");
        inside.arg(format!("--target={first}")).args(["--mount", "--net", "--pid", "--"]);
        inside.arg(program);
        inside
    }

    /// A program of the engine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.root.command(program);
        command.env("HOME", self.dir());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The end of its input is what the script waits for.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The only child of a process: `unshare` and `nsenter` put what they run into a namespace of processes by
/// a fork, and wait for it.
#[must_use]
pub fn child_of(process: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.trim().parse().ok()
}

/// Writes what the engine has for itself, and has `mig-cdi configure` do the rest.
fn configure(setting: &Setting<'_>, host: &FakeHost, dir: &Path) {
    let version = setting.version();
    // containerd 1.7 can be told to ask for none. What Docker always asks for is nothing to runc.
    let engine = setting.engine;
    let limits = match (engine, setting.variant) {
        ("containerd", (_, "v2")) => version.starts_with("1."),
        ("docker", ("crun", "v2")) | ("crio", _) => false,
        _ => true,
    };
    let runtime =
        runtime_program(dir, setting.root.of_daemons(setting.variant.0), setting.variant, limits);
    let (path, text) = files::before(setting, &version, dir, &runtime);
    let root = dir.join("host");
    let path = root.join("etc").join(path);
    fs::create_dir_all(path.parent().expect("it has one")).expect("make a directory");
    fs::write(path, text).expect("write the configuration");
    let programs = host.configured();
    let mut command = Command::new(programs.join("mig-cdi"));
    command.env_clear().args(["configure", engine, "--runtime"]);
    let release = version.split('~').next().expect("text before it");
    command.arg(format!("--engine-version={release}"));
    command.arg(format!("--config={}", programs.join("config.toml").display()));
    let run = run(command.arg(format!("--host-root={}", root.display())));
    assert_eq!(run.code, 0, "{}", run.stderr);
}
