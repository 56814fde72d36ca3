//! From what the watch sees to what is offered, and what is said of it. It waits for nobody.

use crate::{
    audience::Audience,
    health::Health,
    labels::labels,
    pods::Pods,
    roster::{Entry, Roster},
    strategy::{Offer, Offers, Resource, Strategy, offers},
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

/// How often the kubelet is asked whether a pod still has what is gone, or is offered by another name now.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the roster as the node is.
pub struct Agent {
    /// How slices become resources.
    pub strategy: Strategy,
    /// What may be given out.
    pub health: Health,
    /// What is served.
    pub roster: watch::Sender<Arc<Roster>>,
    /// Who is told.
    pub audience: Audience,
    /// The kubelet's word for which pods have what.
    pub pods: Pods,
}

impl Agent {
    /// Until there are no more looks.
    pub async fn run(mut self, mut looks: mpsc::UnboundedReceiver<WatchEvent>) {
        loop {
            let waits = self.health.waits() || self.is_held_elsewhere();
            let again = waits.then(|| Instant::now() + AGAIN);
            let deadline = self.health.next_deadline().into_iter().chain(again).min();
            let deadline = deadline.filter(|_| !self.pods.is_asked());
            let wait = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                look = looks.recv() => match look {
                    Some(look) => self.see(look),
                    None => break,
                },
                () = self.pods.answered() => {
                    self.health.settle(&self.pods.ids(), Instant::now());
                }
                () = wait => self.pods.ask(),
            }
            self.publish();
        }
        self.audience.leave();
    }

    fn see(&mut self, look: WatchEvent) {
        match look {
            WatchEvent::Started => {}
            WatchEvent::Refreshed(inventory) => {
                let offers = offers(&inventory, self.strategy);
                if self.pods.held.is_none() || self.loses(&offers) {
                    self.pods.ask();
                }
                self.health.found(&inventory, &offers, &self.maybe_held(), Instant::now());
                self.audience.labels(&labels(&inventory, self.strategy, &offers));
                let withheld = inventory.problems.iter().chain(&offers.withheld);
                self.audience.withheld(withheld.cloned().collect());
            }
            WatchEvent::Failed { cause, standing } => {
                self.pods.ask();
                self.health.failed(&cause, &standing, &self.maybe_held(), Instant::now());
            }
            WatchEvent::Xid(xid) => {
                self.health.xid(&xid, Instant::now());
            }
            WatchEvent::Reload => self.health.forgive(),
        }
    }

    /// Something goes that a pod may have.
    fn loses(&self, offers: &Offers) -> bool {
        let stays = |entry: &Entry, resource| {
            let offers = offers.resources.get(resource);
            offers.is_some_and(|offers| offers.iter().any(|offer| offer.id == entry.offer.id))
        };
        let roster = self.roster.borrow();
        roster.0.iter().any(|(resource, entries)| !entries.iter().all(|e| stays(e, resource)))
    }

    /// Until the kubelet has answered, whatever was offered may be a pod's.
    fn maybe_held(&self) -> BTreeSet<String> {
        let mut ids = self.pods.ids();
        if self.pods.is_asked() {
            let roster = self.roster.borrow();
            ids.extend(roster.0.values().flatten().map(|entry| entry.offer.id.clone()));
        }
        ids
    }

    /// The kubelet counts each resource by itself: after a change of strategy it would give a second pod what
    /// one still has by the old name.
    fn elsewhere(&self, id: &str, resource: &Resource) -> Option<String> {
        let holder = self.pods.held.as_ref()?.get(id)?;
        let is_other = holder.resource != resource.as_str();
        is_other.then(|| format!("{} has it as {}", holder.pod, holder.resource))
    }

    fn is_held_elsewhere(&self) -> bool {
        let roster = self.roster.borrow();
        let mut entries =
            roster.0.iter().flat_map(|(name, list)| list.iter().map(move |entry| (name, entry)));
        entries.any(|(resource, entry)| self.elsewhere(&entry.offer.id, resource).is_some())
    }

    /// Nothing is offered before the kubelet was asked: a pod may have it by another name.
    fn publish(&mut self) {
        if !self.pods.was_asked() {
            return;
        }
        let entry = |resource, (offer, sick): (&Offer, Option<String>)| Entry {
            sick: sick.or_else(|| self.elsewhere(&offer.id, resource)),
            offer: offer.clone(),
        };
        let entries = |resource| {
            let devices = self.health.devices(resource).into_iter();
            devices.map(|device| entry(resource, device)).collect()
        };
        let next = self.health.resources().map(|resource| (resource.clone(), entries(resource)));
        let next = Roster(next.collect());
        let before = self.roster.borrow().clone();
        if *before == next {
            return;
        }
        let (old, new) = (sick(&before), sick(&next));
        let ill = new.iter().filter(|(id, why)| old.get(*id) != Some(*why));
        let ill = ill.map(|(id, why)| format!("{id} is unhealthy: {why}"));
        let healthy = |id: &str| next.0.values().flatten().any(|entry| entry.offer.id == id);
        let well = old.keys().filter(|id| !new.contains_key(*id) && healthy(id));
        let well = well.map(|id| format!("{id} is healthy again"));
        self.audience.health(&ill.collect::<Vec<_>>(), &well.collect::<Vec<_>>());
        self.roster.send_replace(Arc::new(next));
    }
}

fn sick(roster: &Roster) -> BTreeMap<&str, &str> {
    let entries = roster.0.values().flatten();
    entries.filter_map(|e| Some((e.offer.id.as_str(), e.sick.as_deref()?))).collect()
}
