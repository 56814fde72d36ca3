//! What pods have, as the kubelet last said. It is asked beside everything else: one that hangs holds up nothing.

use crate::{
    pod_resources::{Holder, Unanswered, held},
    say::Teller,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};
use tokio::task::JoinHandle;

type Answer = Result<BTreeMap<String, Holder>, Unanswered>;

/// It, and a question that is under way.
#[derive(Debug)]
pub struct Pods {
    socket: PathBuf,
    /// By id of a device. `None` until the kubelet has said so once.
    pub held: Option<BTreeMap<String, Holder>>,
    asking: Option<JoinHandle<Answer>>,
    /// Something has happened since that was asked.
    again: bool,
    was_asked: bool,
    teller: Teller,
}

impl Pods {
    /// By a kubelet that listens there; see [`crate::pod_resources`].
    #[must_use]
    pub fn new(socket: PathBuf) -> Pods {
        let (held, asking, teller) = (None, None, Teller::default());
        Pods { socket, held, asking, again: false, was_asked: false, teller }
    }

    /// Asks, on the runtime that this is called on.
    pub fn ask(&mut self) {
        if self.asking.is_some() {
            self.again = true;
            return;
        }
        let socket = self.socket.clone();
        self.asking = Some(tokio::spawn(async move { held(&socket).await }));
    }

    /// True while an answer is waited for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asking.is_some()
    }

    /// True when it was asked once, whether it has answered or not.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.was_asked
    }

    /// Waits for the answer; for ever when nothing was asked. A kubelet that does not answer leaves what it
    /// said before.
    pub async fn answered(&mut self) {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.await;
        self.asking = None;
        self.was_asked = true;
        match answer {
            Ok(Ok(held)) => {
                self.held = Some(held);
                self.teller.forget();
            }
            Ok(Err(failure)) => self.teller.warn(&failure.to_string()),
            // The runtime ends.
            Err(_) => {}
        }
        if std::mem::take(&mut self.again) {
            self.ask();
        }
    }

    /// Ids of what pods have.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        self.held.iter().flatten().map(|(id, _)| id.clone()).collect()
    }
}
