//! Health of devices: which may be allocated, and why the others may not. Pure, and without a clock: callers pass in
//! what happens, with its time.
//!
//! A device is healthy when the last refresh found it and no error is open on it. An XID that the driver reports on a
//! GPU, a GPU instance or a compute instance opens an error on all devices in it, until that GPU or instance has been
//! gone: the driver initialises it when it comes back. Time alone closes no error, because a GPU that needs a reset
//! answers every NVML call until then.

mod errors;
mod xid_filter;

pub use xid_filter::{ParsedXidFilter, XidFilter};

use crate::{
    advertised::AdvertisedDevice,
    strategy::{AllocatableDevice, InstanceIds, NodeResources, Resource},
};
use errors::OpenErrors;
use mig_cdi_gen::{Xid, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Time for which a device that is gone stays listed as unhealthy. `ListAndWatch` skips lists that a slow kubelet has no
/// time for, so a device that was removed from it at once might never have been listed as unhealthy.
pub const DEPARTED_GRACE: Duration = Duration::from_secs(60);

/// State of all devices of a node.
#[derive(Debug, Clone)]
pub struct Health {
    xid_filter: XidFilter,
    errors: OpenErrors,
    /// UUID of each GPU of the last refresh, by PCI address.
    gpus: BTreeMap<String, String>,
    /// Devices by resource; those of the last refresh first, in its order.
    resources: BTreeMap<Resource, Vec<TrackedDevice>>,
    /// Time of the last call.
    now: Option<Instant>,
}

/// A device, and what makes it unhealthy besides open errors.
#[derive(Debug, Clone)]
struct TrackedDevice {
    device: AllocatableDevice,
    departure: Option<Departure>,
    /// Resource under whose name a pod holds the device.
    held_as: Option<Resource>,
    /// Id of a device that is gone, whose pod can open this one too.
    openable_by: Option<String>,
}

/// Departure of a device from its resource.
#[derive(Debug, Clone)]
struct Departure {
    why: String,
    since: Instant,
    /// True when the device is now in another resource while a pod holds it from this one.
    is_moved: bool,
}

impl Health {
    /// Starts without devices and errors.
    #[must_use]
    pub fn new(xid_filter: XidFilter) -> Health {
        let (gpus, resources) = (BTreeMap::new(), BTreeMap::new());
        Health { xid_filter, errors: OpenErrors::default(), gpus, resources, now: None }
    }

    /// Processes a refresh of the node and its resources. `held` are ids of devices that pods hold.
    ///
    /// A device that moved to another resource is removed from the old one at once, unless a pod holds it from there.
    /// Then it is unhealthy in both, until the pod ends.
    pub fn refreshed(
        &mut self,
        inventory: &Inventory,
        refreshed: &NodeResources,
        held: &BTreeSet<String>,
        now: Instant,
    ) {
        self.errors.refreshed(inventory, now);
        // Rebuilt, so that devices keep the order of the inventory.
        let old = std::mem::take(&mut self.resources);
        let mut resource_of: BTreeMap<&str, &Resource> = BTreeMap::new();
        for (resource, devices) in &refreshed.devices {
            let tracked = devices.iter().map(TrackedDevice::new).collect();
            self.resources.insert(resource.clone(), tracked);
            resource_of.extend(devices.iter().map(|device| (device.id.as_str(), resource)));
        }
        for (resource, devices) in old {
            let departed = devices.into_iter().filter_map(|mut tracked| {
                let id = tracked.device.id.as_str();
                match resource_of.get(id) {
                    Some(current) if **current == resource => return None,
                    // A pod that holds it does so from a third resource, which has its own entry.
                    Some(_) if tracked.held_as.is_some() || !held.contains(id) => return None,
                    Some(current) => {
                        let why = format!("it is now advertised as {current}");
                        tracked.departure = Some(Departure { why, since: now, is_moved: true });
                    }
                    None => tracked.depart(now, |device| why_gone(device, &self.gpus, inventory)),
                }
                Some(tracked)
            });
            let departed: Vec<_> = departed.collect();
            self.resources.entry(resource).or_default().extend(departed);
        }
        // After the loop, which compares the GPUs of the last refresh with those of this one.
        let gpus = inventory.gpus.iter();
        self.gpus = gpus.filter_map(|gpu| Some((gpu.pci.clone(), gpu.uuid.clone()?))).collect();
        self.expire(held, now);
    }

    /// Processes a refresh that failed. `current` are the CDI names of earlier devices that still exist as far as the
    /// kernel shows.
    pub fn refresh_failed(
        &mut self,
        why: &str,
        current: &BTreeSet<String>,
        held: &BTreeSet<String>,
        now: Instant,
    ) {
        // Nothing is added: a refresh that failed reports no device.
        for tracked in self.resources.values_mut().flatten() {
            if !current.contains(&tracked.device.name) {
                tracked.depart(now, |_| format!("it is gone, and the last refresh failed: {why}"));
            }
        }
        self.errors.refresh_failed(current, now);
        self.expire(held, now);
    }

    /// Processes an error that the driver reports. Returns false when it is ignored: by the filter, or because its
    /// GPU is unknown, which after it came back has been reset.
    pub fn xid(&mut self, error: &Xid, now: Instant) -> bool {
        self.now = Some(now);
        let is_known = self.gpus.values().any(|gpu| *gpu == error.gpu);
        let opens = is_known && self.xid_filter.is_critical(error.xid);
        if opens {
            self.errors.open(error);
        }
        opens
    }

    /// Closes all errors. An operator requests it by SIGHUP.
    pub fn clear_errors(&mut self) {
        self.errors.clear();
    }

    /// Updates what depends on time and on the devices that pods hold.
    pub fn expire(&mut self, held: &BTreeSet<String>, now: Instant) {
        self.now = Some(now);
        self.errors.expire(now);
        let mut moved: BTreeMap<String, Resource> = BTreeMap::new();
        let mut departed_held: Vec<AllocatableDevice> = Vec::new();
        for (resource, devices) in &mut self.resources {
            devices.retain(|tracked| {
                let Some(departure) = &tracked.departure else { return true };
                let age = now.saturating_duration_since(departure.since);
                let is_in_grace = !departure.is_moved && age < DEPARTED_GRACE;
                held.contains(&tracked.device.id) || is_in_grace
            });
            let departures =
                devices.iter().filter_map(|d| Some((&d.device, d.departure.as_ref()?)));
            for (device, departure) in departures {
                if departure.is_moved {
                    moved.insert(device.id.clone(), resource.clone());
                }
                if held.contains(&device.id) {
                    departed_held.push(device.clone());
                }
            }
        }
        let present = self.resources.values_mut().flatten().filter(|d| d.departure.is_none());
        for tracked in present {
            tracked.held_as = moved.get(&tracked.device.id).cloned();
            let opener = departed_held.iter().find(|old| can_open(old, &tracked.device));
            tracked.openable_by = opener.map(|old| old.id.clone());
        }
    }

    /// Every resource that has been advertised; one without devices keeps an empty list.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.resources.keys()
    }

    /// Devices of a resource, each with the reason why it is unhealthy.
    #[must_use]
    pub fn devices(&self, resource: &Resource) -> Vec<AdvertisedDevice> {
        let devices = self.resources.get(resource).into_iter().flatten();
        let advertised = devices.map(|tracked| AdvertisedDevice {
            device: tracked.device.clone(),
            unhealthy: self.unhealthy(tracked),
        });
        advertised.collect()
    }

    /// Returns true while a device that is gone is listed. It is removed once no pod holds it.
    #[must_use]
    pub fn has_departed(&self) -> bool {
        self.resources.values().flatten().any(|tracked| tracked.departure.is_some())
    }

    /// Time at which [`Health::expire`] has something to do, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let devices = self.resources.values().flatten();
        let ends = devices.filter_map(|d| Some(d.departure.as_ref()?.since + DEPARTED_GRACE));
        let all = ends.chain(self.errors.deadlines());
        all.filter(|at| self.now.is_none_or(|now| *at > now)).min()
    }

    fn unhealthy(&self, tracked: &TrackedDevice) -> Option<String> {
        if let Some(departure) = &tracked.departure {
            return Some(departure.why.clone());
        }
        if let Some(other) = &tracked.held_as {
            return Some(format!("a pod still holds it as {other}"));
        }
        if let Some(old) = &tracked.openable_by {
            return Some(format!(
                "a pod that was allocated {old}, which is gone, can open it too; delete that pod"
            ));
        }
        self.errors.reason(self.gpus.get(&tracked.device.gpu)?, tracked.device.instance)
    }
}

