//! Diagnosis of one device name: the files that define it, the engines that see it, and similar names when no file
//! defines it.

use super::{
    driver::NO_GPU,
    driver_nodes::DriverNodes,
    engines::unclear_daemon,
    facts::{EngineFacts, LocatedSpec, NodeFacts, SpecDirFacts},
    resolution::{Resolution, Unseen, load, resolve, winners},
    specs,
    verdict::{
        Severity, Verdict, error, first_few, from_error, note, ok, path_text, quoted, warning,
    },
    writer::Writer,
};
use crate::impossible_name::{UNKNOWN_SLOT, by_spec, with_reason};
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    discover::Source,
    slice_names::SliceNames,
    spec::{flag_of_name, preferred_name},
};
use mig_cdi_model::{GoneName, Gpu, MigMode, cdi::DeviceName};
use mig_cdi_sys::nvml::NvmlGpu;
use std::collections::BTreeMap;

/// Longest name in bytes that is compared with the requested one. The time grows with the product of the
/// lengths, and other tools' files may contain anything.
const COMPARED_LENGTH: usize = 256;

/// Cure for a GPU whose layouts are not known, as to a user without privileges.
const CREATE: &str =
    "create a slice with sudo mig-cdi apply; sudo mig-cdi profiles lists the profiles";

/// Diagnoses a device name, given with or without its kind.
pub(crate) fn explain(facts: &NodeFacts<'_>, name: &str) -> Vec<Verdict> {
    let matches = |kind: &str, device: &str| match name.split_once('=') {
        Some(requested) => requested == (kind, device),
        None => name == device,
    };
    let defines = |located: &LocatedSpec<'_>| {
        located.spec.devices.iter().any(|device| matches(&located.spec.kind, &device.name))
    };
    // Without its kind a name may be that of several devices.
    let mut kinds: BTreeMap<&str, Vec<LocatedSpec<'_>>> = BTreeMap::new();
    for located in facts.specs().filter(defines) {
        kinds.entry(&located.spec.kind).or_default().push(located);
    }
    let mut verdicts = match kinds.is_empty() {
        true => vec![unknown(facts, name, &matches)],
        false => Vec::new(),
    };
    for definitions in kinds.values() {
        verdicts.extend(files(facts, definitions));
        verdicts.extend(stale(facts, definitions, &matches));
        verdicts.extend(engines(facts, definitions));
    }
    verdicts.into_iter().map(|verdict| Verdict { check: "name", ..verdict }).collect()
}

fn unknown(facts: &NodeFacts<'_>, name: &str, matches: &dyn Fn(&str, &str) -> bool) -> Verdict {
    let expected = facts.expected_spec.as_ref().ok().and_then(Option::as_ref);
    if let Some(expected) = expected
        && expected.devices.iter().any(|device| matches(&expected.kind, &device.name))
    {
        return error(name, "the node has it, no spec file defines it", "run mig-cdi generate");
    }
    if let Some(verdict) = unusable_file(facts, name).or_else(|| whole_gpu(facts, name)) {
        return verdict;
    }
    // Names of the slices that the driver has now: a spec on disk may be stale.
    let now = expected.into_iter().flat_map(|spec| &spec.devices).map(|d| d.name.as_str());
    let own = name.rsplit_once('=').map_or(name, |(_, device)| device);
    let is_ours = matches(&facts.settings.kind.to_string(), own) && facts.expected_spec.is_ok();
    if let Some((slice, flag)) = name_of_another_style(facts, own).filter(|_| is_ours) {
        let is_there = slice.as_str() != own && now.clone().any(|name| name == slice.as_str());
        let (subject, cure) = match is_there {
            true => (slice.as_str(), format!("use {slice}")),
            false => ("its slice", format!("run mig-cdi generate with {flag}")),
        };
        let evidence = format!("no spec file defines it: {subject} has this name only with {flag}");
        return error(name, evidence, cure);
    }
    if let Some(gone) = GoneName::new(own, now).filter(|_| is_ours) {
        let Some(gone) = known_slot(facts, own, gone) else {
            let (cause, cure) = UNKNOWN_SLOT;
            return error(name, format!("no spec file defines it, and {cause}"), cure);
        };
        return gone_verdict(facts, own, &with_reason(own, gone, &facts.gpus));
    }
    // For our kind only the driver's slices are suggested, where they are known: a spec on disk may be stale.
    let kind = facts.settings.kind.to_string();
    let is_other = |located: &LocatedSpec<'_>| {
        located.refusal.is_none() && (facts.expected_spec.is_err() || located.spec.kind != kind)
    };
    let others = facts.specs().filter(is_other).map(|located| located.spec);
    let all = others.chain(expected);
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

