//! Containers that run with slices, found through their processes: no engine is asked.

use mig_cdi_model::DeviceVariable;
use mig_cdi_sys::Root;
use std::collections::BTreeMap;

const CAPS: &str = "/dev/nvidia-caps";
/// Far above what `/proc` has of a process.
const TEXT_LIMIT: usize = 1 << 20;

/// What a container has of the driver's.
pub(crate) struct Container {
    /// `container 4f08cd7afbc6`, or `pid 17`.
    pub name: String,
    /// Its processes.
    pub pids: Vec<String>,
    /// Path, major and minor of each capability node.
    pub nodes: Vec<(String, u32, u32)>,
    /// What it was told of its slices.
    pub variables: Vec<DeviceVariable>,
}

/// What was found.
pub(crate) struct Scan {
    pub containers: Vec<Container>,
    /// So many processes could not be looked into.
    pub closed: usize,
}

/// Every mount namespace but the host's, each looked at through one of its processes. `None` when `/proc`
/// does not show the processes.
pub(crate) fn scan(host: &Root) -> Option<Scan> {
    let namespace = |pid: &str| host.link(&format!("/proc/{pid}/ns/mnt"));
    let own = namespace("1").or_else(|_| namespace("self")).ok()?;
    let pids = host.list("/proc").ok()??;
    let mut spaces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut closed = 0;
    let number = |pid: &String| pid.bytes().all(|b| b.is_ascii_digit());
    // The first process is the host's, and may have powers that keep us from looking into it.
    for pid in pids.into_iter().filter(|pid| number(pid) && pid != "1") {
        match namespace(&pid) {
            Ok(space) if space == own => {}
            Ok(space) => spaces.entry(space).or_default().push(pid),
            Err(e) if e.is_denied() => closed += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    let containers = spaces.into_values().filter_map(|pids| look(host, pids)).collect();
    Some(Scan { containers, closed })
}

/// `None` for what has nothing of a slice: no capability node of its own (a service of the host with a mount
/// namespace sees the host's `/dev`), none that its cgroup lets it open, and no word of one.
fn look(host: &Root, pids: Vec<String>) -> Option<Container> {
    let mut nodes = own_nodes(host, &pids).unwrap_or_default();
    nodes.extend(allowed_nodes(host, &pids[0]).unwrap_or_default());
    nodes.sort();
    nodes.dedup();
    let mut variables: Vec<DeviceVariable> = Vec::new();
    for pid in pids.iter().take(32) {
        let environ = host.read(&format!("/proc/{pid}/environ"), TEXT_LIMIT);
        let environ = environ.ok().flatten().unwrap_or_default();
        for text in environ.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok()) {
            match DeviceVariable::parse(text) {
                Some(Ok(variable)) if !variables.contains(&variable) => variables.push(variable),
                _ => {}
            }
        }
    }
    let name = of_process(host, &pids[0]).unwrap_or_else(|| format!("pid {}", pids[0]));
    let holds = !nodes.is_empty() || !variables.is_empty();
    holds.then_some(Container { name, pids, nodes, variables })
}

fn own_nodes(host: &Root, pids: &[String]) -> Option<Vec<(String, u32, u32)>> {
    let root =
        pids.iter().find_map(|pid| Root::open(&host.show(&format!("/proc/{pid}/root"))).ok())?;
    let dir = root.identity(CAPS).ok()??;
    if host.identity(CAPS).ok()? == Some(dir) {
        return None;
    }
    let names = root.list(CAPS).ok()??;
    let node = |name: &String| {
        let path = format!("{CAPS}/{name}");
        let stat = root.node(&path).ok()?.filter(|stat| stat.is_char)?;
        Some((path, stat.major.0, stat.minor.0))
    };
    Some(names.iter().filter(|n| n.starts_with("nvidia-cap")).filter_map(node).collect())
}

/// What the device cgroup lists one by one: `c 508:30 rwm`. The second version of cgroups has programs
/// instead of lists, which tell nobody what they allow.
fn allowed_nodes(host: &Root, pid: &str) -> Option<Vec<(String, u32, u32)>> {
    let text = |path: &str| String::from_utf8(host.read(path, TEXT_LIMIT).ok()??).ok();
    let devices = text("/proc/devices")?;
    let drivers = devices.lines().filter_map(|line| line.trim().split_once(' '));
    let major =
        drivers.filter(|(_, name)| *name == "nvidia-caps").find_map(|(n, _)| n.parse().ok());
    let major: u32 = major?;
    let cgroups = text(&format!("/proc/{pid}/cgroup"))?;
    let path = cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "devices").then_some(path)
    })?;
    let list = text(&format!("/sys/fs/cgroup/devices{path}/devices.list"))?;
    let node = |line: &str| {
        let numbers = line.strip_prefix("c ")?.split(' ').next()?;
        let (listed, minor) = numbers.split_once(':')?;
        let minor: u32 = minor.parse().ok()?;
        (listed == major.to_string()).then(|| (format!("{CAPS}/nvidia-cap{minor}"), major, minor))
    };
    Some(list.lines().filter_map(node).collect())
}

/// `container 4f08cd7afbc6`: engines put the id into the cgroup's path.
pub(crate) fn of_process(host: &Root, pid: &str) -> Option<String> {
    let cgroup = host.read(&format!("/proc/{pid}/cgroup"), TEXT_LIMIT).ok().flatten();
    let cgroup = String::from_utf8(cgroup.unwrap_or_default()).unwrap_or_default();
    let words = cgroup.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = words.filter(|w| w.len() == 64 && w.bytes().all(|b| b.is_ascii_hexdigit()));
    ids.next_back().map(|id| format!("container {}", &id[..12]))
}
