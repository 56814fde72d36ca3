//! Options of a change, and of the search for holders.

use crate::in_use::InUse;
use mig_cdi_gen::generate::GenerateOptions;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Places where holders of slices are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderOptions {
    /// Directory that stands for `/` when `/proc` is read.
    pub host_root: PathBuf,
    /// Slices that the caller declares in use.
    #[serde(default)]
    pub in_use: Vec<InUse>,
    /// Directory of the watch's state; `leases` in it holds the leases.
    pub state_dir: PathBuf,
    /// Whether every slice counts as in use where only the processes of a PID namespace can be seen.
    #[serde(default)]
    pub must_see_machine: bool,
}

impl HolderOptions {
    /// Directory of the leases.
    #[must_use]
    pub fn leases_dir(&self) -> PathBuf {
        self.state_dir.join("leases")
    }
}

/// Options of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyOptions {
    /// Places where holders are recorded.
    pub holders: HolderOptions,
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// Longest wait for the holders of a slice that has to be destroyed. Nothing is stopped: they have to release it themselves.
    pub wait: Duration,
    /// Options of the spec that is written after the change; with `None` the spec and the device nodes stay as they are.
    pub refresh: Option<GenerateOptions>,
}
