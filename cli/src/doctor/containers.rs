//! Check of the containers that run. A container keeps the right to its nodes when its slice is destroyed, and the next slice
//! that is created with the same ids answers to them: the driver compares only the numbers
//! (`nv-caps.c:506-559`).

use super::{
    facts::NodeFacts,
    verdict::{OUTSIDE, Verdict, error, first_few, note, ok, privileged_cure},
};
use mig_cdi_model::{DeviceVariable, Major, MigDevice, Minor, Topology};
use mig_cdi_sys::{
    device_access::{Access, AccessKinds, AccessQuery, Accessor},
    in_user_namespace,
};
use std::collections::BTreeSet;

const CURE: &str = "stop the container, and start it again with a slice that mig-cdi list shows";

/// Capability nodes that containers may open, compared with the instances that exist.
pub(super) fn containers(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let confirmed = facts.proc_discovery.as_ref().ok().filter(|found| found.problems.is_empty());
    let Some(discovery) = confirmed else {
        let reason = match facts.proc_discovery.is_ok() {
            true => "while some instances are not confirmed",
            false => "without a driver",
        };
        return vec![note("", format!("not checked {reason}"))];
    };
    let mut live = BTreeSet::new();
    discovery.topology.clone().for_each_node(|node| {
        live.insert(node.minor.0);
    });
    let Some(query) = query(facts, &discovery.topology) else {
        return vec![ok("", "0 hold slices, all of which exist")];
    };
    let report = match query.run() {
        Ok(report) => report,
        Err(e) => return vec![note("", format!("not checked: {}", e.cause()))],
    };
    let mut holders: Vec<_> =
        report.accessors.iter().filter(|a| a.access != Access::OpenFile).collect();
    let mut verdicts: Vec<Verdict> = Vec::new();
    if in_user_namespace() {
        // There the device programs of other containers cannot be listed.
        let all = holders.len();
        holders.retain(|accessor| !matches!(accessor.access, Access::Unknown(_)));
        if all > holders.len() {
            let unknown = processes(all - holders.len());
            verdicts.push(note("", format!("{unknown} could not be examined: {OUTSIDE}")));
        }
    }
    for accessor in &holders {
        verdicts.extend(judge(facts, accessor, &query, &live));
    }
    if verdicts.is_empty() {
        let names: BTreeSet<_> = holders.iter().map(|accessor| name(accessor)).collect();
        let holds = if names.len() == 1 { "holds" } else { "hold" };
        verdicts.push(ok("", format!("{} {holds} slices, all of which exist", names.len())));
    }
    if report.forbidden > 0 {
        let reason = privileged_cure().unwrap_or("the kernel forbids it");
        verdicts.push(note(
            "",
            format!("{} could not be examined: {reason}", processes(report.forbidden)),
        ));
    }
    verdicts
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// Makes the query for the capability nodes of every instance that could exist; `None` without a driver that has such nodes.
fn query(facts: &NodeFacts<'_>, topology: &Topology) -> Option<AccessQuery> {
    let major = Major(facts.caps_major()?);
    let mut minors: Vec<u32> =
        topology.config_node().map(|node| node.minor.0).into_iter().collect();
    let config = (!minors.is_empty()).then_some(0);
    minors.extend(facts.instance_capabilities(topology));
    let root = facts.host.display_path("");
    Some(AccessQuery {
        host_root: root.clone(),
        nodes: minors.iter().map(|minor| format!("nvidia-caps/nvidia-cap{minor}")).collect(),
        devices: minors.into_iter().map(|minor| (major, Minor(minor))).collect(),
        dev_root: root,
        config,
        kinds: AccessKinds::All,
        describe: Vec::new(),
        has_hints: true,
        own: None,
        is_for_machine: false,
    })
}

/// Name of a container: by its id, or by its process where its cgroup has none.
fn name(accessor: &Accessor) -> String {
    match &accessor.container {
        Some(id) => format!("container {id}"),
        None => format!("pid {}", accessor.pid),
    }
}

fn judge(
    facts: &NodeFacts<'_>,
    accessor: &Accessor,
    query: &AccessQuery,
    live: &BTreeSet<u32>,
) -> Vec<Verdict> {
    let subject = name(accessor);
    if let Access::Unknown(reason) = &accessor.access {
        return vec![note(subject, format!("not checked: {reason}"))];
    }
    let minors = accessor.devices.iter().filter_map(|i| Some(query.devices.get(*i)?.1.0));
    let minors: BTreeSet<u32> = minors.collect();
    let gone = minors.iter().filter(|minor| !live.contains(minor));
    let gone: Vec<_> = gone.map(|minor| format!("/dev/nvidia-caps/nvidia-cap{minor}")).collect();
    let mut verdicts = Vec::new();
    if !gone.is_empty() {
        let evidence =
            format!("it may open nodes of instances that do not exist: {}", first_few(&gone));
        verdicts.push(error(&*subject, evidence, CURE));
    }
    let topology = facts.discovery.as_ref().ok().map(|discovery| &discovery.topology);
    let variables = accessor.hints.variables.iter();
    for variable in variables.filter_map(|text| DeviceVariable::parse(text)?.ok()) {
        if let Some(change) = topology.and_then(|topology| change(topology, &variable)) {
            let evidence = format!("{} has become another slice: {change}", variable.id);
            verdicts.push(error(&*subject, evidence, CURE));
        }
    }
    verdicts
}

/// First property of a slice that differs from the one that the container was started with. A slice that does
/// not exist is reported by its nodes instead.
fn change(topology: &Topology, variable: &DeviceVariable) -> Option<String> {
    let id = variable.id;
    let mut devices = topology.mig_devices();
    let is_same = |d: &MigDevice<'_>| (d.gpu.minor, d.gi.id, d.ci.id) == (id.gpu, id.gi, id.ci);
    let MigDevice { gpu, ci, .. } = devices.find(is_same)?;
    let properties = [
        ("gpu", text(&variable.gpu), text(&gpu.uuid)),
        ("profile", text(&variable.profile), text(&ci.profile)),
        ("uuid", text(&variable.uuid), text(&ci.uuid)),
    ];
    properties.into_iter().find_map(|(name, was, now)| {
        let (was, now) = (was?, now?);
        (was != now).then(|| format!("{name} is {now}, the container was given {was}"))
    })
}

fn text(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}
