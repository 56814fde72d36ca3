//! Between the look at who holds what and the destroying, nothing may be handed out. A pod that is given a
//! slice shows in the kubelet's list a moment after that: until then it is remembered here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// The kubelet lists a device as soon as it has the answer to Allocate. This is far more.
const FRESH: Duration = Duration::from_secs(30);

/// Whether GPUs are being divided, for whoever hands out slices. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Dividing(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The layout that GPUs are being divided by.
    layout: Option<String>,
    /// What was handed out a moment ago.
    fresh: BTreeMap<String, Instant>,
}

/// From its making to its end nothing is handed out.
#[derive(Debug)]
pub struct Running(Dividing);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().layout = None;
        self.0.0.ended.notify_waiters();
    }
}

impl Dividing {
    /// From now on nothing is handed out.
    #[must_use]
    pub fn begin(&self, layout: &str) -> Running {
        self.state().layout = Some(layout.to_owned());
        Running(self.clone())
    }

    /// GPUs are being divided now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state().layout.is_some()
    }

    /// Takes note that devices are handed out, or says why none may be: to be asked before each Allocate is
    /// answered, after all else has been found right.
    ///
    /// # Errors
    /// While GPUs are being divided.
    pub fn hand_out<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Result<(), String> {
        let mut state = self.state();
        if let Some(layout) = &state.layout {
            return Err(format!(
                "gpus are being divided as {layout:?}, and no slice is given to anybody until that is done; the \
                 pod can be started again in a moment"
            ));
        }
        let now = Instant::now();
        state.fresh.retain(|_, when| when.elapsed() < FRESH);
        state.fresh.extend(ids.map(|id| (id.clone(), now)));
        Ok(())
    }

    /// Waits until GPUs are divided. False when it takes longer: the kubelet admits no other pod meanwhile.
    pub async fn settled(&self, limit: Duration) -> bool {
        let settle = async {
            loop {
                let ended = self.0.ended.notified();
                if !self.is_running() {
                    return;
                }
                ended.await;
            }
        };
        timeout(limit, settle).await.is_ok()
    }

    /// What was handed out so short a while ago that the kubelet may not list it yet.
    pub(crate) fn fresh(&self) -> Vec<String> {
        let mut state = self.state();
        state.fresh.retain(|_, when| when.elapsed() < FRESH);
        state.fresh.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_handed_out_meanwhile() {
        let dividing = Dividing::default();
        dividing.hand_out([&"MIG-a".to_owned()].into_iter()).unwrap();
        let running = dividing.begin("balanced");
        assert!(
            dividing.hand_out([&"MIG-b".to_owned()].into_iter()).unwrap_err().contains("balanced")
        );
        assert_eq!(dividing.fresh(), ["MIG-a"]);
        drop(running);
        dividing.hand_out([&"MIG-b".to_owned()].into_iter()).unwrap();
        assert_eq!(dividing.fresh(), ["MIG-a", "MIG-b"]);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on() {
        let dividing = Dividing::default();
        let running = dividing.begin("balanced");
        assert!(!dividing.settled(Duration::from_millis(10)).await);
        let end = async {
            tokio::task::yield_now().await;
            drop(running);
        };
        let (settled, ()) = tokio::join!(dividing.settled(Duration::from_secs(60)), end);
        assert!(settled);
    }
}
