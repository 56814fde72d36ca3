//! Diagnosis of one device name: the files that define it, the engines that see it, and similar names when no file
//! defines it.

use super::{
    engines::{NoCdi, no_cdi, unread_cure},
    facts::{EngineFacts, LocatedSpec, NodeFacts},
    specs,
    verdict::{Verdict, error, first_few, note, ok, warning},
};
use mig_cdi_model::{GoneName, cdi::Version};

/// Longest name in bytes that is compared with the requested one. The time grows with the product of the
/// lengths, and other tools' files may contain anything.
const COMPARED_LENGTH: usize = 256;

/// Diagnoses a device name, given with or without its kind.
pub(crate) fn explain(facts: &NodeFacts<'_>, name: &str) -> Vec<Verdict> {
    let matches = |kind: &str, device: &str| match name.split_once('=') {
        Some(requested) => requested == (kind, device),
        None => name == device,
    };
    let defines = |located: &LocatedSpec<'_>| {
        located.spec.devices.iter().any(|device| matches(&located.spec.kind, &device.name))
    };
    let definitions: Vec<_> = facts.specs().filter(defines).collect();
    // Directories are in ascending priority.
    let verdicts = match definitions.last() {
        None => vec![unknown(facts, name, &matches)],
        Some(winner) => {
            let mut verdicts = files(&definitions, *winner);
            verdicts.extend(stale(facts, *winner, &matches));
            verdicts.extend(engines(facts, *winner));
            verdicts
        }
    };
    verdicts.into_iter().map(|verdict| Verdict { check: "name", ..verdict }).collect()
}

fn unknown(facts: &NodeFacts<'_>, name: &str, matches: &dyn Fn(&str, &str) -> bool) -> Verdict {
    let expected = facts.expected_spec.as_ref().ok().and_then(Option::as_ref);
    if let Some(expected) = expected
        && expected.devices.iter().any(|device| matches(&expected.kind, &device.name))
    {
        return error(name, "the node has it, no spec file defines it", "run mig-cdi generate");
    }
    // What the driver has now; a spec on disk may be stale.
    let now = expected.into_iter().flat_map(|spec| &spec.devices).map(|d| d.name.as_str());
    let own = name.rsplit_once('=').map_or(name, |(_, device)| device);
    let is_ours = matches(&facts.settings.kind.to_string(), own) && facts.expected_spec.is_ok();
    if let Some(gone) = GoneName::new(own, now).filter(|_| is_ours) {
        return error("", gone.to_string(), gone_cure(facts, expected.is_some()));
    }
    let all = facts.specs().map(|located| located.spec).chain(expected);
    let names = all.flat_map(|spec| spec.devices.iter().map(move |d| (&spec.kind, &d.name)));
    let has_kind = name.contains('=');
    let with_distance = |(kind, device): (&String, &String)| {
        let full = format!("{kind}={device}");
        (distance(name, if has_kind { &full } else { device }), full)
    };
    let near = names.filter(|(_, device)| device.len() <= COMPARED_LENGTH).map(with_distance);
    let mut near: Vec<_> = near.collect();
    // By distance first, then by name, so that the output does not depend on the order of files.
    near.sort();
    near.dedup();
    let near: Vec<_> = near.into_iter().take(3).map(|(_, name)| name).collect();
    let cure = match near.is_empty() {
        true => no_device_cure(facts),
        false => format!("use one of the nearest names: {}", first_few(&near)),
    };
    error(name, "no spec file defines it, and the node has no such device", cure)
}

/// Cure for a name that is gone.
fn gone_cure(facts: &NodeFacts<'_>, has_devices: bool) -> String {
    match has_devices {
        true => "use one of these names".to_owned(),
        false => no_device_cure(facts),
    }
}

/// Cure for a node without slices.
fn no_device_cure(facts: &NodeFacts<'_>) -> String {
    match facts.first_layouts.first() {
        Some(first) => format!("run {}", first.command),
        None => "no device has a name: run mig-cdi doctor without a name to see why".to_owned(),
    }
}

