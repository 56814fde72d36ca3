//! A real podman of the machine, with its own storage, in a private mount namespace.

use crate::{FakeHost, Run, program, project, run};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// OCI runtime and cgroup version: `("runc", "v1")`.
pub type Variant = (&'static str, &'static str);

/// Every pair that is run.
pub const VARIANTS: [Variant; 4] = [("runc", "v1"), ("runc", "v2"), ("crun", "v1"), ("crun", "v2")];

/// A podman with a root file system to run.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
    variant: Variant,
}

impl Podman {
    /// Prepares storage and a busybox root file system.
    ///
    /// # Panics
    /// When a tool is missing: `tests/setup.sh` installs them.
    #[must_use]
    pub fn new(variant: Variant) -> Podman {
        Podman::with_root(variant, None)
    }

    /// The same with a C library in the root file system: `debian-root` or `lib64-root` of
    /// `tests/setup.sh`, and a program `loader` that opens libraries by name.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn with_c_library(variant: Variant, root: &str) -> Podman {
        let podman = Podman::with_root(variant, Some(root));
        compile("loader.c", &podman.path("rootfs/bin/loader"), &[]);
        podman
    }

    fn with_root(variant: Variant, root: Option<&str>) -> Podman {
        for tool in ["podman", "runc", "crun", "conmon", "busybox", "unshare"] {
            let found = std::env::split_paths("/usr/bin:/usr/sbin:/bin:/sbin")
                .any(|dir| dir.join(tool).exists());
            assert!(found, "{tool} is not installed; run tests/setup.sh");
        }
        let podman = Podman { dir: tempfile::tempdir().expect("a temporary directory"), variant };
        if let Some(root) = root {
            copy(&project().join("target/test-deps").join(root), &podman.path("rootfs"));
        }
        make_rootfs(&podman.path("rootfs"));
        if variant == ("crun", "v2") {
            podman.make_memlock();
        }
        podman
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// See `memlock.c`.
    fn make_memlock(&self) {
        let library = self.path("memlock.so");
        compile("memlock.c", &library, &["-shared", "-fPIC"]);
        let wrapper = self.path("crun");
        let script =
            format!("#!/bin/sh\nLD_PRELOAD={} exec /usr/bin/crun \"$@\"\n", library.display());
        fs::write(&wrapper, script).expect("write the wrapper");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
            .expect("make it a program");
    }

    /// The OCI runtime of this variant.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        let (runtime, _) = self.variant;
        let wrapper = self.path(runtime);
        if wrapper.exists() { wrapper } else { Path::new("/usr/bin").join(runtime) }
    }

    /// Writes the spec of `host` into /var/run/cdi, as a user would, then runs a script in which
    /// `$PODMAN` is podman and `$ROOTFS` a root file system.
    #[must_use]
    pub fn script(&self, host: &FakeHost, script: &str) -> Run {
        let (_, cgroup) = self.variant;
        let text = |path: PathBuf| path.display().to_string();
        let podman = format!(
            "podman --root {} --runroot {} --tmpdir {} --storage-driver vfs --runtime {}",
            text(self.path("root")),
            text(self.path("runroot")),
            text(self.path("tmp")),
            text(self.runtime())
        );
        let (key, value) = host.env();
        let node = value.clone();
        let mut command = Command::new("sh");
        command.arg(project().join("tests/engines/ns.sh")).args([cgroup, "sh", "-euc", script]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .env("HOME", self.dir.path());
        command.env("CONTAINERS_CONF", project().join("tests/engines/containers.conf"));
        command
            .env("MIG_CDI", text(program("mig-cdi")))
            .env("FLAGS", host.flags().join(" "))
            .env(key, value);
        command.env("PODMAN", podman).env("ROOTFS", self.path("rootfs")).env("NODE", node);
        run(&mut command)
    }
}

/// Makes a root file system of busybox with the probe, or makes one of what is there.
pub(crate) fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(rootfs.join(dir)).expect("make a directory");
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("copy busybox");
    for applet in [
        "sh", "head", "find", "stat", "env", "grep", "sort", "sed", "mknod", "rm", "ls", "sleep",
        "mv",
    ] {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("write passwd");
    let probe = rootfs.join("bin/probe");
    fs::copy(project().join("tests/engines/probe.sh"), &probe).expect("copy the probe");
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o755)).expect("make it a program");
}

/// Compiles a C file of `tests/engines`.
///
/// # Panics
/// When the compiler does not take it.
pub fn compile(source: &str, to: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror", "-o"]).arg(to).args(flags);
    let built = run(cc.arg(project().join("tests/engines").join(source)));
    assert_eq!(built.code, 0, "{}", built.stderr);
}

/// Copies a tree as it is.
///
/// # Panics
/// When it is not there.
pub fn copy(from: &Path, to: &Path) {
    assert!(from.is_dir(), "{} is not there; run tests/setup.sh", from.display());
    let copied = run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
    assert_eq!(copied.code, 0, "{}", copied.stderr);
}
