//! Holders of slices: processes that compute on them, containers that can open their nodes, processes that have the nodes open,
//! leases, and declared ones.
//!
//! The driver refuses to destroy only an instance with a client (`IN_USE`: `kernel_mig_manager.c:5627-5635` for compute
//! instances, `kernel_mig_manager.c:6168-6189` for GPU instances). It destroys that of a container which has the nodes and
//! computes nothing yet. The nodes then open the next instance with the same ids, since the driver compares nothing but minor
//! numbers (`nv-caps.c:506-559`). Such a container is a holder here.

use crate::{
    options::HolderOptions,
    processes::{self, describe},
};
use mig_cdi_gen::Result;
use mig_cdi_model::{DeviceNode, Topology};
use mig_cdi_sys::{
    device_access::{Access, AccessKinds, AccessQuery, AccessReport, Accessor, DescribedProcess},
    nvml::GpuPartitioning,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};

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

/// Returns the GPU instances and compute instances of a GPU.
pub(crate) fn slice_keys(gpu: &GpuPartitioning) -> BTreeSet<SliceKey> {
    let mut keys = BTreeSet::new();
    for gi in &gpu.instances {
        let key = SliceKey { gpu: gpu.minor, gi: gi.id, ci: None };
        keys.insert(key);
        keys.extend(gi.compute.iter().map(|ci| SliceKey { ci: Some(ci.id), ..key }));
    }
    keys
}

/// The holders of each GPU, GPU instance and compute instance of a node, by name.
#[derive(Debug, Default)]
pub struct Holders {
    slices: BTreeMap<SliceKey, BTreeSet<String>>,
    /// Holders of GPUs as wholes, by minor number.
    gpus: BTreeMap<u32, BTreeSet<String>>,
}

/// Finds the holders of slices. The GPU is the one that is planned, as NVML has described it last.
type FindHolders<'a> = dyn Fn(&GpuPartitioning) -> Result<Holders> + 'a;

/// Holders that are looked up when they are first needed, which is only when an instance has to be destroyed.
pub(crate) struct LazyHolders<'a> {
    found: RefCell<Option<Rc<Holders>>>,
    find: Box<FindHolders<'a>>,
    /// Holders of instances that nobody was given.
    unassigned: RefCell<BTreeMap<SliceKey, BTreeSet<String>>>,
}

impl<'a> LazyHolders<'a> {
    /// Makes holders that `find` looks up.
    pub(crate) fn new(find: impl Fn(&GpuPartitioning) -> Result<Holders> + 'a) -> LazyHolders<'a> {
        LazyHolders {
            found: RefCell::default(),
            find: Box::new(find),
            unassigned: RefCell::default(),
        }
    }

    /// Leaves out these holders of an instance that this run has created: they could use it as soon as it was there, since they were given
    /// an earlier one with the same nodes. Another one may have been given it by a spec that a watch has refreshed.
    pub(crate) fn leave_out(&self, created: SliceKey, holders: &[String]) {
        self.unassigned.borrow_mut().entry(created).or_default().extend(holders.iter().cloned());
    }

    /// Forgets the holders, so that they are looked up anew.
    pub(crate) fn forget(&self) {
        self.found.take();
    }

    /// Returns the holders as they were at the first call after [`LazyHolders::forget`]. `gpu` is the GPU that is planned: its
    /// processes may be others than at the beginning of the run.
    ///
    /// # Errors
    /// Those of the lookup. The next call tries again.
    pub(crate) fn get(&self, gpu: &GpuPartitioning) -> Result<Rc<Holders>> {
        if let Some(found) = &*self.found.borrow() {
            return Ok(found.clone());
        }
        let mut found = (self.find)(gpu)?;
        for (key, unassigned) in &*self.unassigned.borrow() {
            if let Some(holders) = found.slices.get_mut(key) {
                holders.retain(|holder| !unassigned.contains(holder));
            }
        }
        Ok(self.found.borrow_mut().insert(Rc::new(found)).clone())
    }
}

impl Holders {
    /// Returns the holders on a simulated node: the processes of its description.
    pub(crate) fn simulated(gpus: &[GpuPartitioning]) -> Holders {
        let mut holders = Holders::default();
        holders.add_processes(gpus, &[]);
        holders
    }

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

