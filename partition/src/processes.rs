//! Processes of the host as `/proc` shows them: their names in messages, and those that have a GPU open.

use mig_cdi_gen::Result;
use mig_cdi_model::{Major, Minor};
use mig_cdi_sys::{
    Root,
    device_access::{AccessKinds, AccessQuery, Accessor, DescribedProcess, process_label},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether names of processes show their command lines.
static SHOWS_COMMANDS: AtomicBool = AtomicBool::new(true);

/// Leaves command lines out of the names of processes from now on, in the whole program: for one whose messages are read by
/// others than the administrator of the node. A process writes what it likes into its own, and a command line may have
/// secrets.
pub fn hide_command_lines() {
    SHOWS_COMMANDS.store(false, Ordering::Relaxed);
}

/// Reports whether names of processes show their command lines.
pub(crate) fn shows_command_lines() -> bool {
    SHOWS_COMMANDS.load(Ordering::Relaxed)
}

/// Name of NVIDIA's daemon that keeps GPUs initialised. It opens every GPU and uses none.
const PERSISTENCE_DAEMON: &[u8] = b"nvidia-persistenced";
/// Its name as the kernel cuts it. Another program may have the same first 15 bytes.
const PERSISTENCE_COMM: &[u8] = b"nvidia-persiste\n";
/// Size of `comm` that is read; the kernel keeps 15 bytes of a process's name, and ends them with a newline (proc(5)).
const COMM_LIMIT: usize = 64;
/// Size of `cmdline` that is read. The daemon's has a few flags.
const COMMAND_LIMIT: usize = 1 << 16;
/// Major number of the GPUs' nodes (`nv.h`, `NV_MAJOR_DEVICE_NUMBER`).
const GPU_MAJOR: Major = Major(195);

/// Names the processes that have a GPU open, except this one and the persistence daemon.
///
/// # Errors
/// When the open files cannot be examined.
pub(crate) fn processes_with_gpu_open(host: &Root, minor: u32) -> Result<Vec<String>> {
    let host_root = host.display_path("");
    let query = AccessQuery {
        host_root: host_root.clone(),
        devices: vec![(GPU_MAJOR, Minor(minor))],
        nodes: vec![format!("nvidia{minor}")],
        dev_root: host_root,
        config: None,
        kinds: AccessKinds::OpenFile,
        describe: Vec::new(),
        has_hints: shows_command_lines(),
        own: None,
        is_for_machine: false,
    };
    let own = std::process::id();
    let is_user =
        |accessor: &&Accessor| accessor.pid != own && !is_persistence_daemon(host, accessor.pid);
    let report = query.run()?;
    let name = |accessor: &Accessor| {
        in_container(
            process_label(accessor.pid, &accessor.hints.command),
            accessor.container.as_deref(),
        )
    };
    Ok(report.accessors.iter().filter(is_user).map(name).collect())
}

fn is_persistence_daemon(host: &Root, pid: u32) -> bool {
    // A process that only bears the daemon's name gains nothing: the driver then reports the change as pending, and it is
    // taken back.
    let read = |file: &str, limit| host.read(&format!("/proc/{pid}/{file}"), limit).ok().flatten();
    let has_comm = read("comm", COMM_LIMIT).is_some_and(|comm| comm == PERSISTENCE_COMM);
    // The program's own name is the last part of the first argument.
    let is_called = |command: Vec<u8>| {
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        program.rsplit(|byte| *byte == b'/').next() == Some(PERSISTENCE_DAEMON)
    };
    has_comm && read("cmdline", COMMAND_LIMIT).is_some_and(is_called)
}

/// Names a process that NVML has reported, and its container: `pid 4711, python3 train.py of container 4f08cd7afbc6`.
pub(crate) fn describe(pid: u32, described: &[DescribedProcess]) -> String {
    match described.iter().find(|process| process.pid == pid) {
        Some(DescribedProcess { container, hints, .. }) => {
            in_container(process_label(pid, &hints.command), container.as_deref())
        }
        None => process_label(pid, ""),
    }
}

fn in_container(process: String, container: Option<&str>) -> String {
    match container {
        Some(container) => format!("{process} of container {container}"),
        None => process,
    }
}
