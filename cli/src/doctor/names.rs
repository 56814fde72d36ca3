//! Check of the device names: those that are defined twice, and those that no engine sees.

use super::{
    facts::{LocatedSpec, NodeFacts},
    resolution::{Resolution, Unseen, load, resolve, winners},
    verdict::{Verdict, error, first_few, note, ok, path_text},
};
use mig_cdi_model::counted;
use std::collections::{BTreeMap, HashMap};

/// Files that define one name, as indices.
type Definers = Vec<usize>;

/// Names that are defined twice, and names that no engine here sees.
pub(super) fn names(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    // A file that engines refuse defines nothing.
    let files: Vec<_> = facts.specs().filter(|file| file.refusal.is_none()).collect();
    let names = by_name(&files);
    let mut by_definers: BTreeMap<&Definers, Vec<String>> = BTreeMap::new();
    for ((kind, device), definers) in &names {
        by_definers.entry(definers).or_default().push(format!("{kind}={device}"));
    }
    by_definers.values_mut().for_each(|names| names.sort_unstable());
    let mut verdicts = Vec::new();
    for (definers, names) in &by_definers {
        verdicts.extend(defined_twice(facts, &files, definers, names));
    }
    verdicts.extend(unseen(facts, &files, &by_definers));
    if verdicts.is_empty() {
        verdicts.push(ok("", format!("{}, each defined once", counted(names.len(), "name"))));
    }
    verdicts
}

fn by_name<'f>(files: &[LocatedSpec<'f>]) -> HashMap<(&'f str, &'f str), Definers> {
    let mut names: HashMap<_, Definers> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        for device in &file.spec.devices {
            let name = (file.spec.kind.as_str(), device.name.as_str());
            names.entry(name).or_default().push(index);
        }
    }
    names
}

/// A verdict for names that several files define.
fn defined_twice(
    facts: &NodeFacts<'_>,
    files: &[LocatedSpec<'_>],
    definers: &Definers,
    names: &[String],
) -> Vec<Verdict> {
    if definers.len() < 2 {
        return Vec::new();
    }
    let definitions: Vec<_> = definers.iter().map(|index| (files[*index].dir, *index)).collect();
    match resolve(&definitions) {
        Resolution::Clash(one, _) => {
            let is_beside = |index: &&usize| files[**index].dir == files[one].dir;
            let paths: Vec<_> =
                definers.iter().filter(is_beside).map(|i| path_text(files[*i].path)).collect();
            let evidence = format!(
                "defined twice, by {}, so that engines resolve neither: {}",
                first_few(&paths),
                first_few(names)
            );
            vec![error("", evidence, "remove all but one of these files")]
        }
        Resolution::Seen(_) => {
            let definitions: Vec<_> = definers.iter().map(|index| files[*index]).collect();
            let winners = winners(facts, &definitions);
            let by: Vec<_> = winners.iter().map(|winner| path_text(winner.path)).collect();
            let is_hidden =
                |file: &&LocatedSpec<'_>| winners.iter().all(|winner| winner.path != file.path);
            let hidden = |file: &LocatedSpec<'_>| {
                let by = first_few(&by);
                note(path_text(file.path), format!("hidden by {by}: {}", first_few(names)))
            };
            definitions.iter().filter(is_hidden).map(hidden).collect()
        }
        Resolution::None => Vec::new(),
    }
}

/// A verdict for the names of each set of files that no engine here sees, though they are defined once. Without an engine
/// that reads specs there is none: one may be installed elsewhere.
fn unseen(
    facts: &NodeFacts<'_>,
    files: &[LocatedSpec<'_>],
    by_definers: &BTreeMap<&Definers, Vec<String>>,
) -> Vec<Verdict> {
    let engines: Vec<_> = facts.engines.iter().filter(|e| !e.is_oci_runtime()).collect();
    let loads = |file: &LocatedSpec<'_>| -> Vec<Result<usize, Unseen>> {
        engines.iter().map(|engine| load(facts, engine, file)).collect()
    };
    let loads: Vec<_> = files.iter().map(loads).collect();
    let mut verdicts = Vec::new();
    for (definers, names) in by_definers {
        if definers.iter().flat_map(|index| &loads[*index]).any(Result::is_ok) {
            continue;
        }
        // The file that would win, and the first engine's reason.
        let last = definers.last().map(|index| &loads[*index]);
        let first = engines.first().zip(last.and_then(|loads| loads.first()?.as_ref().err()));
        if let Some((engine, Unseen { evidence, cure, .. })) = first {
            let evidence =
                format!("no engine here sees {}; {}: {evidence}", first_few(names), engine.name);
            verdicts.push(error("", evidence, cure));
        }
    }
    verdicts
}
