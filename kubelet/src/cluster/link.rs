//! The three requests that we make of the API server, and nothing else of it: watch one node, patch it, and
//! create Events.

use super::seen::Seen;
use kube::{
    Client, Config,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::Mutex, time::timeout};
use tokio_stream::Stream;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// What changed the node, as `kubectl get node -o yaml --show-managed-fields` tells.
const MANAGER: &str = "mig-cdi-kubelet";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub message: String,
    /// What the API server answered; `None` when it did not.
    pub code: Option<u16>,
    /// How long it asked to be left alone.
    pub later: Option<Duration>,
}

impl Fault {
    fn new(message: String) -> Fault {
        Fault { message, code: None, later: None }
    }

    /// The version that was asked for is forgotten there.
    pub(crate) fn is_gone(&self) -> bool {
        self.code == Some(410)
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Fault {
        let status = match error {
            kube::Error::Api(status) => status,
            error => return Fault::new(chain(&error)),
        };
        let seconds = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        Fault {
            message: format!("{} ({})", status.message, status.code),
            code: Some(status.code),
            later: seconds.filter(|s| *s > 0).map(|s| Duration::from_secs(s.min(300))),
        }
    }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// The way to the API server.
pub(crate) struct Link {
    node: String,
    kubeconfig: Option<PathBuf>,
    /// Made at the first request. After a failure below HTTP it is made anew, with the certificates that are
    /// there then.
    client: Mutex<Option<Client>>,
}

impl Link {
    /// Asks nobody.
    pub(crate) fn new(node: String, kubeconfig: Option<PathBuf>) -> Link {
        Link { node, kubeconfig, client: Mutex::default() }
    }

    async fn client(&self) -> Result<Client, Fault> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let config = config(self.kubeconfig.as_deref()).await?;
        // Another one may have been chosen already: all that counts is that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(kept.insert(Client::try_from(config)?).clone())
    }

    async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Fault> {
        let done = match timeout(PATIENCE, request).await {
            Ok(done) => done.map_err(Fault::from),
            Err(_) => Err(Fault::new(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        if matches!(&done, Err(fault) if fault.code.is_none()) {
            *self.client.lock().await = None;
        }
        done
    }

    /// Metadata of the node, each time that something of it changes, from a version on; `0` is whatever the
    /// API server has in its cache, which costs its storage nothing.
    pub(crate) async fn watch(
        &self,
        version: &str,
        time: Duration,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Seen>, kube::Error>> + use<>, Fault> {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
        let what = WatchParams {
            field_selector: Some(format!("metadata.name={}", self.node)),
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new("/api/v1/nodes").watch_metadata(&what, version);
        let request = request.map_err(|e| Fault::new(chain(&e)))?;
        let client = self.client().await?;
        self.within(client.request_events::<Seen>(request)).await
    }

    /// Changes the node's metadata.
    pub(crate) async fn patch(&self, patch: &Value) -> Result<Seen, Fault> {
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = Request::new("/api/v1/nodes");
        let request = request.patch_metadata(&self.node, &how, &Patch::Merge(patch));
        let request = request.map_err(|e| Fault::new(chain(&e)))?;
        let client = self.client().await?;
        self.within(client.request::<Seen>(request)).await
    }

    /// Creates an Event. One that is there already was created by a request whose answer was lost.
    pub(crate) async fn post(&self, event: &Value) -> Result<(), Fault> {
        let request = Request::new("/api/v1/namespaces/default/events");
        let request = request.create(&PostParams::default(), event.to_string().into_bytes());
        let request = request.map_err(|e| Fault::new(chain(&e)))?;
        let client = self.client().await?;
        match self.within(client.request_text(request)).await {
            Err(fault) if fault.code == Some(409) => Ok(()),
            done => done.map(drop),
        }
    }
}

async fn config(kubeconfig: Option<&Path>) -> Result<Config, Fault> {
    let config = match kubeconfig {
        None => Config::incluster()
            .map_err(|e| Fault::new(format!("{}; give --kubeconfig outside a pod", chain(&e)))),
        Some(path) => {
            let fail = |e| Fault::new(format!("read {}: {}", path.display(), chain(&e)));
            let file = Kubeconfig::read_from(path).map_err(fail)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fail)
        }
    };
    let mut config = config?;
    config.connect_timeout = Some(Duration::from_secs(10));
    // Who tries again when is decided in one place.
    config.default_retry = false;
    Ok(config)
}
