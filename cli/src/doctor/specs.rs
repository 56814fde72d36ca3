//! Checks of the spec files: whether engines can read them, and whether they describe the node as it is now.

use super::{
    driver_nodes::DriverNodes,
    facts::{LocatedSpec, NodeFacts, SpecDirFacts, SpecFileError, SpecFileFacts},
    resolution::{UnacceptedVersion, unaccepted_version},
    verdict::{Verdict, error, first_few, note, ok, path_text, privileged_cure, quoted, warning},
    writer::Writer,
};
use mig_cdi_gen::spec_file::{differences, differences_without_placements};
use mig_cdi_model::{cdi::Spec, counted};
use mig_cdi_sys::{is_executable, node_named};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

const GENERATE: &str = "run mig-cdi generate";

/// Permission bits of a file or directory.
fn mode(path: &Path) -> Option<u32> {
    node_named(path).ok().flatten().map(|stat| stat.mode)
}

/// Existence and mode of the spec directories.
pub(super) fn directories(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let verdict = |dir: &SpecDirFacts| match &dir.files {
        Ok(None) => note(path_text(&dir.path), "does not exist"),
        Err(e) => {
            let cure = privileged_cure().filter(|_| e.is_denied());
            let cure = cure.unwrap_or("replace it by a directory with mode 0755");
            error(path_text(&dir.path), e.to_string(), cure)
        }
        // Engines of root read everything: only the rights of other users matter.
        Ok(Some(files)) => match mode(&dir.path) {
            Some(mode) if mode & 0o005 != 0o005 => {
                let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
                warning(path_text(&dir.path), evidence, format!("chmod o+rx {}", quoted(&dir.path)))
            }
            _ => ok(path_text(&dir.path), counted(files.len(), "spec file")),
        },
    };
    facts.spec_dirs.iter().map(verdict).collect()
}

/// Contents and mode of each spec file by itself.
pub(super) fn specs(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let files = facts.spec_dirs.iter().flat_map(SpecDirFacts::all);
    let misnamed = facts.spec_dirs.iter().flat_map(|dir| &dir.misnamed).map(misnamed_file);
    let verdicts: Vec<_> = files.map(spec_file).chain(misnamed).collect();
    if verdicts.is_empty() { vec![note("", "there is no spec file")] } else { verdicts }
}

/// The verdict on a file that engines pass over (container-device-interface `pkg/cdi/spec-dirs.go`).
fn misnamed_file((from, to): &(PathBuf, PathBuf)) -> Verdict {
    let evidence = "engines read no file of this suffix, only .json and .yaml";
    let cure = match node_named(to) {
        Ok(None) => format!("rename it: mv {} {}", quoted(from), quoted(to)),
        _ => format!("remove it, or give it a name other than {}", path_text(to)),
    };
    warning(path_text(from), evidence, cure)
}

fn spec_file(file: &SpecFileFacts) -> Verdict {
    let subject = path_text(&file.path);
    let closed = mode(&file.path).filter(|mode| mode & 0o004 == 0);
    let spec = match &file.spec {
        Ok(spec) => spec,
        Err(SpecFileError::Read(e))
            if closed.is_some()
                && let Some(cure) = privileged_cure() =>
        {
            return warning(subject, e.to_string(), cure);
        }
        Err(reason) => {
            // podman reports it at debug level only; the user of any engine sees "unresolvable CDI devices".
            let evidence = format!("{reason}: engines ignore the file silently");
            return error(
                subject,
                evidence,
                format!("correct it, or remove it: rm {}", quoted(&file.path)),
            );
        }
    };
    if let Some(reason) = &file.refusal {
        let evidence = format!("{reason}: engines refuse the file");
        return error(
            subject,
            evidence,
            format!("correct it, or remove it: rm {}", quoted(&file.path)),
        );
    }
    let (kind, devices) = (&spec.kind, counted(spec.devices.len(), "device"));
    match closed {
        Some(mode) => {
            let evidence = format!("mode {mode:04o}: rootless engines cannot read it");
            warning(subject, evidence, format!("chmod o+r {}", quoted(&file.path)))
        }
        None => ok(subject, format!("{kind}, {devices}, cdi {}", version_of(spec))),
    }
}

/// `cdiVersion` of a spec, for messages.
pub(super) fn version_of(spec: &Spec) -> &str {
    spec.cdi_version.as_deref().unwrap_or("none")
}

