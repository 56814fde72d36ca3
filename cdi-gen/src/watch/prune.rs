//! Removes devices from a spec while MIG state cannot be read: those that are gone, and those that were recreated and may be
//! another slice now. Only `/proc` is read, never NVML.

use crate::{
    Error, NodeSource, Result,
    discover::{self, Source},
    generate::{GenerateOptions, SpecTarget, spec_targets},
    spec_file,
    write::SpecPath,
};
use mig_cdi_model::{
    DeviceNode, DeviceVariable, GpuMinor, GpuUuid, SliceId, Topology,
    cdi::{ContainerEdits, Device, Kind, Spec, SpecNode},
};
use mig_cdi_sys::{Fingerprint, Machine, Root};
use std::collections::{BTreeMap, BTreeSet};

/// The node as `/proc` shows it now.
pub(crate) struct ProcState {
    /// Device nodes of the driver, by path.
    nodes: BTreeMap<String, DeviceNode>,
    gpus: BTreeMap<GpuMinor, Option<GpuUuid>>,
    fingerprint: Fingerprint,
}

impl ProcState {
    /// Reads the state that belongs to a fingerprint. Without a driver the node has no device.
    pub(crate) fn read(machine: &dyn Machine, fingerprint: Fingerprint) -> ProcState {
        let topology = discover::discover(machine, Source::Proc).map(|found| found.topology).ok();
        let gpus = topology.iter().flat_map(|topology| &topology.gpus);
        ProcState {
            gpus: gpus.map(|gpu| (gpu.minor, gpu.uuid.clone())).collect(),
            nodes: topology.map(nodes).unwrap_or_default(),
            fingerprint,
        }
    }

    fn has(&self, node: &SpecNode) -> bool {
        let numbers = |known: &DeviceNode| (known.major.0, known.minor.0);
        self.nodes.get(&node.path).map(numbers) == Some((node.major, node.minor))
    }

    fn has_all(&self, edits: &ContainerEdits) -> bool {
        edits.device_nodes.iter().all(|node| self.has(node))
    }

    /// Whether a device is certainly what it was when the spec was written. An instance that was destroyed and recreated has the
    /// same numbers; its directory in the capability tree is a new one, which the fingerprints show.
    fn still_has(&self, device: &Device, written_state: Option<&Fingerprint>) -> bool {
        let edits = &device.container_edits;
        let mut slices =
            edits.env.iter().filter_map(|variable| DeviceVariable::parse(variable)?.ok());
        self.has_all(edits)
            && slices.all(|DeviceVariable { id, gpu, .. }| {
                let SliceId { gpu: minor, gi, ci } = id;
                let current_gpu = self.gpus.get(&minor).and_then(Option::as_ref);
                let gi = format!("gpu{minor}/mig/gi{gi}");
                let ci = format!("{gi}/ci{ci}");
                (gpu.is_none() || gpu.as_ref() == current_gpu)
                    && written_state.is_none_or(|written| {
                        [gi, ci].iter().all(|dir| self.fingerprint.has_same_instance(written, dir))
                    })
            })
    }
}

fn nodes(mut topology: Topology) -> BTreeMap<String, DeviceNode> {
    let mut nodes = BTreeMap::new();
    topology.for_each_node(|node| {
        nodes.insert(node.path.clone(), node.clone());
    });
    nodes
}

/// Takes the devices out of the specs of a node that `/proc` no longer shows.
///
/// # Errors
/// When a spec cannot be read or changed.
pub fn withdraw_gone(node: &NodeSource, options: &GenerateOptions) -> Result<()> {
    let fingerprint = Fingerprint::take(&Root::open(&node.roots.proc)?);
    let state = ProcState::read(node.machine()?.as_ref(), fingerprint);
    for SpecTarget { kind, file } in spec_targets(options, "refresh")?.iter() {
        prune(&state, None, file, kind)?;
    }
    Ok(())
}

/// Removes the devices of a spec that the node no longer has for certain. `written_state` is the node when the spec was written,
/// if that is known. Returns the number of removed devices.
///
/// # Errors
/// When the file cannot be read or changed.
pub(crate) fn prune(
    state: &ProcState,
    written_state: Option<&Fingerprint>,
    target: &SpecPath,
    kind: &Kind,
) -> Result<usize> {
    // Taken before the file is looked for: another run may be about to write it, from what it has read of the node before.
    let _lock = target.lock()?;
    let Some(bytes) = target.read()? else { return Ok(0) };
    let Some(spec) = spec_file::parse(&bytes).ok().filter(|spec| spec.kind == kind.to_string())
    else {
        return Ok(0);
    };
    // Every device needs the common nodes: with one of them gone, none works.
    let has_common = state.has_all(&spec.container_edits);
    let is_gone = |device: &&Device| !has_common || !state.still_has(device, written_state);
    let gone: BTreeSet<_> =
        spec.devices.iter().filter(is_gone).map(|device| device.name.as_str()).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    // Parsed again, strictly: fields that the model does not know would be lost in the rewritten file.
    match serde_json::from_slice::<Spec>(&bytes) {
        Ok(mut rest) if gone.len() < spec.devices.len() => {
            rest.devices.retain(|device| !gone.contains(device.name.as_str()));
            let text = rest
                .to_json()
                .map_err(|e| Error::failed("write", target.path().display()).because(e))?;
            target.rewrite(&text)?;
        }
        // No device would remain, or the file is YAML or of another form: the next refresh writes it again.
        _ => {
            target.remove(kind)?;
        }
    }
    Ok(gone.len())
}
