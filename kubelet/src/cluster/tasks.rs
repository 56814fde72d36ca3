//! The three tasks of a [`super::Cluster`]: one watches the node, one writes its metadata, one sends Events.

use super::{
    backoff::{equal_jitter, full_jitter},
    state::{ClusterState, RetryState, lock},
};
use crate::error::ApiError;
use kube::api::WatchEvent;
use mig_cdi_model::Backoff;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt;

/// Version that stands for any that the API server has in its cache.
const CACHED: &str = "0";
/// Silence after which a connection counts as dead. The API server sends a bookmark about once a minute (k8s.io/apiserver,
/// `pkg/storage/cacher/cacher.go`, `defaultBookmarkFrequency`), and the kubelet writes the status of its node every five
/// minutes (`nodeStatusReportFrequency`).
const SILENCE: Duration = Duration::from_secs(600);
/// Length from which on a watch counts as a success.
const SUCCESS: Duration = Duration::from_secs(30);
/// Tolerance between the end of a watch and the end that was requested.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Watches the node. Each request continues where the last one ended.
pub(super) async fn watch(shared: Arc<ClusterState>) {
    let mut retry = RetryState::new("watch node", &shared.timing);
    let mut version = CACHED.to_owned();
    loop {
        let (begin, length) = (Instant::now(), equal_jitter(shared.timing.watch));
        let ended = watch_once(&shared, &mut version, length, &mut retry).await;
        let lasted = begin.elapsed();
        if lasted >= SUCCESS.min(shared.timing.watch) {
            retry.reset_waits();
        }
        let wait = match ended {
            Ok(()) if lasted + TOLERANCE.min(length / 2) >= length => {
                full_jitter(shared.timing.retry.first / 20)
            }
            // An API server that shuts down ends all its watches. The nodes must not come back all at once.
            Ok(()) => retry.wait(None),
            // The API server keeps a window of recent versions. What changed since is in the node itself.
            Err(error) if error.is_expired() => {
                CACHED.clone_into(&mut version);
                retry.wait(error.retry_after)
            }
            Err(error) => retry.failed(&shared, &error),
        };
        sleep(wait).await;
    }
}

async fn watch_once(
    shared: &ClusterState,
    version: &mut String,
    length: Duration,
    retry: &mut RetryState,
) -> Result<(), ApiError> {
    let mut events = pin!(shared.client.watch(version, length).await?);
    retry.answered();
    let end = Instant::now() + length + TOLERANCE;
    loop {
        let deadline = end.min(Instant::now() + SILENCE);
        match timeout_at(deadline, events.next()).await {
            Err(_) | Ok(None) => return Ok(()),
            Ok(Some(event)) => match event? {
                WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                    version.clone_from(&node.metadata.resource_version);
                    shared.store(node);
                }
                WatchEvent::Deleted(node) => {
                    *version = node.metadata.resource_version;
                    shared.delete();
                }
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    // A watch from version 0 begins with the node, if there is one; bookmarks come after that.
                    if shared.stored.borrow().is_none() {
                        let message = "the cluster has no such node; check --node-name".to_owned();
                        let error = ApiError { message, code: Some(404), retry_after: None };
                        retry.log(shared, &error);
                    }
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            },
        }
    }
}

/// Writes labels and annotations that differ from those desired. Where another writer overwrites them again and again,
/// they are written less and less often.
pub(super) async fn write(shared: Arc<ClusterState>) {
    let mut retry = RetryState::new("write labels of node", &shared.timing);
    let (mut changes, mut stored) = (shared.changes.subscribe(), shared.stored.subscribe());
    let mut intervals = Backoff::new(shared.timing.write_interval, shared.timing.retry.limit);
    let mut last = 0;
    loop {
        let count = *changes.borrow_and_update();
        let node = stored.borrow_and_update().clone();
        let patch = node.and_then(|node| lock(&shared.desired_metadata).patch(&node.object));
        let Some(patch) = patch else {
            // Neither ends with an error: both senders are in `shared`.
            tokio::select! { _ = changes.changed() => {}, _ = stored.changed() => {} }
            continue;
        };
        let wait = match shared.client.patch(&patch).await {
            Ok(node) => {
                shared.store(node);
                retry.answered();
                retry.reset_waits();
                // Without a change of ours since the last write, another writer has overwritten it.
                if last != count {
                    intervals.reset();
                }
                last = count;
                intervals.next_wait()
            }
            Err(error) => retry.failed(&shared, &error),
        };
        sleep(wait).await;
    }
}

/// Sends Events, one after the other.
pub(super) async fn post(shared: Arc<ClusterState>) {
    let mut retry = RetryState::new("create an event of node", &shared.timing);
    loop {
        let Some(event) = lock(&shared.events).first() else {
            shared.has_event.notified().await;
            continue;
        };
        let wait = match shared.client.post(&event.body(&shared.node)).await {
            Ok(()) => {
                retry.answered();
                retry.reset_waits();
                lock(&shared.events).remove(&event);
                shared.timing.write_interval
            }
            Err(error) => {
                // These answers are about the request itself: a second try would fail in the same way.
                if matches!(error.code, Some(400 | 403 | 404 | 422)) {
                    lock(&shared.events).remove(&event);
                }
                retry.failed(&shared, &error)
            }
        };
        sleep(wait).await;
    }
}
