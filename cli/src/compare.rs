//! Comparison of another tool's spec with ours: device by device, with the reason for each difference. Reads no spec.

mod host;
mod reason;

pub(crate) use host::HostView;

use mig_cdi_gen::spec_file::{ContainerItem, JudgedSpec, items_of, version_refusal};
use mig_cdi_model::cdi::{Device, Spec, SpecNode};
use reason::Reasons;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Name in the place of a device for what all devices differ in.
const EVERY: &str = "every";

/// One difference. `--json` prints its fields by these names.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Our name of the slice, theirs when we have none or when only one of their names differs, `every` for what all
    /// devices differ in.
    pub device: String,
    /// The spec that has what the other lacks; `None` for what both have, with other numbers or another value.
    pub only_in: Option<Side>,
    pub what: String,
    pub reason: String,
}

/// One of the two specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Ours,
    Theirs,
}

/// A device of each spec, with the same slices.
struct Pair<'a> {
    ours: &'a Device,
    theirs: &'a Device,
}

/// Lists the reason why engines refuse theirs, the devices that one of the specs lacks, the differences of those that both have,
/// and device nodes that are others than in ours.
pub(crate) fn compare(ours: &Spec, theirs: &JudgedSpec, host: &HostView<'_>) -> Vec<Row> {
    let JudgedSpec { spec: theirs, refusal } = theirs;
    let mut rows = Vec::from_iter(refused(theirs, refusal.as_deref()));
    let pairs = pair(ours, theirs, host, &mut rows);
    rows.extend(other_nodes(ours, theirs, &pairs, host));
    rows.extend(differences(ours, theirs, &pairs, host));
    rows
}

/// The row for a file that engines refuse: a container gets nothing from it.
fn refused(theirs: &Spec, refusal: Option<&str>) -> Option<Row> {
    let every = refusal.map(|reason| format!("engines refuse it: {reason}"));
    // Debian 12's podman takes it.
    let current =
        || Some(format!("current engines refuse it: {}", version_refusal(theirs, false)?));
    Some(row(EVERY, Some(Side::Theirs), "the file", every.or_else(current)?))
}

fn row(device: &str, only_in: Option<Side>, what: impl ToString, reason: impl Into<String>) -> Row {
    Row { device: device.to_owned(), only_in, what: what.to_string(), reason: reason.into() }
}

/// Pairs each device of theirs with one of ours, by their capability nodes; both have a device for each style of name.
/// Adds a row for each device that has no counterpart.
fn pair<'a>(
    ours: &'a Spec,
    theirs: &'a Spec,
    host: &HostView<'_>,
    rows: &mut Vec<Row>,
) -> Vec<Pair<'a>> {
    let mut our_slices: BTreeMap<Vec<&str>, &Device> = BTreeMap::new();
    for device in &ours.devices {
        // The shortest name of a slice is the one that mig-cdi list shows; `all` may be the only slice as well.
        let known = our_slices.entry(device.container_edits.capability_nodes()).or_insert(device);
        let rank = |device: &Device| (device.name == "all", device.name.len());
        if rank(device) < rank(known) {
            *known = device;
        }
    }
    let mut pairs = Vec::new();
    let mut found = BTreeSet::new();
    let mut unknown = Vec::new();
    for device in &theirs.devices {
        let nodes = device.container_edits.capability_nodes();
        match our_slices.get(&nodes) {
            Some(ours) => pairs.push(Pair { ours, theirs: device }),
            None => {
                let reason = host.unknown_device(&nodes, &device.container_edits);
                unknown.push(row(&device.name, Some(Side::Theirs), "the device", reason));
            }
        }
        found.insert(nodes);
    }
    // A device of several slices, such as `all`, is missing with one of its slices or by choice.
    let is_missing = |nodes: &Vec<&str>| nodes.len() <= 2 && !found.contains(nodes);
    for (_, device) in our_slices.iter().filter(|(nodes, _)| is_missing(nodes)) {
        let reason = "the other spec does not have this slice: it is stale, or for other devices";
        rows.push(row(&device.name, Some(Side::Ours), "the slice", reason));
    }
    rows.append(&mut unknown);
    pairs
}