    /// Returns the holders of an instance.
    pub(crate) fn of_slice(&self, key: SliceKey) -> Vec<String> {
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

    /// Adds the processes that NVML reports. Those that are not `described` are named by their pids alone.
    pub(crate) fn add_processes(
        &mut self,
        gpus: &[GpuPartitioning],
        described: &[DescribedProcess],
    ) {
        for gpu in gpus {
            for process in &gpu.processes {
                let name = describe(process.pid, described);
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

    /// Adds the processes that can use capability nodes. All of them count as in use when that cannot be found out.
    pub(crate) fn add_accessors(&mut self, access: &CapabilityAccess, topology: &Topology) {
        let keys = keys_by_minor(topology);
        let report = match &access.report {
            Ok(report) => report,
            Err(error) => {
                let holder = format!("processes that could not be examined: {}", error.cause());
                keys.values().for_each(|key| self.add_to_slice(*key, &holder));
                return;
            }
        };
        for accessor in &report.accessors {
            let devices = accessor.devices.iter().filter_map(|&i| access.query.devices.get(i));
            let minors: BTreeSet<u32> = devices.map(|(_, minor)| minor.0).collect();
            let name = accessor.name(processes::shows_command_lines());
            self.add_minors(&keys, &minors, &name);
        }
    }

    /// Adds a holder of the instances of a GPU that discovery has left out: their capability nodes are not known, and so not who may
    /// open these.
    pub(crate) fn add_undiscovered(&mut self, gpu: &GpuPartitioning, topology: &Topology) {
        let discovered: BTreeSet<_> = keys_by_minor(topology).into_values().collect();
        for key in slice_keys(gpu).difference(&discovered) {
            self.add_to_slice(
                *key,
                "processes that could not be searched for, since /proc does not describe it (run mig-cdi doctor)",
            );
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
}

/// The processes that can use the capability nodes of a node's instances.
#[derive(Debug, Clone)]
pub(crate) struct CapabilityAccess {
    query: AccessQuery,
    report: mig_cdi_sys::Result<AccessReport>,
}

impl CapabilityAccess {
    /// Finds them. After an `earlier` look, only the rules of cgroups are examined again, which is quick; open files and mounts are
    /// those of that look.
    pub(crate) fn find(
        mut query: AccessQuery,
        earlier: Option<&CapabilityAccess>,
    ) -> CapabilityAccess {
        let earlier = earlier.filter(|earlier| earlier.query.devices == query.devices);
        let Some(CapabilityAccess { report: Ok(earlier), .. }) = earlier else {
            let has_question = !query.devices.is_empty() || !query.describe.is_empty();
            let report = if has_question { query.run() } else { Ok(AccessReport::default()) };
            return CapabilityAccess { query, report };
        };
        query.kinds = AccessKinds::Cgroup;
        let report = query.run().map(|mut report| {
            let is_carried_over = |accessor: &&Accessor| accessor.access != Access::Cgroup;
            report.accessors.extend(earlier.accessors.iter().filter(is_carried_over).cloned());
            report
        });
        CapabilityAccess { query, report }
    }

    /// Finds those of containers, which can use nodes by a rule of their cgroups or an open file.
    pub(crate) fn in_containers(query: AccessQuery) -> CapabilityAccess {
        let query = AccessQuery { kinds: AccessKinds::Confined, ..query };
        CapabilityAccess { report: query.run(), query }
    }

    /// The processes that the query names.
    pub(crate) fn described(&self) -> &[DescribedProcess] {
        self.report.as_ref().map_or(&[], |report| &report.described)
    }

    /// Number of processes that may not be examined by this user.
    pub(crate) fn forbidden(&self) -> usize {
        self.report.as_ref().map_or(0, |report| report.forbidden)
    }
}

/// Makes the query for all capability nodes of a topology, and for the processes that NVML reports.
pub(crate) fn capability_query(
    topology: &Topology,
    gpus: &[GpuPartitioning],
    options: &HolderOptions,
    dev_root: &Path,
) -> AccessQuery {
    let mut nodes: Vec<&DeviceNode> = topology.config_node().into_iter().collect();
    let config = (!nodes.is_empty()).then_some(0);
    for gi in topology.gpus.iter().flat_map(|gpu| &gpu.gpu_instances) {
        nodes.push(&gi.cap);
        nodes.extend(gi.compute_instances.iter().map(|ci| &ci.cap));
    }
    let below_dev = |node: &&DeviceNode| node.path.trim_start_matches("/dev/").to_owned();
    AccessQuery {
        host_root: options.host_root.clone(),
        devices: nodes.iter().map(|node| (node.major, node.minor)).collect(),
        nodes: nodes.iter().map(below_dev).collect(),
        dev_root: dev_root.to_owned(),
        config,
        kinds: AccessKinds::All,
        has_hints: processes::shows_command_lines(),
        own: None,
        is_for_machine: options.must_see_machine,
        describe: gpus.iter().flat_map(|gpu| &gpu.processes).map(|process| process.pid).collect(),
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
