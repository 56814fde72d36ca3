//! Holders of slices: processes that compute on them, containers that can open their nodes, processes that have the nodes open,
//! leases, and declared ones.
//!
//! The driver refuses to destroy only an instance with a client (`IN_USE`: `kernel_mig_manager.c:5627-5635` for compute
//! instances, `kernel_mig_manager.c:6168-6189` for GPU instances). It destroys that of a container which has the nodes and
//! computes nothing yet. The nodes then open the next instance with the same ids, since the driver compares nothing but minor
//! numbers (`nv-caps.c:506-559`). Such a container is a holder here.

use crate::{
    containers::{self, RunningContainer},
    processes::{describe, describe_alone, open_nodes},
};
use mig_cdi_gen::{Error, Result};
use mig_cdi_model::{DeviceVariable, SliceId, Topology};
use mig_cdi_sys::{Root, nvml::GpuPartitioning};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

/// Name of the capability to create and destroy instances (`mig/config`).
const CONFIG_CAPABILITY: &str = "config";
/// Path of a capability node without its minor number (nvidia-modprobe, `nvidia_cap_mknod`).
const CAPABILITY_NODE: &str = "/dev/nvidia-caps/nvidia-cap";

/// A GPU instance or a compute instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SliceKey {
    /// Minor number of the GPU.
    pub gpu: u32,
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id; `None` for the GPU instance as a whole.
    pub ci: Option<u32>,
}

/// The holders of each GPU, GPU instance and compute instance of a node, by name.
#[derive(Debug, Default)]
pub struct Holders {
    slices: BTreeMap<SliceKey, BTreeSet<String>>,
    /// Holders of GPUs as wholes, by minor number.
    gpus: BTreeMap<u32, BTreeSet<String>>,
}

/// Holders that are looked up when they are first needed, which is only when an instance has to be destroyed.
pub(crate) struct LazyHolders<'a> {
    found: OnceCell<Holders>,
    find: Box<dyn Fn() -> Result<Holders> + 'a>,
}

impl<'a> LazyHolders<'a> {
    /// Makes holders that `find` looks up.
    pub(crate) fn new(find: impl Fn() -> Result<Holders> + 'a) -> LazyHolders<'a> {
        LazyHolders { found: OnceCell::new(), find: Box::new(find) }
    }

    /// Returns the holders as they were at the first call.
    ///
    /// # Errors
    /// Those of the lookup. The next call tries again.
    pub(crate) fn get(&self) -> Result<&Holders> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let found = (self.find)()?;
        Ok(self.found.get_or_init(|| found))
    }
}

impl Holders {
    /// Returns the holders of a GPU as a whole. `gpu` is its minor number.
    #[must_use]
    pub fn of_gpu(&self, gpu: u32) -> Vec<String> {
        self.gpus.get(&gpu).into_iter().flatten().cloned().collect()
    }

    /// Returns the holders of a GPU instance as a whole. Those of its compute instances are not among them.
    #[must_use]
    pub fn of_gpu_instance(&self, gpu: u32, gi: u32) -> Vec<String> {
        self.of_slice(SliceKey { gpu, gi, ci: None })
    }

    /// Returns the holders of a compute instance.
    #[must_use]
    pub fn of_compute_instance(&self, gpu: u32, gi: u32, ci: u32) -> Vec<String> {
        self.of_slice(SliceKey { gpu, gi, ci: Some(ci) })
    }

    /// Returns the holders that keep a GPU instance as a whole from being destroyed: its own and those of its GPU. The driver
    /// destroys no instance while a client holds the GPU itself.
    pub(crate) fn of_gpu_instance_or_gpu(&self, gpu: u32, gi: u32) -> Vec<String> {
        [self.of_gpu_instance(gpu, gi), self.of_gpu(gpu)].concat()
    }

    fn of_slice(&self, key: SliceKey) -> Vec<String> {
        self.slices.get(&key).into_iter().flatten().cloned().collect()
    }

    /// Adds a holder of a GPU as a whole.
    pub(crate) fn add_to_gpu(&mut self, minor: u32, holder: &str) {
        self.gpus.entry(minor).or_default().insert(holder.to_owned());
    }

    /// Adds a holder of a GPU instance or a compute instance.
    pub(crate) fn add_to_slice(&mut self, key: SliceKey, holder: &str) {
        self.slices.entry(key).or_default().insert(holder.to_owned());
    }

    /// Adds the processes that NVML reports. Without a `host` they are named by their pids alone.
    pub(crate) fn add_processes(&mut self, gpus: &[GpuPartitioning], host: Option<&Root>) {
        for gpu in gpus {
            for process in &gpu.processes {
                let name = describe(host, &process.pid.to_string());
                match process.gi {
                    Some(gi) => {
                        self.add_to_slice(SliceKey { gpu: gpu.minor, gi, ci: process.ci }, &name);
                    }
                    // A client of the GPU as a whole: the driver then creates and destroys no instance of it.
                    None => self.add_to_gpu(gpu.minor, &name),
                }
            }
        }
    }