/// Lists the nodes of theirs whose numbers are not those of the driver, of which a container gets another device, or none, and
/// those that a container may use in another way.
fn other_nodes(ours: &Spec, theirs: &Spec, pairs: &[Pair<'_>], host: &HostView<'_>) -> Vec<Row> {
    let ours = ours.all_edits().flat_map(|(_, edits)| &edits.device_nodes);
    let ours: HashMap<&str, &SpecNode> = ours.map(|node| (node.path.as_str(), node)).collect();
    let mut our_names: HashMap<&str, &str> = HashMap::new();
    our_names.extend(pairs.iter().map(|pair| (&*pair.theirs.name, &*pair.ours.name)));
    let mut wrong: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for (device, edits) in theirs.all_edits() {
        let name = device.map_or(EVERY, |name| our_names.get(name).copied().unwrap_or(name));
        for node in &edits.device_nodes {
            let access =
                ours.get(&*node.path).into_iter().flat_map(|ours| other_access(node, ours));
            for reason in host.wrong_numbers(node).into_iter().chain(access) {
                wrong.entry((&node.path, reason)).or_default().insert(name);
            }
        }
    }
    let rows = wrong.into_iter().flat_map(|((path, reason), devices)| {
        let devices = if devices.contains(EVERY) { BTreeSet::from([EVERY]) } else { devices };
        let what = format!("node {path}");
        devices.into_iter().map(move |device| row(device, None, &what, reason.clone()))
    });
    rows.collect()
}

/// Differences in the type of a node, and in who may use it and how. What theirs does not state is not compared, since the engine
/// chooses it, nor the right to create the node (`m`), which no program needs.
fn other_access(theirs: &SpecNode, ours: &SpecNode) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut add = |what: &str, theirs: &str, ours: &str| {
        reasons.push(format!("{what} {theirs} there, and {ours} in ours"));
    };
    let ours_kind = ours.kind.as_deref().unwrap_or("c");
    // `u` is a character device too (mknod(1)).
    match theirs.kind.as_deref() {
        None | Some("" | "c" | "u") => {}
        Some(kind) => add("its type is", kind, ours_kind),
    }
    if theirs.file_mode.is_some() && theirs.mode() & 0o777 != ours.mode() & 0o777 {
        let mode = |node: &SpecNode| format!("{:04o}", node.mode() & 0o777);
        add("its mode is", &mode(theirs), &mode(ours));
    }
    for (what, theirs, ours) in
        [("its owner is", theirs.uid, ours.uid), ("its group is", theirs.gid, ours.gid)]
    {
        if let Some(theirs) = theirs.filter(|id| *id != ours.unwrap_or(0)) {
            add(what, &theirs.to_string(), &ours.unwrap_or(0).to_string());
        }
    }
    // Without any, an engine allows all (`pkg/cdi/container-edits.go`, `Apply`).
    let allowed = theirs.permissions.as_deref().filter(|allowed| !allowed.is_empty());
    if let Some(allowed) = allowed.filter(|allowed| !["r", "w"].iter().all(|a| allowed.contains(a)))
    {
        add("its permissions are", allowed, ours.permissions.as_deref().unwrap_or("rw"));
    }
    reasons
}

/// A difference in the items of containers: the item as compared, and its reason where both have it.
type Difference = (Option<Side>, ContainerItem, Option<String>);

