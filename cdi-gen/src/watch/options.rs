//! Options of the watch, and the events that it hands to the program that it is a part of.

use crate::{
    NodeSource, Result,
    generate::{GenerateOptions, SpecTargets, spec_targets},
    inventory::Inventory,
};
use mig_cdi_sys::nvml::Xid;
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// An event of the watch, for the program that it is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The watch has begun: from now on it handles SIGTERM, SIGINT and SIGHUP.
    Started,
    /// The specs are current, and these are the slices that they define.
    Refreshed(Inventory),
    /// MIG state could not be read, or no slice could be confirmed.
    Failed {
        /// Cause, on one line.
        cause: String,
        /// CDI names that the specs on disk still define. As far as `/proc` shows, their devices have not changed.
        still_defined: BTreeSet<String>,
    },
    /// A GPU has an error that the driver calls critical. Sent at once, and only with [`WatchOptions::wants_error_events`]. The
    /// next refresh reads the node after it.
    Xid(Xid),
    /// SIGHUP: errors that devices had may be forgotten. The next refresh reads the node after it.
    Reload,
}

/// Options of the watch that last as long as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Directory of `status.json`.
    pub state_dir: PathBuf,
    /// File of metrics for Prometheus' node exporter.
    pub metrics_file: Option<PathBuf>,
    /// Whether the host's device nodes are repaired too. Only root can.
    pub repair_nodes: bool,
    /// Time between two polls of the driver's capability tree.
    pub interval: Duration,
    /// Time after which a refresh is due although nothing seems to have changed.
    pub resync: Duration,
    /// Whether the driver's critical errors (XIDs) are reported, of every GPU.
    pub wants_error_events: bool,
    /// Whether refreshes report an [`Inventory`].
    pub wants_inventory: bool,
}

/// Settings of the watch that a reload may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSetup {
    /// Node that is watched.
    pub node: NodeSource,
    /// Options of the specs.
    pub generate: GenerateOptions,
    /// Whether the driver's events of MIG changes are subscribed to.
    pub wants_driver_events: bool,
}

impl WatchSetup {
    pub(super) fn targets(&self) -> Result<SpecTargets> {
        spec_targets(&self.generate, "watch")
    }
}
