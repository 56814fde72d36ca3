//! Processes of the host as `/proc` shows them: their names in messages, and the driver's nodes that they have open.

use crate::containers;
use mig_cdi_model::one_line;
use mig_cdi_sys::Root;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether names of processes show their command lines.
static SHOWS_COMMANDS: AtomicBool = AtomicBool::new(true);

/// Leaves command lines out of the names of processes from now on, in the whole program: for one whose messages are read by
/// others than the administrator of the node. A process writes what it likes into its own, and a command line may have
/// secrets.
pub fn hide_command_lines() {
    SHOWS_COMMANDS.store(false, Ordering::Relaxed);
}

/// Largest command line that is read; the kernel allows longer ones, and only the beginning is shown.
const COMMAND_LINE_LIMIT: usize = 1 << 16;
/// Number of characters of a command line that are shown.
const SHOWN_CHARACTERS: usize = 48;
/// Name of NVIDIA's daemon that keeps GPUs initialised, as the kernel cuts it: nvidia-persistenced. It opens every GPU and uses
/// none.
const PERSISTENCE_DAEMON: &[u8] = b"nvidia-persiste\n";
/// Size of `comm` that is read; the kernel keeps 15 bytes of a process's name, and ends them with a newline (proc(5)).
const COMM_LIMIT: usize = 64;

/// A process and the driver's nodes that it has open.
pub(crate) struct OpenNodes {
    /// Process id.
    pub pid: String,
    /// Paths of the nodes.
    pub nodes: BTreeSet<String>,
}

/// Returns the processes that have a node of the driver open. One that cannot be examined counts as having none.
pub(crate) fn open_nodes(host: &Root) -> Vec<OpenNodes> {
    let names = host.list("/proc").ok().flatten().unwrap_or_default();
    let pids = names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let examine = |pid: String| {
        // proc(5): one symbolic link for each open file, with the path by which it was opened.
        let dir = format!("/proc/{pid}/fd");
        let files = host.list(&dir).ok().flatten().unwrap_or_default();
        let targets = files.iter().filter_map(|fd| host.link(&format!("{dir}/{fd}")).ok());
        let nodes = targets.filter(|path| path.starts_with("/dev/nvidia")).collect();
        OpenNodes { pid, nodes }
    };
    pids.map(examine).filter(|open| !open.nodes.is_empty()).collect()
}

/// Names the processes that have a GPU open, except this one and the persistence daemon.
pub(crate) fn processes_with_gpu_open(host: &Root, minor: u32) -> Vec<String> {
    let node = format!("/dev/nvidia{minor}");
    let own = std::process::id().to_string();
    let others = open_nodes(host).into_iter();
    let others = others.filter(|open| open.pid != own && open.nodes.contains(&node));
    let others = others.filter(|open| !is_persistence_daemon(host, &open.pid));
    others.map(|open| describe(Some(host), &open.pid)).collect()
}

fn is_persistence_daemon(host: &Root, pid: &str) -> bool {
    // A process that only bears the daemon's name gains nothing: the driver then reports the change as pending, and it is
    // taken back.
    let comm = host.read(&format!("/proc/{pid}/comm"), COMM_LIMIT).ok().flatten();
    comm.is_some_and(|comm| comm == PERSISTENCE_DAEMON)
}

/// Names a process and its container: `pid 4711, python3 train.py of container 4f08cd7afbc6`.
pub(crate) fn describe(host: Option<&Root>, pid: &str) -> String {
    let container = host.and_then(|host| containers::container_of_process(host, pid));
    let container = container.map(|name| format!(" of {name}")).unwrap_or_default();
    describe_alone(host, pid) + &container
}

/// Names a process without its container: `pid 4711, python3 train.py`.
pub(crate) fn describe_alone(host: Option<&Root>, pid: &str) -> String {
    let read = |host: &Root| host.read(&format!("/proc/{pid}/cmdline"), COMMAND_LINE_LIMIT).ok()?;
    // proc(5): arguments are separated by null bytes, and the process itself can write them.
    let host = host.filter(|_| SHOWS_COMMANDS.load(Ordering::Relaxed));
    let line = host.and_then(read).unwrap_or_default();
    let line = one_line(&String::from_utf8_lossy(&line).replace('\0', " "));
    let shown: String = line.trim().chars().take(SHOWN_CHARACTERS).collect();
    if shown.is_empty() { format!("pid {pid}") } else { format!("pid {pid}, {shown}") }
}
