//! Real podman with its own storage, in a private mount namespace: the machine's, Debian 13's, or a rootless one.

use crate::{
    FakeHost, Run, copy_program, copy_tree,
    deadline::{self, run_within},
    debian_release::{DebianRelease, version},
    program, project, run, script_program,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// OCI runtime and cgroup version: `("runc", "v1")`.
pub type Variant = (&'static str, &'static str);

/// All variants.
pub const VARIANTS: [Variant; 4] = [("runc", "v1"), ("runc", "v2"), ("crun", "v1"), ("crun", "v2")];

const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// User id that runs rootless podman; no user of the machine has it. `tests/engines/rootless.sh` has the same.
const USER: u32 = 64500;

/// Release of podman, and whether it is rootless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodmanKind {
    /// Debian release; 12 has podman 4.3.1.
    pub release: DebianRelease,
    /// True if an ordinary user runs it.
    pub rootless: bool,
}

impl PodmanKind {
    /// Podman of the machine, run by root.
    pub const MACHINE: PodmanKind = PodmanKind { release: DebianRelease::Machine, rootless: false };
}

/// Podman with a root file system to run.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
    variant: Variant,
    kind: PodmanKind,
    /// OCI runtime.
    runtime: PathBuf,
    /// Directory to mount over /etc/containers, if podman is configured.
    etc: Option<PathBuf>,
    /// Whether its processes are in the PID namespace of the machine.
    sees_machine: bool,
}

impl Podman {
    /// Prepares storage and a busybox root file system.
    ///
    /// # Panics
    /// When a tool is missing: `tests/setup.sh` installs them.
    #[must_use]
    pub fn new(variant: Variant) -> Podman {
        Podman::of(PodmanKind::MACHINE, variant)
    }

    /// Prepares storage and a root file system for a podman whose processes see those of the machine. A script must remove its
    /// containers.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn of_machine(variant: Variant) -> Podman {
        Podman { sees_machine: true, ..Podman::new(variant) }
    }

    /// Prepares another podman.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn of(kind: PodmanKind, variant: Variant) -> Podman {
        let podman = Podman::with_root(kind, variant, None);
        if kind.rootless {
            podman.give_to_user();
        }
        podman
    }

    /// Prepares podman with a C library in the root file system: `debian-root` or `lib64-root` of `tests/setup.sh`,
    /// and a program `loader` that opens libraries by name.
    ///
    /// # Panics
    /// As [`Podman::new`].
    #[must_use]
    pub fn with_c_library(variant: Variant, root: &str) -> Podman {
        let podman = Podman::with_root(PodmanKind::MACHINE, variant, Some(root));
        compile("loader.c", &podman.path("rootfs/bin/loader"), &[]);
        podman
    }

    fn with_root(kind: PodmanKind, variant: Variant, root: Option<&str>) -> Podman {
        for tool in ["podman", "runc", "crun", "conmon", "busybox", "unshare"] {
            let found = std::env::split_paths("/usr/bin:/usr/sbin:/bin:/sbin")
                .any(|dir| dir.join(tool).exists());
            assert!(found, "{tool} is not installed; run tests/setup.sh");
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let runtime = runtime_program(dir.path(), kind.release, variant, true);
        let podman = Podman { dir, variant, kind, runtime, etc: None, sees_machine: false };
        if let Some(root) = root {
            copy_tree(&project().join("target/test-deps").join(root), &podman.path("rootfs"));
        }
        make_rootfs(&podman.path("rootfs"));
        podman
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the OCI runtime of this variant.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.runtime.clone()
    }

    /// Sets this directory of specs with `mig-cdi configure`, for all later scripts.
    ///
    /// # Panics
    /// When configure fails or changes nothing.
    pub fn configure(&mut self, host: &FakeHost, specs: &str) {
        let (root, settings) = (self.path("machine"), self.path("settings.toml"));
        let etc = root.join("etc/containers");
        fs::create_dir_all(&etc).expect("make a directory");
        let config = project().join("tests/engines/containers.conf");
        fs::copy(config, etc.join("containers.conf")).expect("copy the configuration");
        fs::write(&settings, format!("spec-dirs = [{specs:?}]\n")).expect("write the settings");
        let release = version(&self.script(host, "$PODMAN --version").stdout);
        let mut configure = Command::new(host.configured().join("mig-cdi"));
        configure.env_clear().args(["configure", "podman"]);
        configure.arg(format!("--engine-version={release}"));
        configure.arg(format!("--config={}", settings.display()));
        let done = run(configure.arg(format!("--host-root={}", root.display())));
        done.assert_code(0);
        assert!(etc.join("containers.conf.d/50-mig-cdi.conf").exists(), "{}", done.stdout);
        self.etc = Some(etc);
    }

    /// Gives the user access to its files, and the root file system.
    fn give_to_user(&self) {
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change its mode");
        };
        open(self.dir.path(), 0o755);
        let owner = format!("{USER}:{USER}");
        let given = run(Command::new("chown").args(["-R", &owner]).arg(self.path("rootfs")));
        given.assert_code(0);
        let config = project().join("tests/engines/containers.conf");
        fs::copy(config, self.path("containers.conf")).expect("copy the configuration");
        open(&self.path("containers.conf"), 0o644);
    }

    /// Returns the command line of podman.
    fn podman(&self) -> String {
        let dir = self.dir.path().display();
        let runtime = self.runtime().display().to_string();
        let config = match self.etc {
            Some(_) => String::new(),
            None => format!("CONTAINERS_CONF={dir}/containers.conf"),
        };
        // vfs needs nothing of the file system below it: overlayfs cannot have its upper directory on the overlay of a
        // CI container. Newer podmans warn about cgroup v1 on standard error.
        match self.kind.rootless {
            true => format!(
                "setpriv --reuid {USER} --regid {USER} --clear-groups env -i PATH=/run/bin:{PATH} HOME={dir}/home \
                 XDG_RUNTIME_DIR=/run/user/{USER} {config} \
                 PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman --storage-driver vfs --runtime {runtime}"
            ),
            false => format!(
                "podman --root {dir}/root --runroot {dir}/runroot --tmpdir {dir}/tmp --storage-driver vfs \
                 --runtime {runtime}"
            ),
        }
    }

    /// Writes the spec of `host` into /var/run/cdi, as a user would, then runs a script in which `$PODMAN` is podman,
    /// `$PODMAN $RUN` runs a container to its end, `$RUNTIME` is its OCI runtime and `$ROOTFS` a root file system. Where
    /// podman is rootless, /dev has the nodes of `host`.
    ///
    /// # Panics
    /// When it does not end within [`deadline::ENGINE`].
    #[must_use]
    pub fn script(&self, host: &FakeHost, script: &str) -> Run {
        let (_, cgroup) = self.variant;
        let engines = project().join("tests/engines");
        let mut command = Command::new("sh");
        command.arg(engines.join("ns.sh")).args([cgroup, "sh"]).arg(engines.join("cgroups.sh"));
        if self.kind.rootless {
            command.arg("sh").arg(engines.join("rootless.sh"));
            command.arg(self.path("home")).arg(host.path("/dev"));
        }
        let etc = self.etc.as_ref().map_or(String::new(), |etc| {
            let etc = etc.display();
            format!("mount -t overlay overlay -o lowerdir={etc}:/etc/containers /etc/containers\n")
        });
        command.args(["sh", "-euc", &(etc + script)]);
        let (key, value) = host.env();
        let node = value.clone();
        command.env_clear().env("PATH", PATH).env("HOME", self.dir.path());
        if self.etc.is_none() {
            command.env("CONTAINERS_CONF", engines.join("containers.conf"));
        }
        if self.sees_machine {
            command.env("PIDS", "machine");
        }
        if let Some(over) = self.kind.release.overlay() {
            command.env("OVER", over).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        }
        command
            .env("MIG_CDI", program("mig-cdi"))
            .env("FLAGS", host.flags().join(" "))
            .env(key, value);
        // The container writes to the script's own standard output. Otherwise conmon copies what it reads from the
        // container to a socket of podman, and under load podman 4.3 has ended with code 0 and without the output.
        command.env("RUN", "run --rm --log-driver passthrough");
        command.env("PODMAN", self.podman()).env("RUNTIME", self.runtime());
        command.env("ROOTFS", self.path("rootfs")).env("NODE", node);
        run_within(&mut command, None, deadline::ENGINE)
    }
}

