//! Device names as an engine resolves them: which files it loads, in which order, and what it makes of a name that several
//! define (container-device-interface `pkg/cdi/cache.go`, `refresh`).

use super::{
    engines::{NoCdi, no_cdi, unread_cure},
    facts::{EngineFacts, LocatedSpec, NodeFacts},
    verdict::{path_text, quoted},
    writer::Writer,
};
use mig_cdi_gen::spec_file::version_refusal;

/// Reason why an engine does not see a name, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unseen {
    pub evidence: String,
    pub cure: String,
    /// True when the file itself has to change, whatever the engine is configured to read.
    pub is_file_error: bool,
}

/// Result of looking a name up in the files that an engine loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolution<T> {
    Seen(T),
    /// Two files of one directory define it. Neither counts, and no definition in another directory does.
    Clash(T, T),
    /// No file that the engine loads defines it.
    None,
}

/// Resolves a name from the files that define it, each with its priority, the index of its directory.
pub(super) fn resolve<T: Copy>(definitions: &[(usize, T)]) -> Resolution<T> {
    let mut sorted = definitions.to_vec();
    sorted.sort_by_key(|(priority, _)| *priority);
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Resolution::Clash(pair[0].1, pair[1].1),
        None => sorted.last().map_or(Resolution::None, |(_, last)| Resolution::Seen(*last)),
    }
}

/// Returns the priority of a file for an engine, or the reason why the engine does not load it.
pub(super) fn load(
    facts: &NodeFacts<'_>,
    engine: &EngineFacts,
    located: &LocatedSpec<'_>,
) -> Result<usize, Unseen> {
    if let Some(NoCdi { evidence, cure }) = no_cdi(engine) {
        return Err(Unseen {
            evidence: format!("does not see it: {evidence}"),
            cure,
            is_file_error: false,
        });
    }
    if let Some(unclear) = &engine.config.unclear {
        let evidence = format!("does not see it: {unclear}");
        return Err(Unseen { evidence, cure: unclear.cure().to_owned(), is_file_error: false });
    }
    let dir = located.path.parent().unwrap_or(located.path);
    let Some(priority) = engine.priority(dir, &facts.spec_root) else {
        if let Some((evidence, cure)) = engine.hidden(facts, dir) {
            let evidence = format!("does not see it: {evidence}");
            return Err(Unseen { evidence, cure, is_file_error: false });
        }
        let evidence = format!("does not see it: it does not read {}", path_text(dir));
        // configure adds the directories of the settings, and no other.
        let cure = match facts.settings.spec_dirs.iter().any(|known| known == dir) {
            true => unread_cure(facts, engine),
            false => {
                let dirs = engine.config.spec_dirs.join(" or ");
                format!("move {} to {dirs}", quoted(located.path))
            }
        };
        return Err(Unseen { evidence, cure, is_file_error: false });
    };
    if let Some(reason) = located.refusal {
        let evidence = format!("does not see it: it refuses {}: {reason}", path_text(located.path));
        let cure = Writer::regenerate(facts, located);
        return Err(Unseen { evidence, cure, is_file_error: true });
    }
    match unaccepted_version(facts, engine, located) {
        Some(UnacceptedVersion { evidence, cure }) => Err(Unseen {
            evidence: format!("does not see it: {evidence}"),
            cure,
            is_file_error: true,
        }),
        None => Ok(priority),
    }
}

/// Returns the files that the engines take a name from, one for each that resolves it, by their own directories and order. Where no
/// engine loads one of the files, the order of our settings decides. None for a name that resolves nowhere.
pub(super) fn winners<'f>(
    facts: &NodeFacts<'_>,
    definitions: &[LocatedSpec<'f>],
) -> Vec<LocatedSpec<'f>> {
    let of_engine = |engine: &EngineFacts| -> Vec<(usize, LocatedSpec<'f>)> {
        let loads = definitions.iter();
        loads.filter_map(|file| Some((load(facts, engine, file).ok()?, *file))).collect()
    };
    let engines = facts.engines.iter().filter(|engine| !engine.is_oci_runtime()).map(of_engine);
    let mut loads: Vec<_> = engines.filter(|loads| !loads.is_empty()).collect();
    if loads.is_empty() {
        let valid = definitions.iter().filter(|file| file.refusal.is_none());
        loads.push(valid.map(|file| (file.dir, *file)).collect());
    }
    let mut winners: Vec<LocatedSpec<'f>> = Vec::new();
    for loads in loads {
        if let Resolution::Seen(winner) = resolve(&loads)
            && winners.iter().all(|known| known.path != winner.path)
        {
            winners.push(winner);
        }
    }
    winners
}

/// Reason why an engine does not accept the version of a spec that others accept, and the cure.
pub(super) struct UnacceptedVersion {
    pub evidence: String,
    pub cure: String,
}

/// Compares the version of a spec with what an engine accepts.
pub(super) fn unaccepted_version(
    facts: &NodeFacts<'_>,
    engine: &EngineFacts,
    located: &LocatedSpec<'_>,
) -> Option<UnacceptedVersion> {
    let label = engine.label();
    if let Some((highest, version)) = engine.max_cdi().zip(located.spec.version())
        && highest < version
    {
        let evidence = format!("cdi {version}, and {label} accepts up to {highest}");
        let cure = Writer::lower_version(facts, located, engine, highest);
        return Some(UnacceptedVersion { evidence, cure });
    }
    let reason = version_refusal(located.spec, engine.has_old_cdi_library())?;
    let evidence = format!("{label} refuses it: {reason}");
    Some(UnacceptedVersion { evidence, cure: Writer::regenerate(facts, located) })
}

#[cfg(test)]
mod tests {
    use super::{Resolution, resolve};

    #[test]
    fn a_clash_hides_a_name_from_every_directory() {
        for (definitions, expected) in [
            (&[][..], Resolution::None),
            (&[(0, 'a')], Resolution::Seen('a')),
            (&[(1, 'b'), (0, 'a')], Resolution::Seen('b')),
            (&[(0, 'a'), (0, 'b')], Resolution::Clash('a', 'b')),
            (&[(0, 'a'), (1, 'b'), (1, 'c')], Resolution::Clash('b', 'c')),
            // `cache.go` deletes the name after the last directory, from the definition of that directory too.
            (&[(0, 'a'), (0, 'b'), (1, 'c')], Resolution::Clash('a', 'b')),
        ] {
            assert_eq!(resolve(definitions), expected, "{definitions:?}");
        }
    }
}
