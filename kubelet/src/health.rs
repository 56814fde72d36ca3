//! Which devices can be handed out, and why the others cannot. Pure, and without a clock: what happens is
//! told, with its time.
//!
//! A device is healthy when the last look found it and no error is held against it. An error that the driver
//! tells of a GPU, a GPU instance or a compute instance is held against all that lies in it, and is over when
//! that has been gone: what comes after is made anew. No time heals: a GPU that has to be reset stays as it
//! is until then, and answers every question meanwhile.

mod errors;
mod xids;

pub use xids::Xids;

use crate::strategy::{Offer, Offers, Resource};
use errors::Errors;
use mig_cdi::{Xid, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// A device that is gone stays in its list, as unhealthy, for so long at least: the kubelet is to see it so
/// before it sees it no more.
pub const GRACE: Duration = Duration::from_secs(60);

/// What is known of the devices of a node.
#[derive(Debug, Clone)]
pub struct Health {
    watched: Xids,
    errors: Errors,
    /// UUID of each GPU of the last look, by PCI address.
    gpus: BTreeMap<String, String>,
    /// Those of the last look first, in its order.
    resources: BTreeMap<Resource, Vec<Device>>,
    /// When something was last told.
    now: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Device {
    offer: Offer,
    gone: Option<Gone>,
    /// A pod has it under the name of another resource.
    had_as: Option<Resource>,
    /// A pod has what was there before, and can open this too: its id.
    opened_by: Option<String>,
}

/// A device that is not offered any more.
#[derive(Debug, Clone)]
struct Gone {
    why: String,
    since: Instant,
    /// It is offered as another resource, and a pod had it from this one then.
    moved: bool,
}

impl Health {
    /// Of a node that nobody has looked at yet.
    #[must_use]
    pub fn new(watched: Xids) -> Health {
        let (gpus, resources) = (BTreeMap::new(), BTreeMap::new());
        Health { watched, errors: Errors::default(), gpus, resources, now: None }
    }

    /// A look at the node, and what it offers by that. `held` are ids of devices that pods have.
    ///
    /// A device that has changed its resource leaves the old one at once, unless a pod has it from there:
    /// then it stays there as unhealthy, and is unhealthy in the new one, until the pod gives it back.
    pub fn found(
        &mut self,
        inventory: &Inventory,
        offers: &Offers,
        held: &BTreeSet<String>,
        now: Instant,
    ) {
        self.errors.found(inventory, now);
        let old = std::mem::take(&mut self.resources);
        let new = |offer: &Offer| Device {
            offer: offer.clone(),
            gone: None,
            had_as: None,
            opened_by: None,
        };
        let mut places: BTreeMap<&str, &Resource> = BTreeMap::new();
        for (resource, list) in &offers.resources {
            self.resources.insert(resource.clone(), list.iter().map(new).collect());
            places.extend(list.iter().map(|offer| (offer.id.as_str(), resource)));
        }
        for (resource, devices) in old {
            let missing = devices.into_iter().filter_map(|mut device| {
                let id = device.offer.id.as_str();
                match places.get(id) {
                    Some(place) if **place == resource => return None,
                    // Whoever has it has it from a third one.
                    Some(_) if device.had_as.is_some() || !held.contains(id) => return None,
                    Some(place) => {
                        let why = format!("it is offered as {place} now");
                        device.gone = Some(Gone { why, since: now, moved: true });
                    }
                    None => device.goes(now, |offer| why_gone(offer, &self.gpus, inventory)),
                }
                Some(device)
            });
            let missing: Vec<Device> = missing.collect();
            self.resources.entry(resource).or_default().extend(missing);
        }
        let gpus = inventory.gpus.iter();
        self.gpus = gpus.filter_map(|gpu| Some((gpu.pci.clone(), gpu.uuid.clone()?))).collect();
        self.settle(held, now);
    }

    /// The node could not be asked, and of what was found before this still stands, by CDI name.
    pub fn failed(
        &mut self,
        why: &str,
        standing: &BTreeSet<String>,
        held: &BTreeSet<String>,
        now: Instant,
    ) {
        for device in self.resources.values_mut().flatten() {
            if !standing.contains(&device.offer.name) {
                device.goes(now, |_| format!("it is gone, and the node cannot be asked: {why}"));
            }
        }
        self.errors.failed(standing, now);
        self.settle(held, now);
    }

    /// The driver tells of an error. False when it is ignored, or of a GPU that is not known: what comes back
    /// in its place has been reset.
    pub fn xid(&mut self, error: &Xid, now: Instant) -> bool {
        self.now = Some(now);
        let counts =
            self.watched.counts(error.xid) && self.gpus.values().any(|gpu| *gpu == error.gpu);
        if counts {
            self.errors.insert(error);
        }
        counts
    }

    /// Forgets all errors: an operator says that they are over.
    pub fn forgive(&mut self) {
        self.errors.forgive();
    }

    /// Time has passed, or pods have got or given back devices.
    pub fn settle(&mut self, held: &BTreeSet<String>, now: Instant) {
        self.now = Some(now);
        self.errors.settle(now);
        let mut had: BTreeMap<String, Resource> = BTreeMap::new();
        let mut remains: Vec<Offer> = Vec::new();
        for (resource, devices) in &mut self.resources {
            devices.retain(|device| {
                let Some(gone) = &device.gone else { return true };
                let is_fresh = !gone.moved && now.saturating_duration_since(gone.since) < GRACE;
                held.contains(&device.offer.id) || is_fresh
            });
            let moved = devices.iter().filter(|d| d.gone.as_ref().is_some_and(|gone| gone.moved));
            had.extend(moved.map(|device| (device.offer.id.clone(), resource.clone())));
            let left = devices.iter().filter(|d| d.gone.is_some() && held.contains(&d.offer.id));
            remains.extend(left.map(|device| device.offer.clone()));
        }
        for device in self.resources.values_mut().flatten().filter(|d| d.gone.is_none()) {
            device.had_as = had.get(&device.offer.id).cloned();
            let opens = remains.iter().find(|old| opens(old, &device.offer));
            device.opened_by = opens.map(|old| old.id.clone());
        }
    }

    /// Every resource that has been offered; one that has nothing to offer now has an empty list.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.resources.keys()
    }

    /// Devices of a resource, each with why it is unhealthy.
    #[must_use]
    pub fn devices(&self, resource: &Resource) -> Vec<(&Offer, Option<String>)> {
        let devices = self.resources.get(resource).into_iter().flatten();
        devices.map(|device| (&device.offer, self.why(device))).collect()
    }

    /// True while there is what is gone: it leaves the list when no pod has it.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.resources.values().flatten().any(|device| device.gone.is_some())
    }

    /// When [`Health::settle`] has something to do, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let devices = self.resources.values().flatten();
        let ends = devices.filter_map(|device| Some(device.gone.as_ref()?.since + GRACE));
        let all = ends.chain(self.errors.deadlines());
        all.filter(|at| self.now.is_none_or(|now| *at > now)).min()
    }

    fn why(&self, device: &Device) -> Option<String> {
        if let Some(gone) = &device.gone {
            return Some(gone.why.clone());
        }
        if let Some(other) = &device.had_as {
            return Some(format!("a pod still has it as {other}"));
        }
        if let Some(old) = &device.opened_by {
            return Some(format!(
                "a pod that was given {old}, which is gone, can open it too; delete that pod"
            ));
        }
        self.errors.of(self.gpus.get(&device.offer.gpu)?, device.offer.instance)
    }
}

