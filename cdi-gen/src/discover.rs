//! Discovers a [`Topology`](mig_cdi_model::Topology) from the driver. Reads two views, `/proc` and NVML, and accepts a MIG
//! device when both agree on it.
//!
//! NVML names devices; `/proc` states which exist and with which numbers. A device on which they disagree is omitted
//! and reported, with both views. Nothing here changes the node.

mod abi;
mod discovery;
mod driver_file_table;
mod files;
mod listing;
mod missing_file;
mod nodes;
mod problem;
mod proc_view;
mod reconcile;
mod search_dirs;
mod topology_builder;

pub use discovery::Discovery;
pub use driver_file_table::{capabilities_of, is_for_graphics};
pub use files::{DriverFiles, find as find_files};
pub use missing_file::MissingFile;
pub use problem::{Problem, Reason};
pub use proc_view::capabilities_of_instances;

use crate::{Error, Result, ownership_cure};
use mig_cdi_sys::{Machine, nvml};
use serde::{Deserialize, Serialize};

/// Cure for a driver that is not loaded. A program whose command can simulate a node adds that.
pub const LOAD_DRIVER: &str = "run modprobe nvidia, and see dmesg if that fails";

/// Interface that MIG state is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// NVML and /proc, which must agree.
    Nvml,
    /// /proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance.
    Proc,
}

/// Discovers the GPUs and MIG devices of a machine.
///
/// # Errors
/// When no view can be read: no driver, a table of another form, NVML that does not start.
pub fn discover(machine: &dyn Machine, source: Source) -> Result<Discovery> {
    let first = read(machine, source)?;
    // MIG can change between the two readings: a disagreement counts when a second pair of readings has it too.
    let may_vanish = first.problems.iter().any(Problem::is_transient);
    if may_vanish { read(machine, source) } else { Ok(first) }
}

fn read(machine: &dyn Machine, source: Source) -> Result<Discovery> {
    let proc = proc_view::read(machine)?;
    let mut discovery = match source {
        Source::Proc => reconcile::from_proc_alone(&proc),
        Source::Nvml => reconcile::reconcile(&proc, &machine.nvml().map_err(optional_nvml_error)?)?,
    };
    nodes::inspect(machine, &mut discovery);
    Ok(discovery)
}

/// Adds the cure to an error of NVML, for commands that can do without it.
pub fn optional_nvml_error(failure: nvml::NvmlError) -> Error {
    use nvml::NvmlError::{NotLoaded, Untrusted, VersionMismatch};
    let no_driver = matches!(failure, NotLoaded { .. } | VersionMismatch { .. } | Untrusted { .. });
    let error = required_nvml_error(failure);
    let or = if no_driver { "" } else { ", or use --source proc" };
    Error { cure: error.cure.map(|cure| cure + or), ..error }
}

/// Adds the cure to an error of NVML, for commands that need it.
pub fn required_nvml_error(failure: nvml::NvmlError) -> Error {
    let cure = match failure {
        nvml::NvmlError::Untrusted { path, cause } => {
            return Error::refused("load", path).because(cause).with_cure(ownership_cure(
                "run chown root and chmod go-w on it, or reinstall the driver's libraries",
            ));
        }
        nvml::NvmlError::NoLibrary { .. } => {
            "install the driver's libnvidia-ml, or name its directory with --driver-root or --library-search-path"
        }
        nvml::NvmlError::Unusable { .. } => "use the driver's own library",
        nvml::NvmlError::NotLoaded { .. } => LOAD_DRIVER,
        nvml::NvmlError::VersionMismatch { .. } => {
            "finish the driver update: reboot, or unload and load the nvidia modules"
        }
        nvml::NvmlError::Call(_) => "see dmesg for the driver's own message",
    };
    Error::no_driver("query", "nvml")
        .with_cure(cure)
        .because_of(failure.without_cure(), failure.cure())
}
