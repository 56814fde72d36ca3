//! Whether a daemon that runs has read a file: by when it was started, without asking it.

use mig_cdi_sys::Root;

/// What there is of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// None runs.
    No,
    /// It was started after the change.
    Has,
    /// It was started before, or in the same second.
    Lacks,
}

/// Looks for processes of a name, of root or of whoever runs this. `changed` is in seconds since 1970.
pub(crate) fn running(proc: &Root, name: &str, rootless: bool, changed: i64) -> Running {
    let user = if rootless { user(proc, "self") } else { Some(0) };
    let names = proc.list("/proc").ok().flatten().unwrap_or_default();
    let pids = names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let ours = pids.filter(|pid| {
        let comm = text(proc, &format!("/proc/{pid}/comm"));
        comm.is_some_and(|comm| comm.trim_end() == name) && self::user(proc, pid) == user
    });
    // Several are several daemons; the oldest tells whether all have it.
    let Some(oldest) = ours.filter_map(|pid| started(proc, &pid)).min() else { return Running::No };
    if oldest > changed { Running::Has } else { Running::Lacks }
}

/// The real user of a process.
fn user(proc: &Root, pid: &str) -> Option<u32> {
    let status = text(proc, &format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When a process was started: field 22 of its `stat` counts ticks since the boot, and user space sees 100 of
/// them in a second on every machine with NVIDIA's driver (`USER_HZ`, include/asm-generic/param.h).
fn started(proc: &Root, pid: &str) -> Option<i64> {
    const USER_HZ: i64 = 100;
    let stat = text(proc, &format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses, which may hold anything.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let machine = text(proc, "/proc/stat")?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<i64>().ok()? + ticks / USER_HZ)
}

fn text(proc: &Root, path: &str) -> Option<String> {
    let bytes = proc.read(path, 1 << 20).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
