//! Options of a spec.

use crate::discover::Source;
use mig_cdi_model::{
    NameStyle,
    cdi::{Kind, Version},
};
use serde::{Deserialize, Serialize};

/// Content of a spec, as the user chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecOptions {
    /// Kind of the spec.
    #[serde(with = "crate::as_text")]
    pub kind: Kind,
    /// Styles of device names. A device has one entry for each style in which it can be named.
    pub names: Vec<NameStyle>,
    /// View that the topology comes from; `/proc` alone gives other names.
    pub source: Source,
    /// Directories in which the loader of a container searches libraries without a cache.
    pub library_dirs: Vec<String>,
    /// Path of a file to bind over `/proc/driver/nvidia/params`.
    pub params_file: Option<String>,
    /// Adds DRI nodes to whole GPUs.
    pub wants_graphics: bool,
    /// Administrative capabilities to add as devices.
    pub admin: Vec<Admin>,
    /// Sets `CUDA_VISIBLE_DEVICES`.
    pub sets_cuda_env: bool,
    /// Adds facts about each device for readers of the spec.
    pub wants_annotations: bool,
    /// Hook that verifies a slice when a container starts.
    pub verify: Option<VerifyHook>,
    /// Path of the program that makes the loader's cache of a container know the driver's libraries.
    pub ldcache: Option<String>,
    /// Highest CDI version that the spec may need.
    #[serde(with = "crate::as_text")]
    pub max_version: Version,
    /// Engine that accepts no higher version, unless the user chose the version.
    pub limited_by: Option<String>,
}

impl SpecOptions {
    /// The kind of whole GPUs: `nvidia.com/gpu` beside `nvidia.com/mig`.
    #[must_use]
    pub fn gpu_kind(&self) -> Kind {
        self.kind.with_class_gpu()
    }
}

/// Hook that compares a slice with the driver's state when a container starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyHook {
    /// Path of the program.
    pub path: String,
    /// Options before the slices.
    pub options: Vec<String>,
    /// Time limit in seconds.
    pub timeout: u32,
}

/// Capability that lets a container act on every slice of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admin {
    /// Create and destroy GPU instances and compute instances.
    Config,
    /// See processes, memory and events of all instances.
    Monitor,
}

impl Admin {
    /// Name of the device in a spec, and of the file in the capability tree.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Admin::Config => "config",
            Admin::Monitor => "monitor",
        }
    }
}
