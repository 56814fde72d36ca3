//! The loop that turns events of the watch into advertised devices, labels and reports. It never blocks: requests
//! to the kubelet and to the API server are sent by tasks of their own.

use crate::{
    advertised::{AdvertisedDevice, AdvertisedDevices},
    health::Health,
    labels::labels,
    pods::PodAllocations,
    reporter::Reporter,
    strategy::{NodeResources, Resource, Strategy, node_resources},
};
use mig_cdi_gen::watch::WatchEvent;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

/// Interval of requests to the kubelet while a pod may still hold a device that is gone, or one that is now advertised
/// as another resource. The pod-resources API has no call that watches
/// (`k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`).
const POD_POLL: Duration = Duration::from_secs(5);

/// Task that updates the advertised devices, labels and Events from the events of the watch.
pub struct Agent {
    /// Rule that maps slices to resources.
    pub strategy: Strategy,
    /// Health of the devices.
    pub health: Health,
    /// Devices that are advertised, for the servers.
    pub advertised: watch::Sender<Arc<AdvertisedDevices>>,
    /// Writer of labels, log lines and Events.
    pub reporter: Reporter,
    /// Devices that pods hold, by the kubelet's answers.
    pub pods: PodAllocations,
}

impl Agent {
    /// Runs until the channel of events is closed.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<WatchEvent>) {
        loop {
            let polls_pods = self.health.has_departed() || self.is_held_elsewhere();
            let poll = polls_pods.then(|| Instant::now() + POD_POLL);
            let deadline = self.health.next_deadline().into_iter().chain(poll).min();
            // The answer to the request under way settles what the deadline is for.
            let deadline = deadline.filter(|_| !self.pods.is_pending());
            let wait = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.process(event),
                    None => break,
                },
                () = self.pods.wait() => {
                    self.health.expire(&self.pods.ids(), Instant::now());
                }
                () = wait => self.pods.request(),
            }
            self.advertise();
        }
        self.reporter.close();
    }

    fn process(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Started => {}
            WatchEvent::Refreshed(inventory) => {
                let resources = node_resources(&inventory, self.strategy);
                // Whether a pod holds a device that is removed now, only the kubelet knows.
                if self.pods.held.is_none() || self.removes_device(&resources) {
                    self.pods.request();
                }
                let held = self.possibly_held();
                self.health.refreshed(&inventory, &resources, &held, Instant::now());
                self.reporter.report_labels(&labels(&inventory, self.strategy, &resources));
                let withheld = inventory.problems.iter().chain(&resources.withheld);
                self.reporter.report_withheld(withheld.cloned().collect());
            }
            WatchEvent::Failed { cause, still_defined } => {
                // Devices that are gone stay listed as long as a pod holds them, so the answer has to be recent.
                self.pods.request();
                self.health.refresh_failed(
                    &cause,
                    &still_defined,
                    &self.possibly_held(),
                    Instant::now(),
                );
            }
            WatchEvent::Xid(xid) => {
                self.health.xid(&xid, Instant::now());
            }
            WatchEvent::Reload => self.health.clear_errors(),
        }
    }

    /// Returns true when a device that is advertised now, and that a pod may hold, is not in `resources`.
    fn removes_device(&self, resources: &NodeResources) -> bool {
        let stays = |advertised: &AdvertisedDevice, resource| {
            let devices = resources.devices.get(resource);
            devices.is_some_and(|devices| devices.iter().any(|d| d.id == advertised.device.id))
        };
        let advertised = self.advertised.borrow();
        advertised.0.iter().any(|(resource, list)| !list.iter().all(|d| stays(d, resource)))
    }

    /// Ids of devices that a pod holds or, until the kubelet has answered, may hold: all that is advertised.
    fn possibly_held(&self) -> BTreeSet<String> {
        let mut ids = self.pods.ids();
        if self.pods.is_pending() {
            ids.extend(self.advertised.borrow().all().map(|d| d.device.id.clone()));
        }
        ids
    }

    /// Reason why a device may not be allocated from `resource`: a pod holds it from another one.
    ///
    /// The kubelet counts allocated devices by resource and id (k8s.io/kubernetes,
    /// `pkg/kubelet/cm/devicemanager/manager.go`, `allocatedDevices`). After a change of strategy it would allocate to a
    /// second pod what the first one still holds under the old name.
    fn held_elsewhere(&self, id: &str, resource: &Resource) -> Option<String> {
        let holder = self.pods.held.as_ref()?.get(id)?;
        let is_other = holder.resource != resource.as_str();
        is_other.then(|| format!("{} holds it as {}", holder.pod, holder.resource))
    }

    fn is_held_elsewhere(&self) -> bool {
        let advertised = self.advertised.borrow();
        let mut devices =
            advertised.0.iter().flat_map(|(name, list)| list.iter().map(move |d| (name, d)));
        devices.any(|(resource, d)| self.held_elsewhere(&d.device.id, resource).is_some())
    }

    /// Advertises the devices as they are now, and reports changes of health.
    fn advertise(&mut self) {
        // Before the first answer of the kubelet, a pod may hold any device under the name of another resource.
        if !self.pods.has_completed() {
            return;
        }
        let next = self.current();
        let before = self.advertised.borrow().clone();
        // Every value that is sent wakes all ListAndWatch streams.
        if *before == next {
            return;
        }
        let (old, new) = (unhealthy(&before), unhealthy(&next));
        let unhealthy = new.iter().filter(|(id, why)| old.get(*id) != Some(*why));
        let unhealthy = unhealthy.map(|(id, why)| format!("{id} is unhealthy: {why}"));
        let is_advertised = |id: &str| next.all().any(|d| d.device.id == id);
        let recovered = old.keys().filter(|id| !new.contains_key(*id) && is_advertised(id));
        let recovered = recovered.map(|id| format!("{id} is healthy again"));
        self.reporter.report_health(&unhealthy.collect::<Vec<_>>(), &recovered.collect::<Vec<_>>());
        self.advertised.send_replace(Arc::new(next));
    }

    /// Every resource with its devices and their health.
    fn current(&self) -> AdvertisedDevices {
        let devices = |resource| {
            let mut devices = self.health.devices(resource);
            for AdvertisedDevice { device, unhealthy } in &mut devices {
                *unhealthy = unhealthy.take().or_else(|| self.held_elsewhere(&device.id, resource));
            }
            devices
        };
        let resources = self.health.resources();
        AdvertisedDevices(resources.map(|name| (name.clone(), devices(name))).collect())
    }
}

/// Reasons of the unhealthy devices, by id.
fn unhealthy(advertised: &AdvertisedDevices) -> BTreeMap<&str, &str> {
    let devices = advertised.all();
    devices.filter_map(|d| Some((d.device.id.as_str(), d.unhealthy.as_deref()?))).collect()
}