impl TrackedDevice {
    fn new(device: &AllocatableDevice) -> TrackedDevice {
        let device = device.clone();
        TrackedDevice { device, departure: None, held_as: None, openable_by: None }
    }

    fn depart(&mut self, now: Instant, why: impl Fn(&AllocatableDevice) -> String) {
        if self.departure.is_none() {
            self.departure =
                Some(Departure { why: why(&self.device), since: now, is_moved: false });
        }
    }
}

/// Returns true when a container that was allocated `old` can open `new`.
///
/// A capability node belongs to the numbers of the instances and opens whichever instance has them now, since it has no
/// generation number (`nv_cap_validate_and_dup_fd`, `nv-caps.c:506-559`). The
/// node of the GPU, which each of its slices gets, opens the whole GPU once it is out of MIG mode.
fn can_open(old: &AllocatableDevice, new: &AllocatableDevice) -> bool {
    let is_covered = new.instance.is_none() || new.instance == old.instance;
    old.gpu == new.gpu && old.id != new.id && old.instance.is_some() && is_covered
}

/// Reason why the last refresh did not find a device. `gpus` are those of the refresh before, by PCI address.
fn why_gone(
    device: &AllocatableDevice,
    gpus: &BTreeMap<String, String>,
    inventory: &Inventory,
) -> String {
    let gpu = inventory.gpus.iter().find(|gpu| gpu.pci == device.gpu);
    // Another UUID at the same address is another board.
    let Some(gpu) = gpu.filter(|gpu| gpus.get(&gpu.pci) == gpu.uuid.as_ref()) else {
        return format!("its gpu {} is lost or was replaced", device.gpu);
    };
    let is_in_inventory = gpu.slices.iter().any(|slice| slice.name == device.name);
    match device.instance {
        _ if is_in_inventory => "the strategy no longer advertises it".to_owned(),
        None if gpu.mig_enabled => "its gpu is in mig mode now".to_owned(),
        None => "no cdi spec of mig-cdi defines it any more".to_owned(),
        Some(InstanceIds { gi, ci }) => {
            format!("it is gone: gpu {} has no such gi {gi} ci {ci}", gpu.pci)
        }
    }
}
