//! A real podman, with its own storage, in a private mount namespace: the machine's, Debian 13's, or that
//! of a user who is not root.

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

const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// Who runs podman when it is rootless: nobody of the machine's. As `tests/engines/rootless.sh` has it.
const USER: u32 = 64500;

/// Whose podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The machine's: Debian 12 has 4.3.1.
    Machine,
    /// Debian 13's, with its OCI runtimes.
    Debian13,
    /// The same, run by a user.
    Rootless,
}

/// A podman with a root file system to run.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
    variant: Variant,
    kind: Kind,
}

impl Podman {
    /// Prepares storage and a busybox root file system.
    ///
    /// # Panics
    /// When a tool is missing: `tests/setup.sh` installs them.
    #[must_use]
    pub fn new(variant: Variant) -> Podman {
        Podman::of(Kind::Machine, variant)
    }

    /// The same for another podman.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn of(kind: Kind, variant: Variant) -> Podman {
        let podman = Podman::with_root(kind, variant, None);
        if kind == Kind::Rootless {
            podman.give_to_user();
        }
        podman
    }

    /// The same with a C library in the root file system: `debian-root` or `lib64-root` of
    /// `tests/setup.sh`, and a program `loader` that opens libraries by name.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn with_c_library(variant: Variant, root: &str) -> Podman {
        let podman = Podman::with_root(Kind::Machine, variant, Some(root));
        compile("loader.c", &podman.path("rootfs/bin/loader"), &[]);
        podman
    }

    fn with_root(kind: Kind, variant: Variant, root: Option<&str>) -> Podman {
        for tool in ["podman", "runc", "crun", "conmon", "busybox", "unshare"] {
            let found = std::env::split_paths("/usr/bin:/usr/sbin:/bin:/sbin")
                .any(|dir| dir.join(tool).exists());
            assert!(found, "{tool} is not installed; run tests/setup.sh");
        }
        let podman =
            Podman { dir: tempfile::tempdir().expect("a temporary directory"), variant, kind };
        if let Some(root) = root {
            copy(&project().join("target/test-deps").join(root), &podman.path("rootfs"));
        }
        make_rootfs(&podman.path("rootfs"));
        if (kind, variant) == (Kind::Machine, ("crun", "v2")) {
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

    /// Lets a user reach what is his, and gives him the root file system.
    fn give_to_user(&self) {
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change its mode");
        };
        open(self.dir.path(), 0o755);
        let owner = format!("{USER}:{USER}");
        let given = run(Command::new("chown").args(["-R", &owner]).arg(self.path("rootfs")));
        assert_eq!(given.code, 0, "{}", given.stderr);
        let config = project().join("tests/engines/containers.conf");
        fs::copy(config, self.path("containers.conf")).expect("copy the configuration");
        open(&self.path("containers.conf"), 0o644);
    }

    /// The words that run podman.
    fn podman(&self) -> String {
        let dir = self.dir.path().display();
        let runtime = self.runtime().display().to_string();
        match self.kind {
            Kind::Rootless => format!(
                "setpriv --reuid {USER} --regid {USER} --clear-groups env -i PATH=/run/bin:{PATH} HOME={dir}/home \
                 XDG_RUNTIME_DIR=/run/user/{USER} CONTAINERS_CONF={dir}/containers.conf \
                 PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman --storage-driver vfs --runtime {runtime}"
            ),
            _ => format!(
                "podman --root {dir}/root --runroot {dir}/runroot --tmpdir {dir}/tmp --storage-driver vfs \
                 --runtime {runtime}"
            ),
        }
    }

    /// Writes the spec of `host` into /var/run/cdi, as a user would, then runs a script in which
    /// `$PODMAN` is podman, `$RUNTIME` its OCI runtime and `$ROOTFS` a root file system. Where podman is
    /// rootless, /dev has the nodes of `host`.
    #[must_use]
    pub fn script(&self, host: &FakeHost, script: &str) -> Run {
        let (_, cgroup) = self.variant;
        let engines = project().join("tests/engines");
        let mut command = Command::new("sh");
        command.arg(engines.join("ns.sh")).arg(cgroup);
        if self.kind == Kind::Rootless {
            command.arg("sh").arg(engines.join("rootless.sh"));
            command.arg(self.path("home")).arg(host.path("/dev"));
        }
        command.args(["sh", "-euc", script]);
        let (key, value) = host.env();
        let node = value.clone();
        command.env_clear().env("PATH", PATH).env("HOME", self.dir.path());
        command.env("CONTAINERS_CONF", engines.join("containers.conf"));
        if self.kind != Kind::Machine {
            let over = project().join("target/test-deps/podman");
            assert!(over.is_dir(), "{} is not there; run tests/setup.sh", over.display());
            command.env("OVER", over).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        }
        command
            .env("MIG_CDI", program("mig-cdi"))
            .env("FLAGS", host.flags().join(" "))
            .env(key, value);
        command.env("PODMAN", self.podman()).env("RUNTIME", self.runtime());
        command.env("ROOTFS", self.path("rootfs")).env("NODE", node);
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
