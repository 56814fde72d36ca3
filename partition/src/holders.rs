//! Who holds a slice: programs that compute on it, containers that have its nodes, programs that have
//! them open, and leases.
//!
//! The driver refuses to destroy only what a program computes on (`kernel_mig_manager.c` l.5627: `IN_USE` while
//! a client is subscribed). A container that waits with its nodes would find somebody else's slice behind
//! them, so it holds what it could open.

use crate::containers;
use mig_cdi_gen::{Error, Result};
use mig_cdi_model::{DeviceVariable, SliceId, Topology};
use mig_cdi_sys::{Root, nvml::GpuPartitioning, read_regular};
use serde::Deserialize;
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Far above what `/proc` has of a process, and any lease.
const TEXT_LIMIT: usize = 1 << 16;
/// So much of a command line is shown.
const COMMAND: usize = 48;
/// Whoever may divide GPUs holds all slices, and so none: it is given the nodes of all.
const CONFIG: &str = "config";

/// A slice: the minor number of its GPU, its GPU instance, and its compute instance or all of them.
pub(crate) type Key = (u32, u32, Option<u32>);

/// Who holds what.
#[derive(Debug, Default)]
pub struct Holders {
    slices: BTreeMap<Key, BTreeSet<String>>,
    /// GPUs as wholes, by minor number.
    gpus: BTreeMap<u32, BTreeSet<String>>,
}

/// Who holds what, looked for when it matters: where something goes.
pub struct Asked<'a> {
    known: OnceCell<Holders>,
    look: Box<dyn Fn() -> Result<Holders> + 'a>,
}

impl<'a> Asked<'a> {
    pub fn new(look: impl Fn() -> Result<Holders> + 'a) -> Asked<'a> {
        Asked { known: OnceCell::new(), look: Box::new(look) }
    }

    /// As it was at the first question.
    pub fn get(&self) -> Result<&Holders> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let found = (self.look)()?;
        Ok(self.known.get_or_init(|| found))
    }
}

/// `/run/mig-cdi/leases/NAME`: somebody says that a slice is his, though nothing shows it now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    /// `GPU-…`.
    gpu: String,
    gi: u32,
    /// All of them when absent.
    ci: Option<u32>,
    /// Who, for people.
    holder: String,
}

impl Holders {
    /// Who holds a GPU instance as a whole, or one of its compute instances.
    pub fn of(&self, gpu: u32, gi: u32, ci: Option<u32>) -> Vec<String> {
        let whole = self.gpus.get(&gpu).filter(|_| ci.is_none());
        self.slices.get(&(gpu, gi, ci)).into_iter().chain(whole).flatten().cloned().collect()
    }

    /// Each of those who hold just this: a GPU as a whole, a GPU instance as a whole, or a compute instance.
    pub fn just(&self, gpu: u32, part: Option<(u32, Option<u32>)>) -> Vec<String> {
        let names = match part {
            None => self.gpus.get(&gpu),
            Some((gi, ci)) => self.slices.get(&(gpu, gi, ci)),
        };
        names.into_iter().flatten().cloned().collect()
    }

    pub(crate) fn add_gpu(&mut self, minor: u32, who: &str) {
        self.gpus.entry(minor).or_default().insert(who.to_owned());
    }

    pub(crate) fn add_slice(&mut self, key: Key, who: &str) {
        self.slices.entry(key).or_default().insert(who.to_owned());
    }

    /// What NVML says of programs.
    pub fn add_processes(&mut self, divisions: &[GpuPartitioning], host: Option<&Root>) {
        for gpu in divisions {
            for process in &gpu.processes {
                let name = describe(host, &process.pid.to_string());
                match process.gi {
                    Some(gi) => self.slices.entry((gpu.minor, gi, process.ci)).or_default(),
                    None => self.gpus.entry(gpu.minor).or_default(),
                }
                .insert(name);
            }
        }
    }

    /// What the processes of the host show: nodes of containers, and open files. Gives the number of
    /// processes that it could not look into: what they hold nobody can say.
    ///
    /// # Errors
    /// When `/proc` does not show them.
    pub fn add_host(&mut self, host: &Root, topology: &Topology) -> Result<usize> {
        let scan = containers::scan(host).ok_or_else(|| {
            Error::failed("look for who holds slices", "")
                .because("/proc does not show the processes")
        })?;
        let keys = by_minor(topology);
        let mut instances = topology.gpus.iter().flat_map(|gpu| &gpu.gpu_instances);
        let major = instances.next().map(|gi| gi.cap.major.0);
        let config = topology.admin.iter().find(|admin| admin.name == CONFIG);
        for container in &scan.containers {
            let nodes = container.nodes.iter().filter(|node| Some(node.major) == major);
            let held: BTreeSet<u32> = nodes.map(|node| node.minor).collect();
            if config.is_some_and(|config| held.contains(&config.node.minor.0)) {
                continue;
            }
            let process = command(Some(host), &container.pids[0]);
            let name = match container.name.starts_with("pid ") {
                true => process,
                false => format!("{} ({process})", container.name),
            };
            self.add_minors(&keys, &held, &name);
            let uuid = |minor| topology.gpus.iter().find(|gpu| gpu.minor == minor)?.uuid.as_ref();
            let here = |told: &&DeviceVariable| {
                told.gpu.is_none() || told.gpu.as_ref() == uuid(told.id.gpu)
            };
            for SliceId { gpu, gi, ci } in
                container.variables.iter().filter(here).map(|told| told.id)
            {
                let key = (gpu.0, gi.0, Some(ci.0));
                self.slices.entry(key).or_default().insert(name.clone());
            }
        }
        self.add_open_files(host, &keys);
        Ok(scan.unreadable)
    }

