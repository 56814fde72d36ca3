//! The processes that can use devices: those whose cgroup allows them by a rule, those that have them open, and those into whose mount
//! namespace they are mounted.
//!
//! The kernel decides on each open by the device cgroup, so its rules are the verdict on a container. Whatever a container can
//! change itself is not: paths, links, variables, command lines. Every process holds the devices that it has open. Those that may open
//! every device (those of the host, of rootless and of privileged containers) also hold the devices that were mounted for them one
//! by one.
//!
//! A child process examines `/proc`, with a time limit. It asks no file system of a container, so that none can block it; a process
//! that cannot be examined counts as one that holds everything which it may open.

mod cgroups;
mod hints;
mod messages;
mod mounts;
mod open_files;
mod scan;
mod task;

pub use hints::container_id;

use crate::{
    ChildLines, DevicePolicies, DevicePolicy, Error, PolicyProbe, Result, Root, die_with_parent,
    enter_host_cgroup_namespace, error::suffix, own_image, user_path::exists,
};
use mig_cdi_model::{Major, Minor};
use serde::{Deserialize, Serialize};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Name of the hidden subcommand that [`run_child`] is the body of.
pub const SUBCOMMAND: &str = "device-access";
/// Name of the hidden subcommand that [`run_cgroup_child`] is the body of.
pub const CGROUP_SUBCOMMAND: &str = "cgroup-access";
/// Subject of the errors of a search.
const SUBJECT: &str = "the processes that can use devices";
/// Time for the verdict. What is not examined then counts as held.
const LIMIT: Duration = Duration::from_millis(1800);
/// Time for the hints, which are for messages alone.
const HINTS_LIMIT: Duration = Duration::from_millis(200);

/// A query for the processes that can use devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessQuery {
    /// Directory that stands for `/` when `/proc` is read.
    pub host_root: PathBuf,
    /// Numbers of the devices.
    pub devices: Vec<(Major, Minor)>,
    /// Paths of the devices below the host's `/dev`, in the same order: `nvidia-caps/nvidia-cap30`.
    pub nodes: Vec<String>,
    /// Directory that stands for `/` when the host's `/dev` is read.
    pub dev_root: PathBuf,
    /// Position of the capability to create and destroy instances, where it is one of the devices. A process that may use it may use
    /// all: only those that it has open count.
    pub config: Option<usize>,
    /// Kinds of access.
    pub kinds: AccessKinds,
    /// Processes to describe besides, which NVML has named.
    pub describe: Vec<u32>,
    /// Whether hints are read.
    pub has_hints: bool,
    /// First process of a container whose own use does not count: that of its cgroup.
    pub own: Option<u32>,
    /// Whether it is an error when only the processes of some containers can be seen.
    #[serde(default)]
    pub is_for_machine: bool,
}

/// Kinds of access that a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKinds {
    /// A rule of the device cgroup: quick, whatever the number of open files.
    Cgroup,
    /// An open file alone.
    OpenFile,
    /// A rule, or an open file of a process that could not open it itself: what containers can use.
    Confined,
    /// A rule, an open file, a mount.
    All,
}

/// Reports whether this process sees those of the whole machine: it is in the first PID namespace, and `/proc` does not hide the
/// processes of others from it (`hidepid`, proc(5)).
#[must_use]
pub fn sees_all_processes() -> bool {
    // `PROC_PID_INIT_INO` in include/linux/proc_ns.h.
    const FIRST: u64 = 0xefff_fffc;
    let namespace = std::fs::metadata("/proc/self/ns/pid");
    namespace.is_ok_and(|namespace| namespace.ino() == FIRST) && exists(Path::new("/proc/1"))
}

