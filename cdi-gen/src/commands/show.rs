//! `mig-cdi show NAME`.

use super::{
    Context, Done, exit,
    table::{gib, table},
};
use crate::{
    Exit, Failure,
    cli::ShowArgs,
    spec::{self, label},
};
use mig_cdi_model::{
    DeviceNode, HostNode, MigDevice, Topology,
    cdi::{Device, Node, Spec},
};

pub(super) fn run(context: &Context<'_>, args: &ShowArgs) -> Result<Done, Failure> {
    let options = context.options(&args.spec)?;
    let prefix = format!("{}=", options.kind);
    let name = args.name.strip_prefix(&prefix).unwrap_or(&args.name);
    let machine = context.machine()?;
    let discovery = context.discover(machine.as_ref())?;
    let topology = &discovery.topology;
    let files = context.driver_files(machine.as_ref(), topology, &args.spec)?;
    let built = spec::build(topology, &files, &options)?;
    context.report(&built);
    let spec = built.spec.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("show {name:?}: there is no mig device on this node"))
    })?;
    let entry = spec.devices.iter().find(|device| device.name.as_str() == name);
    let entry = entry.ok_or_else(|| unknown(&spec, name))?;
    let stdout =
        [heading(topology, &spec, entry), nodes(topology, &spec, entry), environment(&spec, entry)];
    let complete = discovery.problems.is_empty() && built.problems.is_empty();
    Ok(Done { stdout: stdout.join("\n"), exit: exit(complete) })
}

fn unknown(spec: &Spec, name: &str) -> Failure {
    let known: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    let message = format!("show {name:?}: no such device; known are {}", known.join(", "));
    Failure::new(Exit::Failed, message)
}

/// The names of the entry, and the MIG devices that are in it.
fn heading(topology: &Topology, spec: &Spec, entry: &Device) -> String {
    let kind = &spec.kind;
    let same = spec.devices.iter().filter(|d| d.container_edits == entry.container_edits);
    let mut text = format!("{kind}={}\n", entry.name);
    for other in same.filter(|other| other.name != entry.name) {
        text += &format!("{kind}={}\n", other.name);
    }
    let nodes = &entry.container_edits.device_nodes;
    let has = |device: &MigDevice<'_>| nodes.iter().any(|node| node.path == device.ci.cap.path);
    topology.mig_devices().filter(has).for_each(|device| text += &facts(&device));
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

fn nodes(topology: &Topology, spec: &Spec, entry: &Device) -> String {
    let row = |node: &Node| {
        let (host, source) = origin(topology, &node.path);
        [
            node.path.clone(),
            format!("{} {}:{}", node.kind, node.major, node.minor),
            format!("{:04o}", node.file_mode),
            node.permissions.to_owned(),
            host.to_owned(),
            source,
        ]
    };
    let nodes = spec.container_edits.device_nodes.iter().chain(&entry.container_edits.device_nodes);
    let rows: Vec<_> = nodes.map(row).collect();
    table(["DEVICE NODE", "NUMBERS", "MODE", "MAY", "HOST HAS", "FROM"], &rows)
}

/// What the host has at a node's path, and the file that the node's numbers come from.
fn origin(topology: &Topology, path: &str) -> (&'static str, String) {
    const TREE: &str = "/proc/driver/nvidia/capabilities";
    let mut found = ("none", "/proc/devices".to_owned());
    let mut look = |node: &DeviceNode, source: &dyn Fn() -> String| {
        if node.path == path {
            found = (host(node.host), source());
        }
    };
    topology.common.iter().for_each(|node| look(node, &|| "/proc/devices".to_owned()));
    for gpu in &topology.gpus {
        look(&gpu.node, &|| format!("/proc/driver/nvidia/gpus/{}/information", gpu.pci));
        gpu.dri
            .iter()
            .for_each(|node| look(node, &|| format!("/dev/dri/by-path/pci-{}-*", gpu.pci)));
        for gi in &gpu.gpu_instances {
            let dir = format!("{TREE}/gpu{}/mig/gi{}", gpu.minor, gi.id);
            look(&gi.cap, &|| format!("{dir}/access"));
            gi.compute_instances
                .iter()
                .for_each(|ci| look(&ci.cap, &|| format!("{dir}/ci{}/access", ci.id)));
        }
    }
    found
}

fn host(node: HostNode) -> &'static str {
    match node {
        HostNode::Ok => "same",
        HostNode::Wrong => "other",
        HostNode::Missing => "none",
    }
}

fn environment(spec: &Spec, entry: &Device) -> String {
    let variables = spec.container_edits.env.iter().chain(&entry.container_edits.env);
    std::iter::once("ENVIRONMENT\n".to_owned()).chain(variables.map(|v| format!("{v}\n"))).collect()
}
