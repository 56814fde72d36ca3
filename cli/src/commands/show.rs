//! `mig-cdi show NAME`: the edits that a container gets with one device, and the source of each fact in them.

use super::unknown_device::UnknownDevice;
use crate::{
    command_output::CommandOutput,
    console::Console,
    stage_options::Resolver,
    table::{gib, table},
};
use mig_cdi_gen::{
    Error, MessageSink,
    generate::{DeviceBuilder, DeviceOptions},
    slice_names::SliceNames,
    spec::{DeviceSet, SpecOptions, label, preferred_name},
};
use mig_cdi_model::{
    DeviceNode, Gpu, HostNodeState, MigDevice, MigMode, NameStyle, Topology,
    cdi::{Device, Spec, SpecNode},
};

pub(super) fn run(
    resolver: &Resolver<'_>,
    options: &DeviceOptions,
    request: &str,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let Resolver { node, settings, .. } = *resolver;
    let builder = DeviceBuilder::new(node, options, console);
    let mut options = builder.options()?;
    let slice_kind = options.kind.clone();
    let (content, name) = split_request(request, &mut options)?;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let topology = &discovery.topology;
    let files = builder.driver_files(machine.as_ref(), topology)?;
    let mut built = builder.build(topology, &files, content, &options)?;
    let names = SliceNames::read(topology, node.source, &settings.spec_dirs, &options.kind);
    if topology.mig_devices().all(|slice| names.by_slot(&slice).is_some())
        && built.unnamed.remove(&NameStyle::Slot).is_some()
        && let Some(warning) = names.warning()
    {
        console.warn(&warning);
    }
    builder.report_unnamed(&built);
    let mut devices =
        built.spec.iter().flat_map(|spec| spec.devices.iter().map(move |d| (spec, d)));
    // A name by slot that the spec on disk has for a slice, where NVML does not report the placement that it has.
    let alias = topology.mig_devices().find(|slice| names.of(slice).as_deref() == Some(name));
    let alias = alias.and_then(|slice| preferred_name(&slice, node.source));
    let found = devices.find(|(_, device)| {
        let own = device.name.as_str();
        own == name || alias.as_ref().is_some_and(|alias| own == alias.as_str())
    });
    let unknown = || {
        let (options, built, slice_kind, names) = (&options, &built, &slice_kind, &names);
        let is_complete = discovery.problems.is_empty();
        let unknown =
            UnknownDevice { node, topology, is_complete, built, names, options, slice_kind, name };
        unknown.error(request, content)
    };
    let (spec, device) = found.ok_or_else(unknown)?;
    let has_name = |slice: &MigDevice<'_>| {
        preferred_name(slice, node.source).is_some_and(|name| name.as_str() == device.name)
    };
    let slot = topology.mig_devices().find(has_name).and_then(|slice| names.of(&slice));
    let slot = slot.filter(|slot| *slot != device.name);
    let stdout = [
        heading(topology, spec, device, slot.as_deref()),
        nodes(topology, spec, device),
        environment(spec, device),
        mounts(spec, device),
    ];
    let is_complete = discovery.problems.is_empty() && built.problems.is_empty();
    Ok(CommandOutput::complete_if(is_complete, stdout.join("\n")))
}

/// Splits a request into the contents of the spec that has the device, and the name of the device. Sets the kind of the
/// options to the requested one.
fn split_request<'r>(
    request: &'r str,
    options: &mut SpecOptions,
) -> Result<(DeviceSet, &'r str), Error> {
    let gpu_kind = options.gpu_kind();
    let Some((kind, name)) = request.split_once('=') else {
        // No slice has the UUID of a GPU.
        if request.starts_with("GPU-") {
            options.kind = gpu_kind;
            return Ok((DeviceSet::Gpus, request));
        }
        return Ok((DeviceSet::Mig, request));
    };
    if kind == options.kind.to_string() {
        return Ok((DeviceSet::Mig, name));
    }
    if kind != gpu_kind.to_string() {
        return Err(Error::failed("show", format!("{request:?}"))
            .because(format!("its kind is neither {} nor {gpu_kind}", options.kind)));
    }
    options.kind = gpu_kind;
    Ok((DeviceSet::Gpus, name))
}

