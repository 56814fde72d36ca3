//! The running daemon of an engine: the configuration that its command line names, and whether it has read a changed file, judged by
//! the time at which it started. Sends the daemon nothing.

use crate::engine_files::GivenConfig;
use mig_cdi_gen::Error;
use mig_cdi_sys::Root;
use std::collections::BTreeSet;

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
    // With several daemons of one name (a second dockerd on another socket), all are current when the oldest is.
    let pids = daemons(proc, name, rootless).into_iter();
    let Some(oldest) = pids.filter_map(|pid| start_time(proc, &pid)).min() else {
        return DaemonState::NotRunning;
    };
    if oldest > changed { DaemonState::Current } else { DaemonState::Outdated }
}

/// Process ids of the daemons of a name, run by root or, for a rootless one, by the user who runs this.
fn daemons(proc: &Root, name: &str, rootless: bool) -> Vec<String> {
    let owner = if rootless { real_uid(proc, "self") } else { Some(0) };
    let names = proc.list("/proc").ok().flatten().unwrap_or_default();
    let pids = names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let is_daemon = |pid: &String| {
        let comm = read(proc, &format!("/proc/{pid}/comm"));
        comm.is_some_and(|comm| comm.trim_end() == name) && real_uid(proc, pid) == owner
    };
    pids.filter(is_daemon).collect()
}

/// Returns the configuration that the running daemon was given on its command line; the default where none runs, or one of several
/// runs without such options.
///
/// # Errors
/// When daemons run with different files, and none with the default.
pub(crate) fn given_config(proc: &Root, name: &str, rootless: bool) -> Result<GivenConfig, Error> {
    let given = daemons(proc, name, rootless).into_iter().filter_map(|pid| {
        let line = read(proc, &format!("/proc/{pid}/cmdline"))?;
        Some(given_options(name, line.trim_end_matches('\0').split('\0').skip(1)))
    });
    let mut all: BTreeSet<GivenConfig> = given.collect();
    let is_default = |given: &GivenConfig| given.file.is_none() && given.dir.is_none();
    if all.len() > 1 && !all.iter().any(is_default) {
        let files: Vec<_> = all.iter().filter_map(|given| given.file.as_deref()).collect();
        return Err(Error::refused("configure", name)
            .because(format!("several run, with {}", files.join(" and ")))
            .with_cure("stop all but one, or change their files by hand"));
    }
    // The default sorts first.
    Ok(all.pop_first().unwrap_or_default())
}

/// Options of a daemon's command line that name its configuration.
fn given_options<'a>(name: &str, args: impl Iterator<Item = &'a str>) -> GivenConfig {
    let mut given = GivenConfig::default();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let Some(option) = arg.strip_prefix('-') else { continue };
        let option = option.trim_start_matches('-');
        let (option, value) = match option.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (option, args.peek().copied()),
        };
        let Some(value) = value.filter(|value| value.starts_with('/')) else { continue };
        let dirs = value.split(',').map(str::to_owned);
        match (name, option) {
            ("containerd" | "crio", "c" | "config") | ("dockerd", "config-file") => {
                given.file = Some(value.to_owned());
            }
            ("crio", "d" | "config-dir") => given.dir = Some(value.to_owned()),
            ("dockerd", "cdi-spec-dir") | ("crio", "cdi-spec-dirs") => given.spec_dirs.extend(dirs),
            _ => {}
        }
    }
    given
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_name_the_configuration_are_found() {
        let given = |line: &str| {
            let mut words = line.split(' ');
            given_options(words.next().unwrap_or_default(), words)
        };
        let file = |path: &str| Some(path.to_owned());
        assert_eq!(given("containerd -c /k/c.toml -a /s").file, file("/k/c.toml"));
        assert_eq!(given("containerd --config=/k/c.toml").file, file("/k/c.toml"));
        assert_eq!(given("containerd --address /s --config /k").file, file("/k"));
        assert_eq!(given("dockerd --config-file /d.json").file, file("/d.json"));
        assert_eq!(given("dockerd --cdi-spec-dir=/a --cdi-spec-dir /b").spec_dirs, ["/a", "/b"]);
        let crio = given("crio --config-dir /e --config /c --cdi-spec-dirs /a,/b");
        assert_eq!((crio.file, crio.dir), (file("/c"), file("/e")));
        assert_eq!(crio.spec_dirs, ["/a", "/b"]);
        assert_eq!(given("dockerd -c /x"), GivenConfig::default());
        assert_eq!(given("containerd --config"), GivenConfig::default());
    }
}
