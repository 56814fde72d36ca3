//! The format of a node description, as serde reads it. `docs/node-description.md` explains it.

use crate::Error;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// For people.
    #[serde(default, rename = "description")]
    pub _about: String,
    #[serde(default = "default_driver")]
    pub driver: String,
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
    #[serde(default = "yes")]
    pub mig: bool,
    #[serde(rename = "mig-pending")]
    pub mig_pending: Option<bool>,
    #[serde(default)]
    pub lost: bool,
    pub dri: Option<Dri>,
    #[serde(default)]
    pub instances: Vec<InstanceEntry>,
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
    pub compute: Option<Vec<String>>,
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
