//! The format of a node description, as serde reads it. `docs/node-description.md` explains it.

use crate::Error;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// For people.
    #[serde(default, rename = "description")]
    pub about: String,
    #[serde(default = "default_driver")]
    pub driver: String,
    /// What its maker calls it.
    pub machine: Option<String>,
    #[serde(default)]
    pub majors: Majors,
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<GpuEntry>,
    #[serde(default)]
    pub faults: Faults,
}

fn default_driver() -> String {
    "580.105.08".to_owned()
}

/// Major numbers as `/proc/devices` lists them; 0 for a driver that is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Majors {
    /// nvidia: GPUs and nvidiactl.
    pub nvidia: u32,
    /// nvidia-caps: capability nodes.
    pub nvidia_caps: u32,
    /// nvidia-uvm: unified memory.
    pub nvidia_uvm: u32,
    /// drm: DRI nodes.
    pub drm: u32,
}

impl Default for Majors {
    /// 195 and 226 are fixed in the kernel's list; the others are drawn when the module loads.
    fn default() -> Self {
        Majors { nvidia: 195, nvidia_caps: 508, nvidia_uvm: 511, drm: 226 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpuEntry {
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
    pub held: bool,
    pub dri: Option<Dri>,
    #[serde(default)]
    pub instances: Vec<InstanceEntry>,
    #[serde(default)]
    pub processes: Vec<Process>,
}

fn yes() -> bool {
    true
}

/// Minor numbers of a GPU's DRI nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dri {
    /// `/dev/dri/cardN`.
    pub card: u32,
    /// `/dev/dri/renderDN`.
    pub render: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstanceEntry {
    pub profile: String,
    pub start: Option<u32>,
    pub id: Option<u32>,
    pub compute: Option<Vec<ComputeEntry>>,
}

/// A compute instance: `"1c"`, `"1c@2"`, or a table of these keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeEntry {
    pub profile: String,
    pub start: Option<u32>,
    pub id: Option<u32>,
}

impl<'de> Deserialize<'de> for ComputeEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ComputeVisitor)
    }
}

/// Not an untagged enum: its errors would not say which key is wrong.
struct ComputeVisitor;

impl<'de> Visitor<'de> for ComputeVisitor {
    type Value = ComputeEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compute instance such as \"1c\", \"1c@2\" or { profile = \"1c\", start = 2, id = 0 }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ComputeEntry, E> {
        let Some((profile, start)) = text.split_once('@') else {
            return Ok(ComputeEntry { profile: text.to_owned(), start: None, id: None });
        };
        let start =
            start.parse().map_err(|_| E::custom(format!("no slice after the @ of {text:?}")))?;
        Ok(ComputeEntry { profile: profile.to_owned(), start: Some(start), id: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ComputeEntry, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            profile: String,
            start: Option<u32>,
            id: Option<u32>,
        }
        let Table { profile, start, id } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ComputeEntry { profile, start, id })
    }
}

/// A process that NVML reports on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The GPU instance that it runs on; without one it has the whole GPU.
    pub gi: Option<u32>,
    /// The compute instance that it runs on.
    pub ci: Option<u32>,
    /// What it does there.
    #[serde(default)]
    pub kind: ProcessKind,
}

/// Which of NVML's three lists of processes has it.
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

/// What is broken on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Faults {
    pub nvml: Option<NvmlFault>,
    pub names_without_profile: bool,
    pub hidden_from_nvml: Vec<String>,
    pub missing_nodes: Vec<String>,
    pub stale_caps_major: Option<u32>,
    pub files: Vec<FileFault>,
}

/// NVML does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmlFault {
    /// The kernel module is not loaded.
    DriverNotLoaded,
    /// Library and kernel module are of two versions.
    VersionMismatch,
}

/// A file of the driver that is not as it should be. `remove` takes a directory too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileFault {
    /// Absolute.
    pub path: String,
    /// Take it away, with all below it.
    pub remove: bool,
    /// Cut it to so many bytes.
    pub truncate: Option<usize>,
    /// Fill it up to so many bytes.
    pub size: Option<usize>,
    /// Put these bytes there.
    pub bytes: Option<Vec<u8>>,
    /// Put this text there.
    pub text: Option<String>,
}

pub(crate) fn parse(toml: &str) -> Result<Description, Error> {
    toml::from_str(toml).map_err(|error| {
        // toml's own display is a drawing of several lines; ours is one.
        let line = error.span().map(|span| toml[..span.start].matches('\n').count() + 1);
        let message = error.message().replace('\n', " ");
        Error::Syntax(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        })
    })
}
