//! Checks of the spec files: whether engines can read them, and whether they describe the node as it is now.

use super::{
    facts::{EngineFacts, LocatedSpec, NodeFacts, SpecDirFacts, SpecFileError, SpecFileFacts},
    verdict::{Verdict, error, first_few, note, ok, warning},
};
use mig_cdi_gen::spec_file::{differences, differences_without_placements};
use mig_cdi_model::{
    cdi::{ContainerEdits, Kind, Spec, SpecNode, Version},
    counted,
};
use mig_cdi_sys::{is_executable, is_root};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const GENERATE: &str = "run mig-cdi generate";
const AS_ROOT: &str = "run mig-cdi doctor as root";

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Permission bits of a file or directory.
fn mode(facts: &NodeFacts<'_>, path: &Path) -> Option<u32> {
    facts.spec_root.node(path.to_str()?).ok().flatten().map(|stat| stat.mode)
}

/// The command that writes a spec again. Only files of our kind are ours to write.
pub(super) fn regenerate_cure(facts: &NodeFacts<'_>, spec: &Spec) -> &'static str {
    match spec.kind == facts.settings.kind.to_string() {
        true => GENERATE,
        false => "generate it again with the tool that wrote it",
    }
}

/// Existence and mode of the spec directories.
pub(super) fn directories(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let verdict = |dir: &SpecDirFacts| match &dir.files {
        Ok(None) => note(path_text(&dir.path), "does not exist"),
        Err(e) if e.is_denied() && !is_root() => {
            error(path_text(&dir.path), e.to_string(), AS_ROOT)
        }
        Err(e) => {
            error(path_text(&dir.path), e.to_string(), "replace it by a directory with mode 0755")
        }
        // Engines of root read everything: only the rights of other users matter.
        Ok(Some(files)) => match mode(facts, &dir.path) {
            Some(mode) if mode & 0o005 != 0o005 => {
                let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
                warning(
                    path_text(&dir.path),
                    evidence,
                    format!("chmod o+rx {}", dir.path.display()),
                )
            }
            _ => ok(path_text(&dir.path), counted(files.len(), "spec file")),
        },
    };
    facts.spec_dirs.iter().map(verdict).collect()
}

/// Contents and mode of each spec file by itself.
pub(super) fn specs(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let files = facts.spec_dirs.iter().flat_map(SpecDirFacts::all);
    let verdicts: Vec<_> = files.map(|file| spec_file(facts, file)).collect();
    if verdicts.is_empty() { vec![note("", "there is no spec file")] } else { verdicts }
}

fn spec_file(facts: &NodeFacts<'_>, file: &SpecFileFacts) -> Verdict {
    let subject = path_text(&file.path);
    let closed = mode(facts, &file.path).filter(|mode| mode & 0o004 == 0);
    let spec = match &file.spec {
        Ok(spec) => spec,
        Err(SpecFileError::Read(e)) if !is_root() && closed.is_some() => {
            return warning(subject, e.to_string(), AS_ROOT);
        }
        Err(reason) => {
            // podman reports it at debug level only; the user of any engine sees "unresolvable CDI devices".
            let evidence = format!("{reason}: engines ignore the file silently");
            return error(subject, evidence, "correct it, or remove it");
        }
    };
    let (kind, count) = (&spec.kind, spec.devices.len());
    if let Err(bad) = kind.parse::<Kind>() {
        // One character for vendor or class makes every Go engine panic (container-device-interface issue 320).
        let evidence = format!("kind: {bad}; engines refuse it or crash on it");
        let cure = "remove it, or give it a kind with a longer vendor and class";
        return error(subject, evidence, cure);
    }
    match closed {
        _ if count == 0 => error(subject, "it has no device: engines refuse it", "remove it"),
        Some(mode) => {
            let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
            warning(subject, evidence, format!("chmod o+r {}", file.path.display()))
        }
        None => {
            ok(subject, format!("{kind}, {}, cdi {}", counted(count, "device"), version_of(spec)))
        }
    }
}

/// `cdiVersion` of a spec, for messages.
pub(super) fn version_of(spec: &Spec) -> &str {
    spec.cdi_version.as_deref().unwrap_or("none")
}

/// Versions of the specs, compared with those that the installed engines accept.
pub(super) fn versions(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for LocatedSpec { path, spec, .. } in facts.specs() {
        let text = version_of(spec);
        let Ok(version) = text.parse::<Version>() else {
            let evidence = format!("cdiVersion {text:?} is not a version from 0.3.0 to 1.1.0");
            verdicts.push(error(path_text(path), evidence, regenerate_cure(facts, spec)));
            continue;
        };
        for engine in &facts.engines {
            if let Some(highest) = engine.max_cdi.filter(|highest| *highest < version) {
                let evidence =
                    format!("cdi {version}, and {} accepts up to {highest}", engine.label());
                let cure = version_cure(facts, spec, engine, highest);
                verdicts.push(error(path_text(path), evidence, cure));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every engine here accepts every spec, as far as is known"));
    }
    verdicts
}

/// Cure for an engine that accepts no version above `highest`.
pub(super) fn version_cure(
    facts: &NodeFacts<'_>,
    spec: &Spec,
    engine: &EngineFacts,
    highest: Version,
) -> String {
    match spec.kind == facts.settings.kind.to_string() {
        true => {
            format!("update {}, or {GENERATE} with --max-cdi-version {highest}", engine.name)
        }
        false => format!(
            "update {}, or have the tool that wrote the spec write cdi {highest} or lower",
            engine.name
        ),
    }
}

/// Names that are defined twice. Two definitions in one directory disable each other; of two in different
/// directories the later directory wins (container-device-interface `pkg/cdi/cache.go:172-213`).
pub(super) fn names(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut definitions: BTreeMap<(usize, String), Vec<&Path>> = BTreeMap::new();
    for LocatedSpec { dir, path, spec } in facts.specs() {
        for device in &spec.devices {
            let name = format!("{}={}", spec.kind, device.name);
            definitions.entry((dir, name)).or_default().push(path);
        }
    }
    let mut clashes: BTreeMap<Vec<&Path>, Vec<&String>> = BTreeMap::new();
    let mut hidden: BTreeMap<(&Path, &Path), Vec<&String>> = BTreeMap::new();
    for ((dir, name), paths) in &definitions {
        if paths.len() > 1 {
            clashes.entry(paths.clone()).or_default().push(name);
        }
        let later = dir + 1..facts.spec_dirs.len();
        let winner = later.rev().find_map(|dir| definitions.get(&(dir, name.clone())));
        if let Some(winner) = winner {
            hidden.entry((paths[0], winner[0])).or_default().push(name);
        }
    }
    let clash = |(paths, names): (Vec<&Path>, Vec<&String>)| {
        let paths: Vec<_> = paths.into_iter().map(path_text).collect();
        let (files, names) = (first_few(&paths), first_few(&names));
        let evidence =
            format!("defined twice, by {files}, so that engines resolve neither: {names}");
        error("", evidence, "remove all but one of these files")
    };
    let hide = |((loser, winner), names): ((&Path, &Path), Vec<&String>)| {
        let evidence = format!("hidden by {}: {}", winner.display(), first_few(&names));
        note(path_text(loser), evidence)
    };
    let mut verdicts: Vec<_> = clashes.into_iter().map(clash).collect();
    verdicts.extend(hidden.into_iter().map(hide));
    if verdicts.is_empty() {
        verdicts.push(ok("", format!("{}, each defined once", counted(definitions.len(), "name"))));
    }
    verdicts
}

/// Reasons why device nodes in a part of a spec differ from those of the driver. None when an instance is not
/// confirmed, since its nodes would seem to belong to nothing.
pub(super) fn stale_nodes(facts: &NodeFacts<'_>, edits: &ContainerEdits) -> Vec<String> {
    let confirmed = facts.proc_discovery.as_ref().ok().filter(|found| found.problems.is_empty());
    let Some(discovery) = confirmed else { return Vec::new() };
    let mut current: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    discovery.topology.clone().for_each_node(|node| {
        current.insert(node.path.clone(), (node.major.0, node.minor.0));
    });
    let non_instance = facts.non_instance_capabilities();
    let reason = |node: &SpecNode| {
        let SpecNode { path, major, minor, .. } = node;
        let cap = path.strip_prefix("/dev/nvidia-caps/nvidia-cap");
        let is_instance =
            cap.and_then(|n| n.parse().ok()).is_some_and(|n| !non_instance.contains(&n));
        match current.get(path) {
            None if is_instance => Some(format!("{path} belongs to no instance that exists")),
            // The engine reads the numbers from the node on the host.
            Some(_) if !node.has_numbers() => None,
            Some((now, _)) if major != now => {
                Some(format!("{path} has major {major}, the driver has {now}"))
            }
            Some((_, now)) if minor != now => {
                Some(format!("{path} has minor {minor}, the driver has {now}"))
            }
            _ => None,
        }
    };
    edits.device_nodes.iter().filter_map(reason).collect()
}

/// Nodes of slices that no longer exist, and numbers of an earlier load of the driver, in files of any tool. The
/// major number of capability nodes is dynamic and may change with each load.
pub(super) fn stale(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    match &facts.proc_discovery {
        Err(_) => return vec![note("", "not checked without a driver")],
        Ok(discovery) if !discovery.problems.is_empty() => {
            return vec![note("", "not checked while some instances are not confirmed")];
        }
        Ok(_) => {}
    }
    let mut verdicts = Vec::new();
    for LocatedSpec { path, spec, .. } in facts.specs() {
        let reasons: BTreeSet<_> =
            spec.all_edits().flat_map(|(_, edits)| stale_nodes(facts, edits)).collect();
        if !reasons.is_empty() {
            let reasons: Vec<_> = reasons.into_iter().collect();
            verdicts.push(error(
                path_text(path),
                first_few(&reasons),
                regenerate_cure(facts, spec),
            ));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "no spec names a node that the driver does not have"));
    }
    verdicts
}

/// Differences between the files of our kind and the spec that `generate` would write now.
pub(super) fn drift(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let kind = facts.settings.kind.to_string();
    let expected = match &facts.expected_spec {
        Ok(expected) => expected,
        Err(reason) => return vec![note("", format!("not checked: {reason}"))],
    };
    let ours: Vec<_> = facts.specs().filter(|located| located.spec.kind == kind).collect();
    match (expected, ours.is_empty()) {
        (None, true) => vec![ok("", format!("no {kind} device, and no spec of one"))],
        (None, false) => {
            let evidence = format!("the node has no {kind} device");
            ours.iter().map(|ours| error(path_text(ours.path), &evidence, GENERATE)).collect()
        }
        (Some(_), true) => {
            let evidence = format!("no spec of {kind}, and the node has devices");
            vec![error("", evidence, GENERATE)]
        }
        (Some(expected), false) if facts.lacks_placements() => {
            ours.iter().map(|ours| compared_without_placements(ours, expected)).collect()
        }
        (Some(expected), false) => ours.iter().map(|ours| compared(ours, expected)).collect(),
    }
}

fn compared(ours: &LocatedSpec<'_>, expected: &Spec) -> Verdict {
    // Flags of generate are not recorded in a spec: a spec that was written with some differs rightly.
    let cure = "run mig-cdi generate; if the spec was written with flags, run mig-cdi check with the same ones";
    let lines = differences(ours.spec, expected);
    match &lines[..] {
        [] => ok(path_text(ours.path), "it is what mig-cdi generate would write now"),
        [line] => warning(path_text(ours.path), line, cure),
        [line, rest @ ..] => {
            let evidence = format!("{line}, and {}", counted(rest.len(), "more difference"));
            warning(path_text(ours.path), evidence, cure)
        }
    }
}

/// As [`compared`], for a caller to whom NVML reports no placements.
fn compared_without_placements(ours: &LocatedSpec<'_>, expected: &Spec) -> Verdict {
    let path = path_text(ours.path);
    match &differences_without_placements(ours.spec, expected)[..] {
        [] => note(
            path,
            "names by slot are not compared: nvml reports placements to root only; the rest is current",
        ),
        lines => warning(path, first_few(lines), GENERATE),
    }
}

/// Files of the host that the specs mount, and programs that they run. The start of a container fails when one is
/// missing.
pub(super) fn files(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for LocatedSpec { path, spec, .. } in facts.specs() {
        // A missing hostPath fails the start of the container, not the load of the spec (measured with podman 4.3.1).
        let is_missing = |source: &&str| matches!(facts.spec_root.identity(source), Ok(None));
        let mounts = spec.all_edits().flat_map(|(_, edits)| &edits.mounts);
        let mounts: BTreeSet<_> =
            mounts.map(|mount| mount.host_path.as_str()).filter(is_missing).collect();
        let is_broken = |program: &&str| !is_executable(Path::new(program));
        let hooks = spec.all_edits().flat_map(|(_, edits)| &edits.hooks);
        let programs: BTreeSet<_> =
            hooks.map(|hook| hook.path.as_str()).filter(is_broken).collect();
        for (what, paths) in [("mounts files", mounts), ("runs programs", programs)] {
            if !paths.is_empty() {
                let paths: Vec<_> = paths.into_iter().collect();
                let evidence = format!(
                    "it {what} that do not exist, so that no container starts: {}",
                    first_few(&paths)
                );
                verdicts.push(error(path_text(path), evidence, regenerate_cure(facts, spec)));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every file and program that a spec names exists"));
    }
    verdicts
}
