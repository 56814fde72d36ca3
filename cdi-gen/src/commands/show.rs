//! `mig-cdi show NAME`.

use super::{
    Context, Done, exit,
    table::{gib, table},
};
use crate::{
    Exit, Failure,
    cli::ShowArgs,
    spec::{self, Options, label},
};
use mig_cdi_model::{
    HostNode, MigDevice, Topology,
    cdi::{ContainerEdits, DeviceName, Node},
};

pub(super) fn run(context: &Context<'_>, args: &ShowArgs) -> Result<Done, Failure> {
    let options = context.options(&args.spec)?;
    let prefix = format!("{}=", options.kind);
    let name = args.name.strip_prefix(&prefix).unwrap_or(&args.name);
    let discovery = context.discover()?;
    let topology = &discovery.topology;
    let (device, names, edits) =
        spec::preview(topology, &options, name).ok_or_else(|| unknown(topology, &options, name))?;
    let common = spec::common_edits(topology, &options);
    let stdout = [
        heading(&device, &options, name, &names),
        nodes(topology, &device, &common, &edits),
        environment(&common, &edits),
    ];
    Ok(Done { stdout: stdout.join("\n"), exit: exit(discovery.problems.is_empty()) })
}

fn unknown(topology: &Topology, options: &Options, name: &str) -> Failure {
    let known: Vec<String> =
        spec::all_names(topology, options).iter().map(ToString::to_string).collect();
    let known = match known.len() {
        0 => "there is no mig device on this node".to_owned(),
        _ => format!("known are {}", known.join(", ")),
    };
    Failure::new(Exit::Failed, format!("show {name:?}: no such device; {known}"))
}

fn heading(device: &MigDevice<'_>, options: &Options, name: &str, names: &[DeviceName]) -> String {
    let MigDevice { gpu, gi, ci } = device;
    let kind = &options.kind;
    let mut lines = vec![format!("{kind}={name}"), format!("  {}", label(device))];
    lines.push(format!("  on {} at {}", gpu.model, gpu.pci));
    if let Some(profile) = &ci.profile {
        let memory = ci.memory_mib.map(|mib| format!(", {} of memory", gib(mib)));
        lines.push(format!("  profile {profile}{}", memory.unwrap_or_default()));
    }
    if let Some(slices) = gi.placement {
        lines.push(format!(
            "  memory slices {} to {}",
            slices.start,
            slices.start + slices.size.max(1) - 1
        ));
    }
    for other in names.iter().filter(|other| other.as_str() != name) {
        lines.push(format!("  also named {kind}={other}"));
    }
    lines.join("\n") + "\n"
}

fn nodes(
    topology: &Topology,
    device: &MigDevice<'_>,
    common: &ContainerEdits,
    edits: &ContainerEdits,
) -> String {
    let host = |path: &str| {
        let mut nodes = topology.common.iter().chain(device.nodes());
        match nodes.find(|node| node.path == path).map(|node| node.host) {
            Some(HostNode::Ok) => "same",
            Some(HostNode::Wrong) => "other",
            Some(HostNode::Missing) | None => "none",
        }
    };
    let row = |node: &Node| {
        [
            node.path.clone(),
            format!("{} {}:{}", node.kind, node.major, node.minor),
            format!("{:04o}", node.file_mode),
            node.permissions.to_owned(),
            host(&node.path).to_owned(),
            source(device, &node.path),
        ]
    };
    let nodes = common.device_nodes.iter().chain(&edits.device_nodes);
    table(
        ["DEVICE NODE", "NUMBERS", "MODE", "MAY", "HOST HAS", "FROM"],
        &nodes.map(row).collect::<Vec<_>>(),
    )
}

/// The file of the driver that a node's numbers come from.
fn source(device: &MigDevice<'_>, path: &str) -> String {
    let MigDevice { gpu, gi, ci } = device;
    let tree = format!("/proc/driver/nvidia/capabilities/gpu{}/mig/gi{}", gpu.minor, gi.id);
    match path {
        _ if path == gi.cap.path => format!("{tree}/access"),
        _ if path == ci.cap.path => format!("{tree}/ci{}/access", ci.id),
        _ if path == gpu.node.path => format!("/proc/driver/nvidia/gpus/{}/information", gpu.pci),
        _ if path.starts_with("/dev/dri/") => format!("/dev/dri/by-path/pci-{}-*", gpu.pci),
        _ => "/proc/devices".to_owned(),
    }
}

fn environment(common: &ContainerEdits, edits: &ContainerEdits) -> String {
    let variables = common.env.iter().chain(&edits.env);
    std::iter::once("ENVIRONMENT\n".to_owned()).chain(variables.map(|v| format!("{v}\n"))).collect()
}