    /// The compute instance when its node is among them; the node of a GPU instance alone stands for the
    /// whole.
    fn add_minors(&mut self, keys: &BTreeMap<u32, Key>, held: &BTreeSet<u32>, name: &str) {
        let held: Vec<_> = held.iter().filter_map(|minor| keys.get(minor).copied()).collect();
        for &(gpu, gi, ci) in &held {
            let finer = held.iter().any(|k| (k.0, k.1) == (gpu, gi) && k.2.is_some());
            if ci.is_some() || !finer {
                self.slices.entry((gpu, gi, ci)).or_default().insert(name.to_owned());
            }
        }
    }

    fn add_open_files(&mut self, host: &Root, keys: &BTreeMap<u32, Key>) {
        for (pid, nodes) in open_nodes(host) {
            let minors = nodes
                .iter()
                .filter_map(|path| path.strip_prefix("/dev/nvidia-caps/nvidia-cap")?.parse().ok());
            let held: BTreeSet<u32> = minors.collect();
            if held.iter().any(|minor| keys.contains_key(minor)) {
                self.add_minors(keys, &held, &describe(Some(host), &pid));
            }
        }
    }

    /// What lies in the directory of leases.
    ///
    /// # Errors
    /// A lease that cannot be read: nobody could say what is not leased.
    pub fn add_leases(&mut self, dir: &Path, divisions: &[GpuPartitioning]) -> Result<()> {
        for name in mig_cdi_sys::list_named(dir)?.unwrap_or_default() {
            if name.starts_with('.') {
                continue;
            }
            let path = dir.join(&name);
            let text = match read_regular(&path, TEXT_LIMIT) {
                Err(error) if error.is_absent() => continue,
                read => read?,
            };
            let lease: Lease = serde_json::from_slice(&text).map_err(|e| {
                Error::failed("read lease", path.display()).because(e).cure("mend or remove it")
            })?;
            let gpu = divisions.iter().find(|gpu| gpu.uuid == lease.gpu);
            if let Some(gpu) = gpu {
                let holder = format!("{} (lease {name})", lease.holder);
                self.slices.entry((gpu.minor, lease.gi, lease.ci)).or_default().insert(holder);
            }
        }
        Ok(())
    }
}

/// The programs that have a GPU open, but this one and the daemon that holds GPUs for nobody.
pub fn clients(host: &Root, minor: u32) -> Vec<String> {
    let node = format!("/dev/nvidia{minor}");
    let own = std::process::id().to_string();
    let open = open_nodes(host).into_iter();
    let open = open.filter(|(pid, nodes)| *pid != own && nodes.contains(&node));
    let names = open.map(|(pid, _)| describe(Some(host), &pid));
    names.filter(|name| !name.contains("nvidia-persistenced")).collect()
}

/// The driver's nodes that each process has open. One that cannot be looked into has none.
fn open_nodes(host: &Root) -> Vec<(String, BTreeSet<String>)> {
    let pids = host.list("/proc").ok().flatten().unwrap_or_default();
    let pids = pids.into_iter().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
    let nodes = |pid: &String| -> BTreeSet<String> {
        let dir = format!("/proc/{pid}/fd");
        let files = host.list(&dir).ok().flatten().unwrap_or_default();
        let links = files.iter().filter_map(|fd| host.link(&format!("{dir}/{fd}")).ok());
        links.filter(|path| path.starts_with("/dev/nvidia")).collect()
    };
    let open = pids.map(|pid| (nodes(&pid), pid));
    open.filter(|(nodes, _)| !nodes.is_empty()).map(|(nodes, pid)| (pid, nodes)).collect()
}

/// `pid 4711, python3 train.py`, and the container that it is in.
fn describe(host: Option<&Root>, pid: &str) -> String {
    let container = host.and_then(|host| containers::container_of_process(host, pid));
    let container = container.map(|name| format!(" of {name}")).unwrap_or_default();
    command(host, pid) + &container
}

/// `pid 4711, python3 train.py`.
fn command(host: Option<&Root>, pid: &str) -> String {
    let line = host.and_then(|host| host.read(&format!("/proc/{pid}/cmdline"), TEXT_LIMIT).ok()?);
    let line = String::from_utf8_lossy(&line.unwrap_or_default()).replace('\0', " ");
    let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let short: String = line.trim().chars().take(COMMAND).collect();
    if short.is_empty() { format!("pid {pid}") } else { format!("pid {pid}, {short}") }
}

/// Instances by the minor number of their capability.
fn by_minor(topology: &Topology) -> BTreeMap<u32, Key> {
    let mut keys = BTreeMap::new();
    for gpu in &topology.gpus {
        for gi in &gpu.gpu_instances {
            keys.insert(gi.cap.minor.0, (gpu.minor.0, gi.id.0, None));
            for ci in &gi.compute_instances {
                keys.insert(ci.cap.minor.0, (gpu.minor.0, gi.id.0, Some(ci.id.0)));
            }
        }
    }
    keys
}
