//! `mig-cdi compare FILE`: another tool's spec against ours, slice by slice, with reasons.

use crate::{
    cli::CompareArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    table::table,
};
use mig_cdi_gen::{
    Error, NodeSource,
    discover::class_of,
    generate::{DeviceBuilder, DeviceOptions},
    spec::Content,
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
    let theirs = spec_file::parse(&read_named(&args.file, SIZE_LIMIT)?).ok_or_else(|| {
        Error::failed("read", &shown).because("it is no cdi spec in json or yaml")
    })?;
    let devices = DeviceBuilder::new(node, options, console);
    let options = devices.options()?;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let topology = &discovery.topology;
    let files = devices.driver_files(machine.as_ref(), topology)?;
    let built = devices.build(topology, &files, Content::Mig, &options)?;
    let ours = built.spec.ok_or_else(|| {
        Error::failed("compare", &shown).because("there is no mig device on this node")
    })?;
    let rows = rows(&ours, &theirs);
    let complete = discovery.problems.is_empty() && built.problems.is_empty();
    let stdout = match (args.json, rows.is_empty()) {
        (true, _) => to_json(&rows)?,
        (false, true) => "no difference\n".to_owned(),
        (false, false) => {
            let cells = |row: &Row| {
                [row.device.clone(), row.only_in.to_owned(), row.what.clone(), row.reason.clone()]
            };
            table(
                ["DEVICE", "ONLY IN", "WHAT", "REASON"],
                &rows.iter().map(cells).collect::<Vec<_>>(),
            )
        }
    };
    Ok(CommandOutput::complete_if(complete, stdout))
}

/// One difference.
#[derive(Debug, Serialize)]
struct Row {
    /// Our name of the slice, theirs when we have none, `every` for what all slices differ in.
    device: String,
    /// `ours` or `theirs`.
    only_in: &'static str,
    what: String,
    reason: String,
}

const OURS: &str = "ours";
const THEIRS: &str = "theirs";

fn rows(ours: &Spec, theirs: &Spec) -> Vec<Row> {
    let mut differences: BTreeMap<(&'static str, ContainerItem), Vec<String>> = BTreeMap::new();
    let mut rows = Vec::new();
    let slices = slices(ours);
    let other: BTreeMap<_, _> = self::slices(theirs);
    let mut both = 0;
    for (capabilities, our_entry) in &slices {
        let Some(their_entry) = other.get(capabilities) else {
            let reason =
                "the other spec does not know this slice: it is stale, or for other devices";
            rows.push(row(&our_entry.name, OURS, "the slice".to_owned(), reason));
            continue;
        };
        both += 1;
        let (a, b) = (items_of(ours, our_entry), items_of(theirs, their_entry));
        for (side, from, to) in [(OURS, &a, &b), (THEIRS, &b, &a)] {
            for fact in from.keys().filter(|fact| !to.contains_key(fact)) {
                differences.entry((side, fact.clone())).or_default().push(our_entry.name.clone());
            }
        }
    }
    for (capabilities, their_entry) in other.iter().filter(|(key, _)| !slices.contains_key(*key)) {
        let reason = match capabilities.is_empty() {
            true => "it has no capability node: no slice",
            false => "no such slice is on this node now",
        };
        rows.push(row(&their_entry.name, THEIRS, "the device".to_owned(), reason));
    }
    for ((side, fact), devices) in differences {
        let reason = reason(side, &fact);
        let named = if devices.len() == both { vec!["every".to_owned()] } else { devices };
        rows.extend(named.iter().map(|device| row(device, side, fact.to_string(), &reason)));
    }
    rows
}

fn row(device: &str, only_in: &'static str, what: String, reason: &str) -> Row {
    Row { device: device.to_owned(), only_in, what, reason: reason.to_owned() }
}

/// One entry for each set of capability nodes: names are many, slices are one. What holds several
/// slices, `all`, is passed over.
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
fn reason(side: &str, fact: &ContainerItem) -> String {
    let ours = side == OURS;
    match fact {
        ContainerItem::Node(path) if path == "/dev/nvidia-modeset" => {
            "for displays, which no slice drives".to_owned()
        }
        ContainerItem::Node(path) if path.starts_with("/dev/dri/") => {
            "only slices of a +gfx profile render".to_owned()
        }
        ContainerItem::Node(_) if ours => "a program on the slice opens it".to_owned(),
        ContainerItem::Node(_) => "no program on the slice needs it".to_owned(),
        ContainerItem::Variable(name) if ours && name.starts_with("MIG_CDI_DEVICE_") => {
            "tells programs which slice they have".to_owned()
        }
        ContainerItem::Variable(_) if ours => "set for every container with a slice".to_owned(),
        ContainerItem::Variable(_) => "no program of the driver reads it".to_owned(),
        ContainerItem::Hook(words) => hook_reason(words).to_owned(),
        ContainerItem::File(path) | ContainerItem::Mount(path) => file_reason(ours, path),
    }
}

/// Reason why a hook of nvidia-ctk, or of ours, has no counterpart.
fn hook_reason(words: &str) -> &'static str {
    let known = [
        ("create-symlinks", "libraries are mounted under every name that programs open"),
        ("update-ldcache", "libraries are in directories that the loader searches without a cache"),
        ("ldcache", "for a loader that searches elsewhere: --ldcache-hook"),
        ("verify", "looks again when a container starts: --verify"),
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
    let found = known.iter().find(|(name, _)| words.split(' ').any(|word| word == *name));
    found.map_or("nothing runs as root in the container's files", |(_, reason)| reason)
}

fn file_reason(ours: bool, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    match (ours, class_of(name)) {
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
                ("b", OURS, "the slice"),
                ("0", THEIRS, "the device"),
                ("every", THEIRS, "hook createContainer /x x update-ldcache"),
            ]
        );
        assert!(rows[2].reason.contains("without a cache"));
    }
}
