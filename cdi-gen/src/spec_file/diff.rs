//! The differences between two specs, by what a container gets from each.

use mig_cdi_model::{
    GoneName,
    cdi::{ContainerEdits, Device, Mount, Spec, SpecNode},
};
use std::{collections::BTreeMap, fmt};

/// One thing that a container gets. The order is that of output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerItem {
    /// Device node, by its path.
    Node(String),
    /// File, by its path in the container.
    Mount(String),
    /// File, by its path on the host: one that is mounted under several names is one item.
    File(String),
    /// Variable, by its name.
    Variable(String),
    /// Program, by the stage at which it runs, its path and its arguments.
    Hook(String),
    /// Content of a field that mig-cdi never writes: `additionalGids 44`.
    Foreign(String),
}

impl fmt::Display for ContainerItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            ContainerItem::Node(path) => ("node", path),
            ContainerItem::Mount(path) => ("mount", path),
            ContainerItem::File(path) => ("file", path),
            ContainerItem::Variable(name) => ("variable", name),
            ContainerItem::Hook(command) => ("hook", command),
            ContainerItem::Foreign(text) => return f.write_str(text),
        };
        write!(f, "{what} {text}")
    }
}

/// The items of a container with their attributes: the numbers of a node, the value of a variable, whether a file is writable.
pub type ContainerItems = BTreeMap<ContainerItem, String>;

/// Returns all items of a container with this device. Files are by their paths on the host, so that specs of different
/// tools are comparable.
#[must_use]
pub fn items_of(spec: &Spec, device: &Device) -> ContainerItems {
    let of = |edits: &ContainerEdits| items(edits, file_by_host_path).into_iter();
    joined(of(&spec.container_edits).chain(of(&device.container_edits)))
}

/// Returns each difference of a file from the spec that the node would get now, as a line.
#[must_use]
pub fn differences(file: &Spec, expected: &Spec) -> Vec<String> {
    let mut lines = Vec::new();
    if file.cdi_version != expected.cdi_version {
        let version = |spec: &Spec| spec.cdi_version.clone().unwrap_or_else(|| "none".to_owned());
        let (found, expected) = (version(file), version(expected));
        lines.push(format!("its cdiVersion is {found}, should be {expected}"));
    }
    let common = |spec: &Spec| items(&spec.container_edits, mount_by_container_path);
    lines.extend(item_differences("every container", &common(file), &common(expected)));
    let by_name = |spec: &Spec| -> BTreeMap<String, ContainerItems> {
        let items = |device: &Device| items(&device.container_edits, mount_by_container_path);
        spec.devices.iter().map(|device| (device.name.clone(), items(device))).collect()
    };
    let (found, expected) = (by_name(file), by_name(expected));
    for (name, items) in &found {
        match expected.get(name) {
            Some(expected) => lines.extend(item_differences(name, items, expected)),
            None => {
                let gone = GoneName::new(name, expected.keys().map(String::as_str));
                let gone = gone.map(|gone| format!("device {gone}"));
                lines.push(gone.unwrap_or_else(|| format!("device {name} is gone")));
            }
        }
    }
    let missing = expected.keys().filter(|name| !found.contains_key(*name));
    lines.extend(missing.map(|name| format!("device {name}: not in the file")));
    lines
}

/// Returns the differences that do not depend on placements, which NVML reports to root only: those of devices named by
/// UUID. Hooks are not compared, since they verify placements, nor the version, which follows from the names.
#[must_use]
pub fn differences_without_placements(file: &Spec, expected: &Spec) -> Vec<String> {
    let known = |spec: &Spec| {
        let mut spec = spec.clone();
        spec.devices.retain(|device| device.name.starts_with("MIG-"));
        spec.devices.iter_mut().for_each(|device| device.container_edits.hooks.clear());
        spec
    };
    let file = Spec { cdi_version: expected.cdi_version.clone(), ..known(file) };
    differences(&file, &known(expected))
}

