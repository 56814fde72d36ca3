//! What of a spec must go when the driver cannot be asked: a device that is no longer there, or that
//! was made anew and may be another. This asks `/proc` alone.

use crate::{
    Error, Result,
    discover::{self, Source},
    spec_file,
    write::Target,
};
use mig_cdi_model::{
    DeviceVariable, GpuMinor, GpuUuid, SliceId, Topology,
    cdi::{ContainerEdits, Device, Kind, Spec, SpecNode},
};
use mig_cdi_sys::{Fingerprint, Machine};
use std::collections::{BTreeMap, BTreeSet};

/// What `/proc` says.
pub(crate) struct Truth {
    nodes: BTreeSet<(String, u32, u32)>,
    gpus: BTreeMap<GpuMinor, Option<GpuUuid>>,
    now: Fingerprint,
}

impl Truth {
    /// Without a driver nothing is true.
    pub(crate) fn read(machine: &dyn Machine, now: Fingerprint) -> Truth {
        let topology = discover::discover(machine, Source::Proc).map(|found| found.topology).ok();
        let gpus = topology.iter().flat_map(|topology| &topology.gpus);
        Truth {
            gpus: gpus.map(|gpu| (gpu.minor, gpu.uuid.clone())).collect(),
            nodes: topology.map(nodes).unwrap_or_default(),
            now,
        }
    }

    fn has(&self, node: &SpecNode) -> bool {
        self.nodes.contains(&(node.path.clone(), node.major, node.minor))
    }

    fn has_all(&self, edits: &ContainerEdits) -> bool {
        edits.device_nodes.iter().all(|node| self.has(node))
    }

    /// True when a device can still be what it was when the node was as in `good`.
    fn keeps(&self, device: &Device, good: Option<&Fingerprint>) -> bool {
        let edits = &device.container_edits;
        let mut slices =
            edits.env.iter().filter_map(|variable| DeviceVariable::parse(variable)?.ok());
        self.has_all(edits)
            && slices.all(|DeviceVariable { id, gpu, .. }| {
                let SliceId { gpu: minor, gi, ci } = id;
                let now = self.gpus.get(&minor).and_then(Option::as_ref);
                let gi = format!("gpu{minor}/mig/gi{gi}");
                let ci = format!("{gi}/ci{ci}");
                (gpu.is_none() || gpu.as_ref() == now)
                    && good.is_none_or(|good| {
                        [gi, ci].iter().all(|dir| self.now.has_same_instance(good, dir))
                    })
            })
    }
}

fn nodes(mut topology: Topology) -> BTreeSet<(String, u32, u32)> {
    let mut nodes = BTreeSet::new();
    topology.for_each_node(|node| {
        nodes.insert((node.path.clone(), node.major.0, node.minor.0));
    });
    nodes
}

/// Takes the devices out of a spec that are no longer so. `good` is the node when the spec was written,
/// if that is known. Gives how many went.
///
/// # Errors
/// When the file cannot be read or changed.
pub(crate) fn prune(
    truth: &Truth,
    good: Option<&Fingerprint>,
    target: &Target,
    kind: &Kind,
) -> Result<usize> {
    if target.read()?.is_none() {
        return Ok(0);
    }
    let _lock = target.lock()?;
    let Some(bytes) = target.read()? else { return Ok(0) };
    let Some(spec) = spec_file::parse(&bytes).filter(|spec| spec.kind == kind.to_string()) else {
        return Ok(0);
    };
    let common = truth.has_all(&spec.container_edits);
    let is_gone = |device: &&Device| !common || !truth.keeps(device, good);
    let gone: BTreeSet<_> =
        spec.devices.iter().filter(is_gone).map(|device| device.name.as_str()).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    // Read again, strictly: what the model does not know would be lost in the rewritten file.
    match serde_json::from_slice::<Spec>(&bytes) {
        Ok(mut rest) if gone.len() < spec.devices.len() => {
            rest.devices.retain(|device| !gone.contains(device.name.as_str()));
            let text = rest
                .to_json()
                .map_err(|e| Error::failed("write", target.path().display()).because(e))?;
            target.rewrite(&text)?;
        }
        // Nothing would be left, or it is YAML or not of our form, and the next refresh writes it.
        _ => {
            target.clear(kind)?;
        }
    }
    Ok(gone.len())
}