/// The name as the driver describes it, or else the spec of our kind.
fn known_slot(facts: &NodeFacts<'_>, name: &str, gone: GoneName) -> Option<GoneName> {
    let Some(topology) = facts.topology() else { return Some(gone) };
    let Settings { spec_dirs, kind, .. } = facts.settings;
    by_spec(name, gone, topology, &SliceNames::read(topology, Source::Nvml, spec_dirs, kind))
}

/// The verdict on a name that a file which engines pass over may define. A name of the driver's slices is judged by these.
fn unusable_file(facts: &NodeFacts<'_>, name: &str) -> Option<Verdict> {
    let is_other = match name.split_once('=') {
        Some((kind, _)) => kind != facts.settings.kind.to_string(),
        None => GoneName::new(name, std::iter::empty()).is_none(),
    };
    let mut files = facts.spec_dirs.iter().flat_map(SpecDirFacts::all).filter(|_| is_other);
    let (path, reason) = files.find_map(|file| Some((&file.path, file.spec.as_ref().err()?)))?;
    let path = path_text(path);
    let evidence = format!(
        "no spec file that engines can read defines it, and they pass over {path}: {reason}"
    );
    Some(error(name, evidence, "correct that file, or generate it again"))
}

/// The verdict on a whole GPU that the node has and no spec file defines.
fn whole_gpu(facts: &NodeFacts<'_>, name: &str) -> Option<Verdict> {
    let device = match name.split_once('=') {
        Some((kind, device)) => {
            (kind == facts.settings.kind.with_class_gpu().to_string()).then_some(device)
        }
        None => name.starts_with("GPU-").then_some(name),
    }?;
    let topology = facts.topology()?;
    let is_whole = |gpu: &&Gpu| matches!(gpu.mig, MigMode::Disabled | MigMode::Unsupported);
    let has_name = |gpu: &&Gpu| match device {
        "all" => is_whole(gpu),
        _ => gpu.has_name(device),
    };
    let gpu = topology.gpus.iter().find(has_name)?;
    if is_whole(&gpu) {
        let evidence = "the node has it, no spec file defines it";
        return Some(error(name, evidence, "run mig-cdi generate --gpus"));
    }
    let slices = topology.mig_devices().filter(|slice| std::ptr::eq(slice.gpu, gpu));
    let slices = slices.filter_map(|slice| preferred_name(&slice, Source::Nvml));
    let slices: Vec<_> = slices.map(|slice| slice.to_string()).collect();
    let first = facts.first_layouts.iter().find(|first| Some(first.gpu) == gpu.index.map(|i| i.0));
    let cure = match (slices.is_empty(), first) {
        (false, _) => format!("request one of its slices: {}", first_few(&slices)),
        (true, Some(first)) => run(&first.command),
        (true, None) => CREATE.to_owned(),
    };
    let evidence = format!("{} is in mig mode, and is given out in slices", gpu.label());
    (gpu.mig == MigMode::Enabled).then(|| error(name, evidence, cure))
}

/// The usual name of a slice that has this one in another style, and the flag that adds it to a spec.
fn name_of_another_style(facts: &NodeFacts<'_>, name: &str) -> Option<(DeviceName, String)> {
    let mut slices = facts.topology()?.mig_devices();
    slices.find_map(|slice| {
        let flag = flag_of_name(&slice, name)?;
        Some((preferred_name(&slice, Source::Nvml)?, flag))
    })
}