fn item_differences(
    subject: &str,
    found: &ContainerItems,
    expected: &ContainerItems,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (item, attributes) in found {
        match expected.get(item) {
            Some(right) if right == attributes => {}
            Some(right) => {
                lines.push(format!("{subject}: {item} is {attributes}, should be {right}"));
            }
            None => lines.push(format!("{subject}: {item} should not be there")),
        }
    }
    let missing = expected.keys().filter(|item| !found.contains_key(item));
    lines.extend(missing.map(|item| format!("{subject}: {item} is missing")));
    lines
}

const WRITABLE: &str = "writable";

type MountItem = fn(&Mount) -> (ContainerItem, String);

fn mount_by_container_path(mount: &Mount) -> (ContainerItem, String) {
    let mut attributes = format!("{} {}", mount.host_path, mount.options.join(","));
    if let Some(kind) = &mount.kind {
        attributes += &format!(" type {kind}");
    }
    (ContainerItem::Mount(mount.container_path.clone()), attributes)
}

fn file_by_host_path(mount: &Mount) -> (ContainerItem, String) {
    let is_read_only = mount.options.iter().any(|option| option == "ro");
    let access = if is_read_only { "read-only" } else { WRITABLE };
    (ContainerItem::File(mount.host_path.clone()), access.to_owned())
}

fn items(edits: &ContainerEdits, mount_item: MountItem) -> ContainerItems {
    let variables = edits.env.iter().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (ContainerItem::Variable(name.to_owned()), value.to_owned())
    });
    let nodes = edits.device_nodes.iter();
    let nodes = nodes.map(|node| (ContainerItem::Node(node.path.clone()), attributes(node)));
    let hooks = edits.hooks.iter().map(|hook| {
        let command = format!("{} {} {}", hook.hook_name, hook.path, hook.args.join(" "));
        (ContainerItem::Hook(command), String::new())
    });
    let mounts = edits.mounts.iter().map(mount_item);
    joined(variables.chain(nodes).chain(mounts).chain(hooks).chain(foreign_items(edits)))
}

/// Collects items, of which a later one replaces an earlier one, as in a container. A file that is mounted under several names is
/// writable if it is so under one of them.
fn joined(items: impl Iterator<Item = (ContainerItem, String)>) -> ContainerItems {
    let mut all = ContainerItems::new();
    for (item, attributes) in items {
        let is_kept = matches!(item, ContainerItem::File(_))
            && all.get(&item).is_some_and(|access| access == WRITABLE);
        if !is_kept {
            all.insert(item, attributes);
        }
    }
    all
}

fn foreign_items(edits: &ContainerEdits) -> impl Iterator<Item = (ContainerItem, String)> {
    let groups = edits.additional_gids.iter().map(|gid| format!("additionalGids {gid}"));
    let devices = edits
        .net_devices
        .iter()
        .map(|device| format!("netDevices {} as {}", device.host_interface_name, device.name));
    let rdt = edits.intel_rdt.iter().map(|_| "intelRdt".to_owned());
    groups.chain(devices).chain(rdt).map(|text| (ContainerItem::Foreign(text), String::new()))
}

/// `c 195:0 0666 rw of 0:0`, with `?` for what the spec does not state and the engine reads from the host.
fn attributes(node: &SpecNode) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let stated = |is_stated: bool, number: String| if is_stated { number } else { "?".to_owned() };
    let from = match node.source() {
        source if source == node.path => String::new(),
        source => format!(" from {source}"),
    };
    format!(
        "{} {}:{} {} {} of {}:{}{from}",
        text(&node.kind),
        stated(node.has_numbers(), node.major.to_string()),
        stated(node.has_numbers(), node.minor.to_string()),
        stated(node.file_mode.is_some(), format!("{:04o}", node.mode())),
        text(&node.permissions),
        node.uid.unwrap_or(0),
        node.gid.unwrap_or(0)
    )
}
