//! For which GPUs of the node an entry speaks.

use super::{Assignment, BadLayouts, Candidate, Entry, GpuWord, Layouts, Origin, Selected};

impl Layouts {
    /// What the configuration of this name says, in the order of the candidates. A GPU for which no
    /// entry speaks is left out: it stays as it is, as in mig-parted.
    ///
    /// # Errors
    /// When there is no such configuration, when it names a GPU that is not among the candidates, or
    /// one twice. mig-parted lets what stands later win; here both lines are named. An entry whose
    /// filter no candidate matches speaks of other nodes, and the GPUs that it names may be absent.
    pub fn select(&self, name: &str, gpus: &[Candidate]) -> Result<Vec<Selected>, BadLayouts> {
        select(self.config(name)?, gpus)
    }

    /// The same of the GPUs that are there, and the words for those that are not: a checkpoint is of
    /// use although a card is broken.
    ///
    /// # Errors
    /// As [`Layouts::select`], but for GPUs that are absent.
    pub fn select_present(
        &self,
        name: &str,
        gpus: &[Candidate],
    ) -> Result<(Vec<Selected>, Vec<GpuWord>), BadLayouts> {
        let there = |word: &GpuWord| *word == GpuWord::All || gpus.iter().any(|gpu| word.is(gpu));
        let mut absent = Vec::new();
        let mut entries = self.config(name)?.to_vec();
        for entry in &mut entries {
            let gone = entry.gpus.extract_if(.., |(word, _)| !there(word));
            absent.extend(gone.map(|(word, _)| word));
        }
        Ok((select(&entries, gpus)?, absent))
    }
}

impl Assignment {
    /// What these say, in the order of the candidates.
    ///
    /// # Errors
    /// When one names a GPU that is not among the candidates, or two the same.
    pub fn select(all: &[Assignment], gpus: &[Candidate]) -> Result<Vec<Selected>, BadLayouts> {
        let entries: Vec<_> = all.iter().map(Assignment::entry).collect();
        select(&entries, gpus)
    }
}

fn select(entries: &[Entry], gpus: &[Candidate]) -> Result<Vec<Selected>, BadLayouts> {
    let mut found: Vec<Option<Selected>> = vec![None; gpus.len()];
    for entry in entries {
        let matches = |gpu: &Candidate| {
            entry.filters.is_empty() || entry.filters.iter().any(|filter| filter.matches(gpu))
        };
        for (word, origin) in &entry.gpus {
            let meant = |(_, gpu): &(usize, &Candidate)| word.is(gpu);
            let mut meant = gpus.iter().enumerate().filter(meant).peekable();
            if meant.peek().is_none() && *word != GpuWord::All && gpus.iter().any(matches) {
                return Err(absent(word, origin, gpus));
            }
            for (at, gpu) in meant {
                if !matches(gpu) {
                    contradiction(word, origin, gpu)?;
                } else if let Some(before) = &found[at] {
                    return Err(twice(gpu, &before.origin, origin));
                } else {
                    let (origin, named) = (origin.clone(), *word != GpuWord::All);
                    let layout = entry.layout.clone();
                    found[at] = Some(Selected { gpu: at, layout, origin, named });
                }
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn twice(gpu: &Candidate, before: &Origin, origin: &Origin) -> BadLayouts {
    let Candidate { index, uuid, .. } = gpu;
    let message = format!("gpu {index} ({uuid}) is selected by {before} too; select it once");
    BadLayouts { origin: origin.clone(), message }
}

/// A number counts from node to node, and a filter chooses among the GPUs with it. But who names one
/// card means it.
fn contradiction(word: &GpuWord, origin: &Origin, gpu: &Candidate) -> Result<(), BadLayouts> {
    if matches!(word, GpuWord::All | GpuWord::Index(_)) {
        return Ok(());
    }
    let id = gpu.device_id;
    let message =
        format!("{word} is a 0x{id:08X}, which the device-filter excludes; drop one of them");
    Err(BadLayouts { origin: origin.clone(), message })
}

fn absent(word: &GpuWord, origin: &Origin, gpus: &[Candidate]) -> BadLayouts {
    let there: Vec<_> = gpus.iter().map(|gpu| word.name(gpu)).collect();
    let message = format!("no gpu {word} on this node; it has {}", there.join(", "));
    BadLayouts { origin: origin.clone(), message }
}
