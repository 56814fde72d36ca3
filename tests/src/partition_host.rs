//! Fake host whose GPUs are partitioned by the program, with holders of slices.

use crate::{FakeHost, Run};
use mig_cdi_sim::{ProcessDescription, ProcessKind, SimulatedNode};
use nix::sys::stat::{major, minor};
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    process::Command,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Id of a container.
pub const CONTAINER: &str = "4f08cd7afbc60000000000000000000000000000000000000000000000000000";

/// Host for partitioning. Its `/proc` has process 1 and no others.
#[derive(Debug)]
pub struct PartitionHost {
    /// Fake host.
    pub fake: FakeHost,
}

/// Held by each test whose `apply` searches the machine's own processes.
///
/// The nodes of all hosts are on one file system, where a mount of one is known by the end of its path: a test that mounts nodes would keep
/// the slices of others.
static NODE_MOUNTS: RwLock<()> = RwLock::new(());

/// Waits until no test has nodes mounted, and keeps them from it.
pub fn without_node_mounts() -> RwLockReadGuard<'static, ()> {
    NODE_MOUNTS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other test searches for mounts of nodes, and keeps them from it.
pub fn with_node_mounts() -> RwLockWriteGuard<'static, ()> {
    NODE_MOUNTS.write().unwrap_or_else(PoisonError::into_inner)
}

impl PartitionHost {
    /// Makes the host of a node description; specs are written to [`FakeHost::out`].
    ///
    /// # Panics
    /// As [`FakeHost::with_nodes`].
    #[must_use]
    pub fn new(description: &str) -> PartitionHost {
        let host = PartitionHost { fake: FakeHost::with_nodes(description) };
        let config = format!(
            "capabilities = \"none\"\nspec-dirs = [{:?}]\n",
            host.fake.out().display().to_string()
        );
        fs::write(host.fake.config(), config).expect("write the configuration");
        let boot = "2d7a8c1e-0000-4000-8000-000000000001\n";
        host.write("/proc/sys/kernel/random/boot_id", boot);
        host.process(1, "mnt:[1]", "0::/init.scope\n", "init");
        host
    }

