//! Names of MIG devices.

use crate::discover::Source;
use mig_cdi_model::{MigDevice, NameStyle, cdi::DeviceName, counted};
use mig_cdi_sys::is_root;
use std::collections::BTreeMap;

/// Name of a MIG device in messages: `gpu 0 gi 7 ci 0`.
pub fn label(device: &MigDevice<'_>) -> String {
    format!("{} gi {} ci {}", device.gpu.label(), device.gi.id, device.ci.id)
}

/// Returns the name of a device by slot; `None` where NVML reports no placement.
pub(crate) fn slot_name(device: &MigDevice<'_>) -> Option<DeviceName> {
    name(device, NameStyle::Slot)
}

/// Returns the names of a device in every style that applies to it, and counts the styles that do not.
pub(super) fn names_of(
    device: &MigDevice<'_>,
    source: Source,
    styles: &[NameStyle],
    unnamed: &mut BTreeMap<NameStyle, usize>,
) -> Vec<DeviceName> {
    if source == Source::Proc {
        return instance_ids(device).into_iter().collect();
    }
    let mut names = Vec::new();
    for &style in styles {
        match name(device, style) {
            Some(name) => names.push(name),
            None => *unnamed.entry(style).or_default() += 1,
        }
    }
    names
}

/// Returns the warning that devices have no name of a style.
pub(crate) fn unnamed_warning(style: NameStyle, count: usize) -> String {
    let cause = match style {
        // nvml.h, nvmlGpuInstanceGetInfo and nvmlComputeInstanceGetInfo_v2: "requires privileged user".
        NameStyle::Slot if is_root() => "nvml reports no placements, as to every vgpu guest",
        NameStyle::Slot => "nvml reports placements to root only; run it as root",
        NameStyle::Uuid | NameStyle::Index => "nvml does not report it",
    };
    let have = if count == 1 { "has" } else { "have" };
    format!("{} {have} no {} name: {cause}", counted(count, "device"), style.as_str())
}

fn name(device: &MigDevice<'_>, style: NameStyle) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    let text = match style {
        NameStyle::Uuid => ci.uuid.as_ref()?.to_string(),
        NameStyle::Index => format!("{}:{}", gpu.index?, ci.index?),
        NameStyle::Slot => {
            let profile = ci.profile.as_ref()?;
            // The placement is NVML's. The id of a GPU instance does not determine it: of two 3g.40gb the one with id 1
            // is at 4:4 on one board and at 0:4 on another.
            let slot = format!("{}:{}:{}", gpu.index?, profile.cdi_safe(), gi.placement?.start);
            match profile.is_partial() {
                true => format!("{slot}:{}", ci.placement?.start),
                false => slot,
            }
        }
    };
    text.parse().ok()
}

/// True for a name of the device, in any style.
pub fn has_name(device: &MigDevice<'_>, wanted: &str) -> bool {
    flag_of_name(device, wanted).is_some()
}

/// Returns the flag with which a spec has this name for the device; `None` for a name that is none of its.
pub fn flag_of_name(device: &MigDevice<'_>, wanted: &str) -> Option<String> {
    let is_wanted = |name: Option<DeviceName>| name.is_some_and(|name| name.as_str() == wanted);
    let styles = [NameStyle::Uuid, NameStyle::Slot, NameStyle::Index];
    let style = styles.into_iter().find(|style| is_wanted(name(device, *style)));
    let style = style.map(|style| format!("--names={}", style.as_str()));
    style.or_else(|| is_wanted(instance_ids(device)).then(|| "--source=proc".to_owned()))
}

/// `minor:gi:ci`, the numbers of the capability tree: all that is known without NVML.
// A MIG UUID cannot be computed on bare metal: firmware derives it from the GPU's PDI, which is neither in /proc nor in
// /sys (`gpu_uuid.c:91-245`, `nv-procfs.c`).
fn instance_ids(device: &MigDevice<'_>) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    format!("{}:{}:{}", gpu.minor, gi.id, ci.id).parse().ok()
}

/// Returns the name to show for a device: by slot, or else by UUID.
// A UUID is no proof of identity: it comes back with another profile when a GPU instance of the same id is created on
// the same engine (`gpu_uuid.c:91-245` hashes these two, and no profile or placement).
#[must_use]
pub fn preferred_name(device: &MigDevice<'_>, source: Source) -> Option<DeviceName> {
    match source {
        Source::Proc => instance_ids(device),
        Source::Nvml => name(device, NameStyle::Slot).or_else(|| name(device, NameStyle::Uuid)),
    }
}
