//! The spec files: does every engine read them, do they name what is there?

use super::{Facts, Verdict, error, note, ok, some, warning};
use crate::spec_file;
use mig_cdi_model::cdi::{ContainerEdits, Kind, Spec, SpecNode, Version};
use mig_cdi_sys::{is_program, is_root};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const GENERATE: &str = "run mig-cdi generate";

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The permission bits of anything.
fn mode(facts: &Facts<'_>, path: &Path) -> Option<u32> {
    facts.real.node(path.to_str()?).ok().flatten().map(|stat| stat.mode)
}

/// There, and open to rootless engines.
pub(super) fn directories(facts: &Facts<'_>) -> Vec<Verdict> {
    let verdict = |dir: &super::facts::Dir| match &dir.files {
        Ok(None) => note(show(&dir.path), "not there"),
        Err(reason) => error(show(&dir.path), reason, "make it a directory with mode 0755"),
        Ok(Some(files)) => match mode(facts, &dir.path) {
            Some(mode) if mode & 0o005 != 0o005 => {
                let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
                warning(show(&dir.path), evidence, format!("chmod o+rx {}", dir.path.display()))
            }
            _ => ok(show(&dir.path), format!("{} spec files", files.len())),
        },
    };
    facts.dirs.iter().map(verdict).collect()
}

/// Each file by itself.
pub(super) fn specs(facts: &Facts<'_>) -> Vec<Verdict> {
    let files = facts.dirs.iter().flat_map(super::facts::Dir::all);
    let verdict = |file: &super::facts::File| {
        let subject = show(&file.path);
        let closed = mode(facts, &file.path).filter(|mode| mode & 0o004 == 0);
        let spec = match &file.spec {
            Ok(spec) => spec,
            Err(reason) if !is_root() && closed.is_some() => {
                return warning(subject, reason, "run it as root");
            }
            Err(reason) => {
                let evidence = format!("{reason}, and engines pass it over without a word");
                return error(subject, evidence, "correct it, or remove it");
            }
        };
        let (kind, count) = (&spec.kind, spec.devices.len());
        if let Err(bad) = kind.parse::<Kind>() {
            // container-device-interface issue 320.
            let evidence = format!("kind: {bad}; engines refuse it or stop at it");
            return error(subject, evidence, "remove it, or give it a kind of longer parts");
        }
        match closed {
            _ if count == 0 => error(subject, "no device: engines refuse it", "remove it"),
            Some(mode) => {
                let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
                warning(subject, evidence, format!("chmod o+r {}", file.path.display()))
            }
            _ => ok(subject, format!("{kind}, {count} devices, cdi {}", version_of(spec))),
        }
    };
    let verdicts: Vec<_> = files.map(verdict).collect();
    if verdicts.is_empty() { vec![note("", "there is no spec file")] } else { verdicts }
}

pub(super) fn version_of(spec: &Spec) -> &str {
    spec.cdi_version.as_deref().unwrap_or("none")
}

