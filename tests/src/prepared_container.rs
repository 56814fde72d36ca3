//! Container that is created and not started, prepared as by an attacker: a bundle with a root file system, a process
//! in a mount namespace and a cgroup of its own, and beside it canaries that nothing may touch.

use crate::{
    FakeHost, Run, deadline,
    driver::DistributionLayout,
    fake_host::trusted_tempdir,
    hook::{feed, oci_config, runc_state},
};
use mig_cdi_sim::preset;
use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufReader, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Content of the canaries, which no other file of this machine has.
pub const SECRET: &str = "the host's own, not for containers";

/// Script of the mounts that engines make in the root file system before hooks run.
pub const ENGINE_MOUNTS: &str = "mount -t tmpfs -o mode=755 tmpfs dev; mount -t proc proc proc";

/// Files below a directory: type and attributes, and content or target of a link.
pub type FileTree = BTreeMap<PathBuf, (String, String)>;

/// Prepared container.
#[derive(Debug)]
pub struct PreparedContainer {
    dir: TempDir,
    cgroup: PathBuf,
    process: Option<Child>,
    /// Mounts of the machine and of the container at its start, and the canary.
    before: (BTreeSet<String>, BTreeSet<String>, FileTree),
}

/// Makes a host whose hook injects nodes and files, for a container that requests one slice.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn host() -> FakeHost {
    let host = FakeHost::with_driver(
        preset("a100-80gb").expect("a known preset"),
        DistributionLayout::Debian,
    );
    host.configure_hook("");
    let flags = ["--capabilities=utility", "--library-dirs=/usr/lib/x86_64-linux-gnu"];
    host.generate(&[&flags[..], &["--names=uuid,slot"]].concat()).assert_code(0);
    host
}

impl FakeHost {
    /// Returns the mode `create-runtime` with this host's configuration.
    #[must_use]
    pub fn create_runtime(&self) -> Command {
        self.hook(&["create-runtime", &format!("--config={}", self.config().display())])
    }
}

impl Default for PreparedContainer {
    fn default() -> PreparedContainer {
        PreparedContainer::new()
    }
}

