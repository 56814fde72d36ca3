//! Engines that are daemons, in namespaces of their own for mounts, processes and the network, so that nothing is
//! left when their test ends or is killed.

mod files;
mod setting;

pub use setting::Setting;

use crate::{
    FakeHost,
    containerd::Containerd,
    deadline,
    debian_release::DebianRelease,
    podman::{make_rootfs, runtime_program},
    project, run,
    watch::until_within,
};
use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Running engine; dropping it ends the engine and all its containers.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    child: Child,
    release: DebianRelease,
}

impl Daemon {
    /// Starts an engine on the directory of specs of a host, as `mig-cdi configure` configures it. Its runtime
    /// `mig-cdi` is [`FakeHost::runtime`].
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(setting: &Setting<'_>, host: &FakeHost) -> Daemon {
        let Setting { engine, release, variant } = *setting;
        let dir = tempfile::Builder::new().prefix("mig-cdi-").tempdir().expect("a directory");
        make_rootfs(&dir.path().join("rootfs"));
        configure(setting, host, dir.path());
        let engines = project().join("tests/engines");
        let mut command = release.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh"]);
        command.arg(engines.join("ns.sh")).args([variant.1, "sh"]);
        command.arg(engines.join("daemon.sh")).arg(engine).arg(dir.path());
        command.env("HOME", dir.path());
        if let Some(over) = release.for_daemons(variant.0).overlay() {
            command.env("OVER", over);
        }
        if engine == "crio" {
            command.env("CRIO", setting.crio());
        }
        let child = command.stdin(Stdio::piped()).spawn().expect("unshare starts");
        let mut daemon = Daemon { dir, child, release };
        let (ready, child) = (daemon.dir.path().join("ready"), &mut daemon.child);
        let ended = |child: &mut Child| child.try_wait().expect("its state").is_some();
        let what = format!("{engine} is up or has ended");
        until_within(deadline::ENGINE, &what, || ready.exists() || ended(child));
        assert!(ready.exists(), "{engine} did not come up: {}", daemon.log());
        if engine != "docker" {
            Containerd::at(daemon.dir()).until_image_is_ready();
        }
        daemon
    }

    /// Returns the directory with its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Returns a command in the namespaces of the engine, for mounts, processes and the network. It ends with them.
    ///
    /// # Panics
    /// When the engine has ended.
    #[must_use]
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let first = child_of(self.child.id()).expect("the engine runs");
        let mut inside = self.command("nsenter");
        inside.arg(format!("--target={first}")).args(["--mount", "--net", "--pid", "--"]);
        inside.arg(program);
        inside
    }

    /// Returns a command that runs a program of the engine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.release.command(program);
        command.env("HOME", self.dir());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The script ends at the end of its input.
        drop(self.child.stdin.take());
        // The kernel ends all processes of the namespace with unshare.
        deadline::end_or_kill(&mut self.child, deadline::PROGRAM);
    }
}

/// Returns the only child of a process: `unshare` and `nsenter` fork to put their command into a PID namespace, and
/// wait for it.
#[must_use]
pub fn child_of(process: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.trim().parse().ok()
}

/// Writes the engine's own configuration, and runs `mig-cdi configure` on top.
fn configure(setting: &Setting<'_>, host: &FakeHost, dir: &Path) {
    let version = setting.version();
    // containerd 1.7 has a setting that leaves resource limits out. runc ignores those that Docker always sets.
    let engine = setting.engine;
    let limits = match (engine, setting.variant) {
        ("containerd", (_, "v2")) => version.starts_with("1."),
        ("docker", ("crun", "v2")) | ("crio", _) => false,
        _ => true,
    };
    let runtime = runtime_program(
        dir,
        setting.release.for_daemons(setting.variant.0),
        setting.variant,
        limits,
    );
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
    run(command.arg(format!("--host-root={}", root.display()))).assert_code(0);
}