/// Returns an OCI runtime as it runs on this machine: the program itself, or a script that runs it, see `memlock.c`
/// and `without-limits.sh`.
pub(crate) fn runtime_program(
    dir: &Path,
    release: DebianRelease,
    variant: Variant,
    limits: bool,
) -> PathBuf {
    let program = Path::new("/usr/bin").join(variant.0);
    let mut words = vec!["exec".to_owned()];
    if (release, variant) == (DebianRelease::Machine, ("crun", "v2")) {
        let library = dir.join("memlock.so");
        compile("memlock.c", &library, &["-shared", "-fPIC"]);
        words.insert(0, format!("LD_PRELOAD={}", library.display()));
    }
    if !limits {
        let script = project().join("tests/engines/without-limits.sh");
        words.push(format!("sh {}", script.display()));
    }
    if words.len() == 1 {
        return program;
    }
    let wrapper = dir.join(variant.0);
    script_program(&wrapper, &format!("{} {} \"$@\"", words.join(" "), program.display()));
    wrapper
}

/// Adds busybox and the probe to a directory, so that it is a root file system.
pub(crate) fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(rootfs.join(dir)).expect("make a directory");
    }
    copy_program(Path::new("/bin/busybox"), &rootfs.join("bin/busybox"));
    for applet in [
        "sh", "head", "find", "stat", "env", "grep", "sort", "sed", "mknod", "rm", "ls", "sleep",
        "mv",
    ] {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("write passwd");
    copy_program(&project().join("tests/engines/probe.sh"), &rootfs.join("bin/probe"));
}

/// Compiles a C file of `tests/engines`.
///
/// # Panics
/// When the compiler rejects it.
pub fn compile(source: &str, to: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror", "-o"]).arg(to).args(flags);
    let built = run(cc.arg(project().join("tests/engines").join(source)));
    built.assert_code(0);
}
