//! State of a daemon with regard to a changed file, judged by the time at which it started. Sends the daemon nothing.

use mig_cdi_sys::Root;

/// Upper bound for a file of `/proc`.
const PROC_LIMIT: usize = 1 << 20;

/// State of a daemon with regard to a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DaemonState {
    /// No process of the daemon runs.
    NotRunning,
    /// Started after the change, so that it has read the file.
    Current,
    /// Started before the change, or in the same second.
    Outdated,
}

/// Returns the state of the daemon of a process name, run by root or, for a rootless one, by the user who runs
/// this. `changed` is the time of the change in seconds since 1970.
pub(crate) fn daemon_state(proc: &Root, name: &str, rootless: bool, changed: i64) -> DaemonState {
    let owner = if rootless { real_uid(proc, "self") } else { Some(0) };
    let names = proc.list("/proc").ok().flatten().unwrap_or_default();
    let pids = names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let matching = pids.filter(|pid| {
        let comm = read(proc, &format!("/proc/{pid}/comm"));
        comm.is_some_and(|comm| comm.trim_end() == name) && real_uid(proc, pid) == owner
    });
    // With several daemons of one name (a second dockerd on another socket), all are current when the oldest is.
    let Some(oldest) = matching.filter_map(|pid| start_time(proc, &pid)).min() else {
        return DaemonState::NotRunning;
    };
    if oldest > changed { DaemonState::Current } else { DaemonState::Outdated }
}

/// Real user id of a process, the first of the four in `status` (`proc_pid_status(5)`).
fn real_uid(proc: &Root, pid: &str) -> Option<u32> {
    let status = read(proc, &format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Start of a process in seconds since 1970. Field 22 of `stat` counts clock ticks since boot
/// (`proc_pid_stat(5)`), of which user space sees 100 a second on every machine with NVIDIA's driver (`USER_HZ`,
/// include/asm-generic/param.h).
fn start_time(proc: &Root, pid: &str) -> Option<i64> {
    const USER_HZ: i64 = 100;
    let stat = read(proc, &format!("/proc/{pid}/stat"))?;
    // The second field is the process name in parentheses, which may contain spaces and parentheses.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let machine = read(proc, "/proc/stat")?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<i64>().ok()? + ticks / USER_HZ)
}

fn read(proc: &Root, path: &str) -> Option<String> {
    let bytes = proc.read(path, PROC_LIMIT).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
