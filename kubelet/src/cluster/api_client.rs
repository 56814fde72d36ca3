//! Client of the API server, for three requests and no other: watch one node, patch it, and create Events.

use super::node_metadata::NodeObject;
use crate::error::{ApiError, chain};
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

/// Longest time for one request, and for the beginning of a watch.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Name of the program in the managed fields of the node, as `kubectl get node -o yaml --show-managed-fields` shows.
const FIELD_MANAGER: &str = "mig-cdi-kubelet";

/// Client of the API server.
pub(crate) struct ApiClient {
    node: String,
    kubeconfig: Option<PathBuf>,
    /// Made by the first request. After a failure without an answer it is made again, from the certificates, the token
    /// and the address that the files have then.
    client: Mutex<Option<Client>>,
}

impl ApiClient {
    /// Sends nothing yet.
    pub(crate) fn new(node: String, kubeconfig: Option<PathBuf>) -> ApiClient {
        ApiClient { node, kubeconfig, client: Mutex::default() }
    }

    async fn client(&self) -> Result<Client, ApiError> {
        let mut stored = self.client.lock().await;
        if let Some(client) = &*stored {
            return Ok(client.clone());
        }
        let config = config(self.kubeconfig.as_deref()).await?;
        // Fails when a provider is installed already, which is as good: rustls only needs to have one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(stored.insert(Client::try_from(config)?).clone())
    }

    async fn send<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ApiError> {
        let answer = match timeout(TIMEOUT, request).await {
            Ok(answer) => answer.map_err(ApiError::from),
            Err(_) => {
                Err(ApiError::unanswered(format!("no answer within {} s", TIMEOUT.as_secs())))
            }
        };
        if matches!(&answer, Err(error) if error.code.is_none()) {
            *self.client.lock().await = None;
        }
        answer
    }

    /// Watches the metadata of the node, from a version on, for `length`. The version `0` stands for any that the API
    /// server has in its cache: such a watch reads nothing from etcd (Kubernetes API Concepts, "Resource versions").
    pub(crate) async fn watch(
        &self,
        version: &str,
        length: Duration,
    ) -> Result<impl Stream<Item = Result<WatchEvent<NodeObject>, kube::Error>> + use<>, ApiError>
    {
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX).max(1);
        let parameters = WatchParams {
            field_selector: Some(format!("metadata.name={}", self.node)),
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new("/api/v1/nodes").watch_metadata(&parameters, version);
        let request = request.map_err(|e| ApiError::unanswered(chain(&e)))?;
        let client = self.client().await?;
        self.send(client.request_events::<NodeObject>(request)).await
    }

    /// Changes the node's metadata by a merge patch.
    pub(crate) async fn patch(&self, patch: &Value) -> Result<NodeObject, ApiError> {
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let parameters = PatchParams { field_manager, ..PatchParams::default() };
        let request = Request::new("/api/v1/nodes");
        let request = request.patch_metadata(&self.node, &parameters, &Patch::Merge(patch));
        let request = request.map_err(|e| ApiError::unanswered(chain(&e)))?;
        let client = self.client().await?;
        self.send(client.request::<NodeObject>(request)).await
    }

    /// Creates an Event.
    pub(crate) async fn post(&self, event: &Value) -> Result<(), ApiError> {
        let request = Request::new("/api/v1/namespaces/default/events");
        let request = request.create(&PostParams::default(), event.to_string().into_bytes());
        let request = request.map_err(|e| ApiError::unanswered(chain(&e)))?;
        let client = self.client().await?;
        match self.send(client.request_text(request)).await {
            // Its random name exists already: an earlier try created it, and the answer was lost.
            Err(error) if error.code == Some(409) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

async fn config(kubeconfig: Option<&Path>) -> Result<Config, ApiError> {
    let config = match kubeconfig {
        None => Config::incluster().map_err(|e| {
            ApiError::unanswered(format!(
                "{}; set --kubeconfig when running outside a pod",
                chain(&e)
            ))
        }),
        Some(path) => {
            let fail = |e| ApiError::unanswered(format!("read {}: {}", path.display(), chain(&e)));
            let file = Kubeconfig::read_from(path).map_err(fail)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fail)
        }
    };
    let mut config = config?;
    config.connect_timeout = Some(Duration::from_secs(10));
    // `tasks` retries, with delays that fit many nodes; kube's own retries would add to them.
    config.default_retry = false;
    Ok(config)
}
