//! The three tasks of a [`super::Cluster`]: one watches the node, one writes its metadata, one sends Events.

use super::{
    ApiError, FailureLog, Shared,
    backoff::{about, jittered, part},
    lock,
};
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
pub(super) async fn watch(shared: Arc<Shared>) {
    let retry = shared.timing.retry;
    let (mut backoff, mut failures) =
        (Backoff::new(retry.first, retry.limit), FailureLog::default());
    let mut version = CACHED.to_owned();
    loop {
        let (begin, length) = (Instant::now(), about(shared.timing.watch));
        let ended = watch_once(&shared, &mut version, length, &mut failures).await;
        let lasted = begin.elapsed();
        if lasted >= SUCCESS.min(shared.timing.watch) {
            backoff.reset();
        }
        let wait = match ended {
            Ok(()) if lasted + TOLERANCE.min(length / 2) >= length => part(retry.first / 20),
            // An API server that shuts down ends all its watches. The nodes must not come back all at once.
            Ok(()) => jittered(&mut backoff, None),
            // The API server keeps a window of recent versions. What changed since is in the node itself.
            Err(error) if error.is_expired() => {
                CACHED.clone_into(&mut version);
                jittered(&mut backoff, error.retry_after)
            }
            Err(error) => {
                failures.failed(&shared, "watch node", &error);
                jittered(&mut backoff, error.retry_after)
            }
        };
        sleep(wait).await;
    }
}

async fn watch_once(
    shared: &Shared,
    version: &mut String,
    length: Duration,
    failures: &mut FailureLog,
) -> Result<(), ApiError> {
    let mut events = pin!(shared.client.watch(version, length).await?);
    failures.succeeded();
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
                    if shared.object.borrow().is_none() {
                        let message = "the cluster has no such node; check --node-name".to_owned();
                        let error = ApiError { message, code: Some(404), retry_after: None };
                        failures.failed(shared, "watch node", &error);
                    }
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            },
        }
    }
}

/// Writes labels and annotations that differ from those desired. Where another writer overwrites them again and again,
/// they are written less and less often.
pub(super) async fn write(shared: Arc<Shared>) {
    let retry = shared.timing.retry;
    let (mut backoff, mut failures) =
        (Backoff::new(retry.first, retry.limit), FailureLog::default());
    let (mut changes, mut object) = (shared.changes.subscribe(), shared.object.subscribe());
    let (mut interval, mut last) = (shared.timing.write_interval, 0);
    loop {
        let count = *changes.borrow_and_update();
        let current = object.borrow_and_update().clone();
        let patch = current.and_then(|(node, _)| lock(&shared.desired_metadata).patch(&node));
        let Some(patch) = patch else {
            // Neither ends with an error: both senders are in `shared`.
            tokio::select! { _ = changes.changed() => {}, _ = object.changed() => {} }
            continue;
        };
        let wait = match shared.client.patch(&patch).await {
            Ok(node) => {
                shared.store(node);
                failures.succeeded();
                backoff.reset();
                let is_overwritten = last == count;
                interval = match is_overwritten {
                    true => (interval * 2).min(retry.limit),
                    false => shared.timing.write_interval,
                };
                last = count;
                interval
            }
            Err(error) => {
                failures.failed(&shared, "write labels of node", &error);
                jittered(&mut backoff, error.retry_after)
            }
        };
        sleep(wait).await;
    }
}

/// Sends Events, one after the other.
pub(super) async fn post(shared: Arc<Shared>) {
    let retry = shared.timing.retry;
    let (mut backoff, mut failures) =
        (Backoff::new(retry.first, retry.limit), FailureLog::default());
    loop {
        let Some(event) = lock(&shared.events).first() else {
            shared.has_event.notified().await;
            continue;
        };
        let wait = match shared.client.post(&event.body(&shared.node)).await {
            Ok(()) => {
                failures.succeeded();
                backoff.reset();
                lock(&shared.events).remove(&event);
                shared.timing.write_interval
            }
            Err(error) => {
                failures.failed(&shared, "create an event of node", &error);
                // These answers are about the request itself: a second try would fail in the same way.
                if matches!(error.code, Some(400 | 403 | 404 | 422)) {
                    lock(&shared.events).remove(&event);
                }
                jittered(&mut backoff, error.retry_after)
            }
        };
        sleep(wait).await;
    }
}
