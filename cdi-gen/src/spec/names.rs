//! Names of MIG devices.

use super::Options;
use crate::discover::Source;
use mig_cdi_model::{MigDevice, cdi::DeviceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A way to name a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NameStyle {
    /// MIG-… as nvidia-smi -L prints it.
    Uuid,
    /// gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1.
    Slot,
    /// gpu:mig, as 0:1. It can become another slice when others come and go.
    Index,
}

impl NameStyle {
    /// The name as a person types it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NameStyle::Uuid => "uuid",
            NameStyle::Slot => "slot",
            NameStyle::Index => "index",
        }
    }
}

impl std::str::FromStr for NameStyle {
    type Err = UnknownNameStyle;

    fn from_str(text: &str) -> Result<NameStyle, UnknownNameStyle> {
        let styles = [NameStyle::Uuid, NameStyle::Slot, NameStyle::Index];
        styles.into_iter().find(|style| style.as_str() == text).ok_or(UnknownNameStyle)
    }
}

/// A text that names no [`NameStyle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not uuid, slot or index")]
pub struct UnknownNameStyle;

/// The names of a device in every style that it can be named in; the others are counted.
pub(super) fn of_mig(
    device: &MigDevice<'_>,
    options: &Options,
    unnamed: &mut BTreeMap<NameStyle, usize>,
) -> Vec<DeviceName> {
    if options.source == Source::Proc {
        return ids(device).into_iter().collect();
    }
    let mut names = Vec::new();
    for &style in &options.names {
        match name(device, style) {
            Some(name) => names.push(name),
            None => *unnamed.entry(style).or_default() += 1,
        }
    }
    names
}

pub(super) fn unnamed_warning(style: NameStyle, count: usize) -> String {
    let cause = match style {
        NameStyle::Slot => "nvml tells placements to root only, and to no vgpu guest",
        NameStyle::Uuid | NameStyle::Index => "nvml does not tell it",
    };
    format!("{count} devices have no {} name: {cause}", style.as_str())
}

fn name(device: &MigDevice<'_>, style: NameStyle) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    let text = match style {
        NameStyle::Uuid => ci.uuid.as_ref()?.to_string(),
        NameStyle::Index => format!("{}:{}", gpu.index?, ci.index?),
        NameStyle::Slot => {
            let profile = ci.profile.as_ref()?;
            let slot = format!("{}:{}:{}", gpu.index?, profile.cdi_safe(), gi.placement?.start);
            match profile.is_partial() {
                true => format!("{slot}:{}", ci.placement?.start),
                false => slot,
            }
        }
    };
    text.parse().ok()
}

/// True when that is a name of the device, in whatever style.
pub fn is_called(device: &MigDevice<'_>, id: &str) -> bool {
    let styles = [NameStyle::Uuid, NameStyle::Slot, NameStyle::Index];
    let mut names = styles.into_iter().filter_map(|style| name(device, style)).chain(ids(device));
    names.any(|name| name.as_str() == id)
}

/// `minor:gi:ci`, the numbers of the capability tree: all that is known without NVML.
fn ids(device: &MigDevice<'_>) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    format!("{}:{}:{}", gpu.minor, gi.id, ci.id).parse().ok()
}

/// The first name that a person would type for a device, slot before UUID.
#[must_use]
pub fn handy_name(device: &MigDevice<'_>, source: Source) -> Option<DeviceName> {
    match source {
        Source::Proc => ids(device),
        Source::Nvml => name(device, NameStyle::Slot).or_else(|| name(device, NameStyle::Uuid)),
    }
}