/// Returns why this process cannot find the containers of the machine that may open a device, or `None` where it can. The rules of its own
/// cgroup stand for those of the others.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !sees_all_processes() {
        return Some("only some processes of the machine can be seen from here".to_owned());
    }
    let read = |host: Root| {
        let own = host.read("/proc/self/cgroup", scan::CGROUP_LIMIT)?.unwrap_or_default();
        let unread = |_: &str| Err("it cannot be read".to_owned());
        let mut policies = DevicePolicies::open(&host, Vec::new(), &unread)?;
        Ok(policies.of(&String::from_utf8_lossy(&own)))
    };
    match Root::open(Path::new("/")).and_then(read).as_deref() {
        Ok(DevicePolicy::Unknown(reason)) => Some(reason.clone()),
        Ok(DevicePolicy::Everything | DevicePolicy::Some(_)) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Processes that can use the same devices in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accessor {
    /// One of the processes.
    pub pid: u32,
    /// Id of their container, shortened: `4f08cd7afbc6`. A container may choose it, so it is for messages alone.
    pub container: Option<String>,
    /// Positions of the devices in the query, ascending.
    pub devices: Vec<usize>,
    /// Reason of the access.
    pub access: Access,
    /// Hints for messages; empty where they could not be read in time.
    #[serde(default)]
    pub hints: ProcessHints,
}

impl Accessor {
    /// Names it: its container and process. A process can choose its command line, and also the reason why it cannot be
    /// examined, which may have the path of its cgroup: `shows_chosen_text` is for the administrator of the node.
    #[must_use]
    pub fn name(&self, shows_chosen_text: bool) -> String {
        let process = process_label(self.pid, &self.hints.command);
        let name = match &self.container {
            Some(container) => format!("container {container} ({process})"),
            None => process,
        };
        match &self.access {
            Access::Unknown(reason) if shows_chosen_text => {
                format!("{name}, which cannot be examined: {reason}")
            }
            Access::Unknown(_) => format!("{name}, which cannot be examined"),
            Access::Cgroup | Access::OpenFile | Access::Mount => name,
        }
    }
}

/// Names a process: `pid 4711, python3 train.py`.
#[must_use]
pub fn process_label(pid: u32, command: &str) -> String {
    if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid}, {command}") }
}

/// Command line and variables of a process, for messages alone: it can write both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessHints {
    /// Beginning of its command line.
    pub command: String,
    /// Variables by which our specs identify the slices of a container, as `NAME=VALUE`.
    pub variables: Vec<String>,
}

/// Reason of an access.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// The device cgroup allows it, by a rule for these devices.
    Cgroup,
    /// It has them open.
    OpenFile,
    /// They are mounted in its mount namespace.
    Mount,
    /// It cannot be examined, for this reason, and could use them.
    Unknown(String),
}

/// Answer to an [`AccessQuery`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessReport {
    /// Processes that can use the devices, each cgroup or mount namespace once.
    pub accessors: Vec<Accessor>,
    /// Number of processes that may not be examined by this user.
    pub forbidden: usize,
    /// Processes that the query names.
    pub described: Vec<DescribedProcess>,
}

/// A process by its container and command line, for messages alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedProcess {
    /// Process id.
    pub pid: u32,
    /// As [`Accessor::container`].
    pub container: Option<String>,
    /// As [`Accessor::hints`].
    #[serde(default)]
    pub hints: ProcessHints,
}

