//! Checks of the engines: versions, and whether their configuration lets them read our specs.

use super::{
    engine_config::ConfigProblem,
    facts::{EngineFacts, NodeFacts},
    verdict::{OUTSIDE, Verdict, first_few, note, ok, path_text, privileged_cure, warning},
};
use crate::{configure::UnclearDaemon, engine_files::RejectedFile};
use mig_cdi_gen::engines::{PROGRAM_DIRS, VersionError};
use mig_cdi_sys::UNMAPPED_OWNER;
use std::path::{Path, PathBuf};

/// Versions of the installed engines, and the CDI version that each accepts.
pub(super) fn engines(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let verdict = |engine: &EngineFacts| {
        let installed = format!("{} at {}", engine.label(), engine.path);
        match (&engine.version, engine.max_cdi()) {
            (Err(reason), _) => {
                let evidence = format!("its version is not known: {reason}");
                warning(engine.name, evidence, version_cure(engine, reason))
            }
            // runc, crun and youki get the OCI configuration after the engine has applied the spec to it.
            _ if engine.is_oci_runtime() => {
                ok(engine.name, format!("{installed}, an oci runtime: it reads no specs"))
            }
            (_, Some(version)) => {
                ok(engine.name, format!("{installed}, accepts cdi up to {version}"))
            }
            (_, None) => {
                warning(engine.name, format!("{installed} has no cdi support"), update_cure(engine))
            }
        }
    };
    let (of_nobody, others): (Vec<_>, Vec<_>) = facts.engines.iter().partition(|engine| {
        matches!(&engine.version, Err(VersionError::Untrusted(why)) if why.contains(UNMAPPED_OWNER))
    });
    let verdicts: Vec<_> =
        others.into_iter().map(verdict).chain(programs_of_nobody(&of_nobody)).collect();
    match verdicts.is_empty() {
        true => vec![note(
            "",
            format!("none in {}, and no daemon of one runs", PROGRAM_DIRS.join(", ")),
        )],
        false => verdicts,
    }
}

/// A verdict for all engines whose programs belong to users that a user namespace does not show.
fn programs_of_nobody(engines: &[&EngineFacts]) -> Option<Verdict> {
    let names: Vec<_> = engines.iter().map(|engine| engine.name).collect();
    let evidence =
        "version not known: not run in a user namespace, which does not show whose program it is";
    (!names.is_empty()).then(|| warning(names.join(", "), evidence, OUTSIDE))
}

fn version_cure(engine: &EngineFacts, reason: &VersionError) -> String {
    let path = &engine.path;
    match reason {
        VersionError::Untrusted(_) => {
            format!("make {path} and the directories above it writable by root alone")
        }
        _ => format!("run {path} --version to see what fails, and install {} again", engine.name),
    }
}

fn update_cure(engine: &EngineFacts) -> String {
    format!("update {}, or use mig-cdi-hook", engine.name)
}

/// Settings of the engines: whether CDI is on, and whether the directories with our specs are read.
pub(super) fn config(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let dirs = dirs_with_our_specs(facts);
    let engines = facts.engines.iter();
    let verdicts: Vec<_> = engines.flat_map(|engine| engine_config(facts, engine, &dirs)).collect();
    match verdicts.is_empty() {
        true => vec![note("", "no engine with cdi support is installed")],
        false => verdicts,
    }
}

/// Directories that have a spec of our kind, or else the one that `generate` writes to.
fn dirs_with_our_specs<'f>(facts: &'f NodeFacts<'_>) -> Vec<&'f Path> {
    let kind = facts.settings.kind.to_string();
    let ours = facts.specs().filter(|located| located.spec.kind == kind);
    let mut dirs: Vec<_> = ours.filter_map(|located| located.path.parent()).collect();
    dirs.dedup();
    if dirs.is_empty() {
        dirs.extend(facts.settings.spec_dirs.last().map(PathBuf::as_path));
    }
    dirs
}

