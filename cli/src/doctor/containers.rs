//! Check of the containers that run. A container keeps its nodes when its slice is destroyed, and the next slice
//! that is created with the same ids answers to them: the driver compares only the numbers
//! (`nv-caps.c:506-559`).

use super::{
    facts::NodeFacts,
    verdict::{Verdict, error, first_few, note, ok},
};
use mig_cdi_model::{DeviceVariable, MigDevice, Topology};
use mig_cdi_partition::containers::{ContainerScan, RunningContainer, scan};
use std::collections::BTreeSet;

const CURE: &str = "stop the container, and start it again with a slice that mig-cdi list shows";

/// Nodes of every container, compared with the instances that exist.
pub(super) fn containers(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let confirmed = facts.proc_discovery.as_ref().ok().filter(|found| found.problems.is_empty());
    let Some(discovery) = confirmed else {
        let reason = match facts.proc_discovery.is_ok() {
            true => "while some instances are not confirmed",
            false => "without a driver",
        };
        return vec![note("", format!("not checked {reason}"))];
    };
    let Some(ContainerScan { containers, unreadable }) = scan(facts.host) else {
        return vec![note("", "not checked: /proc does not show the processes")];
    };
    // A container may hold these without a slice: they exist as long as the driver is loaded.
    let mut live = non_instance_nodes(facts);
    discovery.topology.clone().for_each_node(|node| {
        live.insert((node.major.0, node.minor.0));
    });
    let mut verdicts: Vec<Verdict> = Vec::new();
    for container in &containers {
        // A container of several mount namespaces is found several times.
        for verdict in judge(facts, container, &live) {
            if !verdicts.contains(&verdict) {
                verdicts.push(verdict);
            }
        }
    }
    if verdicts.is_empty() {
        let names: BTreeSet<_> = containers.iter().map(|container| &container.name).collect();
        verdicts.push(ok("", format!("{} hold slices, all of which exist", names.len())));
    }
    if unreadable > 0 {
        let reason = match mig_cdi_sys::is_root() {
            true => "the kernel forbids it",
            false => "run mig-cdi doctor as root",
        };
        verdicts.push(note("", format!("{unreadable} processes could not be examined: {reason}")));
    }
    verdicts
}

/// Major and minor numbers of the capabilities that belong to no instance.
fn non_instance_nodes(facts: &NodeFacts<'_>) -> BTreeSet<(u32, u32)> {
    let minors = facts.non_instance_capabilities().into_iter();
    minors.filter_map(|minor| Some((facts.caps_major()?, minor))).collect()
}

fn judge(
    facts: &NodeFacts<'_>,
    container: &RunningContainer,
    live: &BTreeSet<(u32, u32)>,
) -> Vec<Verdict> {
    let subject = container.name.as_str();
    let gone = container.nodes.iter().filter(|node| !live.contains(&(node.major.0, node.minor.0)));
    let gone: Vec<_> = gone.map(ToString::to_string).collect();
    let mut verdicts = Vec::new();
    if !gone.is_empty() {
        let evidence =
            format!("it holds nodes of instances that do not exist: {}", first_few(&gone));
        verdicts.push(error(subject, evidence, CURE));
    }
    let topology = facts.discovery.as_ref().ok().map(|discovery| &discovery.topology);
    for variable in &container.variables {
        if let Some(change) = topology.and_then(|topology| change(topology, variable)) {
            let evidence = format!("{} has become another slice: {change}", variable.id);
            verdicts.push(error(subject, evidence, CURE));
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
