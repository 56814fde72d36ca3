//! Errors that the driver told of, and whether they are over.

use mig_cdi_gen::{Xid, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// What a look that leaves things out does not find may be there: it is gone when it is not found for so long.
/// watch looks again after a second when its views of the node do not agree.
pub(super) const SETTLED: Duration = Duration::from_secs(3);

/// More than a node has instances. What comes then is held against whole GPUs.
const MOST: usize = 1024;

/// Where an error is: a GPU by UUID, a GPU instance, a compute instance.
type Place = (String, Option<u32>, Option<u32>);

/// The errors that are not over, one for each place.
#[derive(Debug, Clone, Default)]
pub(super) struct Errors {
    errors: BTreeMap<Place, Error>,
    driver_version: String,
    /// What the last look found, by CDI name.
    names: BTreeMap<String, Place>,
}

#[derive(Debug, Clone)]
struct Error {
    xid: u64,
    /// Since when its place is not found.
    missing: Option<Instant>,
}

impl Errors {
    pub(super) fn insert(&mut self, error: &Xid) {
        // The number of a compute instance says nothing without that of its GPU instance.
        let ci = error.gi.and(error.ci);
        let mut place = (error.gpu.clone(), error.gi, ci);
        if self.errors.len() >= MOST && !self.errors.contains_key(&place) {
            (place.1, place.2) = (None, None);
        }
        self.errors.insert(place, Error { xid: error.xid, missing: None });
    }

    pub(super) fn forgive(&mut self) {
        self.errors.clear();
    }

    /// Another version of the driver is another driver: it has started all GPUs anew.
    pub(super) fn found(&mut self, inventory: &Inventory, now: Instant) {
        if self.driver_version != inventory.driver_version {
            self.driver_version.clone_from(&inventory.driver_version);
            self.errors.clear();
        }
        let mut there: BTreeSet<Place> = BTreeSet::new();
        self.names.clear();
        for gpu in &inventory.gpus {
            let Some(uuid) = &gpu.uuid else { continue };
            there.insert((uuid.clone(), None, None));
            if let Some(name) = &gpu.name {
                self.names.insert(name.clone(), (uuid.clone(), None, None));
            }
            for slice in &gpu.slices {
                let place = (uuid.clone(), Some(slice.gi), Some(slice.ci));
                there.extend([(uuid.clone(), Some(slice.gi), None), place.clone()]);
                self.names.insert(slice.name.clone(), place);
            }
        }
        self.see(|place| there.contains(place), inventory.problems.is_empty(), now);
    }

    /// Slices that do not stand are gone; of GPUs that is known when nothing stands, as without a driver.
    pub(super) fn failed(&mut self, standing: &BTreeSet<String>, now: Instant) {
        let names = std::mem::take(&mut self.names);
        let stands: Vec<_> = names.iter().filter(|(name, _)| standing.contains(*name)).collect();
        let is_in = |(gpu, gi, ci): &Place, (of, in_gi, in_ci): &Place| {
            gpu == of && gi == in_gi && (ci.is_none() || ci == in_ci)
        };
        let is_there = |place: &Place| match place.1 {
            None => names.is_empty() || !stands.is_empty(),
            Some(_) => stands.iter().any(|(_, at)| is_in(place, at)),
        };
        self.see(is_there, false, now);
        self.names = names;
    }

    fn see(&mut self, is_there: impl Fn(&Place) -> bool, is_certain: bool, now: Instant) {
        self.settle(now);
        self.errors.retain(|place, error| {
            let there = is_there(place);
            error.missing = (!there).then(|| error.missing.unwrap_or(now));
            there || !is_certain
        });
    }

    /// Time has passed.
    pub(super) fn settle(&mut self, now: Instant) {
        self.errors.retain(|_, error| {
            error.missing.is_none_or(|since| now.saturating_duration_since(since) < SETTLED)
        });
    }

    /// When [`Errors::settle`] has something to do.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.errors.values().filter_map(|error| Some(error.missing? + SETTLED))
    }

    /// What is held against a device of this GPU; all that is in it, when it is the whole one.
    pub(super) fn of(&self, gpu: &str, instance: Option<(u32, u32)>) -> Option<String> {
        let lies_in = |(of, gi, ci): &Place| match instance {
            _ if of != gpu => false,
            Some((in_gi, in_ci)) => {
                gi.is_none_or(|gi| gi == in_gi) && ci.is_none_or(|ci| ci == in_ci)
            }
            None => true,
        };
        let (place, error) = self.errors.iter().find(|(place, _)| lies_in(place))?;
        let (of, until) = match place {
            (_, None, _) => ("its gpu", "that is reset"),
            (_, Some(_), None) => ("its gpu instance", "that is made anew"),
            (_, Some(_), Some(_)) => ("its compute instance", "that is made anew"),
        };
        let xid = error.xid;
        Some(format!("the driver told of xid {xid} of {of}: until {until}, or SIGHUP"))
    }
}
