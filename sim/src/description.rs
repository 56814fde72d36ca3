//! The TOML format of a node description. `docs/node-description.md` is its reference.

use crate::{DescriptionPart, Error};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// A node description file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Description {
    /// Free text.
    #[serde(default)]
    pub description: String,
    #[serde(default = "default_driver")]
    pub driver: String,
    /// Product name of the machine, as its DMI tables have it.
    pub machine: Option<String>,
    #[serde(default)]
    pub majors: MajorNumbers,
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<GpuDescription>,
    #[serde(default)]
    pub faults: Faults,
}

fn default_driver() -> String {
    "580.105.08".to_owned()
}

/// Major numbers as `/proc/devices` lists them; 0 for a driver that is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct MajorNumbers {
    /// `nvidia`: GPUs and nvidiactl.
    pub nvidia: u32,
    /// `nvidia-caps`: capability nodes.
    pub nvidia_caps: u32,
    /// `nvidia-uvm`: unified memory.
    pub nvidia_uvm: u32,
    /// `drm`: DRI nodes.
    pub drm: u32,
}

impl Default for MajorNumbers {
    /// 195 (nvidia) and 226 (drm) are fixed in the kernel's `devices.txt`. The others are free numbers
    /// that the kernel assigns when the module is loaded (`alloc_chrdev_region`, `nv-caps.c:823-826`):
    /// 508 and 511 are samples.
    fn default() -> Self {
        MajorNumbers { nvidia: 195, nvidia_caps: 508, nvidia_uvm: 511, drm: 226 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct GpuDescription {
    pub model: String,
    pub minor: Option<u32>,
    pub pci: Option<String>,
    pub uuid: Option<String>,
    pub numa: Option<u32>,
    #[serde(default = "yes")]
    pub mig: bool,
    #[serde(rename = "mig-pending")]
    pub mig_pending: Option<bool>,
    #[serde(default)]
    pub lost: bool,
    #[serde(default)]
    pub drained: bool,
    #[serde(default)]
    pub held: bool,
    pub dri: Option<Dri>,
    #[serde(default)]
    pub instances: Vec<InstanceDescription>,
    #[serde(default)]
    pub processes: Vec<ProcessDescription>,
}

fn yes() -> bool {
    true
}

/// Minor numbers of a GPU's DRI nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Dri {
    /// `/dev/dri/cardN`.
    pub card: u32,
    /// `/dev/dri/renderDN`.
    pub render: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct InstanceDescription {
    pub profile: String,
    pub start: Option<u32>,
    pub id: Option<u32>,
    pub compute: Option<Vec<ComputeDescription>>,
}

/// A compute instance: `"1c"`, `"1c@2"`, or a table of these keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeDescription {
    pub profile: String,
    pub start: Option<u32>,
    pub id: Option<u32>,
}

impl<'de> Deserialize<'de> for ComputeDescription {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ComputeVisitor)
    }
}

/// Parses the two forms by hand: the error of an untagged enum would not name the wrong key.
struct ComputeVisitor;

impl<'de> Visitor<'de> for ComputeVisitor {
    type Value = ComputeDescription;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compute instance such as \"1c\", \"1c@2\" or { profile = \"1c\", start = 2, id = 0 }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ComputeDescription, E> {
        let Some((profile, start)) = text.split_once('@') else {
            return Ok(ComputeDescription { profile: text.to_owned(), start: None, id: None });
        };
        let start =
            start.parse().map_err(|_| E::custom(format!("no slice after the @ of {text:?}")))?;
        Ok(ComputeDescription { profile: profile.to_owned(), start: Some(start), id: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ComputeDescription, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "a table")]
        struct Table {
            profile: String,
            start: Option<u32>,
            id: Option<u32>,
        }
        let Table { profile, start, id } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ComputeDescription { profile, start, id })
    }
}

/// A process that NVML reports on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ProcessDescription {
    /// Process id.
    pub pid: u32,
    /// GPU instance that it runs on; `None` for a client of the whole GPU.
    pub gi: Option<u32>,
    /// Compute instance that it runs on.
    pub ci: Option<u32>,
    /// NVML's list that has it.
    #[serde(default)]
    pub kind: ProcessKind,
}

/// One of NVML's three lists of processes: `nvmlDeviceGet{Compute,Graphics,MPSCompute}RunningProcesses`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessKind {
    /// A CUDA context.
    #[default]
    Compute,
    /// OpenGL, Vulkan.
    Graphics,
    /// A client of a CUDA MPS server.
    Mps,
}

/// Faults of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(crate) struct Faults {
    pub nvml: Option<NvmlFault>,
    pub names_without_profile: bool,
    pub hidden_from_nvml: Vec<String>,
    pub missing_nodes: Vec<String>,
    pub stale_caps_major: Option<u32>,
    pub files: Vec<FileFault>,
}

/// The reason why NVML does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmlFault {
    /// The kernel module is not loaded.
    DriverNotLoaded,
    /// Library and kernel module have different versions.
    VersionMismatch,
}

/// A fault of a driver file: how it differs from the file that the driver would show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct FileFault {
    /// Absolute path.
    pub path: String,
    /// Removes it; a directory with everything below it.
    pub remove: bool,
    /// Length in bytes that it is cut to.
    pub truncate: Option<usize>,
    /// Length in bytes that it is filled up to.
    pub size: Option<usize>,
    /// Bytes that replace its content.
    pub bytes: Option<Vec<u8>>,
    /// Text that replaces its content.
    pub text: Option<String>,
}

pub(crate) fn parse(toml: &str) -> Result<Description, Error> {
    toml::from_str(toml).map_err(|error| {
        // toml displays errors as a drawing of several lines; messages of mig-cdi have one.
        let line = error.span().map(|span| toml[..span.start].matches('\n').count() + 1);
        let cause = error.message().replace('\n', " ");
        Error::new(cause).about(line.map_or(DescriptionPart::Node, DescriptionPart::Line))
    })
}
