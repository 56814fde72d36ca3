//! Discovers a [`Topology`] from the driver. Reads two views, `/proc` and NVML, and accepts a MIG device when both
//! agree on it.
//!
//! NVML names devices; `/proc` states which exist and with which numbers. A device on which they disagree is omitted
//! and reported, with both views. Nothing here changes the node.

mod driver_file_table;
mod files;
mod nodes;
mod proc_view;
mod reconcile;
mod topology_builder;

pub use driver_file_table::class_of;
pub use files::{DriverFiles, find as find_files};
pub use proc_view::capabilities_of_instances;

use crate::{Error, Result};
use mig_cdi_model::{Major, Topology};
use mig_cdi_sys::{Machine, nvml};
use serde::{Deserialize, Serialize};

/// Interface that MIG state is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// NVML and /proc, which must agree.
    Nvml,
    /// /proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance.
    Proc,
}

/// A device or file that was omitted, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Omitted device: `gpu 0 gi 7 ci 0`.
    pub subject: String,
    /// Cause and cure.
    pub reason: Reason,
    /// True when a change between the two readings may be the cause.
    is_transient: bool,
}

/// Cause of a problem, with the cure where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Cause: operation, path and what is wrong with it.
    pub cause: String,
    /// Command or step that cures it.
    pub cure: Option<&'static str>,
}

impl Reason {
    fn curable(cause: impl Into<String>, cure: &'static str) -> Reason {
        Reason { cause: cause.into(), cure: Some(cure) }
    }
}

impl From<String> for Reason {
    fn from(cause: String) -> Reason {
        Reason { cause, cure: None }
    }
}

impl From<&str> for Reason {
    fn from(cause: &str) -> Reason {
        cause.to_owned().into()
    }
}

impl From<&Reason> for Reason {
    fn from(reason: &Reason) -> Reason {
        reason.clone()
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Reason { cause, cure } = self;
        match cure {
            Some(cure) => write!(f, "{cause}; {cure}"),
            None => f.write_str(cause),
        }
    }
}

impl Problem {
    pub(crate) fn new(subject: impl Into<String>, reason: impl Into<Reason>) -> Problem {
        Problem { subject: subject.into(), reason: reason.into(), is_transient: false }
    }

    /// A problem that may vanish when both views are read again.
    fn transient(subject: impl Into<String>, reason: impl Into<Reason>) -> Problem {
        Problem { is_transient: true, ..Problem::new(subject, reason) }
    }

    /// A difference between the two views.
    fn disagreement(subject: impl Into<String>, cause: impl Into<String>) -> Problem {
        let cure = "run it again once no mig change is under way, and see dmesg";
        Problem::transient(subject, Reason::curable(cause, cure))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}

/// Result of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The confirmed GPUs and MIG devices.
    pub topology: Topology,
    /// Omitted GPUs and MIG devices.
    pub problems: Vec<Problem>,
    /// Path of the NVML library, where NVML was read.
    pub library: Option<String>,
    /// Content of `/proc/driver/nvidia/params` with `ModifyDeviceFiles` set to 0.
    pub masked_params: Option<String>,
    /// Major number of capability nodes. A driver without MIG support may have none.
    pub caps: Option<Major>,
}

/// Discovers the GPUs and MIG devices of a machine.
///
/// # Errors
/// When no view can be read: no driver, a table of another form, NVML that does not start.
pub fn discover(machine: &dyn Machine, source: Source) -> Result<Discovery> {
    let first = read(machine, source)?;
    // MIG can change between the two readings: a disagreement counts when a second pair of readings has it too.
    let may_vanish = first.problems.iter().any(|problem| problem.is_transient);
    if may_vanish { read(machine, source) } else { Ok(first) }
}

fn read(machine: &dyn Machine, source: Source) -> Result<Discovery> {
    let proc = proc_view::read(machine)?;
    let mut discovery = match source {
        Source::Proc => reconcile::from_proc_alone(&proc),
        Source::Nvml => reconcile::reconcile(&proc, &machine.nvml().map_err(explain)?)?,
    };
    nodes::inspect(machine, &mut discovery);
    Ok(discovery)
}

/// Adds the cure to an error of NVML, for commands that can do without it.
pub fn explain(failure: nvml::NvmlError) -> Error {
    use nvml::NvmlError::{NotLoaded, VersionMismatch};
    let no_driver = matches!(failure, NotLoaded { .. } | VersionMismatch { .. });
    let error = without_nvml(failure);
    let or = if no_driver { "" } else { ", or use --source proc" };
    Error { cure: error.cure.map(|cure| cure + or), ..error }
}

/// Adds the cure to an error of NVML, for commands that need it.
pub fn without_nvml(failure: nvml::NvmlError) -> Error {
    let cure = match failure {
        nvml::NvmlError::NoLibrary { .. } => {
            "install the driver's libnvidia-ml, or name its place with --driver-root or --library-search-path"
        }
        nvml::NvmlError::Unusable { .. } => "use the driver's own library",
        nvml::NvmlError::NotLoaded { .. } => {
            "run modprobe nvidia, and see dmesg when that fails; --node simulates a machine without one"
        }
        nvml::NvmlError::VersionMismatch { .. } => {
            "a driver update is half done: reboot, or unload and load the nvidia modules"
        }
        nvml::NvmlError::Call(_) => "see dmesg for the driver's own message",
    };
    Error::no_driver("ask", "nvml").because(failure).cure(cure)
}
