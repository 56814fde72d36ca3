//! Containers that run with MIG devices, found through `/proc`: the mount namespaces, device cgroups and environments of processes.
//!
//! No engine is queried, so that containers of every engine are found, and no namespace is entered.

use mig_cdi_model::{DeviceVariable, Minor, NumberedNode};
use mig_cdi_sys::{DeviceCgroup, Root, text};
use std::collections::BTreeMap;

const CAPS_DIR: &str = "/dev/nvidia-caps";
/// Upper bound for a file of `/proc`, far above what the kernel writes for one process.
const PROC_LIMIT: usize = 1 << 20;
/// Number of processes of a container whose environment is read. The variables of a spec are in that of the
/// first process; a container of thousands would only repeat them.
const ENVIRONMENTS: usize = 32;

/// A container that runs and has a MIG device, or variables of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningContainer {
    /// `container 4f08cd7afbc6`, or `pid 17` where its cgroup has no container id.
    pub name: String,
    /// True when its cgroup has a container id.
    pub is_identified: bool,
    /// Process ids, at least one.
    pub pids: Vec<String>,
    /// Capability nodes that it can open, each once, by their paths in it.
    pub nodes: Vec<NumberedNode>,
    /// Variables by which a spec of mig-cdi identifies the MIG devices of a container.
    pub variables: Vec<DeviceVariable>,
}

/// Result of a scan of `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerScan {
    /// Containers by the number of their mount namespace.
    pub containers: Vec<RunningContainer>,
    /// Number of processes that could not be examined for lack of privilege.
    pub unreadable: usize,
}

/// Examines every mount namespace except the host's, through one of its processes. Returns `None` when `/proc` does not show
/// processes. `host` is the root of the machine's `/proc`.
#[must_use]
pub fn scan(host: &Root) -> Option<ContainerScan> {
    let namespace = |pid: &str| host.link(&format!("/proc/{pid}/ns/mnt"));
    // The namespace of pid 1 is readable by root alone (proc(5): ptrace access mode); without root, our own
    // stands for the host's.
    let host_namespace = namespace("1").or_else(|_| namespace("self")).ok()?;
    let names = host.list("/proc").ok()??;
    let mut by_namespace: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unreadable = 0;
    let is_pid = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    // Pid 1 is the host's by definition, and is not readable without root: it is no container that was missed.
    for pid in names.into_iter().filter(|name| is_pid(name) && name != "1") {
        match namespace(&pid) {
            Ok(namespace) if namespace == host_namespace => {}
            Ok(namespace) => by_namespace.entry(namespace).or_default().push(pid),
            Err(e) if e.is_denied() => unreadable += 1,
            // The process has ended since the directory was listed.
            Err(_) => {}
        }
    }
    let containers = by_namespace.into_values().filter_map(|pids| examine(host, pids)).collect();
    Some(ContainerScan { containers, unreadable })
}

/// Examines one mount namespace by its processes. Returns `None` when it has no trace of a MIG device: no capability node of its
/// own (a service of the host with a private mount namespace shows the host's `/dev`), none that its device cgroup allows, and no
/// variable.
fn examine(host: &Root, pids: Vec<String>) -> Option<RunningContainer> {
    let mut nodes = nodes_in_root(host, &pids).unwrap_or_default();
    nodes.extend(nodes_in_cgroup(host, &pids[0]).unwrap_or_default());
    nodes.sort();
    nodes.dedup();
    let mut variables: Vec<DeviceVariable> = Vec::new();
    for pid in pids.iter().take(ENVIRONMENTS) {
        let environ = host.read(&format!("/proc/{pid}/environ"), PROC_LIMIT);
        let environ = environ.ok().flatten().unwrap_or_default();
        for text in environ.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok()) {
            match DeviceVariable::parse(text) {
                Some(Ok(variable)) if !variables.contains(&variable) => variables.push(variable),
                _ => {}
            }
        }
    }
    let container = container_of_process(host, &pids[0]);
    let is_identified = container.is_some();
    let name = container.unwrap_or_else(|| format!("pid {}", pids[0]));
    let has_device = !nodes.is_empty() || !variables.is_empty();
    has_device.then_some(RunningContainer { name, is_identified, pids, nodes, variables })
}

/// Returns the capability nodes in the container's root, or `None` when its directory of nodes is the host's.
fn nodes_in_root(host: &Root, pids: &[String]) -> Option<Vec<NumberedNode>> {
    // A process that ends in between takes its root with it: another one of the namespace shows the same.
    let root = pids
        .iter()
        .find_map(|pid| Root::open(&host.display_path(&format!("/proc/{pid}/root"))).ok())?;
    let dir = root.identity(CAPS_DIR).ok()??;
    if host.identity(CAPS_DIR).ok()? == Some(dir) {
        return None;
    }
    let names = root.list(CAPS_DIR).ok()??;
    let node = |name: &String| {
        let path = format!("{CAPS_DIR}/{name}");
        let stat = root.node(&path).ok()?.filter(|stat| stat.is_char)?;
        Some(NumberedNode { path, major: stat.major, minor: stat.minor })
    };
    Some(names.iter().filter(|n| n.starts_with("nvidia-cap")).filter_map(node).collect())
}

/// Returns the capability nodes that the device cgroup allows one by one, as `c 508:30 rwm`. Version 2 of cgroups has BPF programs
/// instead of lists (Documentation/admin-guide/cgroup-v2.rst, "Device controller"), which cannot be read back without privilege.
fn nodes_in_cgroup(host: &Root, pid: &str) -> Option<Vec<NumberedNode>> {
    let bytes = |path: &str| host.read(path, PROC_LIMIT).ok()?;
    let text = |path: &str| String::from_utf8(bytes(path)?).ok();
    // The major number is dynamic (`nv-caps.c:823-826`).
    let major = text::char_devices(&bytes("/proc/devices")?).ok()?.major("nvidia-caps")?;
    let cgroups = text(&format!("/proc/{pid}/cgroup"))?;
    let path = DeviceCgroup::path_v1(&cgroups)?;
    let list = text(&format!("/sys/fs/cgroup/devices{path}/devices.list"))?;
    let node = |line: &str| {
        let numbers = line.strip_prefix("c ")?.split(' ').next()?;
        let (listed, minor) = numbers.split_once(':')?;
        let minor = Minor(minor.parse().ok()?);
        let path = format!("{CAPS_DIR}/nvidia-cap{minor}");
        (listed == major.to_string()).then_some(NumberedNode { path, major, minor })
    };
    Some(list.lines().filter_map(node).collect())
}

/// Returns the container that a process runs in, as `container 4f08cd7afbc6`. The id is taken from the path of
/// the cgroup, in which every engine puts its 64 hexadecimal digits.
#[must_use]
pub fn container_of_process(host: &Root, pid: &str) -> Option<String> {
    let cgroup = host.read(&format!("/proc/{pid}/cgroup"), PROC_LIMIT).ok().flatten();
    let cgroup = String::from_utf8(cgroup.unwrap_or_default()).unwrap_or_default();
    let parts = cgroup.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = parts.filter(|p| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    // Kubernetes nests the container's cgroup in that of the pod: the last id is the innermost.
    ids.next_back().map(|id| format!("container {}", &id[..12]))
}
