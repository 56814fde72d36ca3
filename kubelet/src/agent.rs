//! From what the watch sees to what is offered, and what is said of it.

use crate::{
    feature_file,
    health::Health,
    labels::labels,
    pod_resources,
    roster::{Entry, Roster},
    say::{Teller, say},
    strategy::{Offers, Strategy, offers},
};
use mig_cdi::{Look, inventory::Inventory};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

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
    /// What pods have, when that was last asked.
    pub held: BTreeSet<String>,
    /// What was said not to be offered.
    pub withheld: Vec<String>,
    /// What failed once.
    pub teller: Teller,
}

impl Agent {
    /// Until there are no more looks.
    pub async fn run(mut self, mut looks: mpsc::UnboundedReceiver<Look>) {
        loop {
            let deadline = self.health.next_deadline();
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
                    self.health.settle(&self.held, Instant::now());
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
                if self.loses(&offers) {
                    self.ask().await;
                }
                self.health.found(&inventory, &offers, &self.held, Instant::now());
                self.tell(&inventory, &offers);
            }
            Look::Failed { why, standing } => {
                self.ask().await;
                self.health.failed(&why, &standing, &self.held, Instant::now());
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
            Ok(held) => self.held = held.into_keys().collect(),
            Err(failure) => self.teller.warn(&failure.to_string()),
        }
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
        let entries = |resource| {
            let devices = self.health.devices(resource).into_iter();
            devices.map(|(offer, sick)| Entry { offer: offer.clone(), sick }).collect()
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
