//! From the driver to a [`Topology`]: two views are read, `/proc` and NVML, and a MIG device is
//! believed when both agree on it.
//!
//! NVML names devices, `/proc` says which exist and with which numbers. What they disagree on is
//! left out and said, with both views.

mod agree;
mod assemble;
mod files;
mod nodes;
mod proc_view;
mod table;

pub use files::{DriverFiles, find as find_files};
pub use proc_view::capabilities_of_instances;
pub use table::class_of;

use crate::Failure;
use mig_cdi_model::{Major, Topology};
use mig_cdi_sys::{Machine, nvml};
use serde::{Deserialize, Serialize};

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// NVML and /proc, which must agree.
    Nvml,
    /// /proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance.
    Proc,
}

/// Something that could not be established, and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is left out: `gpu 0 gi 7 ci 0`.
    pub subject: String,
    /// Why, with the cure where there is one.
    pub reason: String,
    /// The two views may only have been read at two moments.
    transient: bool,
}

impl Problem {
    pub(crate) fn new(subject: impl Into<String>, reason: impl Into<String>) -> Problem {
        Problem { subject: subject.into(), reason: reason.into(), transient: false }
    }

    /// Something that a second look may see otherwise.
    fn transient(subject: impl Into<String>, reason: impl Into<String>) -> Problem {
        Problem { transient: true, ..Problem::new(subject, reason) }
    }

    /// The two views differ, and did so again at a second look.
    fn disagreement(subject: impl Into<String>, reason: impl std::fmt::Display) -> Problem {
        let cure = "run it again once no mig change is under way, and see dmesg";
        Problem::transient(subject, format!("{reason}; {cure}"))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}

/// What was found, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The GPUs and MIG devices that are certain.
    pub topology: Topology,
    /// What is missing from it.
    pub problems: Vec<Problem>,
    /// The library of NVML that was asked, if any.
    pub library: Option<String>,
    /// `/proc/driver/nvidia/params` with the making of device nodes switched off.
    pub masked_params: Option<String>,
    /// The major of capability nodes. A driver that cannot divide any GPU may have none.
    pub caps: Option<Major>,
}

/// Asks a machine.
///
/// MIG can change between the two readings; a disagreement is read again once before it is believed.
///
/// # Errors
/// When nothing at all can be said: no driver, an unreadable table, NVML that does not start.
pub fn discover(machine: &dyn Machine, source: Source) -> Result<Discovery, Failure> {
    let first = read(machine, source)?;
    let moved = first.problems.iter().any(|problem| problem.transient);
    if moved { read(machine, source) } else { Ok(first) }
}

fn read(machine: &dyn Machine, source: Source) -> Result<Discovery, Failure> {
    let proc = proc_view::read(machine)?;
    let mut discovery = match source {
        Source::Proc => agree::proc_alone(&proc),
        Source::Nvml => agree::agree(&proc, &machine.nvml().map_err(explain)?)?,
    };
    nodes::look(machine, &mut discovery);
    Ok(discovery)
}

/// The cure for an NVML that cannot be asked.
pub fn explain(failure: nvml::NvmlError) -> Failure {
    use nvml::NvmlError::{NotLoaded, VersionMismatch};
    let no_driver = matches!(failure, NotLoaded { .. } | VersionMismatch { .. });
    let error = without_nvml(failure);
    let or = if no_driver { "" } else { ", or use --source proc" };
    Failure { cure: error.cure.map(|cure| cure + or), ..error }
}

/// The same for what nobody but NVML can do.
pub fn without_nvml(failure: nvml::NvmlError) -> Failure {
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
    Failure::no_driver("ask", "nvml").because(failure).cure(cure)
}
