//! Names of slices for people, also for a caller to whom NVML reports no placements.
//!
//! NVML reports placements to root only (nvml.h, `nvmlGpuInstanceGetInfo`: "Requires privileged user"). The spec, which root has
//! written and anyone may read, has the names that follow from them.

use crate::{
    discover::Source,
    spec::{preferred_name, slot_name},
    spec_file::{self, SIZE_LIMIT},
};
use mig_cdi_model::{
    DeviceVariable, MigDevice, SliceId, Topology,
    cdi::{Device, Kind},
};
use mig_cdi_sys::read_regular;
use std::path::{Path, PathBuf};

/// Names of the slices of one node.
#[derive(Debug)]
pub struct SliceNames {
    source: Source,
    /// Names in the spec, with what it says about the slice.
    from_spec: Vec<(DeviceVariable, String)>,
    /// Spec that was read.
    spec: Option<PathBuf>,
    lacks_placements: bool,
}

impl SliceNames {
    /// Reads the spec of `kind` in the directory that engines prefer, when NVML does not report a placement.
    #[must_use]
    pub fn read(topology: &Topology, source: Source, dirs: &[PathBuf], kind: &Kind) -> SliceNames {
        let lacks_placements = lacks_placements(topology, source);
        let mut names = SliceNames { source, from_spec: Vec::new(), spec: None, lacks_placements };
        if lacks_placements {
            let files = dirs.iter().rev().flat_map(|dir| {
                ["json", "yaml"].map(|suffix| dir.join(format!("{}.{suffix}", kind.file_stem())))
            });
            for path in files {
                if let Some(found) = read(&path, kind) {
                    (names.spec, names.from_spec) = (Some(path), found);
                    break;
                }
            }
        }
        names
    }

    /// Returns the name to show for a slice: by slot, or else by UUID.
    #[must_use]
    pub fn of(&self, device: &MigDevice<'_>) -> Option<String> {
        self.by_slot(device).or_else(|| Some(preferred_name(device, self.source)?.to_string()))
    }

    /// Returns the name by slot. `None` when neither the driver nor the spec has one, as when the spec is older than the slice.
    #[must_use]
    pub fn by_slot(&self, device: &MigDevice<'_>) -> Option<String> {
        if let Some(name) = slot_name(device) {
            return Some(name.to_string());
        }
        let MigDevice { gpu, gi, ci } = device;
        let id = SliceId { gpu: gpu.minor, gi: gi.id, ci: ci.id };
        // A stale spec has another slice of this id, and then another UUID or profile.
        let is_same = |variable: &DeviceVariable| {
            (variable.id, &variable.uuid, &variable.profile) == (id, &ci.uuid, &ci.profile)
        };
        let found = self.from_spec.iter().find(|(variable, _)| is_same(variable));
        found.map(|(_, name)| name.clone())
    }

    /// Path of the spec that the names by slot are from; `None` when they are those of the driver.
    #[must_use]
    pub fn spec(&self) -> Option<&Path> {
        self.spec.as_deref()
    }

    /// Returns what the caller has to know about the names, when NVML does not report the placements.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        const CAUSE: &str = "nvml reports placements only to a caller with privileges";
        self.lacks_placements.then(|| match &self.spec {
            Some(path) => format!("{CAUSE}: names by slot are those in {}", path.display()),
            None => format!("{CAUSE}: slices have no names by slot; run it as root"),
        })
    }
}

/// True when NVML has not reported the placement of a slice.
#[must_use]
pub fn lacks_placements(topology: &Topology, source: Source) -> bool {
    source == Source::Nvml && topology.mig_devices().any(|device| device.gi.placement.is_none())
}

/// Reads the names by slot in a spec.
fn read(path: &Path, kind: &Kind) -> Option<Vec<(DeviceVariable, String)>> {
    let spec = spec_file::parse(&read_regular(path, SIZE_LIMIT).ok()?).ok()?;
    let names =
        spec.devices.iter().filter_map(|device| Some((slice(device)?, device.name.clone())));
    // A UUID starts with letters, and a name by index has no profile.
    let by_slot = names.filter(|(variable, name)| {
        let profile = variable.profile.as_ref().map(|profile| format!(":{}:", profile.cdi_safe()));
        profile.is_some_and(|profile| name.contains(&profile))
    });
    (spec.kind == kind.to_string()).then(|| by_slot.collect())
}

/// Returns what a device says about its slice, when it is one slice.
fn slice(device: &Device) -> Option<DeviceVariable> {
    let variables = device.container_edits.env.iter();
    let mut slices = variables.filter_map(|text| DeviceVariable::parse(text)?.ok());
    let slice = slices.next()?;
    slices.next().is_none().then_some(slice)
}
