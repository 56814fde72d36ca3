//! Errors that the driver reported and that are still open.

use crate::strategy::InstanceIds;
use mig_cdi_gen::{Xid, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Time for which a GPU or instance has to be missing before it counts as gone, when the refreshes are incomplete. The
/// watch refreshes again after a second when NVML and the kernel disagree.
pub(super) const MISSING_GRACE: Duration = Duration::from_secs(3);

/// Largest number of open errors: more than a node has instances. Further errors are opened on the whole GPU.
const LIMIT: usize = 1024;

/// Scope of an error: a GPU, a GPU instance or a compute instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ErrorScope {
    /// UUID of the GPU.
    gpu: String,
    gi: Option<u32>,
    ci: Option<u32>,
}

impl ErrorScope {
    fn gpu(uuid: &str) -> ErrorScope {
        ErrorScope { gpu: uuid.to_owned(), gi: None, ci: None }
    }

    /// Returns true when a device of `gpu` is in this scope, or is the whole GPU around it.
    fn affects(&self, gpu: &str, instance: Option<InstanceIds>) -> bool {
        let is_in = |InstanceIds { gi, ci }| {
            self.gi.is_none_or(|own| own == gi) && self.ci.is_none_or(|own| own == ci)
        };
        self.gpu == gpu && instance.is_none_or(is_in)
    }
}

/// The open errors, at most one for each scope.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenErrors {
    errors: BTreeMap<ErrorScope, OpenError>,
    driver_version: String,
    /// Scopes of the devices of the last refresh, by CDI name.
    scopes: BTreeMap<String, ErrorScope>,
}

#[derive(Debug, Clone)]
struct OpenError {
    xid: u64,
    /// Time of the first refresh since which its scope is missing.
    missing_since: Option<Instant>,
}

impl OpenErrors {
    pub(super) fn open(&mut self, error: &Xid) {
        // Compute instances are numbered within their GPU instance.
        let ci = error.gi.and(error.ci);
        let mut scope = ErrorScope { gpu: error.gpu.clone(), gi: error.gi, ci };
        if self.errors.len() >= LIMIT && !self.errors.contains_key(&scope) {
            scope = ErrorScope::gpu(&error.gpu);
        }
        self.errors.insert(scope, OpenError { xid: error.xid, missing_since: None });
    }

    pub(super) fn clear(&mut self) {
        self.errors.clear();
    }

    /// Processes a refresh. Closes all errors when the driver has another version: its kernel modules were loaded since,
    /// which initialises every GPU.
    pub(super) fn refreshed(&mut self, inventory: &Inventory, now: Instant) {
        if self.driver_version != inventory.driver_version {
            self.driver_version.clone_from(&inventory.driver_version);
            self.errors.clear();
        }
        let mut present: BTreeSet<ErrorScope> = BTreeSet::new();
        self.scopes.clear();
        for gpu in &inventory.gpus {
            let Some(uuid) = &gpu.uuid else { continue };
            let whole = ErrorScope::gpu(uuid);
            if let Some(name) = &gpu.name {
                self.scopes.insert(name.clone(), whole.clone());
            }
            for slice in &gpu.slices {
                let gpu_instance = ErrorScope { gi: Some(slice.gi), ..whole.clone() };
                let scope = ErrorScope { ci: Some(slice.ci), ..gpu_instance.clone() };
                present.extend([gpu_instance, scope.clone()]);
                self.scopes.insert(slice.name.clone(), scope);
            }
            present.insert(whole);
        }
        self.update(|scope| present.contains(scope), inventory.problems.is_empty(), now);
    }

    /// Processes a refresh that failed: slices that are not in `current` are missing, and GPUs only when nothing is
    /// current, as without a driver.
    pub(super) fn refresh_failed(&mut self, current: &BTreeSet<String>, now: Instant) {
        let scopes = std::mem::take(&mut self.scopes);
        let present: Vec<_> = scopes.iter().filter(|(name, _)| current.contains(*name)).collect();
        let is_present = |scope: &ErrorScope| match scope.gi {
            // A refresh fails as a whole: it does not show which GPU is gone.
            None => scopes.is_empty() || !present.is_empty(),
            Some(gi) => present.iter().any(|(_, device)| {
                device.gpu == scope.gpu
                    && device.gi == Some(gi)
                    && (scope.ci.is_none() || scope.ci == device.ci)
            }),
        };
        self.update(is_present, false, now);
        self.scopes = scopes;
    }

    /// Closes errors whose scope is missing: at once when the refresh is complete, else after [`MISSING_GRACE`].
    fn update(
        &mut self,
        is_present: impl Fn(&ErrorScope) -> bool,
        is_complete: bool,
        now: Instant,
    ) {
        self.expire(now);
        self.errors.retain(|scope, error| {
            let is_present = is_present(scope);
            error.missing_since = (!is_present).then(|| error.missing_since.unwrap_or(now));
            is_present || !is_complete
        });
    }

    /// Closes errors whose scope has been missing for long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.errors.retain(|_, error| {
            let age = |since| now.saturating_duration_since(since);
            error.missing_since.is_none_or(|since| age(since) < MISSING_GRACE)
        });
    }

    /// Times at which [`OpenErrors::expire`] has something to do.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.errors.values().filter_map(|error| Some(error.missing_since? + MISSING_GRACE))
    }

    /// Reason why a device of a GPU is unhealthy, with the cure. For a whole GPU, errors of its instances count too.
    pub(super) fn reason(&self, gpu: &str, instance: Option<InstanceIds>) -> Option<String> {
        // An error on the GPU comes before those in it, since its scope sorts first: it has the wider cure.
        let (scope, error) = self.errors.iter().find(|(scope, _)| scope.affects(gpu, instance))?;
        let (place, cure) = match (scope.gi, scope.ci) {
            (None, _) => ("its gpu", "reset that gpu"),
            (Some(_), None) => ("its gpu instance", "destroy that and create it again"),
            (Some(_), Some(_)) => ("its compute instance", "destroy that and create it again"),
        };
        let xid = error.xid;
        Some(format!(
            "the driver reported xid {xid} on {place}; {cure}, or send SIGHUP to mig-cdi-kubelet"
        ))
    }
}
