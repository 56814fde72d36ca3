//! What of a spec must go when the driver cannot be asked: a device that is no longer there, or that
//! was made anew and may be another. This asks `/proc` alone.

use crate::{
    Failure,
    discover::{self, Source},
    spec_file::{DeviceEntry, NodeId, SpecFile},
    write::Target,
};
use mig_cdi_model::{DeviceVariable, GpuMinor, GpuUuid, SliceId, Topology, cdi::Kind};
use mig_cdi_sys::{Fingerprint, Machine};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What `/proc` says.
pub(crate) struct Truth {
    nodes: BTreeSet<(String, i64, i64)>,
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

    fn has(&self, (path, major, minor): NodeId<'_>) -> bool {
        let (Some(major), Some(minor)) = (major, minor) else { return false };
        self.nodes.contains(&(path.to_owned(), major, minor))
    }

    /// True when a device can still be what it was when the node was as in `good`.
    fn keeps(&self, device: &DeviceEntry, good: Option<&Fingerprint>) -> bool {
        device.nodes().all(|node| self.has(node))
            && device.slices().all(|DeviceVariable { id, gpu, .. }| {
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

fn nodes(mut topology: Topology) -> BTreeSet<(String, i64, i64)> {
    let mut nodes = BTreeSet::new();
    topology.for_each_node(|node| {
        nodes.insert((node.path.clone(), node.major.0.into(), node.minor.0.into()));
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
) -> Result<usize, Failure> {
    if target.read()?.is_none() {
        return Ok(0);
    }
    let _lock = target.lock()?;
    let Some(bytes) = target.read()? else { return Ok(0) };
    let Some(spec) = SpecFile::parse(&bytes).filter(|spec| spec.kind == kind.to_string()) else {
        return Ok(0);
    };
    let common = spec.common_nodes().all(|node| truth.has(node));
    let is_gone = |device: &&DeviceEntry| !common || !truth.keeps(device, good);
    let gone: BTreeSet<_> =
        spec.devices.iter().filter(is_gone).map(|device| device.name.as_str()).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut document) if gone.len() < spec.devices.len() => {
            let is_kept =
                |device: &Value| device["name"].as_str().is_some_and(|name| !gone.contains(name));
            if let Some(devices) = document["devices"].as_array_mut() {
                devices.retain(is_kept);
            }
            target.rewrite(&format!("{document}\n"))?;
        }
        // Nothing would be left, or it is YAML, which is not worth a second writer here.
        _ => {
            target.clear(kind)?;
        }
    }
    Ok(gone.len())
}
