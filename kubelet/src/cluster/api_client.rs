//! Client of the API server, for three requests and no other: watch one node, patch it, and create Events.

use super::node_metadata::NodeObject;
use kube::{
    Client, Config,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::Mutex, time::timeout};
use tokio_stream::Stream;

/// Longest time for one request, and for the beginning of a watch.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Name of the program in the managed fields of the node, as `kubectl get node -o yaml --show-managed-fields` shows.
const FIELD_MANAGER: &str = "mig-cdi-kubelet";
/// Largest `Retry-After` that is obeyed.
const RETRY_AFTER_LIMIT: u64 = 300;

/// Reason why a request to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Message of the API server, or of what kept the request from it.
    pub message: String,
    /// HTTP status code of the answer; `None` when there was no answer.
    pub code: Option<u16>,
    /// Time after which the API server asks for the next try.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    fn new(message: String) -> ApiError {
        ApiError { message, code: None, retry_after: None }
    }

    /// Returns true when the API server no longer has the version from which a watch was to continue.
    pub(crate) fn is_expired(&self) -> bool {
        self.code == Some(410)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> ApiError {
        let status = match error {
            kube::Error::Api(status) => status,
            error => return ApiError::new(chain(&error)),
        };
        let seconds = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        let seconds = seconds.filter(|seconds| *seconds > 0);
        ApiError {
            message: format!("{} ({})", status.message, status.code),
            code: Some(status.code),
            retry_after: seconds.map(|s| Duration::from_secs(s.min(RETRY_AFTER_LIMIT))),
        }
    }
}

/// Message of an error with those of its sources, each once: some of kube's errors print their source themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        source = next.source();
    }
    text
}

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
            Err(_) => Err(ApiError::new(format!("no answer within {} s", TIMEOUT.as_secs()))),
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
        let request = request.map_err(|e| ApiError::new(chain(&e)))?;
        let client = self.client().await?;
        self.send(client.request_events::<NodeObject>(request)).await
    }

    /// Changes the node's metadata by a merge patch.
    pub(crate) async fn patch(&self, patch: &Value) -> Result<NodeObject, ApiError> {
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let parameters = PatchParams { field_manager, ..PatchParams::default() };
        let request = Request::new("/api/v1/nodes");
        let request = request.patch_metadata(&self.node, &parameters, &Patch::Merge(patch));
        let request = request.map_err(|e| ApiError::new(chain(&e)))?;
        let client = self.client().await?;
        self.send(client.request::<NodeObject>(request)).await
    }

    /// Creates an Event.
    pub(crate) async fn post(&self, event: &Value) -> Result<(), ApiError> {
        let request = Request::new("/api/v1/namespaces/default/events");
        let request = request.create(&PostParams::default(), event.to_string().into_bytes());
        let request = request.map_err(|e| ApiError::new(chain(&e)))?;
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
            ApiError::new(format!("{}; set --kubeconfig when running outside a pod", chain(&e)))
        }),
        Some(path) => {
            let fail = |e| ApiError::new(format!("read {}: {}", path.display(), chain(&e)));
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
