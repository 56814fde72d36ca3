//! Containers that run, and the slices that they hold: a container keeps its nodes when its slice goes,
//! and whatever is made in the same place next answers to them (nv-caps.c l.506-559: the numbers alone
//! are looked at).

use super::{Facts, Verdict, error, note, ok, some};
use crate::containers::{Container, Scan, scan};
use mig_cdi_model::{DeviceVariable, MigDevice, Topology};
use std::collections::BTreeSet;

const CURE: &str = "stop it, and start it anew with a slice that there is";

/// Every container against the instances that there are.
pub(super) fn containers(facts: &Facts<'_>) -> Vec<Verdict> {
    let certain = facts.tree.as_ref().ok().filter(|tree| tree.problems.is_empty());
    let Some(tree) = certain else {
        let why =
            if facts.tree.is_ok() { "while instances are not certain" } else { "without a driver" };
        return vec![note("", format!("cannot be told {why}"))];
    };
    let Some(Scan { containers, closed }) = scan(facts.host) else {
        return vec![note("", "cannot be told: /proc does not show the processes")];
    };
    let mut live = standing(facts);
    tree.topology.clone().for_each_node(|node| {
        live.insert((node.major.0, node.minor.0));
    });
    let mut verdicts: Vec<Verdict> = Vec::new();
    for container in &containers {
        let found = judge(facts, container, &live);
        verdicts.extend(found.into_iter().filter(|v| !verdicts.contains(v)).collect::<Vec<_>>());
    }
    if verdicts.is_empty() {
        let seen: BTreeSet<_> = containers.iter().map(|container| &container.name).collect();
        verdicts.push(ok("", format!("{} hold slices, all of which there are", seen.len())));
    }
    if closed > 0 {
        let why = if mig_cdi_sys::is_root() { "the kernel forbids it" } else { "run it as root" };
        let evidence = format!("{closed} processes were not looked into: {why}");
        verdicts.push(note("", evidence));
    }
    verdicts
}

/// The capabilities that are of no instance: they stand in the driver's tables without a slash.
fn standing(facts: &Facts<'_>) -> BTreeSet<(u32, u32)> {
    facts.standing().into_iter().filter_map(|minor| Some((facts.caps_major()?, minor))).collect()
}

fn judge(facts: &Facts<'_>, container: &Container, live: &BTreeSet<(u32, u32)>) -> Vec<Verdict> {
    let (subject, nodes) = (container.name.as_str(), &container.nodes);
    let gone = nodes.iter().filter(|(_, major, minor)| !live.contains(&(*major, *minor)));
    let gone: Vec<_> = gone.map(|(path, major, minor)| format!("{path} {major}:{minor}")).collect();
    let mut verdicts = Vec::new();
    if !gone.is_empty() {
        let evidence = format!("it holds what is of no instance that there is: {}", some(&gone));
        verdicts.push(error(subject, evidence, CURE));
    }
    let topology = facts.found.as_ref().ok().map(|found| &found.topology);
    for variable in &container.variables {
        if let Some(change) = topology.and_then(|topology| change(topology, variable)) {
            let evidence = format!("{} has become another slice: {change}", variable.id);
            verdicts.push(error(subject, evidence, CURE));
        }
    }
    verdicts
}

/// The first fact of a slice that is not what its container was told. A slice that is gone is seen by
/// its nodes.
fn change(topology: &Topology, variable: &DeviceVariable) -> Option<String> {
    let id = variable.id;
    let mut devices = topology.mig_devices();
    let is = |d: &MigDevice<'_>| (d.gpu.minor, d.gi.id, d.ci.id) == (id.gpu, id.gi, id.ci);
    let MigDevice { gpu, ci, .. } = devices.find(is)?;
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    let facts = [
        (
            "gpu",
            text(variable.gpu.as_ref().map(|v| v as _)),
            text(gpu.uuid.as_ref().map(|v| v as _)),
        ),
        (
            "profile",
            text(variable.profile.as_ref().map(|v| v as _)),
            text(ci.profile.as_ref().map(|v| v as _)),
        ),
        (
            "uuid",
            text(variable.uuid.as_ref().map(|v| v as _)),
            text(ci.uuid.as_ref().map(|v| v as _)),
        ),
    ];
    facts.into_iter().find_map(|(what, was, now)| {
        let (was, now) = (was?, now?);
        (was != now).then(|| format!("{what} is {now}, the container was given {was}"))
    })
}
