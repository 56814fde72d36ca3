//! What watch says of itself: a file that `mig-cdi status` reads.

use super::driver_events::Hearing;
use crate::{
    Error, Result,
    refresh::{Mark, RefreshReport},
};
use mig_cdi_sys::{TrustedDir, read_regular};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const NAME: &str = "status.json";
const LIMIT: usize = 1 << 20;

/// How things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing has been looked at yet.
    #[default]
    Starting,
    /// The spec is true and whole.
    Ok,
    /// It is true, and something of the node could not be established and is left out.
    Incomplete,
    /// The last refresh failed: the spec is that of an earlier one, without devices that are gone.
    Failing,
    /// Watch was told to stop.
    Stopped,
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The name that says what it is.
    pub name: Option<String>,
    /// From NVML.
    pub uuid: Option<String>,
    /// From NVML.
    pub profile: Option<String>,
}

/// Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of mig-cdi.
    pub version: String,
    /// Of watch.
    pub pid: u32,
    /// When it began.
    pub started: f64,
    /// How things are.
    pub state: State,
    /// The file.
    pub spec: PathBuf,
    /// The last refresh.
    pub refreshed: Option<f64>,
    /// The last that did not fail.
    pub succeeded: Option<f64>,
    /// The last that changed a file.
    pub changed: Option<f64>,
    /// How long the last one took.
    pub seconds: f64,
    /// All refreshes.
    pub refreshes: u64,
    /// Those that changed a file.
    pub changes: u64,
    /// Those that failed.
    pub failures: u64,
    /// How often watch woke up.
    pub wakeups: u64,
    /// Of which GPUs the driver tells changes; absent where nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_events: Option<Hearing>,
    /// Of which GPUs it tells errors; absent where nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_errors: Option<Hearing>,
    /// The process that listens to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    /// How many it told of.
    #[serde(default)]
    pub told_changes: u64,
    /// The last failure, for as long as watch runs.
    pub error: Option<LastError>,
    /// What the last refresh that did not fail found.
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
    pub all_gpus: BTreeSet<String>,
    /// Directories of the driver files.
    pub file_dirs: Vec<PathBuf>,
    /// Specs as they were left.
    #[serde(rename = "marks")]
    pub spec_marks: Vec<Mark>,
}

impl From<RefreshReport> for NodeStatus {
    fn from(report: RefreshReport) -> NodeStatus {
        let RefreshReport { devices, omitted, mig_gpus, all_gpus, file_dirs, spec_marks, .. } =
            report;
        NodeStatus { devices, omitted, mig_gpus, all_gpus, file_dirs, spec_marks }
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub time: f64,
    /// Exit code of the refresh; none when it was killed.
    pub exit: Option<i32>,
    /// What it said.
    pub message: String,
}

impl Status {
    /// Of a watch that begins.
    pub fn new(spec: PathBuf) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: now(),
            spec,
            ..Status::default()
        }
    }

    /// How many MIG devices there are of each profile.
    pub fn profiles(&self) -> BTreeMap<&str, usize> {
        let mut profiles = BTreeMap::new();
        for slice in &self.node.devices {
            *profiles.entry(slice.profile.as_deref().unwrap_or("unknown")).or_default() += 1;
        }
        profiles
    }

    /// Leaves it for others to read.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed("write", "the status").because(e))?;
        TrustedDir::open_or_make(dir)?.replace(NAME, (text + "\n").as_bytes())?;
        Ok(())
    }

    /// What the last watch said, if there was one.
    pub fn read(dir: &Path) -> Result<Option<Status>> {
        let path = dir.join(NAME);
        let bytes = match read_regular(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::failed("read", path.display()).because(e).cure("start mig-cdi watch again")
        })
    }
}

/// The time of day.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
