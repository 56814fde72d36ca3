//! From what the watch sees to what is offered, and what is said of it.

use crate::{
    feature_file,
    health::Health,
    labels::labels,
    pod_resources::{self, Holder},
    roster::{Entry, Roster},
    say::{Teller, say},
    strategy::{Offer, Offers, Resource, Strategy, offers},
};
use mig_cdi::{Look, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

/// How often the kubelet is asked whether a pod still has what is offered by another name now.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the roster as the node is.
pub struct Agent {
    /// How slices become resources.
    pub strategy: Strategy,
    /// What may be given out.
    pub health: Health,
    /// What is served.
    pub roster: watch::Sender<Arc<Roster>>,
    /// The kubelet's socket that tells which pods have what.
    pub pod_resources: PathBuf,
    /// Where labels go for Node Feature Discovery.
    pub feature_file: Option<PathBuf>,
    /// What pods have, when that was last asked; at the first look it is.
    pub held: Option<BTreeMap<String, Holder>>,
    /// What was said not to be offered.
    pub withheld: Vec<String>,
    /// What failed once.
    pub teller: Teller,
}

impl Agent {
    /// Until there are no more looks.
    pub async fn run(mut self, mut looks: mpsc::UnboundedReceiver<Look>) {
        loop {
            let again = self.is_held_elsewhere().then(|| Instant::now() + AGAIN);
            let deadline = self.health.next_deadline().into_iter().chain(again).min();
            let wait = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                look = looks.recv() => match look {
                    Some(look) => self.see(look).await,
                    None => break,
                },
                () = wait => {
                    self.ask().await;
                    self.health.settle(&self.ids(), Instant::now());
                }
            }
            self.publish();
        }
        if let Some(Err(failure)) = self.feature_file.as_deref().map(feature_file::remove) {
            self.teller.once(&failure.to_string());
        }
    }

    async fn see(&mut self, look: Look) {
        match look {
            Look::Begins => {}
            Look::Found(inventory) => {
                let offers = offers(&inventory, self.strategy);
                if self.held.is_none() || self.loses(&offers) {
                    self.ask().await;
                }
                self.health.found(&inventory, &offers, &self.ids(), Instant::now());
                self.tell(&inventory, &offers);
            }
            Look::Failed { why, standing } => {
                self.ask().await;
                self.health.failed(&why, &standing, &self.ids(), Instant::now());
            }
            Look::Xid(xid) => {
                self.health.xid(&xid, Instant::now());
            }
            Look::Reload => self.health.forgive(),
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

    /// A kubelet that does not answer leaves what it said before.
    async fn ask(&mut self) {
        match pod_resources::held(&self.pod_resources).await {
            Ok(held) => self.held = Some(held),
            Err(failure) => self.teller.warn(&failure.to_string()),
        }
    }

    fn ids(&self) -> BTreeSet<String> {
        self.held.iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    /// The kubelet counts each resource by itself: after a change of strategy it would give a second pod what
    /// one still has by the old name.
    fn elsewhere(&self, id: &str, resource: &Resource) -> Option<String> {
        let holder = self.held.as_ref()?.get(id)?;
        let is_other = holder.resource != resource.as_str();
        is_other.then(|| format!("{} has it as {}", holder.pod, holder.resource))
    }

    fn is_held_elsewhere(&self) -> bool {
        let roster = self.roster.borrow();
        let mut entries =
            roster.0.iter().flat_map(|(name, list)| list.iter().map(move |entry| (name, entry)));
        entries.any(|(resource, entry)| self.elsewhere(&entry.offer.id, resource).is_some())
    }

    /// What is not offered is said when that is news; labels follow.
    fn tell(&mut self, inventory: &Inventory, offers: &Offers) {
        let now: Vec<String> = inventory.problems.iter().chain(&offers.withheld).cloned().collect();
        now.iter().filter(|line| !self.withheld.contains(line)).for_each(|line| say(line));
        self.withheld = now;
        let Some(path) = &self.feature_file else { return };
        if let Err(failure) = feature_file::write(path, &labels(inventory, self.strategy, offers)) {
            self.teller.once(&failure.to_string());
        }
    }

    fn publish(&mut self) {
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
        for (id, why) in new.iter().filter(|(id, why)| old.get(*id) != Some(*why)) {
            say(&format!("{id} is unhealthy: {why}"));
        }
        let healthy = |id: &str| next.0.values().flatten().any(|entry| entry.offer.id == id);
        for id in old.keys().filter(|id| !new.contains_key(*id) && healthy(id)) {
            say(&format!("{id} is healthy again"));
        }
        self.roster.send_replace(Arc::new(next));
    }
}

fn sick(roster: &Roster) -> BTreeMap<&str, &str> {
    let entries = roster.0.values().flatten();
    entries.filter_map(|e| Some((e.offer.id.as_str(), e.sick.as_deref()?))).collect()
}