    /// Adds the containers that can open nodes of slices, and the processes that have them open. Returns the number of processes
    /// that could not be examined: each may hold any slice.
    ///
    /// # Errors
    /// When `/proc` does not show the processes.
    pub(crate) fn add_host(&mut self, host: &Root, topology: &Topology) -> Result<usize> {
        let scan = containers::scan(host).ok_or_else(|| {
            Error::failed("find", "the holders of slices")
                .because("/proc does not show the processes")
                .with_cure("mount /proc, or name the directory that holds it with --host-root")
        })?;
        let keys = keys_by_minor(topology);
        for container in &scan.containers {
            self.add_container(host, container, topology, &keys);
        }
        self.add_open_files(host, &keys);
        Ok(scan.unreadable)
    }

    fn add_container(
        &mut self,
        host: &Root,
        container: &RunningContainer,
        topology: &Topology,
        keys: &BTreeMap<u32, SliceKey>,
    ) {
        let mut instances = topology.gpus.iter().flat_map(|gpu| &gpu.gpu_instances);
        // The major number is dynamic (`nv-caps.c:823-826`); a node from before the module was reloaded has another.
        let major = instances.next().map(|gi| gi.cap.major);
        let nodes = container.nodes.iter().filter(|node| Some(node.major) == major);
        let minors: BTreeSet<u32> = nodes.map(|node| node.minor.0).collect();
        // Containers that may partition GPUs are given the nodes of all slices (libnvidia-container mounts all of
        // /dev/nvidia-caps for NVIDIA_MIG_CONFIG_DEVICES). As holders they would block every change.
        let config = topology.admin.iter().find(|admin| admin.name == CONFIG_CAPABILITY);
        if config.is_some_and(|config| minors.contains(&config.node.minor.0)) {
            return;
        }
        let process = describe_alone(Some(host), &container.pids[0]);
        let name = match container.is_identified {
            true => format!("{} ({process})", container.name),
            false => process,
        };
        self.add_minors(keys, &minors, &name);
        let uuid = |minor| topology.gpus.iter().find(|gpu| gpu.minor == minor)?.uuid.as_ref();
        // The variables too: a container with the host's `/dev/nvidia-caps` and a cgroup of version 2 shows no node of its own.
        // Minor numbers of GPUs can swap at a rebind; the UUID in the variable, where there is one, decides.
        let is_here = |variable: &&DeviceVariable| {
            variable.gpu.is_none() || variable.gpu.as_ref() == uuid(variable.id.gpu)
        };
        for variable in container.variables.iter().filter(is_here) {
            let SliceId { gpu, gi, ci } = variable.id;
            self.add_to_slice(SliceKey { gpu: gpu.0, gi: gi.0, ci: Some(ci.0) }, &name);
        }
    }

    /// Adds a holder of the slices whose capability nodes have these minor numbers. To use a compute instance takes the node of its
    /// GPU instance and its own (`gpu_instance_subscription.c:217-229`, `compute_instance_subscription.c:87-99`), so the former
    /// counts as a hold on the whole only when it is alone.
    fn add_minors(&mut self, keys: &BTreeMap<u32, SliceKey>, minors: &BTreeSet<u32>, holder: &str) {
        let held: Vec<_> = minors.iter().filter_map(|minor| keys.get(minor).copied()).collect();
        for key in &held {
            let has_compute =
                held.iter().any(|k| (k.gpu, k.gi) == (key.gpu, key.gi) && k.ci.is_some());
            if key.ci.is_some() || !has_compute {
                self.add_to_slice(*key, holder);
            }
        }
    }

    fn add_open_files(&mut self, host: &Root, keys: &BTreeMap<u32, SliceKey>) {
        // A descriptor outlives its instance and opens the next one with the same ids: the driver keeps no generation number
        // (`nv-caps.c:506-559`).
        for open in open_nodes(host) {
            let minor = |path: &String| path.strip_prefix(CAPABILITY_NODE)?.parse().ok();
            let minors: BTreeSet<u32> = open.nodes.iter().filter_map(minor).collect();
            if minors.iter().any(|minor| keys.contains_key(minor)) {
                self.add_minors(keys, &minors, &describe(Some(host), &open.pid));
            }
        }
    }
}

/// Returns the GPU instances and compute instances by the minor numbers of their capabilities.
fn keys_by_minor(topology: &Topology) -> BTreeMap<u32, SliceKey> {
    let mut keys = BTreeMap::new();
    for gpu in &topology.gpus {
        for gi in &gpu.gpu_instances {
            let key = SliceKey { gpu: gpu.minor.0, gi: gi.id.0, ci: None };
            keys.insert(gi.cap.minor.0, key);
            for ci in &gi.compute_instances {
                keys.insert(ci.cap.minor.0, SliceKey { ci: Some(ci.id.0), ..key });
            }
        }
    }
    keys
}
