//! The devices that pods hold, by the kubelet's last answer.
//!
//! The question runs as a task of its own: a kubelet that hangs holds up nothing else.

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

/// The last answer of the kubelet, and the question that is under way.
#[derive(Debug)]
pub struct PodAllocations {
    socket: PathBuf,
    /// Holders by device id; `None` until the kubelet has answered once.
    pub held: Option<BTreeMap<String, PodHolder>>,
    question: Option<JoinHandle<Answer>>,
    /// True when something has happened since the question under way was sent.
    asks_again: bool,
    was_asked: bool,
    failures: OnceLog,
}

impl PodAllocations {
    /// Sends nothing yet; `socket` is that of the pod-resources API, see [`crate::pod_resources`].
    #[must_use]
    pub fn new(socket: PathBuf) -> PodAllocations {
        let (held, question, failures) = (None, None, OnceLog::default());
        PodAllocations { socket, held, question, asks_again: false, was_asked: false, failures }
    }

    /// Asks the kubelet, on the current runtime. While a question is under way, asks once more after its answer,
    /// which may have been made before the reason to ask.
    pub fn ask(&mut self) {
        if self.question.is_some() {
            self.asks_again = true;
            return;
        }
        let socket = self.socket.clone();
        self.question = Some(tokio::spawn(async move { held(&socket).await }));
    }

    /// Returns true while a question is under way.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.question.is_some()
    }

    /// Returns true when a first question has ended, with an answer or without.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.was_asked
    }

    /// Waits for the answer; forever when there is no question. After a failure the last answer stands.
    pub async fn answered(&mut self) {
        let Some(question) = &mut self.question else { return std::future::pending().await };
        let answer = question.await;
        self.question = None;
        // After a failure too: a kubelet without the pod-resources API must not keep devices from being advertised.
        self.was_asked = true;
        match answer {
            Ok(Ok(held)) => {
                self.held = Some(held);
                self.failures.reset();
            }
            Ok(Err(error)) => self.failures.warning(&error),
            // The task is cancelled when the runtime shuts down.
            Err(_) => {}
        }
        if std::mem::take(&mut self.asks_again) {
            self.ask();
        }
    }

    /// Ids of the devices that pods hold.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        self.held.iter().flatten().map(|(id, _)| id.clone()).collect()
    }
}