/// Lists what containers get from only one of the specs, variables with another value, and files that are writable.
fn differences(ours: &Spec, theirs: &Spec, pairs: &[Pair<'_>], host: &HostView<'_>) -> Vec<Row> {
    let mut all: BTreeMap<Difference, (ContainerItem, BTreeSet<usize>)> = BTreeMap::new();
    let mut our_files = BTreeSet::new();
    for (index, pair) in pairs.iter().enumerate() {
        let (a, b) = (items(ours, pair.ours, host), items(theirs, pair.theirs, host));
        our_files.extend(a.values().filter_map(|(shown, _)| match shown {
            ContainerItem::File(path) => Some(path.clone()),
            _ => None,
        }));
        let mut add = |difference: Difference, shown: &ContainerItem| {
            all.entry(difference)
                .or_insert_with(|| (shown.clone(), BTreeSet::new()))
                .1
                .insert(index);
        };
        for (side, from, to) in [(Side::Ours, &a, &b), (Side::Theirs, &b, &a)] {
            for (item, (shown, _)) in from.iter().filter(|(item, _)| !to.contains_key(item)) {
                add((Some(side), item.clone(), None), shown);
            }
        }
        for (item, (shown, here)) in &a {
            let Some((_, there)) = b.get(item).filter(|(_, there)| there != here) else { continue };
            let reason = match item {
                ContainerItem::Variable(_) => {
                    format!("it is {there:?} there, and {here:?} in ours")
                }
                ContainerItem::File(_) => format!("it is {there} there, and {here} in ours"),
                _ => continue,
            };
            add((None, item.clone(), Some(reason)), shown);
        }
    }
    let reasons = Reasons { host, our_files: &our_files };
    let rows = all.into_iter().flat_map(|((side, _, reason), (shown, at))| {
        let reason = match (reason, side) {
            (Some(reason), _) => reason,
            (None, side) => reasons.of(side == Some(Side::Ours), &shown),
        };
        let devices = devices(pairs, &at).into_iter();
        devices.map(move |device| row(device, side, &shown, reason.clone())).collect::<Vec<_>>()
    });
    rows.collect()
}

/// The items of a container by what they are on this host, each as its spec spells it and with its attributes.
fn items(
    spec: &Spec,
    device: &Device,
    host: &HostView<'_>,
) -> BTreeMap<ContainerItem, (ContainerItem, String)> {
    let items = items_of(spec, device).into_iter();
    items.map(|(item, attributes)| (host.canonical(&item), (item, attributes))).collect()
}

/// Names of the devices of these pairs: `every` for all, our name where all of their names of a slice are among them.
fn devices<'a>(pairs: &[Pair<'a>], at: &BTreeSet<usize>) -> BTreeSet<&'a str> {
    if at.len() == pairs.len() {
        return BTreeSet::from([EVERY]);
    }
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let (all, differing) = counts.entry(&pair.ours.name).or_default();
        *all += 1;
        *differing += usize::from(at.contains(&index));
    }
    let name = |index: &usize| {
        let Pair { ours, theirs } = &pairs[*index];
        let is_whole = counts.get(&*ours.name).is_none_or(|(all, differing)| all == differing);
        if is_whole { ours.name.as_str() } else { theirs.name.as_str() }
    };
    at.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mig_cdi_gen::spec_file;

    fn spec(text: &str) -> Spec {
        spec_file::parse(text.as_bytes()).unwrap()
    }

    const OURS: &str = r#"{"kind":"nvidia.com/mig","devices":[
        {"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia-caps/nvidia-cap12"},{"path":"/dev/nvidia-caps/nvidia-cap13"}]}},
        {"name":"b","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia-caps/nvidia-cap21"},{"path":"/dev/nvidia-caps/nvidia-cap22"}]}}]}"#;

    fn found(ours: &str, theirs: &str) -> Vec<(String, Option<Side>, String)> {
        let theirs = JudgedSpec { spec: spec(theirs), refusal: None };
        let rows = compare(&spec(ours), &theirs, &HostView::empty());
        rows.into_iter().map(|row| (row.device, row.only_in, row.what)).collect()
    }

    fn expected(rows: &[(&str, Option<Side>, &str)]) -> Vec<(String, Option<Side>, String)> {
        rows.iter().map(|(a, side, b)| ((*a).to_owned(), *side, (*b).to_owned())).collect()
    }

    #[test]
    fn slices_are_matched_by_capabilities_and_differences_named_once() {
        let theirs = "kind: nvidia.com/gpu\ncontainerEdits:\n  hooks:\n  - {hookName: createContainer, path: /x, args: [x, update-ldcache]}\ndevices:\n- name: \"0:0\"\n  containerEdits:\n    deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap13}, {path: /dev/nvidia-caps/nvidia-cap12}]\n- name: \"0\"\n  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}\n- name: \"1\"\n  containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}\n";
        let rows = [
            ("b", Some(Side::Ours), "the slice"),
            ("0", Some(Side::Theirs), "the device"),
            ("1", Some(Side::Theirs), "the device"),
            ("every", Some(Side::Theirs), "hook createContainer /x x update-ldcache"),
        ];
        assert_eq!(found(OURS, theirs), expected(&rows));
    }

    #[test]
    fn every_name_of_a_slice_is_compared() {
        let caps = "deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap12}, {path: /dev/nvidia-caps/nvidia-cap13}]";
        let other = "deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap21}, {path: /dev/nvidia-caps/nvidia-cap22}]";
        let theirs = format!(
            "kind: nvidia.com/gpu\ndevices:\n- name: \"0:0\"\n  containerEdits: {{{caps}}}\n- name: alias\n  containerEdits: {{{caps}, env: [A=b]}}\n- name: \"0:1\"\n  containerEdits: {{{other}, env: [C=d]}}\n"
        );
        let rows =
            [("alias", Some(Side::Theirs), "variable A"), ("b", Some(Side::Theirs), "variable C")];
        assert_eq!(found(OURS, &theirs), expected(&rows));
    }
}