fn engine_config(facts: &NodeFacts<'_>, engine: &EngineFacts, dirs: &[&Path]) -> Vec<Verdict> {
    if let Some(unclear) = unclear_daemon(engine) {
        return vec![unclear];
    }
    let problems = engine.config.problems.iter();
    let mut verdicts: Vec<_> = problems.map(|problem| config_problem(engine, problem)).collect();
    if !engine.has_cdi {
        return verdicts;
    }
    if let Some(reason) = engine.config.cdi_off {
        verdicts.push(warning(engine.name, reason, configure_cure(engine)));
        return verdicts;
    }
    let whose = if engine.config.is_rootless { "rootless, " } else { "" };
    let read = match engine.config.spec_dirs.is_empty() {
        true => format!("{whose}it reads no directory"),
        false => format!("{whose}it reads {}", engine.config.spec_dirs.join(", ")),
    };
    let unread = dirs.iter().filter(|dir| !engine.reads(dir, &facts.spec_root));
    let (hidden, unread): (Vec<_>, Vec<_>) =
        unread.partition(|dir| engine.hidden(facts, dir).is_some());
    let hidden = hidden.into_iter().filter_map(|dir| engine.hidden(facts, dir));
    verdicts.extend(hidden.map(|(evidence, cure)| warning(engine.name, evidence, cure)));
    let unread: Vec<_> = unread.into_iter().map(|dir| dir.display()).collect();
    if !unread.is_empty() {
        let evidence = format!("{read}, and not {}", first_few(&unread));
        verdicts.push(warning(engine.name, evidence, unread_cure(facts, engine)));
    }
    if verdicts.is_empty() {
        verdicts.push(ok(engine.name, read));
    }
    // CRI-O copies the annotations of a pod into its containers, where the CDI library finds them
    // (`internal/factory/container/device_linux.go`, `specInjectCDIDevices`).
    if engine.name == "crio" {
        let evidence = "it gives a container the devices that an annotation cdi.k8s.io/... of its pod names: anyone who may \
                        create pods can take any slice of the spec, unless admission refuses such annotations";
        verdicts.push(note(engine.name, evidence));
    }
    verdicts
}

/// The verdict on an engine whose configuration is not known, since it is not clear which of its daemons counts.
pub(super) fn unclear_daemon(engine: &EngineFacts) -> Option<Verdict> {
    let unclear = engine.config.unclear.as_ref()?;
    Some(match unclear {
        // A machine with Docker alone has it, and lacks nothing.
        UnclearDaemon::OfDocker(_) => note(engine.name, unclear.to_string()),
        UnclearDaemon::Several(_) | UnclearDaemon::Relative { .. } => {
            warning(engine.name, unclear.to_string(), unclear.cure())
        }
    })
}

fn config_problem(engine: &EngineFacts, problem: &ConfigProblem) -> Verdict {
    match problem {
        ConfigProblem::Unusable(error) => {
            let cure = privileged_cure().filter(|_| error.is_denied());
            let cure = cure.unwrap_or("correct the file; the engine may not start with it");
            warning(engine.name, error.to_string(), cure)
        }
        ConfigProblem::Ambiguous { path, keys } => {
            warning(engine.name, format!("{path}: {keys}"), "remove one of the two")
        }
        ConfigProblem::CriDisabled => {
            note(engine.name, "its cri plugin is disabled: kubernetes cannot use it")
        }
        ConfigProblem::Rejected(RejectedFile { path, cause, cure }) => {
            warning(engine.name, format!("it does not start with {path}: {cause}"), cure)
        }
        ConfigProblem::UnknownImports { main } => {
            note(engine.name, format!("{main} imports files that are not examined"))
        }
    }
}

/// Reason why an engine reads no specs at all.
pub(super) struct NoCdi {
    pub evidence: String,
    pub cure: String,
}

/// Returns the reason why an engine reads no specs at all; `None` for one that does.
pub(super) fn no_cdi(engine: &EngineFacts) -> Option<NoCdi> {
    let label = engine.label();
    if !engine.has_cdi {
        let evidence = format!("{label} has no cdi support");
        return Some(NoCdi { evidence, cure: update_cure(engine) });
    }
    let reason = engine.config.cdi_off?;
    Some(NoCdi { evidence: format!("{label}: {reason}"), cure: configure_cure(engine) })
}

/// Cure for an engine that does not read a directory with our specs.
pub(super) fn unread_cure(facts: &NodeFacts<'_>, engine: &EngineFacts) -> String {
    match engine.config.has_spec_dirs_setting {
        true => configure_cure(engine),
        // The spec has to move.
        false => {
            let dirs = engine.config.spec_dirs.join(" or ");
            let file = path_text(&facts.settings.file);
            format!("set spec-dirs in {file} to {dirs}, and run mig-cdi generate")
        }
    }
}

/// The command that makes a change.
// No change by hand is named: which file wins, and which directories have to stay in its list, takes what the command knows.
fn configure_cure(engine: &EngineFacts) -> String {
    let rootless = if engine.config.is_rootless { " --rootless" } else { "" };
    format!("run mig-cdi configure {}{rootless}", engine.name)
}