impl PreparedContainer {
    /// Makes the bundle, a root file system of empty directories, and the canaries.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn new() -> PreparedContainer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mig-cdi-container-{}-{number}", std::process::id());
        let cgroup = device_hierarchy().join(name);
        let container = PreparedContainer {
            dir: trusted_tempdir(),
            cgroup,
            process: None,
            before: Default::default(),
        };
        for dir in
            ["bin", "dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib/x86_64-linux-gnu"]
        {
            fs::create_dir_all(container.rootfs().join(dir)).expect("make a directory");
        }
        fs::create_dir_all(container.canary().join("dir")).expect("make a directory");
        for file in ["file", "dir/libnvidia-ml.so.1"] {
            fs::write(container.canary().join(file), SECRET).expect("write a canary");
        }
        container.configure(oci_config(&[], &[("mig-cdi/devices", "0:2g.20gb:0")], false));
        container
    }

    /// Replaces its OCI configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, config: impl AsRef<[u8]>) {
        fs::write(self.bundle().join("config.json"), config).expect("write the configuration");
    }

    /// Starts its process in new namespaces by these flags of unshare, after this script of the engine in the root
    /// file system.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_in(mut self, namespaces: &[&str], script: &str) -> PreparedContainer {
        let script = format!("set -e; {script}; echo ready; exec cat");
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", &script]).current_dir(self.rootfs());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        self.process = Some(process);
        let line = deadline::read_line(&mut stdout).expect("it is readable");
        assert_eq!(line, "ready\n", "the container's process did not start");
        fs::create_dir(&self.cgroup).expect("make a cgroup");
        fs::write(self.cgroup.join("cgroup.procs"), self.pid().to_string()).expect("move into it");
        self.before = (mounts("self"), mounts(&self.pid().to_string()), tree(&self.canary()));
        self
    }

    /// Starts its process in a new mount namespace only.
    #[must_use]
    pub fn start(self, script: &str) -> PreparedContainer {
        self.start_in(&["--mount"], script)
    }

    /// Returns the process that would become the container's first.
    ///
    /// # Panics
    /// When it was not started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it was started").id()
    }

    /// Returns the directory of its configuration.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        self.dir.path()
    }

    /// Returns its root as the machine sees it.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Returns its root through its own mount namespace.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(self.rootfs().strip_prefix("/").expect("it is absolute"))
    }

    /// Returns a directory of the machine that it must not reach.
    #[must_use]
    pub fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    /// Returns its state as its runtime passes it to a hook.
    #[must_use]
    pub fn state(&self) -> String {
        runc_state(self.pid(), self.bundle())
    }

    /// Returns the mount points that were added since its start.
    #[must_use]
    pub fn new_mounts(&self) -> Vec<String> {
        mounts(&self.pid().to_string()).difference(&self.before.1).cloned().collect()
    }

    /// Asserts that nothing outside of its root has changed.
    ///
    /// # Panics
    /// When something has changed.
    pub fn assert_nothing_outside_changed(&self, what: &str) {
        let (host, _, canary) = &self.before;
        assert_same(what, "canary", canary, &tree(&self.canary()));
        let ours = self.dir.path().display().to_string();
        let below_ours = |mounts: &BTreeSet<String>| {
            mounts.iter().filter(|point| point.contains(&ours)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(below_ours(&mounts("self")), below_ours(host), "{what}: mounts of the machine");
        let root = format!("{}/", self.rootfs().display());
        let outside: Vec<_> =
            self.new_mounts().into_iter().filter(|point| !point.starts_with(&root)).collect();
        assert_eq!(outside, [""; 0], "{what}: mounts outside of the container's root");
    }

    /// Runs the mode `create-runtime` for it, and asserts that it injects all or nothing, and changes nothing
    /// outside.
    ///
    /// # Panics
    /// When an assertion fails.
    #[must_use]
    pub fn attack(&self, host: &FakeHost, what: &str) -> Run {
        let tree = || names(&self.inside()).into_iter().collect::<BTreeSet<_>>();
        let before = tree();
        let run = feed(&mut host.create_runtime(), self.state().as_bytes());
        self.assert_nothing_outside_changed(what);
        assert_eq!(run.stdout, "", "{what}");
        if run.code != 0 {
            assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{what}: {}", run.stderr);
            assert_eq!(tree(), before, "{what}: something is left; {}", run.stderr);
            assert_eq!(self.new_mounts(), [""; 0], "{what}: something is mounted");
        }
        let leaked = crate::prepared_container::tree(&self.inside());
        let leaked = leaked.iter().find(|(_, (_, content))| content == SECRET);
        assert_eq!(leaked, None, "{what}: a file of the machine is seen");
        run
    }

    /// Unmounts what was mounted since its start.
    ///
    /// # Panics
    /// When that fails.
    pub fn unmount(&self) {
        let namespace = fs::File::open(format!("/proc/{}/ns/mnt", self.pid()));
        let namespace = namespace.expect("it has a mount namespace");
        let work = || {
            // setns(2): a thread that shares its working directory and root with others cannot enter a mount
            // namespace.
            unshare(CloneFlags::CLONE_FS).expect("leave the directories of the other threads");
            setns(&namespace, CloneFlags::CLONE_NEWNS).expect("enter the mount namespace");
            while let Some(point) = self.new_mounts().last() {
                umount2(point.as_str(), MntFlags::MNT_DETACH)
                    .unwrap_or_else(|e| panic!("unmount {point}: {e}"));
            }
        };
        std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"));
    }
}

impl Drop for PreparedContainer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            deadline::kill_and_wait(process);
            // The kernel empties the cgroup shortly after the process has ended, and there is none if it did not start.
            let begin = Instant::now();
            while fs::remove_dir(&self.cgroup).is_err_and(|e| e.kind() == ErrorKind::ResourceBusy)
                && begin.elapsed() < deadline::PROGRAM
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn assert_same(what: &str, name: &str, before: &FileTree, after: &FileTree) {
    for path in before.keys().chain(after.keys()) {
        assert_eq!(before.get(path), after.get(path), "{what}: {name}: {}", path.display());
    }
}

/// Returns the cgroup hierarchy that controls devices, as the hook selects it.
fn device_hierarchy() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let point = |wanted: &dyn Fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            wanted(system.next()?, system.nth(1)?)
                .then(|| PathBuf::from(mount.split(' ').nth(4).expect("a mount point")))
        })
    };
    let v1 = point(&|kind, options| kind == "cgroup" && options.split(',').any(|o| o == "devices"));
    v1.or_else(|| point(&|kind, _| kind == "cgroup2")).expect("a mounted hierarchy of cgroups")
}

/// Returns the mount points of a process.
fn mounts(pid: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it is there");
    text.lines().map(|line| line.split(' ').nth(4).expect("a mount point").to_owned()).collect()
}

/// Returns the paths below a directory, without procfs and sysfs.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) && !is_kernel(&path) {
            names.extend(self::names(&path));
        }
        names.push(path);
    }
    names.sort();
    names
}

fn is_kernel(dir: &Path) -> bool {
    let system = statfs(dir).map(|system| system.filesystem_type());
    system.is_ok_and(|system| system == PROC_SUPER_MAGIC || system == SYSFS_MAGIC)
}

/// Returns all files below a directory.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn tree(dir: &Path) -> FileTree {
    let entry = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let kind = meta.file_type();
        let content = match () {
            () if kind.is_symlink() => fs::read_link(&path).expect("a link").display().to_string(),
            // Some images have a sparse file of a gigabyte.
            () if kind.is_file() && meta.len() < 1 << 20 => {
                String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned()
            }
            () if kind.is_char_device() => format!("{:x}", meta.rdev()),
            () => String::new(),
        };
        let (mode, inode, owner) = (meta.mode(), meta.ino(), (meta.uid(), meta.gid()));
        let times = (meta.mtime(), meta.mtime_nsec());
        (path, (format!("{mode:o} {inode} {owner:?} {times:?} {}", meta.nlink()), content))
    };
    names(dir).into_iter().chain([dir.to_owned()]).map(entry).collect()
}
