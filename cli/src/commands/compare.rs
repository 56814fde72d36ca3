//! `mig-cdi compare FILE`: another tool's spec, compared with ours slice by slice, with reasons.

use crate::{
    cli::CompareArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    table::table,
};
use mig_cdi_gen::{
    Error, NodeSource,
    discover::capabilities_of,
    generate::{DeviceBuilder, DeviceOptions},
    spec::DeviceSet,
    spec_file::{self, ContainerItem, SIZE_LIMIT, items_of},
};
use mig_cdi_model::cdi::{Device, Spec};
use mig_cdi_sys::read_named;
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn run(
    node: &NodeSource,
    options: &DeviceOptions,
    args: &CompareArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let shown = args.file.display();
    let bytes = read_named(&args.file, SIZE_LIMIT).map_err(Error::of_input)?;
    let theirs = spec_file::parse(&bytes).ok_or_else(|| {
        Error::usage("read", &shown)
            .because("it is no cdi spec in json or yaml")
            .with_cure("name a file that an engine reads")
    })?;
    let builder = DeviceBuilder::new(node, options, console);
    let options = builder.options()?;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let topology = &discovery.topology;
    let files = builder.driver_files(machine.as_ref(), topology)?;
    let built = builder.build(topology, &files, DeviceSet::Mig, &options)?;
    let ours = built.spec.ok_or_else(|| {
        Error::failed("compare", &shown)
            .because("this node has no mig device")
            .with_cure("create one with mig-cdi apply")
    })?;
    let rows = rows(&ours, &theirs);
    let is_complete = discovery.problems.is_empty() && built.problems.is_empty();
    let stdout = match (args.json, rows.is_empty()) {
        (true, _) => to_json(&rows)?,
        (false, true) => "no difference\n".to_owned(),
        (false, false) => text(&rows),
    };
    Ok(CommandOutput::complete_if(is_complete, stdout))
}

fn text(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        [row.device.clone(), row.only_in.name().to_owned(), row.what.clone(), row.reason.clone()]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    table(["DEVICE", "ONLY IN", "WHAT", "REASON"], &cells)
}

/// One difference. `--json` prints its fields by these names.
#[derive(Debug, Serialize)]
struct Row {
    /// Our name of the slice, theirs when we have none, `every` for what all slices differ in.
    device: String,
    only_in: Side,
    what: String,
    reason: String,
}

/// The spec that has what the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Ours,
    Theirs,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Theirs => "theirs",
        }
    }
}

/// Lists the slices that one of the specs lacks, and the differences of those that both have.
fn rows(ours: &Spec, theirs: &Spec) -> Vec<Row> {
    let (our_slices, their_slices) = (slices(ours), slices(theirs));
    let mut rows = Vec::new();
    let mut common = Vec::new();
    for (nodes, our_device) in &our_slices {
        match their_slices.get(nodes) {
            Some(their_device) => common.push((*our_device, *their_device)),
            None => {
                let reason =
                    "the other spec does not have this slice: it is stale, or for other devices";
                rows.push(row(&our_device.name, Side::Ours, "the slice".to_owned(), reason));
            }
        }
    }
    for (nodes, device) in their_slices.iter().filter(|(key, _)| !our_slices.contains_key(*key)) {
        let reason = match nodes.is_empty() {
            true => "it has no capability node: no slice",
            false => "no such slice is on this node now",
        };
        rows.push(row(&device.name, Side::Theirs, "the device".to_owned(), reason));
    }
    let mut differences: BTreeMap<(Side, ContainerItem), Vec<&str>> = BTreeMap::new();
    for (our_device, their_device) in &common {
        let (a, b) = (items_of(ours, our_device), items_of(theirs, their_device));
        for (side, from, to) in [(Side::Ours, &a, &b), (Side::Theirs, &b, &a)] {
            for item in from.keys().filter(|item| !to.contains_key(item)) {
                differences.entry((side, item.clone())).or_default().push(&our_device.name);
            }
        }
    }
    for ((side, item), devices) in differences {
        let reason = reason(side, &item);
        let devices = if devices.len() == common.len() { vec!["every"] } else { devices };
        rows.extend(devices.iter().map(|device| row(device, side, item.to_string(), &reason)));
    }
    rows
}

fn row(device: &str, only_in: Side, what: String, reason: &str) -> Row {
    Row { device: device.to_owned(), only_in, what, reason: reason.to_owned() }
}

