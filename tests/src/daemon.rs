//! Engines that are daemons, in namespaces of their own for mounts, processes and the network: nothing of
//! them is left when their test ends, also when it is killed.

use crate::{FakeHost, podman::make_rootfs, project, run, watch::until};
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
    /// Starts `containerd` or `docker` on the directory of specs of a host, with cgroup `v1` or `v2`, as
    /// `mig-cdi configure` has configured it. Its runtime `mig-cdi` is [`FakeHost::runtime`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(engine: &str, cgroup: &str, host: &FakeHost) -> Daemon {
        let dir = tempfile::Builder::new().prefix("mig-cdi-").tempdir().expect("a directory");
        make_rootfs(&dir.path().join("rootfs"));
        configure(engine, cgroup, host, dir.path());
        let engines = project().join("tests/engines");
        let mut command = command("unshare", dir.path());
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh"]);
        command.arg(engines.join("ns.sh")).args([cgroup, "sh"]);
        command.arg(engines.join("daemon.sh")).arg(engine).arg(dir.path());
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

/// Writes what the engine has for itself, and has `mig-cdi configure` do the rest.
fn configure(engine: &str, cgroup: &str, host: &FakeHost, dir: &Path) {
    let name = dir.file_name().expect("it has a name").to_string_lossy();
    let dir = dir.display();
    let (path, text) = match engine {
        // The native snapshotter asks nothing of the file system below. Less likely to be killed for memory a
        // process becomes only with CAP_SYS_RESOURCE.
        "containerd" => (
            "containerd/config.toml",
            format!(
                "# As an administrator wrote it\nversion = 2\nroot = \"{dir}/root\"\nstate = \"/run/containerd\"\n\
                 [grpc]\n  address = \"{dir}/socket\"\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  \
                 sandbox_image = \"localhost/probe:1\"  # no registry\n  disable_cgroup = {}\n  \
                 restrict_oom_score_adj = true\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n    \
                 snapshotter = \"native\"\n",
                cgroup == "v2"
            ),
        ),
        _ => (
            "docker/daemon.json",
            format!(
                "{{\"hosts\": [\"unix://{dir}/socket\"], \"data-root\": \"{dir}/root\",\n \
                 \"storage-driver\": \"vfs\", \"cgroup-parent\": \"/{name}\", \"exec-opts\": \
                 [\"native.cgroupdriver=cgroupfs\"],\n \"bridge\": \"none\", \"iptables\": false, \"ip6tables\": \
                 false, \"ip-forward\": false}}\n"
            ),
        ),
    };
    let root = format!("{dir}/host");
    let path = Path::new(&root).join("etc").join(path);
    fs::create_dir_all(path.parent().expect("it has one")).expect("make a directory");
    fs::write(path, text).expect("write the configuration");
    let programs = host.configured();
    let version = run(command(if engine == "docker" { "dockerd" } else { engine }, Path::new("/"))
        .arg("--version"));
    let version = version.stdout.replace([',', '~'], " ");
    let mut words = version.split_whitespace();
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut command = Command::new(programs.join("mig-cdi"));
    command.env_clear().args(["configure", engine, "--runtime"]);
    command.arg(format!("--engine-version={}", version.expect("it says its version")));
    command.arg(format!("--config={}", programs.join("config.toml").display()));
    let run = run(command.arg(format!("--host-root={root}")));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// A program that `tests/setup.sh` unpacked, or the machine's.
///
/// # Panics
/// When they are not there.
#[must_use]
pub fn command(program: &str, home: &Path) -> Command {
    let engines = project().join("target/test-deps/engines/usr");
    assert!(engines.is_dir(), "{} is not there; run tests/setup.sh", engines.display());
    let engines = engines.display();
    let path = format!("{engines}/bin:{engines}/sbin:/usr/bin:/usr/sbin:/bin:/sbin");
    // The path also says where the program itself is looked for.
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("HOME", home);
    command
}
