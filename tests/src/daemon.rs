//! Engines that are daemons, in namespaces of their own for mounts, processes and the network: nothing of
//! them is left when their test ends, also when it is killed.

use crate::{FakeHost, podman::make_rootfs, project, watch::until};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// An engine that runs; dropping it ends it and all its containers.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    child: Child,
}

impl Daemon {
    /// Starts `containerd` or `docker` on the directory of specs of a host, with cgroup `v1` or `v2`. Its
    /// runtime `mig` is [`FakeHost::runtime`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(engine: &str, cgroup: &str, host: &FakeHost) -> Daemon {
        let dir = tempfile::Builder::new().prefix("mig-cdi-").tempdir().expect("a directory");
        make_rootfs(&dir.path().join("rootfs"));
        let engines = project().join("tests/engines");
        let mut command = command("unshare", dir.path());
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh"]);
        command.arg(engines.join("ns.sh")).args([cgroup, "sh"]);
        command.arg(engines.join("daemon.sh")).arg(engine).arg(dir.path());
        command.arg(host.out()).arg(host.runtime());
        let child = command.stdin(Stdio::piped()).spawn().expect("unshare starts");
        let mut daemon = Daemon { dir, child };
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

    /// A program of the engine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        command(program, self.dir())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The end of its input is what the script waits for.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A program that `tests/setup.sh` unpacked, or the machine's.
fn command(program: &str, home: &Path) -> Command {
    let engines = project().join("target/test-deps/engines/usr");
    assert!(engines.is_dir(), "{} is not there; run tests/setup.sh", engines.display());
    let engines = engines.display();
    let path = format!("{engines}/bin:{engines}/sbin:/usr/bin:/usr/sbin:/bin:/sbin");
    // The path also says where the program itself is looked for.
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("HOME", home);
    command
}
