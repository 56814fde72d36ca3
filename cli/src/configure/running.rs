//! The running daemon of an engine: its program, the configuration that its command line names, and whether it has read a changed
//! file, judged by the time at which it started. Sends the daemon nothing.

use crate::{cli::EngineArg, engine_files::GivenConfig};
use mig_cdi_gen::{
    Error,
    engines::{self, InstalledEngine},
};
use mig_cdi_sys::{Root, device_access::container_id};
use std::collections::BTreeMap;

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

/// True when a daemon of this name runs, of root or of the user who runs this.
pub(crate) fn is_running(proc: &Root, name: &str, rootless: bool) -> bool {
    !daemons(proc, name, rootless).is_empty()
}

/// Process ids of the daemons of a name, run by root or, for a rootless one, by the user who runs this. Those of containers are left
/// out: they have files of their own.
fn daemons(proc: &Root, name: &str, rootless: bool) -> Vec<String> {
    let owner = if rootless { real_uid(proc, "self") } else { Some(0) };
    let names = proc.list("/proc").ok().flatten().unwrap_or_default();
    let pids = names.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let is_daemon = |pid: &String| {
        let comm = read(proc, &format!("/proc/{pid}/comm"));
        comm.is_some_and(|comm| comm.trim_end() == name)
            && real_uid(proc, pid) == owner
            && !is_in_container(proc, pid)
    };
    pids.filter(is_daemon).collect()
}

/// Running daemons of an engine: the configuration that one of them was given on its command line, and the files of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunningDaemons {
    /// The default where none runs, or one of several runs without options.
    pub given: GivenConfig,
    /// Path of the program of that daemon; `None` where none runs, and for another user's.
    program: Option<String>,
    /// Directories in which that daemon looks for programs.
    pub program_dirs: Vec<String>,
    /// Files that other daemons were given.
    pub others: Vec<String>,
    /// Reason why they do not tell which files count.
    pub unclear: Option<UnclearDaemon>,
}

/// Reason why the daemons of an engine that run do not tell which files count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnclearDaemon {
    /// The only containerd is the one that dockerd starts for itself.
    #[error("the one that runs is docker's own, and dockerd writes {0} at each start")]
    OfDocker(String),
    /// Daemons run with different files, and none with the default.
    #[error("several run, with {0}")]
    Several(String),
    /// One was started with a path that cannot be resolved.
    #[error("it was started with the relative path {path}: {reason}")]
    Relative { path: String, reason: String },
}

impl UnclearDaemon {
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            UnclearDaemon::OfDocker(_) => "run mig-cdi configure docker",
            UnclearDaemon::Several(_) => "stop all but one, or change their files by hand",
            UnclearDaemon::Relative { .. } => "start it with an absolute path",
        }
    }

    /// The error of `configure`, which cannot go on.
    pub(crate) fn refusal(&self, kind: EngineArg) -> Error {
        Error::refused("configure", kind.name()).because(self).with_cure(self.cure())
    }
}

/// Finds the running daemons of an engine; none for podman, which has no daemon.
pub(crate) fn running_daemons(proc: &Root, kind: EngineArg, rootless: bool) -> RunningDaemons {
    let Some(name) = kind.daemon() else { return RunningDaemons::default() };
    // Daemons with the same files count as one.
    let (mut of_docker, mut all) = (BTreeMap::new(), BTreeMap::new());
    for pid in daemons(proc, name, rootless) {
        let Some(line) = read(proc, &format!("/proc/{pid}/cmdline")) else { continue };
        let environment = read(proc, &format!("/proc/{pid}/environ")).unwrap_or_default();
        let args = line.trim_end_matches('\0').split('\0').skip(1);
        let mut given = given_options(name, args, environment.split('\0'));
        let found = Daemon {
            program: program(proc, &pid, name),
            program_dirs: program_dirs(environment.split('\0')),
        };
        // No daemon changes its directory after the start.
        let start_dir = || proc.link(&format!("/proc/{pid}/cwd"));
        if let Err((path, reason)) = given.resolve(start_dir) {
            let unclear = UnclearDaemon::Relative { path, reason: reason.to_string() };
            return found.unclear(unclear);
        }
        let daemons = if is_of_docker(&given) { &mut of_docker } else { &mut all };
        daemons.insert(given, found);
    }
    if let Some((GivenConfig { file: Some(file), .. }, found)) = of_docker.pop_first()
        && all.is_empty()
    {
        return found.unclear(UnclearDaemon::OfDocker(file));
    }
    // The default sorts first.
    let mut all = all.into_iter();
    let (given, Daemon { program, program_dirs }) = all.next().unwrap_or_default();
    let others: Vec<String> = all.filter_map(|(given, _)| given.file).collect();
    let several = |file| UnclearDaemon::Several(format!("{file} and {}", others.join(" and ")));
    let unclear = given.file.as_ref().filter(|_| !others.is_empty()).map(several);
    RunningDaemons { given, program, program_dirs, others, unclear }
}

