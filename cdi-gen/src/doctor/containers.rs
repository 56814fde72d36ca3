//! Containers that run, and the slices that they hold: a container keeps its nodes when its slice goes,
//! and whatever is made in the same place next answers to them (nv-caps.c l.506-559: the numbers alone
//! are looked at).

use super::{Facts, Verdict, error, note, ok, some};
use mig_cdi_model::{MigDevice, Topology, Variable};
use mig_cdi_sys::Root;
use std::collections::{BTreeMap, BTreeSet};

const CAPS: &str = "/dev/nvidia-caps";
const CURE: &str = "stop it, and start it anew with a slice that there is";

/// Every mount namespace but the host's, each looked at through one of its processes.
pub(super) fn containers(facts: &Facts<'_>) -> Vec<Verdict> {
    let certain = facts.tree.as_ref().ok().filter(|tree| tree.problems.is_empty());
    let Some(tree) = certain else {
        let why =
            if facts.tree.is_ok() { "while instances are not certain" } else { "without a driver" };
        return vec![note("", format!("cannot be told {why}"))];
    };
    let namespace = |pid: &str| facts.host.link(&format!("/proc/{pid}/ns/mnt"));
    let (Ok(own), Ok(Some(pids))) =
        (namespace("1").or_else(|_| namespace("self")), facts.host.list("/proc"))
    else {
        return vec![note("", "cannot be told: /proc does not show the processes")];
    };
    let mut spaces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut closed = 0;
    for pid in pids.into_iter().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit())) {
        match namespace(&pid) {
            Ok(space) if space == own => {}
            Ok(space) => spaces.entry(space).or_default().push(pid),
            Err(e) if e.is_denied() => closed += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    let mut live = standing(facts);
    tree.topology.clone().for_each_node(|node| {
        live.insert((node.major.0, node.minor.0));
    });
    let mut seen = BTreeSet::new();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for pids in spaces.values() {
        let Some(held) = held(facts.host, pids) else { continue };
        let subject = container(facts.host, &pids[0]);
        let found = judge(facts, &subject, &held, &live);
        seen.insert(subject);
        verdicts.extend(found.into_iter().filter(|v| !verdicts.contains(v)).collect::<Vec<_>>());
    }
    if verdicts.is_empty() {
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

/// What a container has of the driver's.
struct Held {
    /// Path, major and minor of each capability node.
    nodes: Vec<(String, u32, u32)>,
    variables: Vec<Variable>,
}

/// `None` for what has no capability node of its own: a service of the host with a mount namespace sees
/// the host's `/dev`.
fn held(host: &Root, pids: &[String]) -> Option<Held> {
    let root =
        pids.iter().find_map(|pid| Root::open(&host.show(&format!("/proc/{pid}/root"))).ok())?;
    let dir = root.identity(CAPS).ok()??;
    if host.identity(CAPS).ok()? == Some(dir) {
        return None;
    }
    let names = root.list(CAPS).ok()??;
    let node = |name: &String| {
        let path = format!("{CAPS}/{name}");
        let stat = root.node(&path).ok()?.filter(|stat| stat.is_char)?;
        Some((path, stat.major.0, stat.minor.0))
    };
    let nodes: Vec<_> =
        names.iter().filter(|n| n.starts_with("nvidia-cap")).filter_map(node).collect();
    let mut variables: Vec<Variable> = Vec::new();
    for pid in pids.iter().take(32) {
        let environ = host.read(&format!("/proc/{pid}/environ"), super::facts::TEXT_LIMIT);
        let environ = environ.ok().flatten().unwrap_or_default();
        for text in environ.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok()) {
            match Variable::parse(text) {
                Some(Ok(variable)) if !variables.contains(&variable) => variables.push(variable),
                _ => {}
            }
        }
    }
    (!nodes.is_empty()).then_some(Held { nodes, variables })
}

/// `container 4f08cd7afbc6`: engines put the id into the cgroup's path. The process, where none is.
fn container(host: &Root, pid: &str) -> String {
    let cgroup = host.read(&format!("/proc/{pid}/cgroup"), super::facts::TEXT_LIMIT).ok().flatten();
    let cgroup = String::from_utf8(cgroup.unwrap_or_default()).unwrap_or_default();
    let words = cgroup.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = words.filter(|w| w.len() == 64 && w.bytes().all(|b| b.is_ascii_hexdigit()));
    match ids.next_back() {
        Some(id) => format!("container {}", &id[..12]),
        None => format!("pid {pid}"),
    }
}

fn judge(
    facts: &Facts<'_>,
    subject: &str,
    held: &Held,
    live: &BTreeSet<(u32, u32)>,
) -> Vec<Verdict> {
    let gone = held.nodes.iter().filter(|(_, major, minor)| !live.contains(&(*major, *minor)));
    let gone: Vec<_> = gone.map(|(path, major, minor)| format!("{path} {major}:{minor}")).collect();
    let mut verdicts = Vec::new();
    if !gone.is_empty() {
        let evidence = format!("it holds what is of no instance that there is: {}", some(&gone));
        verdicts.push(error(subject, evidence, CURE));
    }
    let topology = facts.found.as_ref().ok().map(|found| &found.topology);
    for variable in &held.variables {
        if let Some(change) = topology.and_then(|topology| change(topology, variable)) {
            let evidence = format!("{} has become another slice: {change}", variable.id);
            verdicts.push(error(subject, evidence, CURE));
        }
    }
    verdicts
}

/// The first fact of a slice that is not what its container was told. A slice that is gone is seen by
/// its nodes.
fn change(topology: &Topology, variable: &Variable) -> Option<String> {
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
