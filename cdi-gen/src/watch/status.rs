//! Status of the watch: the file `status.json`, which `mig-cdi status` and the doctor read. `status --json` prints it as it is,
//! so its keys are public: those that differ from the names of the fields are kept for scripts.

use crate::{
    Error, Result,
    refresh::{GpuInMode, RefreshReport, Slice},
};
use mig_cdi_sys::{
    FileStamp, LifeLock, TrustedDir, is_life_lock_held, nvml::EventCoverage, read_regular,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const NAME: &str = "status.json";
/// File beside it that the watch keeps locked while it runs.
const LOCK: &str = "watch.lock";
/// Far above the size of the largest node's status, in bytes.
const LIMIT: usize = 1 << 20;

/// State of the watch and its specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchState {
    /// No refresh has ended yet.
    #[default]
    Starting,
    /// The specs are current and complete.
    Ok,
    /// The specs are current, and something that could not be confirmed is omitted.
    Incomplete,
    /// The last refresh failed: the specs are those of an earlier one, without devices that are gone.
    Failing,
    /// The watch was stopped by a signal.
    Stopped,
}

/// Content of `status.json`. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of mig-cdi that runs the watch.
    pub version: String,
    /// Process id of the watch.
    pub pid: u32,
    /// Time at which the watch was started.
    pub started: f64,
    /// State of the watch and its specs.
    pub state: WatchState,
    /// Path of the spec of the MIG devices.
    pub spec: PathBuf,
    /// Time of the last refresh.
    pub refreshed: Option<f64>,
    /// Time of the last refresh that did not fail.
    pub succeeded: Option<f64>,
    /// Time of the last refresh that changed a spec.
    pub changed: Option<f64>,
    /// Duration of the last refresh, in seconds.
    pub seconds: f64,
    /// Number of refreshes.
    pub refreshes: u64,
    /// Number of refreshes that changed a spec.
    pub changes: u64,
    /// Number of refreshes that failed.
    pub failures: u64,
    /// Number of times that the watch woke up.
    pub wakeups: u64,
    /// GPUs whose changes the driver reports; absent when its events are not subscribed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_events: Option<EventCoverage>,
    /// GPUs whose critical errors the driver reports; absent when they are not subscribed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_errors: Option<EventCoverage>,
    /// Process id of the listener, which holds NVML open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    /// Number of driver events that reported changed MIG instances.
    #[serde(rename = "told_changes", default)]
    pub change_events: u64,
    /// The last failure since the watch was started.
    pub error: Option<LastError>,
    /// The node at the last refresh that did not fail.
    #[serde(flatten)]
    pub node: NodeStatus,
}

/// The node at the last refresh that did not fail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// MIG devices of the node.
    pub devices: Vec<Slice>,
    /// Number of things that could not be confirmed and are omitted.
    #[serde(rename = "left_out")]
    pub omitted: usize,
    /// UUIDs of the GPUs in MIG mode.
    #[serde(rename = "divided", default)]
    pub mig_gpus: BTreeSet<String>,
    /// All GPUs by UUID, each followed by ` mig` when it is in MIG mode. Empty unless the watch reports errors.
    #[serde(rename = "gpus", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub all_gpus: BTreeSet<GpuInMode>,
    /// Directories of the driver files.
    pub file_dirs: Vec<PathBuf>,
    /// Stamps of the specs after that refresh.
    #[serde(rename = "marks")]
    pub spec_stamps: Vec<Option<FileStamp>>,
}

impl From<RefreshReport> for NodeStatus {
    fn from(report: RefreshReport) -> NodeStatus {
        let RefreshReport { devices, omitted, mig_gpus, all_gpus, file_dirs, spec_stamps, .. } =
            report;
        NodeStatus { devices, omitted, mig_gpus, all_gpus, file_dirs, spec_stamps }
    }
}

/// A refresh that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// Time at which it ended.
    pub time: f64,
    /// Exit code of the refresh; `None` when it was killed.
    pub exit: Option<i32>,
    /// Message of the error, on one line.
    pub message: String,
}

impl Status {
    /// Status of a watch that starts now.
    #[must_use]
    pub fn new(spec: PathBuf) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: now(),
            spec,
            ..Status::default()
        }
    }

    /// True while the watch that wrote this runs, by its lock in the directory of the status. A watch that was killed leaves
    /// its last state behind, and its process id is soon another process's.
    #[must_use]
    pub fn is_running(&self, dir: &Path) -> bool {
        self.state != WatchState::Stopped && is_life_lock_held(&dir.join(LOCK))
    }

    /// Number of MIG devices of each profile.
    #[must_use]
    pub fn profiles(&self) -> BTreeMap<&str, usize> {
        let mut profiles = BTreeMap::new();
        for slice in &self.node.devices {
            *profiles.entry(slice.profile.as_deref().unwrap_or("unknown")).or_default() += 1;
        }
        profiles
    }

    /// Writes `status.json`, whole or not at all. The lock is taken first, unless the watch holds it: someone may have
    /// emptied the directory.
    ///
    /// # Errors
    /// When the directory cannot be made, is not root's alone, or cannot be written.
    pub(super) fn write(&self, dir: &Path, lock: &mut Option<LifeLock>) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed("write", "the status").because(e))?;
        let dir = TrustedDir::open_or_make(dir)?;
        if !lock.as_ref().is_some_and(LifeLock::is_in_place) {
            *lock = Some(LifeLock::take(&dir, LOCK)?);
        }
        dir.replace(NAME, (text + "\n").as_bytes())?;
        Ok(())
    }

    /// Reads `status.json` of the watch that runs or ran last; `None` when there was none.
    ///
    /// # Errors
    /// When the file cannot be read or has another form.
    pub fn read(dir: &Path) -> Result<Option<Status>> {
        let path = dir.join(NAME);
        // Regular files alone: a pipe in its place would hang the reader.
        let bytes = match read_regular(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::failed("read", path.display()).because(e).with_cure("start mig-cdi watch again")
        })
    }
}

/// Current time, in seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