/// Program of a running daemon, and the directories in which it looks for others.
#[derive(Default)]
struct Daemon {
    program: Option<String>,
    program_dirs: Vec<String>,
}

impl Daemon {
    fn unclear(self, unclear: UnclearDaemon) -> RunningDaemons {
        let Daemon { program, program_dirs } = self;
        RunningDaemons {
            program,
            program_dirs,
            unclear: Some(unclear),
            ..RunningDaemons::default()
        }
    }
}

/// Directories of the variable `PATH`.
fn program_dirs<'a>(mut environment: impl Iterator<Item = &'a str>) -> Vec<String> {
    let path = environment.find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':').filter(|dir| dir.starts_with('/')).map(str::to_owned).collect()
}

/// Returns an engine of the host: that of the daemon that runs, or else the one in the directories of packages.
// The one that runs has the files: k3s brings a containerd of its own, beside which a package may have installed another.
pub(crate) fn find_engine(
    host: &Root,
    kind: EngineArg,
    running: &RunningDaemons,
) -> Option<InstalledEngine> {
    let of_daemon = running.program.as_deref();
    let of_daemon = of_daemon.and_then(|path| engines::engine_at(host, kind.name(), path));
    of_daemon.or_else(|| engines::find_engine(host, kind.name()))
}

/// True for the containerd that dockerd starts for itself, with a file that it writes (moby `libcontainerd/supervisor`).
fn is_of_docker(given: &GivenConfig) -> bool {
    given.file.as_ref().is_some_and(|file| file.ends_with("/docker/containerd/containerd.toml"))
}

/// Options of a daemon's command line that name its configuration, and the variables that CRI-O takes in their place
/// (`internal/criocli/criocli.go`).
fn given_options<'a>(
    name: &str,
    args: impl Iterator<Item = &'a str>,
    environment: impl Iterator<Item = &'a str>,
) -> GivenConfig {
    const VARIABLES: [(&str, &str); 5] = [
        ("CONTAINER_CONFIG", "config"),
        ("CONTAINER_CONFIG_DIR", "config-dir"),
        ("CONTAINER_CDI_SPEC_DIRS", "cdi-spec-dirs"),
        ("CONTAINER_HOOKS_DIR", "hooks-dir"),
        ("CONTAINER_DEFAULT_RUNTIME", "default-runtime"),
    ];
    let mut given = GivenConfig::default();
    for (variable, value) in environment.filter_map(|line| line.split_once('=')) {
        let option = VARIABLES.iter().find(|(known, _)| *known == variable);
        if let Some((_, option)) = option.filter(|_| name == "crio") {
            given.set(name, option, value);
        }
    }
    let mut of_command_line = GivenConfig::default();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let Some(option) = arg.strip_prefix('-') else { continue };
        let option = option.trim_start_matches('-');
        let (option, value) = match option.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (option, args.peek().copied()),
        };
        if let Some(value) = value {
            of_command_line.set(name, option, value);
        }
    }
    of_command_line.or(given)
}

