//! The CDI spec that `mig-cdi generate` wrote, which says what each device is. Nothing in it is passed
//! over: a field that is not known here may matter.

use crate::{
    Failure,
    plan::{Mount, Node},
};
use mig_cdi_config::Settings;
use mig_cdi_model::{BadSlice, DeviceVariable, SliceId};
use mig_cdi_sys::TrustedDir;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use std::path::PathBuf;

/// A node of 32 GPUs with seven slices each comes to 300 kB.
const LIMIT: usize = 4 << 20;

/// A spec, with the place it was read from.
#[derive(Debug)]
pub struct Spec {
    /// For messages.
    pub path: PathBuf,
    /// What it says.
    pub document: Document,
}

/// A CDI document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    #[serde(rename = "cdiVersion")]
    _cdi_version: IgnoredAny,
    kind: String,
    devices: Vec<Device>,
    /// What every container with one of the devices gets.
    pub container_edits: Edits,
}

/// A device. What a container with it gets is read when one asks for it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// One of its names; every name has an entry of its own.
    pub name: String,
    #[serde(default, rename = "annotations")]
    _annotations: IgnoredAny,
    container_edits: Box<RawValue>,
}

/// What is done to a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Made and allowed.
    pub device_nodes: Vec<Node>,
    /// Bound.
    pub mounts: Vec<Mount>,
    /// Not for us: we have verified by then.
    #[serde(rename = "hooks")]
    _hooks: IgnoredAny,
}

impl Document {
    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// When it is none that this version of mig-cdi writes.
    pub fn parse(bytes: &[u8], kind: &str) -> Result<Document, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let (found, mut names) = (&document.kind, Vec::new());
        if found != kind {
            return Err(format!("its kind is {found:?}, not {kind}"));
        }
        names.extend(document.devices.iter().map(|device| device.name.as_str()));
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("two devices have the name {:?}", pair[0])),
            None => Ok(document),
        }
    }

    /// A device by a name of it.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The entries of one slice alone, one for each of its names.
    pub fn named(&self, id: SliceId) -> impl Iterator<Item = &Device> {
        let is = move |device: &&Device| {
            let slices = device.edits().map(|edits| edits.slices());
            matches!(slices, Ok(Ok(slices)) if matches!(slices[..], [DeviceVariable { id: own, .. }] if own == id))
        };
        self.devices.iter().filter(is)
    }
}

impl Device {
    /// What a container with it gets.
    ///
    /// # Errors
    /// When that is not of the form in which `mig-cdi generate` writes it.
    pub fn edits(&self) -> serde_json::Result<Edits> {
        serde_json::from_str(self.container_edits.get())
    }
}

impl Edits {
    /// The slices that a device is, from its variables.
    ///
    /// # Errors
    /// When one of them does not say what a slice is.
    pub fn slices(&self) -> Result<Vec<DeviceVariable>, BadSlice> {
        self.env.iter().filter_map(|variable| DeviceVariable::parse(variable)).collect()
    }
}

/// Reads the specs of this machine, the one that engines prefer first.
///
/// # Errors
/// When one is there that cannot be relied on.
pub fn read(settings: &Settings) -> Result<Vec<Spec>, Failure> {
    let (kind, name) = (settings.kind.to_string(), settings.kind.file_stem() + ".json");
    let mut specs = Vec::new();
    for dir in settings.spec_dirs.iter().rev() {
        let Some(dir) = TrustedDir::open_to_read(dir)? else { continue };
        let path = dir.show(&name);
        let Some(bytes) = dir.read(&name, LIMIT)? else { continue };
        let document = Document::parse(&bytes, &kind).map_err(|e| {
            Failure::refused(format!("read {}: {e}; run mig-cdi generate", path.display()))
        })?;
        specs.push(Spec { path, document });
    }
    match specs.is_empty() {
        false => Ok(specs),
        true => Err(Failure::refused(format!(
            "read the spec of {kind}: there is no {name} in {}; run mig-cdi generate",
            settings
                .spec_dirs
                .iter()
                .map(|dir| dir.display().to_string())
                .collect::<Vec<_>>()
                .join(" or ")
        ))),
    }
}