impl AccessQuery {
    /// Finds the processes that can use the devices, in a child process.
    ///
    /// # Errors
    /// When the child fails, or is not done in time. Every device then has to count as in use.
    pub fn run(&self) -> Result<AccessReport> {
        let end = Instant::now() + LIMIT;
        let mut child =
            ChildLines::start(&own_image()?, &messages::args(SUBCOMMAND, &(self, LIMIT))?)?;
        let mut lines = child.next_lines(end).unwrap_or_default().into_iter();
        let Some(line) = lines.next() else {
            let cause = match Instant::now() < end {
                true => "the child process ended without a report".to_owned(),
                false => format!("it takes longer than {} ms", LIMIT.as_millis()),
            };
            let cure = "end programs with very many open files or threads, or try again when the node is less busy";
            return Err(fail(cause).with_cure(cure));
        };
        let mut report = match serde_json::from_str(&line) {
            Ok(AccessReply::Report(report)) => report,
            Ok(AccessReply::Failed(cause)) => return Err(fail(cause)),
            Err(e) => return Err(fail(e.to_string())),
        };
        // Reading a command line waits for the memory of its process, which that process can make slow.
        let hints = lines.next().or_else(|| {
            let end = Instant::now() + HINTS_LIMIT;
            child.next_lines(end)?.into_iter().next()
        });
        if let Some(Ok(hints)) = hints.map(|line| serde_json::from_str::<Vec<ProcessHints>>(&line))
        {
            let accessors = report.accessors.iter_mut().map(|accessor| &mut accessor.hints);
            let described = report.described.iter_mut().map(|process| &mut process.hints);
            accessors.chain(described).zip(hints).for_each(|(unset, hints)| *unset = hints);
        }
        Ok(report)
    }
}

/// First line of the child's output; the second is the list of hints.
#[derive(Debug, Serialize, Deserialize)]
enum AccessReply {
    Report(AccessReport),
    /// Cause of a failure.
    Failed(String),
}

/// Error of a search that was not done.
fn fail(cause: impl Into<String>) -> Error {
    Error::refused("find", SUBJECT, cause)
}

/// Answers the query of the parent, which comes with the time that the parent waits: the body of the hidden subcommand `device-access`.
/// Returns false after a failure, which it prints too.
#[must_use]
pub fn run_child(message: &str) -> bool {
    let found = messages::parse::<(AccessQuery, Duration)>(message)
        .and_then(|(query, limit)| Ok((scan::find(&query, limit)?, query)));
    let ((host, report), query) = match found {
        Ok(found) => found,
        Err(error) => {
            print(&AccessReply::Failed(without_subject(&error)));
            return false;
        }
    };
    let accessors = report.accessors.iter().map(|accessor| accessor.pid);
    let pids = accessors.chain(query.describe.iter().copied());
    let pids: Vec<u32> = pids.filter(|_| query.has_hints).collect();
    print(&AccessReply::Report(report));
    print(&hints::read(&host, &pids));
    true
}

/// Text of an error for the parent, which names the subject of the search itself.
fn without_subject(error: &Error) -> String {
    match error.path() == Path::new(SUBJECT) {
        true => format!("{}{}", error.cause(), suffix(error.cure())),
        false => error.to_string(),
    }
}

/// Prints a line at once: the parent waits for it.
fn print(reply: &impl Serialize) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    // A parent that is gone needs no report.
    let _ = stdout.write_all(messages::line(reply).as_bytes()).and_then(|()| stdout.flush());
}

/// Answer of the child that looks from within a cgroup.
#[derive(Debug, Serialize, Deserialize)]
enum CgroupReply {
    /// What the cgroup allows.
    Policy(DevicePolicy),
    /// Cause of a failure.
    Failed(String),
}

/// Finds from within cgroups of version 2 what they allow: the body of the hidden subcommand `cgroup-access`. The message has the
/// devices, and each line of standard input the path of a cgroup.
pub fn run_cgroup_child(message: &str) {
    let probe = messages::parse::<Vec<(Major, Minor)>>(message).and_then(|devices| {
        // It would stay in a cgroup that is frozen.
        die_with_parent()?;
        // As in the search, which the paths are from.
        let _ = enter_host_cgroup_namespace(&Root::open(Path::new("/"))?);
        PolicyProbe::new(&devices)
    });
    let policy = |line: &str| {
        let probe = probe.as_ref().map_err(ToString::to_string)?;
        let path = messages::parse::<String>(line).map_err(|error| error.to_string())?;
        probe.policy(&path).map_err(|error| error.to_string())
    };
    for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
        print(&policy(&line).map_or_else(CgroupReply::Failed, CgroupReply::Policy));
    }
}