/// One device of each slice, by its capability nodes: a slice has a device for each style of name. Devices that hold
/// several slices, such as `all`, are omitted.
fn slices(spec: &Spec) -> BTreeMap<Vec<&str>, &Device> {
    let mut slices = BTreeMap::new();
    for device in
        spec.devices.iter().filter(|device| device.container_edits.capability_nodes().len() <= 2)
    {
        slices.entry(device.container_edits.capability_nodes()).or_insert(device);
    }
    slices
}

/// Reason for a difference.
fn reason(side: Side, item: &ContainerItem) -> String {
    let ours = side == Side::Ours;
    match item {
        ContainerItem::Node(path) if path == "/dev/nvidia-modeset" => {
            "for displays, which no slice drives".to_owned()
        }
        ContainerItem::Node(path) if path.starts_with("/dev/dri/") => {
            "only slices of a +gfx profile render".to_owned()
        }
        ContainerItem::Node(_) if ours => "a program on the slice opens it".to_owned(),
        ContainerItem::Node(_) => "no program on the slice needs it".to_owned(),
        ContainerItem::Variable(name) if ours && name.starts_with("MIG_CDI_DEVICE_") => {
            "identifies the slice to programs".to_owned()
        }
        ContainerItem::Variable(_) if ours => "set for every container with a slice".to_owned(),
        ContainerItem::Variable(_) => "no program of the driver reads it".to_owned(),
        ContainerItem::Hook(command) => hook_reason(command).to_owned(),
        ContainerItem::File(path) | ContainerItem::Mount(path) => file_reason(ours, path),
    }
}

/// Reason why a hook of nvidia-ctk, or of ours, has no counterpart.
fn hook_reason(command: &str) -> &'static str {
    let known = [
        ("create-symlinks", "libraries are mounted under every name that programs open"),
        ("update-ldcache", "libraries are in directories that the loader searches without a cache"),
        ("ldcache", "for a loader that searches elsewhere: --ldcache-hook"),
        ("verify", "checks the slice when a container starts: --verify"),
        (
            "enable-cuda-compat",
            "files of the image are not run as root; set LD_LIBRARY_PATH in the image",
        ),
        (
            "disable-device-node-modification",
            "--mask-params does it with crun, NVreg_ModifyDeviceFiles=0 on the host with all",
        ),
        ("chmod", "nodes are made with the driver's modes"),
    ];
    let found = known.iter().find(|(name, _)| command.split(' ').any(|argument| argument == *name));
    found.map_or("nothing runs as root in the container's files", |(_, reason)| reason)
}

fn file_reason(ours: bool, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    match (ours, capabilities_of(name)) {
        (true, Some(classes)) => format!("of class {classes}"),
        (true, None) => "of the driver".to_owned(),
        (false, Some(classes)) => format!("of class {classes}: see --capabilities"),
        (false, None) => "not known to be needed in a container".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn spec(text: &str) -> Spec {
        spec_file::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn slices_are_matched_by_capabilities_and_differences_named_once() {
        let ours = spec(
            r#"{"kind":"nvidia.com/mig","devices":[
            {"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia-caps/nvidia-cap12"},{"path":"/dev/nvidia-caps/nvidia-cap13"}]}},
            {"name":"b","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia-caps/nvidia-cap21"},{"path":"/dev/nvidia-caps/nvidia-cap22"}]}}]}"#,
        );
        let theirs = spec(
            "kind: nvidia.com/gpu\ncontainerEdits:\n  hooks:\n  - {hookName: createContainer, path: /x, args: [x, update-ldcache]}\ndevices:\n- name: \"0:0\"\n  containerEdits:\n    deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap13}, {path: /dev/nvidia-caps/nvidia-cap12}]\n- name: \"0\"\n  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}\n",
        );
        let rows = rows(&ours, &theirs);
        let found: Vec<_> =
            rows.iter().map(|r| (r.device.as_str(), r.only_in, r.what.as_str())).collect();
        let names: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(names.len(), found.len());
        assert_eq!(
            found,
            [
                ("b", Side::Ours, "the slice"),
                ("0", Side::Theirs, "the device"),
                ("every", Side::Theirs, "hook createContainer /x x update-ldcache"),
            ]
        );
        assert!(rows[2].reason.contains("without a cache"));
    }
}