/// The verdict on a name of no slice: the names in its place, or why its GPU has none and what makes some.
fn gone_verdict(facts: &NodeFacts<'_>, name: &str, gone: &GoneName) -> Verdict {
    if !gone.is_empty {
        return error("", gone.to_string(), "use one of these names");
    }
    let gpus = facts.nvml.as_ref().ok().map(|report| &report.gpus);
    let (Some(gpus), Some(index)) = (gpus, gone.gpu) else {
        return error("", gone.to_string(), no_device_cure(facts));
    };
    let other = |now: String| {
        let slices =
            facts.topology().is_some_and(|topology| topology.mig_devices().next().is_some());
        let cure = match slices {
            true => "use a name that mig-cdi list shows".to_owned(),
            false => no_device_cure(facts),
        };
        error(name, now, cure)
    };
    match gpus.get(index as usize) {
        None => other(format!("this node has no GPU {index}")),
        Some(Ok(gpu)) if gpu.mig.is_none() => other(format!("GPU {index} does not support mig")),
        Some(Err(call)) => from_error(&format!("GPU {index}"), call),
        Some(Ok(_)) => {
            let first = facts.first_layouts.iter().find(|first| first.gpu == index);
            let cure = first.map_or_else(|| CREATE.to_owned(), |first| run(&first.command));
            error("", gone.to_string(), cure)
        }
    }
}

/// Cure for a node without slices: a command that makes some, or that of the first error of the driver.
fn no_device_cure(facts: &NodeFacts<'_>) -> String {
    if let Some(first) = facts.first_layouts.first() {
        return run(&first.command);
    }
    let gpus = facts.nvml.as_ref().map(|report| &report.gpus[..]).unwrap_or_default();
    let has_no_mig = |gpu: &Result<NvmlGpu, _>| gpu.as_ref().is_ok_and(|gpu| gpu.mig.is_none());
    if gpus.is_empty() && facts.nvml.is_ok() {
        return format!("nvml lists no gpu: {NO_GPU}");
    }
    if !gpus.is_empty() && gpus.iter().all(has_no_mig) {
        return "no gpu of this node supports mig: request the device on another node".to_owned();
    }
    let first = super::first_driver_error(facts).and_then(|verdict| verdict.cure);
    let cure = first.unwrap_or_else(|| CREATE.to_owned());
    format!("no device has a name: {cure}")
}

fn run(command: &str) -> String {
    format!("run {command}")
}

/// A verdict for each file that defines the name.
fn files(facts: &NodeFacts<'_>, definitions: &[LocatedSpec<'_>]) -> Vec<Verdict> {
    let winners = winners(facts, definitions);
    let valid: Vec<_> = definitions.iter().filter(|other| other.refusal.is_none()).collect();
    let by_dir: Vec<_> = valid.iter().map(|located| (located.dir, **located)).collect();
    let by_dir = resolve(&by_dir);
    let verdict = |definition: &LocatedSpec<'_>| {
        let shown = path_text(definition.path);
        if let Some(reason) = definition.refusal {
            let evidence = format!("defines it, and engines refuse the file: {reason}");
            return error(shown, evidence, Writer::regenerate(facts, definition));
        }
        let is_twin = |other: &&&LocatedSpec<'_>| {
            other.dir == definition.dir && other.path != definition.path
        };
        let is_winner = winners.iter().any(|winner| winner.path == definition.path);
        match (valid.iter().find(is_twin), &by_dir, winners.first()) {
            (Some(twin), ..) => {
                let evidence = format!(
                    "{} in the same directory defines it too: engines resolve neither",
                    path_text(twin.path)
                );
                let cure = format!("remove one of the two: rm {}", quoted(definition.path));
                error(&shown, evidence, cure)
            }
            (None, Resolution::Clash(one, _), _) => {
                let dir = path_text(one.path.parent().unwrap_or(one.path));
                note(
                    &shown,
                    format!("defines it, but two files of {dir} do too, which disables all three"),
                )
            }
            (None, _, Some(winner)) if !is_winner => {
                note(&shown, format!("defines it, but is hidden by {}", path_text(winner.path)))
            }
            _ => {
                let (kind, version) = (&definition.spec.kind, specs::version_of(definition.spec));
                ok(&shown, format!("defines {kind}, cdi {version}"))
            }
        }
    };
    definitions.iter().map(verdict).collect()
}

