//! One name: who defines it, who can see it, and what was meant when nobody does.

use super::{Facts, Verdict, error, note, ok, some, specs, warning};
use mig_cdi_model::cdi::{Spec, Version};
use std::path::Path;

/// All that is to be said of a name, with or without its kind.
pub(crate) fn explain(facts: &Facts<'_>, name: &str) -> Vec<Verdict> {
    let is = |kind: &str, device: &str| match name.split_once('=') {
        Some(asked) => asked == (kind, device),
        None => name == device,
    };
    let specs = facts.specs();
    let found: Vec<(usize, &Path, &Spec)> =
        specs.filter(|(_, _, spec)| spec.devices.iter().any(|d| is(&spec.kind, &d.name))).collect();
    let verdicts = match found.last() {
        None => vec![unknown(facts, name, &is)],
        Some(winner) => defined(facts, &found, *winner, &is),
    };
    verdicts.into_iter().map(|verdict| Verdict { check: "name", ..verdict }).collect()
}

fn unknown(facts: &Facts<'_>, name: &str, is: &dyn Fn(&str, &str) -> bool) -> Verdict {
    let truth = facts.truth.as_ref().ok().and_then(Option::as_ref);
    if let Some(truth) = truth
        && truth.devices.iter().any(|device| is(&truth.kind, &device.name))
    {
        return error(name, "the node has it, no spec file defines it", "run mig-cdi generate");
    }
    let all = facts.specs().map(|(_, _, spec)| spec).chain(truth);
    let names = all.flat_map(|spec| spec.devices.iter().map(move |d| (&spec.kind, &d.name)));
    let plain = !name.contains('=');
    let far = |(kind, device): (&String, &String)| {
        let full = format!("{kind}={device}");
        (distance(name, if plain { device } else { &full }), full)
    };
    let mut near: Vec<_> = names.filter(|(_, device)| device.len() <= 256).map(far).collect();
    near.sort();
    near.dedup();
    let near: Vec<_> = near.into_iter().take(3).map(|(_, name)| name).collect();
    let cure = match near.is_empty() {
        true => "no device has a name: run mig-cdi generate, and mig-cdi doctor".to_owned(),
        false => format!("ask for one of the nearest: {}", some(&near)),
    };
    error(name, "no spec file defines it, and the node has no such device", cure)
}

fn defined(
    facts: &Facts<'_>,
    found: &[(usize, &Path, &Spec)],
    (dir, path, spec): (usize, &Path, &Spec),
    is: &dyn Fn(&str, &str) -> bool,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (other, file, by) in found {
        let shown = file.display().to_string();
        let version = specs::version_of(by);
        let same = |(d, f, _): &&(usize, &Path, &Spec)| d == other && f != file;
        verdicts.push(match found.iter().find(same) {
            Some((_, twin, _)) => {
                let evidence = format!(
                    "{} in the same directory defines it too: engines know neither",
                    twin.display()
                );
                error(&shown, evidence, format!("remove {shown}, or the other"))
            }
            None if *other < dir => {
                note(&shown, format!("defines it, and {} hides that", path.display()))
            }
            None => ok(&shown, format!("defines {}, cdi {version}", by.kind)),
        });
    }
    let parts =
        spec.all_edits().filter(|(name, _)| name.is_none_or(|device| is(&spec.kind, device)));
    let stale: Vec<_> = parts.flat_map(|(_, edits)| specs::stale_nodes(facts, edits)).collect();
    if !stale.is_empty() {
        verdicts.push(error(path.display().to_string(), some(&stale), "run mig-cdi generate"));
    }
    let at = path.parent().unwrap_or(path);
    let version = specs::version_of(spec).parse::<Version>().ok();
    let engines = facts.engines.iter().filter(|engine| !matches!(engine.name, "runc" | "crun"));
    for engine in engines {
        let newer = engine.takes.zip(version).filter(|(takes, version)| takes < version);
        verdicts.push(match (engine.blind(), newer) {
            (Some((why, cure)), _) => warning(engine.name, format!("does not see it: {why}"), cure),
            _ if !engine.reads(at, &facts.real) => {
                let evidence = format!("does not see it: it does not read {}", at.display());
                warning(engine.name, evidence, "see the check config of mig-cdi doctor")
            }
            (None, Some((takes, version))) => {
                let evidence =
                    format!("does not take cdi {version}: {} takes up to {takes}", engine.label());
                error(engine.name, evidence, format!("write it with --max-cdi-version {takes}"))
            }
            (None, None) => ok(engine.name, format!("{} sees it", engine.label())),
        });
    }
    verdicts
}

/// How many letters must be changed, put in or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
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
    fn distances() {
        for (a, b, far) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("0:1g", "0:2g", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (far, far), "{a} {b}");
        }
    }
}