/// Held against what the engines here take.
pub(super) fn versions(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (_, path, spec) in facts.specs() {
        let text = version_of(spec);
        let Ok(version) = text.parse::<Version>() else {
            let evidence = format!("cdiVersion {text:?} is no version from 0.3.0 to 1.1.0");
            verdicts.push(error(show(path), evidence, "write it anew with the tool that made it"));
            continue;
        };
        for engine in &facts.engines {
            if let Some(highest) = engine.takes.filter(|highest| *highest < version) {
                let evidence =
                    format!("cdi {version}, and {} takes up to {highest}", engine.label());
                let cure = format!(
                    "update {}, or write the spec with --max-cdi-version {highest}",
                    engine.name
                );
                verdicts.push(error(show(path), evidence, cure));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every engine here takes every spec, as far as is known"));
    }
    verdicts
}

/// A name twice: in one directory the two disable each other, in two the later directory wins
/// (container-device-interface `pkg/cdi/cache.go` l.172-213).
pub(super) fn names(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut seen: BTreeMap<(usize, String), Vec<&Path>> = BTreeMap::new();
    for (dir, path, spec) in facts.specs() {
        for device in &spec.devices {
            let name = format!("{}={}", spec.kind, device.name);
            seen.entry((dir, name)).or_default().push(path);
        }
    }
    let mut clashes: BTreeMap<Vec<&Path>, Vec<&String>> = BTreeMap::new();
    let mut hidden: BTreeMap<(&Path, &Path), Vec<&String>> = BTreeMap::new();
    for ((dir, name), paths) in &seen {
        if paths.len() > 1 {
            clashes.entry(paths.clone()).or_default().push(name);
        }
        let later = facts.dirs.len().checked_sub(1).into_iter().flat_map(|last| dir + 1..=last);
        if let Some(winner) = later.rev().find_map(|later| seen.get(&(later, name.clone()))) {
            hidden.entry((paths[0], winner[0])).or_default().push(name);
        }
    }
    let clash = |(paths, names): (Vec<&Path>, Vec<&String>)| {
        let paths: Vec<_> = paths.into_iter().map(show).collect();
        let evidence = format!("{} and so disable each other: {}", some(&paths), some(&names));
        error("", format!("defined twice, by {evidence}"), format!("remove {}", paths[0]))
    };
    let hide = |((loser, winner), names): ((&Path, &Path), Vec<&String>)| {
        let evidence = format!("hidden by {}: {}", winner.display(), some(&names));
        note(show(loser), evidence)
    };
    let mut verdicts: Vec<_> = clashes.into_iter().map(clash).collect();
    verdicts.extend(hidden.into_iter().map(hide));
    if verdicts.is_empty() {
        verdicts.push(ok("", format!("{} names, each defined once", seen.len())));
    }
    verdicts
}

/// Why the nodes of a part of a spec are not the node's own now.
pub(super) fn stale_nodes(facts: &Facts<'_>, edits: &ContainerEdits) -> Vec<String> {
    let Some(tree) = facts.tree.as_ref().ok().filter(|tree| tree.problems.is_empty()) else {
        return Vec::new();
    };
    let mut known: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    tree.topology.clone().for_each_node(|node| {
        known.insert(node.path.clone(), (node.major.0, node.minor.0));
    });
    let standing = facts.standing();
    let reason = |node: &SpecNode| {
        let SpecNode { path, major, minor, .. } = node;
        let cap = path.strip_prefix("/dev/nvidia-caps/nvidia-cap");
        let gone = cap.and_then(|n| n.parse().ok()).is_some_and(|n| !standing.contains(&n));
        match known.get(path) {
            None if gone => Some(format!("{path} is of no instance that there is")),
            None => None,
            // The engine takes the numbers from the host.
            Some(_) if !node.has_numbers() => None,
            Some((now, _)) if major != now => {
                Some(format!("{path} has major {major}, the driver has {now}"))
            }
            Some((_, now)) if minor != now => {
                Some(format!("{path} has minor {minor}, the driver has {now}"))
            }
            Some(_) => None,
        }
    };
    edits.device_nodes.iter().filter_map(reason).collect()
}

/// Nodes of slices that are gone, and numbers of an earlier load of the driver, whoever wrote them.
pub(super) fn stale(facts: &Facts<'_>) -> Vec<Verdict> {
    if facts.tree.as_ref().is_ok_and(|tree| !tree.problems.is_empty()) {
        return vec![note("", "cannot be told while instances are not certain")];
    }
    if facts.tree.is_err() {
        return vec![note("", "cannot be told without a driver")];
    }
    let mut verdicts = Vec::new();
    for (_, path, spec) in facts.specs() {
        let reasons: BTreeSet<_> =
            spec.all_edits().flat_map(|(_, edits)| stale_nodes(facts, edits)).collect();
        if !reasons.is_empty() {
            let reasons: Vec<_> = reasons.into_iter().collect();
            let cure = format!("{GENERATE}, or write it anew with the tool that made it");
            verdicts.push(error(show(path), some(&reasons), cure));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "no spec names a node that is not the driver's now"));
    }
    verdicts
}

/// What `check` compares, for the files of our kind.
pub(super) fn drift(facts: &Facts<'_>) -> Vec<Verdict> {
    let kind = facts.settings.kind.to_string();
    let truth = match &facts.truth {
        Ok(truth) => truth,
        Err(reason) => return vec![note("", format!("cannot be told: {reason}"))],
    };
    let ours: Vec<_> = facts.specs().filter(|(_, _, spec)| spec.kind == kind).collect();
    let Some(truth) = truth else {
        let there = |(_, path, _): &(usize, &Path, &Spec)| {
            error(show(path), format!("the node has no {kind} device"), GENERATE)
        };
        let verdicts: Vec<_> = ours.iter().map(there).collect();
        let none = || vec![ok("", format!("no {kind} device, and no spec of one"))];
        return if verdicts.is_empty() { none() } else { verdicts };
    };
    if ours.is_empty() {
        let evidence = format!("no spec of {kind}, and the node has devices");
        return vec![error("", evidence, GENERATE)];
    }
    let verdict = |(_, path, spec): (usize, &Path, &Spec)| {
        let lines = spec_file::differences(spec, truth);
        let cure = "run mig-cdi generate, or check with the flags that it was written with";
        match lines.len() {
            0 => ok(show(path), "it is what mig-cdi generate would write now"),
            1 => warning(show(path), &lines[0], cure),
            more => warning(
                show(path),
                format!("{}, and {} more differences", lines[0], more - 1),
                cure,
            ),
        }
    };
    ours.into_iter().map(verdict).collect()
}

/// What a start needs of the host: files to mount, programs to run.
pub(super) fn files(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (_, path, spec) in facts.specs() {
        let absent = |source: &&str| matches!(facts.real.identity(source), Ok(None));
        let mounts = spec.all_edits().flat_map(|(_, edits)| &edits.mounts);
        let sources: BTreeSet<_> =
            mounts.map(|mount| mount.host_path.as_str()).filter(absent).collect();
        let broken = |program: &&str| !is_program(Path::new(program));
        let hooks = spec.all_edits().flat_map(|(_, edits)| &edits.hooks);
        let programs: BTreeSet<_> = hooks.map(|hook| hook.path.as_str()).filter(broken).collect();
        for (what, paths) in [("mounts", sources), ("runs", programs)] {
            if !paths.is_empty() {
                let paths: Vec<_> = paths.into_iter().collect();
                let evidence = format!(
                    "it {what} what is not there, and no container starts: {}",
                    some(&paths)
                );
                let cure = format!("{GENERATE}, or write it anew with the tool that made it");
                verdicts.push(error(show(path), evidence, cure));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every file and program that a spec names is there"));
    }
    verdicts
}