/// A verdict for each file that defines the name.
fn files(definitions: &[LocatedSpec<'_>], winner: LocatedSpec<'_>) -> Vec<Verdict> {
    let verdict = |definition: &LocatedSpec<'_>| {
        let shown = definition.path.display().to_string();
        let is_twin =
            |other: &&LocatedSpec<'_>| other.dir == definition.dir && other.path != definition.path;
        match definitions.iter().find(is_twin) {
            Some(twin) => {
                let evidence = format!(
                    "{} in the same directory defines it too: engines resolve neither",
                    twin.path.display()
                );
                error(&shown, evidence, format!("remove {shown}, or the other file"))
            }
            // Of two directories the later one wins (container-device-interface pkg/cdi/spec-dirs.go).
            None if definition.dir < winner.dir => {
                note(&shown, format!("defines it, but is hidden by {}", winner.path.display()))
            }
            None => {
                let (kind, version) = (&definition.spec.kind, specs::version_of(definition.spec));
                ok(&shown, format!("defines {kind}, cdi {version}"))
            }
        }
    };
    definitions.iter().map(verdict).collect()
}

/// A verdict on the device nodes that a container with the name gets, when they are stale.
fn stale(
    facts: &NodeFacts<'_>,
    winner: LocatedSpec<'_>,
    matches: &dyn Fn(&str, &str) -> bool,
) -> Option<Verdict> {
    let spec = winner.spec;
    // The part without a name applies to every device.
    let parts =
        spec.all_edits().filter(|(name, _)| name.is_none_or(|device| matches(&spec.kind, device)));
    let stale: Vec<_> = parts.flat_map(|(_, edits)| specs::stale_nodes(facts, edits)).collect();
    let path = winner.path.display().to_string();
    let expected = facts.expected_spec.as_ref().ok().and_then(Option::as_ref);
    let now = expected.into_iter().flat_map(|spec| &spec.devices).map(|d| d.name.as_str());
    let own = spec.devices.iter().find(|device| matches(&spec.kind, &device.name));
    let gone =
        own.filter(|own| facts.expected_spec.is_ok() && now.clone().all(|now| now != own.name));
    let gone = gone.and_then(|own| GoneName::new(&own.name, now));
    let evidence = [gone.map(|gone| gone.to_string()), Some(first_few(&stale))];
    let evidence: Vec<_> = evidence.into_iter().flatten().collect();
    (!stale.is_empty())
        .then(|| error(path, evidence.join(": "), specs::regenerate_cure(facts, spec)))
}

/// A verdict for each engine that reads specs.
fn engines(facts: &NodeFacts<'_>, winner: LocatedSpec<'_>) -> Vec<Verdict> {
    let engines = facts.engines.iter().filter(|engine| !engine.is_oci_runtime());
    engines.map(|engine| visibility(facts, engine, winner)).collect()
}

fn visibility(facts: &NodeFacts<'_>, engine: &EngineFacts, winner: LocatedSpec<'_>) -> Verdict {
    if let Some(NoCdi { evidence, cure }) = no_cdi(engine) {
        return warning(engine.name, format!("does not see it: {evidence}"), cure);
    }
    let dir = winner.path.parent().unwrap_or(winner.path);
    if !engine.reads(dir, &facts.spec_root) {
        let evidence = format!("does not see it: it does not read {}", dir.display());
        return warning(engine.name, evidence, unread_cure(facts.settings, engine));
    }
    let version = specs::version_of(winner.spec).parse::<Version>().ok();
    match engine.max_cdi.zip(version) {
        Some((highest, version)) if highest < version => {
            let evidence = format!(
                "does not accept cdi {version}: {} accepts up to {highest}",
                engine.label()
            );
            let cure = specs::version_cure(facts, winner.spec, engine, highest);
            error(engine.name, evidence, cure)
        }
        _ => ok(engine.name, format!("{} sees it", engine.label())),
    }
}

/// Levenshtein distance: the number of characters to change, insert or remove.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // Row of the usual matrix for the characters of `a` so far; only the row before is needed.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_is_symmetric_and_counts_edits() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("0:1g", "0:2g", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