impl GivenConfig {
    /// Sets what an option of a daemon names.
    fn set(&mut self, name: &str, option: &str, value: &str) {
        let path = (!value.is_empty()).then(|| value.to_owned());
        let dirs = value.split(',').filter(|dir| !dir.is_empty()).map(str::to_owned);
        match (name, option) {
            ("containerd" | "crio", "c" | "config") | ("dockerd", "config-file") => {
                self.file = path.or(self.file.take());
            }
            ("crio", "d" | "config-dir") => self.dir = path.or(self.dir.take()),
            ("dockerd", "cdi-spec-dir") | ("crio", "cdi-spec-dirs") => self.spec_dirs.extend(dirs),
            ("crio", "hooks-dir") => self.hooks_dirs.extend(dirs),
            ("dockerd" | "crio", "default-runtime") => {
                self.default_runtime = Some(value.to_owned());
            }
            ("dockerd", "feature") => {
                // Without a value a feature is on (moby `opts.NewNamedSetOpts`).
                let (feature, is_on) = value.split_once('=').unwrap_or((value, "true"));
                let is_on = matches!(is_on, "1" | "t" | "T" | "true" | "TRUE" | "True");
                self.features.insert(feature.to_owned(), is_on);
            }
            _ => {}
        }
    }

    /// Resolves relative paths against the directory in which the daemon was started.
    ///
    /// # Errors
    /// The path, and the reason why the directory is not known.
    fn resolve<E>(&mut self, start_dir: impl Fn() -> Result<String, E>) -> Result<(), (String, E)> {
        let lists = self.spec_dirs.iter_mut().chain(&mut self.hooks_dirs);
        let paths = self.file.iter_mut().chain(&mut self.dir).chain(lists);
        for path in paths.filter(|path| !path.starts_with('/')) {
            let dir = start_dir().map_err(|reason| (path.clone(), reason))?;
            *path = format!("{}/{path}", dir.trim_end_matches('/'));
        }
        Ok(())
    }

    /// These values, and others where there are none.
    fn or(self, other: GivenConfig) -> GivenConfig {
        let list = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        GivenConfig {
            file: self.file.or(other.file),
            dir: self.dir.or(other.dir),
            spec_dirs: list(self.spec_dirs, other.spec_dirs),
            hooks_dirs: list(self.hooks_dirs, other.hooks_dirs),
            default_runtime: self.default_runtime.or(other.default_runtime),
            features: self.features,
        }
    }
}

/// Path of the program of a running daemon.
fn program(proc: &Root, pid: &str, name: &str) -> Option<String> {
    let program = proc.link(&format!("/proc/{pid}/exe")).ok()?;
    // k3s is one program with many names: beside it are links with them.
    let (dir, file) = program.rsplit_once('/')?;
    Some(if file == name { program.clone() } else { format!("{dir}/{name}") })
}

/// Real user id of a process, the first of the four in `status` (`proc_pid_status(5)`).
fn real_uid(proc: &Root, pid: &str) -> Option<u32> {
    let status = read(proc, &format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// True for a process in a PID namespace below that of `/proc`: it has a process id in each (`proc_pid_status(5)`). And for one in the
/// cgroup of a container, which may have the PID namespace of the machine (`--pid=host`).
fn is_in_container(proc: &Root, pid: &str) -> bool {
    let text = |file: &str| read(proc, &format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = text("status");
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() > 1)
        || container_id(&text("cgroup")).is_some()
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
            given_options(words.next().unwrap_or_default(), words, [].into_iter())
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
        let crio = given("crio --hooks-dir=/h,/i --default-runtime crun");
        assert_eq!(crio.hooks_dirs, ["/h", "/i"]);
        assert_eq!(crio.default_runtime.as_deref(), Some("crun"));
        let docker = given("dockerd -H fd:// --feature cdi=false --feature=x");
        assert_eq!(docker.features, [("cdi".to_owned(), false), ("x".to_owned(), true)].into());
        assert_eq!(given("dockerd -c /x"), GivenConfig::default());
        assert_eq!(given("containerd --config"), GivenConfig::default());
    }

    #[test]
    fn variables_of_crio_stand_for_options() {
        let environment = ["CONTAINER_CONFIG=/e", "CONTAINER_HOOKS_DIR=/h", "HOME=/root"];
        let given = |args: [&'static str; 2]| {
            given_options("crio", args.into_iter(), environment.into_iter())
        };
        assert_eq!(given(["-c", "/c"]).file.as_deref(), Some("/c"));
        assert_eq!(given(["--log-level", "info"]).file.as_deref(), Some("/e"));
        assert_eq!(given(["--hooks-dir", "/a"]).hooks_dirs, ["/a"]);
        let of_containerd = given_options("containerd", [].into_iter(), environment.into_iter());
        assert_eq!(of_containerd, GivenConfig::default());
    }
}