/// Verdicts on the device nodes that a container with the name gets, where they are stale.
fn stale(
    facts: &NodeFacts<'_>,
    definitions: &[LocatedSpec<'_>],
    matches: &dyn Fn(&str, &str) -> bool,
) -> Vec<Verdict> {
    let Some(driver) = DriverNodes::read(facts) else { return Vec::new() };
    let winners = winners(facts, definitions);
    winners.iter().filter_map(|winner| stale_winner(facts, &driver, winner, matches)).collect()
}

fn stale_winner(
    facts: &NodeFacts<'_>,
    driver: &DriverNodes,
    winner: &LocatedSpec<'_>,
    matches: &dyn Fn(&str, &str) -> bool,
) -> Option<Verdict> {
    let spec = winner.spec;
    // The part without a name applies to every device.
    let parts =
        spec.all_edits().filter(|(name, _)| name.is_none_or(|device| matches(&spec.kind, device)));
    let stale: Vec<_> = parts.flat_map(|(_, edits)| driver.stale(edits)).collect();
    let expected = facts.expected_spec.as_ref().ok().and_then(Option::as_ref);
    let now = expected.into_iter().flat_map(|spec| &spec.devices).map(|d| d.name.as_str());
    let own = spec.devices.iter().find(|device| matches(&spec.kind, &device.name));
    let gone =
        own.filter(|own| facts.expected_spec.is_ok() && now.clone().all(|now| now != own.name));
    let gone = gone.and_then(|own| GoneName::new(&own.name, now));
    let evidence = [gone.map(|gone| gone.to_string()), Some(first_few(&stale))];
    let evidence: Vec<_> = evidence.into_iter().flatten().collect();
    let cure = || Writer::regenerate(facts, winner);
    (!stale.is_empty()).then(|| error(path_text(winner.path), evidence.join(": "), cure()))
}

/// A verdict for each engine that reads specs. When none sees the name, that is an error.
fn engines(facts: &NodeFacts<'_>, definitions: &[LocatedSpec<'_>]) -> Vec<Verdict> {
    let engines = || facts.engines.iter().filter(|engine| !engine.is_oci_runtime());
    let mut verdicts: Vec<_> =
        engines().map(|engine| visibility(facts, engine, definitions)).collect();
    if verdicts.is_empty() {
        return vec![note("", "no engine that reads specs is installed here: none sees it")];
    }
    if verdicts.iter().all(|verdict| verdict.severity != Severity::Ok) {
        for (verdict, engine) in verdicts.iter_mut().zip(engines()) {
            verdict.severity = Severity::Error;
            let cure = || engine.config.unclear.as_ref().map(|unclear| unclear.cure().to_owned());
            verdict.cure = verdict.cure.take().or_else(cure);
        }
    }
    verdicts
}

fn visibility(
    facts: &NodeFacts<'_>,
    engine: &EngineFacts,
    definitions: &[LocatedSpec<'_>],
) -> Verdict {
    if let Some(unclear) = unclear_daemon(engine) {
        return unclear;
    }
    let loads: Vec<_> =
        definitions.iter().map(|located| (load(facts, engine, located), located)).collect();
    let loaded = loads.iter().filter_map(|(load, located)| Some((*load.as_ref().ok()?, *located)));
    match resolve(&loaded.collect::<Vec<_>>()) {
        Resolution::Seen(_) if definitions.len() == 1 => {
            ok(engine.name, format!("{} sees it", engine.label()))
        }
        Resolution::Seen(file) => {
            ok(engine.name, format!("{} sees it in {}", engine.label(), path_text(file.path)))
        }
        Resolution::Clash(one, other) => {
            let (one, other) = (path_text(one.path), path_text(other.path));
            let evidence = format!("does not see it: both {one} and {other} define it");
            error(engine.name, evidence, "remove one of the two files")
        }
        // Directories are in ascending priority: the last file is the one that should win.
        Resolution::None => match loads.into_iter().next_back() {
            Some((Err(Unseen { evidence, cure, is_file_error }), _)) => match is_file_error {
                true => error(engine.name, evidence, cure),
                false => warning(engine.name, evidence, cure),
            },
            _ => note(engine.name, "no file defines it"),
        },
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
