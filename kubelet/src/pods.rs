//! The devices that pods hold, by the kubelet's last answer.
//!
//! The request runs as a task of its own: a kubelet that hangs holds up nothing else.

use crate::{
    error::Result,
    log::OnceLog,
    pod_resources::{PodHolder, held},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};
use tokio::task::JoinHandle;

type Answer = Result<BTreeMap<String, PodHolder>>;

/// The last answer of the kubelet, and the request that is under way.
#[derive(Debug)]
pub struct PodAllocations {
    socket: PathBuf,
    /// Holders by device id; `None` until the kubelet has answered once.
    pub held: Option<BTreeMap<String, PodHolder>>,
    pending: Option<JoinHandle<Answer>>,
    /// True when something has happened since the request under way was sent.
    is_outdated: bool,
    has_completed: bool,
    failures: OnceLog,
}

impl PodAllocations {
    /// Sends nothing yet; `socket` is that of the pod-resources API, see [`crate::pod_resources`].
    #[must_use]
    pub fn new(socket: PathBuf) -> PodAllocations {
        PodAllocations {
            socket,
            held: None,
            pending: None,
            is_outdated: false,
            has_completed: false,
            failures: OnceLog::default(),
        }
    }

    /// Sends a request to the kubelet, on the current runtime. While one is under way, sends another after its answer,
    /// which may have been made before the reason for this call.
    pub fn request(&mut self) {
        if self.pending.is_some() {
            self.is_outdated = true;
            return;
        }
        let socket = self.socket.clone();
        self.pending = Some(tokio::spawn(async move { held(&socket).await }));
    }

    /// Returns true while a request is under way.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Returns true when a first request has ended, with an answer or without.
    #[must_use]
    pub fn has_completed(&self) -> bool {
        self.has_completed
    }

    /// Waits until the request under way has ended; forever when there is none. After a failure the last answer stands.
    pub async fn wait(&mut self) {
        let Some(pending) = &mut self.pending else { return std::future::pending().await };
        let answer = pending.await;
        self.pending = None;
        // After a failure too: a kubelet without the pod-resources API must not keep devices from being advertised.
        self.has_completed = true;
        match answer {
            Ok(Ok(held)) => {
                self.held = Some(held);
                self.failures.reset();
            }
            Ok(Err(error)) => self.failures.warning(&error),
            // The task is cancelled when the runtime shuts down.
            Err(_) => {}
        }
        if std::mem::take(&mut self.is_outdated) {
            self.request();
        }
    }

    /// Ids of the devices that pods hold.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        self.held.iter().flatten().map(|(id, _)| id.clone()).collect()
    }
}