/// Lists all names of a device, first that by slot of the spec on disk, and the slices and GPUs that it contains.
fn heading(topology: &Topology, spec: &Spec, device: &Device, slot: Option<&str>) -> String {
    let kind = &spec.kind;
    let mut text = slot.map(|slot| format!("{kind}={slot}\n")).unwrap_or_default();
    // A slice has one device for each style of name, all with the same edits.
    let same = spec.devices.iter().filter(|d| d.container_edits == device.container_edits);
    text += &format!("{kind}={}\n", device.name);
    for other in same.filter(|other| other.name != device.name) {
        text += &format!("{kind}={}\n", other.name);
    }
    let nodes = &device.container_edits.device_nodes;
    // All slices have the node of their GPU, and several may have that of one GPU instance: only the compute instance's is
    // a slice's own.
    let has = |slice: &MigDevice<'_>| nodes.iter().any(|node| node.path == slice.ci.cap.path);
    topology.mig_devices().filter(has).for_each(|slice| text += &facts(&slice));
    // The node of a GPU in MIG mode is among those of each of its slices: such a GPU is not given as a whole.
    let whole =
        |gpu: &&Gpu| gpu.mig != MigMode::Enabled && nodes.iter().any(|n| n.path == gpu.node.path);
    for gpu in topology.gpus.iter().filter(whole) {
        text += &format!("  {}, {} at {}\n", gpu.label(), gpu.model, gpu.pci);
    }
    text
}

fn facts(device: &MigDevice<'_>) -> String {
    let MigDevice { gpu, gi, ci } = device;
    let mut line = format!("  {}", label(device));
    if let Some(profile) = &ci.profile {
        line += &format!(": {profile}");
    }
    if let Some(mib) = ci.memory_mib {
        line += &format!(", {}", gib(mib));
    }
    if let Some(slices) = gi.placement {
        let last = slices.start + slices.size.max(1) - 1;
        line += &format!(", memory slices {} to {last}", slices.start);
    }
    format!("{line}, on {} at {}\n", gpu.model, gpu.pci)
}

fn nodes(topology: &Topology, spec: &Spec, device: &Device) -> String {
    let row = |node: &SpecNode| {
        let (host, source) = origin(topology, &node.path);
        [
            node.path.clone(),
            format!("{} {}:{}", node.kind.as_deref().unwrap_or("?"), node.major, node.minor),
            format!("{:04o}", node.mode()),
            node.permissions.clone().unwrap_or_default(),
            host.to_owned(),
            source,
        ]
    };
    let nodes =
        spec.container_edits.device_nodes.iter().chain(&device.container_edits.device_nodes);
    let rows: Vec<_> = nodes.map(row).collect();
    table(["DEVICE NODE", "NUMBERS", "MODE", "ACCESS", "ON HOST", "FROM"], &rows)
}

/// State of a node's path on the host, and the file that the node's numbers come from.
fn origin(topology: &Topology, path: &str) -> (&'static str, String) {
    const TREE: &str = "/proc/driver/nvidia/capabilities";
    let mut origin = ("missing", "/proc/devices".to_owned());
    let mut compare = |node: &DeviceNode, source: &dyn Fn() -> String| {
        if node.path == path {
            origin = (host(node.host), source());
        }
    };
    topology.common.iter().for_each(|node| compare(node, &|| "/proc/devices".to_owned()));
    for admin in &topology.admin {
        compare(&admin.node, &|| format!("{TREE}/mig/{}", admin.name));
    }
    for gpu in &topology.gpus {
        compare(&gpu.node, &|| format!("/proc/driver/nvidia/gpus/{}/information", gpu.pci));
        for dri in &gpu.dri {
            let nodes = [&dri.node].into_iter().chain(&dri.link);
            nodes.for_each(|node| compare(node, &|| dri.source.clone()));
        }
        // The file `access` of an instance has its minor number (`nv-caps.c:421-423`).
        for gi in &gpu.gpu_instances {
            let dir = format!("{TREE}/gpu{}/mig/gi{}", gpu.minor, gi.id);
            compare(&gi.cap, &|| format!("{dir}/access"));
            gi.compute_instances
                .iter()
                .for_each(|ci| compare(&ci.cap, &|| format!("{dir}/ci{}/access", ci.id)));
        }
    }
    origin
}

fn host(node: HostNodeState) -> &'static str {
    match node {
        HostNodeState::Ok => "same",
        HostNodeState::Wrong => "different",
        HostNodeState::Missing => "missing",
    }
}

fn environment(spec: &Spec, device: &Device) -> String {
    let variables = spec.container_edits.env.iter().chain(&device.container_edits.env);
    std::iter::once("ENVIRONMENT\n".to_owned()).chain(variables.map(|v| format!("{v}\n"))).collect()
}

/// Table of the driver's files: path in the container, path on the host.
fn mounts(spec: &Spec, device: &Device) -> String {
    let mounts = spec.container_edits.mounts.iter().chain(&device.container_edits.mounts);
    let rows: Vec<_> = mounts.map(|m| [m.container_path.clone(), m.host_path.clone()]).collect();
    if rows.is_empty() {
        return "no driver files\n".to_owned();
    }
    table(["FILE", "FROM"], &rows)
}
