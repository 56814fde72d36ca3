//! The gate between Allocate and partitioning: no slice is allocated between the moment when the holders of slices are
//! read and the moment when slices are destroyed.
//!
//! The kubelet lists a device for a pod only after Allocate has returned, so recent allocations are recorded here until
//! they are listed.

use crate::{
    error::{Error, Result},
    strategy::Resource,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// Time for which an allocation is recorded. The kubelet lists the device as soon as it has the answer to Allocate
/// (k8s.io/kubernetes, `pkg/kubelet/cm/devicemanager/manager.go`, `allocateContainerResources`); this is far more.
const RECORD_TIME: Duration = Duration::from_secs(30);

/// Gate that is closed while GPUs are being partitioned. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct AllocationGate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Layout that GPUs are being partitioned to.
    layout: Option<String>,
    /// Time of each recent allocation, by device id.
    recent: BTreeMap<String, Instant>,
}

/// Pause of all allocations; dropping it opens the gate.
#[derive(Debug)]
pub struct AllocationPause(AllocationGate);

impl Drop for AllocationPause {
    fn drop(&mut self) {
        self.0.state().layout = None;
        self.0.0.opened.notify_waiters();
    }
}

impl AllocationGate {
    /// Closes the gate, for as long as the pause lives.
    #[must_use]
    pub fn pause(&self, layout: &str) -> AllocationPause {
        self.state().layout = Some(layout.to_owned());
        AllocationPause(self.clone())
    }

    /// Returns true while GPUs are being partitioned.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state().layout.is_some()
    }

    /// Records that devices are allocated. To be called last before an answer to Allocate, when nothing else can refuse
    /// the pod any more.
    ///
    /// # Errors
    /// [`Error::AllocationPaused`] while GPUs are being partitioned.
    pub fn record_allocation<'a>(
        &self,
        resource: &Resource,
        ids: impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        let mut state = self.state();
        if let Some(layout) = &state.layout {
            let (resource, layout) = (resource.clone(), layout.clone());
            return Err(Error::AllocationPaused { resource, layout });
        }
        let now = Instant::now();
        state.recent.retain(|_, when| when.elapsed() < RECORD_TIME);
        state.recent.extend(ids.map(|id| (id.clone(), now)));
        Ok(())
    }

    /// Waits until the gate is open. Returns false when that takes longer than `limit`.
    pub async fn wait_until_open(&self, limit: Duration) -> bool {
        let open = async {
            loop {
                // Before the state is read: a pause that ends in between is not missed.
                let opened = self.0.opened.notified();
                if !self.is_paused() {
                    return;
                }
                opened.await;
            }
        };
        timeout(limit, open).await.is_ok()
    }

    /// Ids of devices that were allocated so recently that the kubelet may not list them yet.
    pub(crate) fn recent_allocations(&self) -> Vec<String> {
        let mut state = self.state();
        state.recent.retain(|_, when| when.elapsed() < RECORD_TIME);
        state.recent.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(gate: &AllocationGate, id: &str) -> Result<()> {
        gate.record_allocation(&Resource::gpu(), [&id.to_owned()].into_iter())
    }

    #[test]
    fn nothing_is_allocated_during_a_pause() {
        let gate = AllocationGate::default();
        record(&gate, "MIG-a").unwrap();
        let pause = gate.pause("balanced");
        let refused = record(&gate, "MIG-b").unwrap_err();
        assert!(refused.to_string().contains("balanced"), "{refused}");
        assert_eq!(gate.recent_allocations(), ["MIG-a"]);
        drop(pause);
        record(&gate, "MIG-b").unwrap();
        assert_eq!(gate.recent_allocations(), ["MIG-a", "MIG-b"]);
    }

    #[tokio::test]
    async fn a_waiter_continues_after_the_pause() {
        let gate = AllocationGate::default();
        let pause = gate.pause("balanced");
        assert!(!gate.wait_until_open(Duration::from_millis(10)).await);
        let end = async {
            tokio::task::yield_now().await;
            drop(pause);
        };
        let (is_open, ()) = tokio::join!(gate.wait_until_open(Duration::from_secs(60)), end);
        assert!(is_open);
    }
}