    /// Writes a file of the host.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.fake.path(path);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make a directory");
        fs::write(path, text).expect("write a file");
    }

    /// Makes a process below the host's `/proc`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn process(&self, pid: u32, namespace: &str, cgroup: &str, command: &str) {
        let proc = format!("/proc/{pid}");
        self.write(&format!("{proc}/cgroup"), cgroup);
        self.write(&format!("{proc}/cmdline"), &command.replace(' ', "\0"));
        // The kernel keeps 15 bytes of the program's name (proc(5)).
        let program = command.split(' ').next().unwrap_or_default();
        let name: String =
            program.rsplit('/').next().unwrap_or_default().chars().take(15).collect();
        self.write(&format!("{proc}/comm"), &format!("{name}\n"));
        self.write(&format!("{proc}/environ"), "");
        for dir in ["ns", "root", "fd"] {
            fs::create_dir_all(self.fake.path(&format!("{proc}/{dir}"))).expect("a directory");
        }
        symlink(namespace, self.fake.path(&format!("{proc}/ns/mnt"))).expect("link");
    }

    /// Makes a container, pid 77, whose device cgroup allows the capability nodes of these minors.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn container(&self, minors: &[u32]) {
        let path = format!("/machine.slice/libpod-{CONTAINER}.scope");
        self.process(77, "mnt:[2]", &format!("5:devices:{path}\n0::/\n"), "sleep inf");
        let rules: String = minors.iter().map(|minor| format!("c 508:{minor} rw\n")).collect();
        let list = format!("c *:* m\nc 136:* rwm\nc 195:0 rw\n{rules}");
        self.write(&format!("/sys/fs/cgroup/devices{path}/devices.list"), &list);
    }

    /// Makes a program of the host that has a node open.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn opens(&self, pid: u32, command: &str, node: &str) {
        self.process(pid, "mnt:[1]", "0::/user.slice\n", command);
        let fd = self.fake.path(&format!("/proc/{pid}/fd/3"));
        symlink(self.fake.path(node), fd).expect("link");
    }

    /// Makes a program of the host that computes on compute instance 0 of a GPU instance. Only NVML shows it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn computes(&self, pid: u32, command: &str, gpu: usize, gi: u32) {
        self.process(pid, "mnt:[1]", "0::/user.slice\n", command);
        let mut node = self.node();
        let kind = ProcessKind::Compute;
        let process = ProcessDescription { pid, gi: Some(gi), ci: Some(0), kind };
        node.gpus[gpu].processes.push(process);
        fs::write(self.fake.env().1, node.to_toml()).expect("write the description");
    }

    /// Makes a rootless container into which a node is mounted.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn mounts(&self, pid: u32, command: &str, node: &str) {
        self.process(pid, &format!("mnt:[{pid}]"), "0::/user.slice\n", command);
        let path = self.fake.path(node);
        let device = fs::metadata(&path).expect("a node").dev();
        let (major, minor) = (major(device), minor(device));
        let line = format!(
            "36 35 {major}:{minor} {} {node} ro,nosuid - ext4 /dev/sda ro\n",
            path.display()
        );
        self.write(&format!("/proc/{pid}/mountinfo"), &line);
    }

    /// Removes a process.
    ///
    /// # Panics
    /// When it does not exist.
    pub fn end(&self, pid: u32) {
        fs::remove_dir_all(self.fake.path(&format!("/proc/{pid}"))).expect("there");
    }

    /// Returns the directory of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.fake.out().with_file_name("journal")
    }

    /// Returns the directory of leases and of watch's status.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.fake.out().with_file_name("state")
    }

    /// Returns `mig-cdi` with the processes of this host.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.fake.command(args);
        let reads = ["plan", "map", "apply", "assert", "restore"].contains(&args[0]);
        let changes = ["apply", "restore"].contains(&args[0]);
        if reads {
            command.arg(format!("--host-root={}", self.fake.root().display()));
            command.arg(format!("--state-dir={}", self.state().display()));
        }
        if changes {
            command.arg(format!("--journal-dir={}", self.journal().display()));
        }
        command
    }

    /// Runs `mig-cdi`.
    ///
    /// # Panics
    /// As [`crate::run`].
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Run {
        self.tidy(crate::run(&mut self.command(args)))
    }

    /// Replaces the temporary path by `TMP`.
    #[must_use]
    pub fn tidy(&self, run: Run) -> Run {
        let path = self.fake.out().parent().expect("it is below").display().to_string();
        let tidy = |text: String| text.replace(&path, "TMP");
        Run { code: run.code, stdout: tidy(run.stdout), stderr: tidy(run.stderr) }
    }

    /// Runs `mig-cdi`, which has to succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_ok(&self, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.stdout, run.stderr);
        run
    }

    /// Returns the node in the state of the fake driver.
    ///
    /// # Panics
    /// When its description cannot be parsed.
    #[must_use]
    pub fn node(&self) -> SimulatedNode {
        let (_, path) = self.fake.env();
        let text = fs::read_to_string(path).expect("the description");
        SimulatedNode::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Returns the layout of each GPU: `off`, or the layout with every placement pinned.
    ///
    /// # Panics
    /// As [`PartitionHost::node`].
    #[must_use]
    pub fn layouts(&self) -> Vec<String> {
        let gpu = |gpu: &mig_cdi_sim::SimulatedGpu| match gpu.is_mig_enabled {
            false => "off".to_owned(),
            true => {
                let mut items: Vec<_> = gpu.instances.iter().map(item).collect();
                items.sort();
                let items: Vec<_> = items.into_iter().map(|(_, text)| text).collect();
                if items.is_empty() { "none".to_owned() } else { items.join(",") }
            }
        };
        self.node().gpus.iter().map(gpu).collect()
    }
}

/// Returns start and layout text of a GPU instance.
fn item(gi: &mig_cdi_sim::SimulatedInstance) -> (u32, String) {
    let start = gi.placement.start;
    let whole = gi.compute.len() == 1 && gi.compute[0].placement.size == gi.profile.slices;
    let compute: Vec<_> = gi
        .compute
        .iter()
        .map(|ci| format!("{}c@{}", ci.placement.size, ci.placement.start))
        .collect();
    let brackets = match (whole, compute.is_empty()) {
        (true, _) => String::new(),
        (_, true) => "(none)".to_owned(),
        _ => format!("({})", compute.join(",")),
    };
    (start, format!("{}@{start}{brackets}", gi.profile.name))
}
