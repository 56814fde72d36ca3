//! What runs for as long as there is a [`super::Cluster`]: the watch, the writer, and whoever sends Events.

use super::{
    Fault, Shared, Told,
    backoff::{about, jittered, part},
    lock,
};
use kube::api::WatchEvent;
use mig_cdi_model::Backoff;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt;

/// Whatever the API server has in its cache.
const CACHED: &str = "0";
/// A connection that is silent for so long is dead: bookmarks come every minute or so, and the kubelet
/// writes the status of its node every five minutes.
const SILENCE: Duration = Duration::from_secs(600);
/// A watch that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// How far the end of a watch may be from the end that was asked for.
const SLACK: Duration = Duration::from_secs(5);

/// Follows the node. Each request goes on where the last has ended.
pub(super) async fn watch(shared: Arc<Shared>) {
    let (first, limit) = shared.timing.retry;
    let (mut backoff, mut told) = (Backoff::new(first, limit), Told::default());
    let mut version = CACHED.to_owned();
    loop {
        let (begun, time) = (Instant::now(), about(shared.timing.watch));
        let ended = watch_once(&shared, &mut version, time, &mut told).await;
        let lasted = begun.elapsed();
        if lasted >= GOOD.min(shared.timing.watch) {
            backoff.reset();
        }
        let wait = match ended {
            Ok(()) if lasted + SLACK.min(time / 2) >= time => part(first / 20),
            // The API server ends all its watches when it goes: not all of them may come back at once.
            Ok(()) => jittered(&mut backoff, None),
            Err(fault) if fault.is_gone() => {
                CACHED.clone_into(&mut version);
                jittered(&mut backoff, fault.later)
            }
            Err(fault) => {
                told.fault(&shared, "watch node", &fault);
                jittered(&mut backoff, fault.later)
            }
        };
        sleep(wait).await;
    }
}

async fn watch_once(
    shared: &Shared,
    version: &mut String,
    time: Duration,
    told: &mut Told,
) -> Result<(), Fault> {
    let mut events = pin!(shared.link.watch(version, time).await?);
    told.well();
    let end = Instant::now() + time + SLACK;
    loop {
        let patience = end.min(Instant::now() + SILENCE);
        match timeout_at(patience, events.next()).await {
            Err(_) | Ok(None) => return Ok(()),
            Ok(Some(event)) => match event? {
                WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                    version.clone_from(&seen.metadata.resource_version);
                    shared.take(seen);
                }
                WatchEvent::Deleted(seen) => {
                    *version = seen.metadata.resource_version;
                    shared.lose();
                }
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    if shared.seen.borrow().is_none() {
                        let message = "the cluster has no such node; see --node-name".to_owned();
                        let fault = Fault { message, code: Some(404), later: None };
                        told.fault(shared, "watch node", &fault);
                    }
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            },
        }
    }
}

/// Writes what is wanted and is not so. Where somebody else writes something else over it again and again,
/// it is written less and less often.
pub(super) async fn write(shared: Arc<Shared>) {
    let (first, limit) = shared.timing.retry;
    let (mut backoff, mut told) = (Backoff::new(first, limit), Told::default());
    let (mut woken, mut seen) = (shared.woken.subscribe(), shared.seen.subscribe());
    let (mut gap, mut last) = (shared.timing.gap, 0);
    loop {
        let count = *woken.borrow_and_update();
        let now = seen.borrow_and_update().clone();
        let patch = now.and_then(|(seen, _)| lock(&shared.wanted).patch(&seen));
        let Some(patch) = patch else {
            // Both senders are in `shared`.
            tokio::select! { _ = woken.changed() => {}, _ = seen.changed() => {} }
            continue;
        };
        let wait = match shared.link.patch(&patch).await {
            Ok(seen) => {
                shared.take(seen);
                told.well();
                backoff.reset();
                gap = if last == count { (gap * 2).min(limit) } else { shared.timing.gap };
                last = count;
                gap
            }
            Err(fault) => {
                told.fault(&shared, "write labels of node", &fault);
                jittered(&mut backoff, fault.later)
            }
        };
        sleep(wait).await;
    }
}

/// Sends Events, one after the other.
pub(super) async fn post(shared: Arc<Shared>) {
    let (first, limit) = shared.timing.retry;
    let (mut backoff, mut told) = (Backoff::new(first, limit), Told::default());
    loop {
        let Some(note) = lock(&shared.notes).first() else {
            shared.noted.notified().await;
            continue;
        };
        let wait = match shared.link.post(&note.body(&shared.node)).await {
            Ok(()) => {
                told.well();
                backoff.reset();
                lock(&shared.notes).done(&note);
                shared.timing.gap
            }
            Err(fault) => {
                told.fault(&shared, "create an event of node", &fault);
                // An Event that is refused as it is would be refused again.
                if matches!(fault.code, Some(400 | 403 | 404 | 422)) {
                    lock(&shared.notes).done(&note);
                }
                jittered(&mut backoff, fault.later)
            }
        };
        sleep(wait).await;
    }
}