/// Versions of the specs, compared with those that the installed engines accept, and with the content.
pub(super) fn versions(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    // A file that every engine refuses is reported once, by the check before.
    for located in facts.specs().filter(|located| located.refusal.is_none()) {
        for engine in facts.engines.iter().filter(|engine| engine.has_cdi) {
            if let Some(UnacceptedVersion { evidence, cure }) =
                unaccepted_version(facts, engine, &located)
            {
                verdicts.push(error(path_text(located.path), evidence, cure));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every engine here accepts every spec, as far as is known"));
    }
    verdicts
}

/// Nodes of slices that no longer exist, and numbers of an earlier load of the driver, in files of any tool. The
/// major number of capability nodes is dynamic and may change with each load.
pub(super) fn stale(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let Some(driver) = DriverNodes::read(facts) else {
        let reason = match facts.proc_discovery.is_err() {
            true => "without a driver",
            false => "while some instances are not confirmed",
        };
        return vec![note("", format!("not checked {reason}"))];
    };
    let mut verdicts = Vec::new();
    for located in facts.specs() {
        let reasons = located.spec.all_edits().flat_map(|(_, edits)| driver.stale(edits));
        let reasons: Vec<_> = reasons.collect::<BTreeSet<_>>().into_iter().collect();
        if !reasons.is_empty() {
            let cure = Writer::regenerate(facts, &located);
            verdicts.push(error(path_text(located.path), first_few(&reasons), cure));
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
    let of_kind = facts.specs().filter(|located| located.spec.kind == kind);
    let is_ours = |located: &LocatedSpec<'_>| Writer::of(facts, located) == Writer::MigCdi;
    let (ours, others): (Vec<_>, Vec<_>) = of_kind.partition(is_ours);
    // generate would not change the file of another tool.
    let other = |other: &LocatedSpec<'_>| {
        note(path_text(other.path), format!("of {kind}, and not written by mig-cdi: not compared"))
    };
    let mut verdicts: Vec<_> = others.iter().map(other).collect();
    let is_complete = facts.discovery.as_ref().is_ok_and(|found| found.problems.is_empty());
    verdicts.extend(match (expected, ours.is_empty()) {
        // generate keeps an older spec then: its devices may be those that are not confirmed.
        (None, _) if !is_complete => {
            vec![note("", format!("not compared until a {kind} device is confirmed: see devices"))]
        }
        (None, true) => vec![ok("", format!("no {kind} device, and no spec of one"))],
        (None, false) => {
            let evidence = format!("the node has no {kind} device");
            let cure = |ours| Writer::regenerate(facts, ours);
            ours.iter().map(|ours| error(path_text(ours.path), &evidence, cure(ours))).collect()
        }
        (Some(_), true) => {
            let evidence = format!("no spec of {kind}, and the node has devices");
            vec![error("", evidence, GENERATE)]
        }
        (Some(expected), false) if facts.lacks_placements() => {
            ours.iter().map(|ours| compared_without_placements(facts, ours, expected)).collect()
        }
        (Some(expected), false) => {
            ours.iter().map(|ours| compared(facts, ours, expected)).collect()
        }
    });
    verdicts
}

fn compared(facts: &NodeFacts<'_>, ours: &LocatedSpec<'_>, expected: &Spec) -> Verdict {
    // Flags of generate are not recorded in a spec: a spec that was written with some differs rightly.
    let generate = Writer::regenerate(facts, ours);
    let cure = format!(
        "{generate}; if the spec was written with flags, run mig-cdi check with the same ones"
    );
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
fn compared_without_placements(
    facts: &NodeFacts<'_>,
    ours: &LocatedSpec<'_>,
    expected: &Spec,
) -> Verdict {
    let path = path_text(ours.path);
    match &differences_without_placements(ours.spec, expected)[..] {
        [] => note(
            path,
            "names by slot are not compared: nvml reports placements to root only; the rest is current",
        ),
        lines => warning(path, first_few(lines), Writer::regenerate(facts, ours)),
    }
}

/// Files of the host that the specs mount, and programs that they run. The start of a container fails when one is
/// missing.
pub(super) fn files(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for located in facts.specs() {
        let LocatedSpec { path, spec, .. } = located;
        // A missing hostPath fails the start of the container, not the load of the spec (measured with podman 4.3.1).
        let is_missing = |source: &&str| matches!(facts.spec_root.identity(source), Ok(None));
        let mounts = spec.all_edits().flat_map(|(_, edits)| &edits.mounts);
        // Each path is looked up once, however many devices name it.
        let mounts: BTreeSet<_> = mounts.map(|mount| mount.host_path.as_str()).collect();
        let is_broken = |program: &&str| !is_executable(Path::new(program));
        let hooks = spec.all_edits().flat_map(|(_, edits)| &edits.hooks);
        let programs: BTreeSet<_> = hooks.map(|hook| hook.path.as_str()).collect();
        let mounts: Vec<_> = mounts.into_iter().filter(is_missing).collect();
        let programs: Vec<_> = programs.into_iter().filter(is_broken).collect();
        for (what, paths) in [("mounts files", mounts), ("runs programs", programs)] {
            if !paths.is_empty() {
                let evidence = format!(
                    "it {what} that do not exist, so that no container starts: {}",
                    first_few(&paths)
                );
                let cure = Writer::regenerate(facts, &located);
                verdicts.push(error(path_text(path), evidence, cure));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", "every file and program that a spec names exists"));
    }
    verdicts
}