impl Device {
    fn goes(&mut self, now: Instant, why: impl Fn(&Offer) -> String) {
        if self.gone.is_none() {
            self.gone = Some(Gone { why: why(&self.offer), since: now, moved: false });
        }
    }
}

/// True when whoever was given the one can open the other: capability nodes go by the numbers of the instances,
/// and a whole GPU by the node that each of its slices needs.
fn opens(old: &Offer, new: &Offer) -> bool {
    let is_of_it = new.instance.is_none() || new.instance == old.instance;
    old.gpu == new.gpu && old.id != new.id && old.instance.is_some() && is_of_it
}

/// Why the last look did not find it. `gpus` are those of the look before, by PCI address.
fn why_gone(offer: &Offer, gpus: &BTreeMap<String, String>, inventory: &Inventory) -> String {
    let gpu = inventory.gpus.iter().find(|gpu| gpu.pci == offer.gpu);
    let Some(gpu) = gpu.filter(|gpu| gpus.get(&gpu.pci) == gpu.uuid.as_ref()) else {
        return format!("its gpu {} is lost, or is another one", offer.gpu);
    };
    let is_there = gpu.slices.iter().any(|slice| slice.name == offer.name);
    match offer.instance {
        _ if is_there => "the strategy offers it no more".to_owned(),
        None if gpu.mig_enabled => "its gpu is in mig mode now".to_owned(),
        None => "no spec of ours names it any more".to_owned(),
        Some((gi, ci)) => format!("it is gone: gpu {} has no such gi {gi} ci {ci}", gpu.pci),
    }
}
