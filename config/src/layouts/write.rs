//! Layouts written down: what [`Layouts::parse`](super::Layouts::parse) reads.

use super::{
    Layout,
    devices::{number, of_counts},
};
use mig_cdi_layout::{Item, ProfileWord, Wish};
use mig_cdi_model::{GpuIndex, GpuUuid};
use std::{collections::BTreeMap, fmt::Write as _};

/// A division of which mig-parted's format cannot speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gpu {gpu}: {item}: {reason}; a checkpoint can hold it")]
pub struct Unsayable {
    /// Which GPU.
    pub gpu: GpuIndex,
    /// The first GPU instance at fault, as a word of a wish.
    pub item: String,
    /// Why.
    pub reason: &'static str,
}

/// A file in mig-parted's own format with one configuration: GPUs by number, those that are alike in
/// one entry, and how many there are of each profile. Placements are left out: the format has none.
///
/// # Errors
/// When reading the file would not give the same instances: a GPU instance without compute instances,
/// a profile whose name is not known, and compute instances that are spread over more GPU instances
/// than they need.
pub fn mig_parted_yaml(name: &str, gpus: &[(GpuIndex, Layout)]) -> Result<String, Unsayable> {
    let mut groups: Vec<(Option<Counts>, Vec<GpuIndex>)> = Vec::new();
    for (gpu, layout) in gpus {
        let counts = match layout {
            Layout::Off => None,
            Layout::Divided(wish) => Some(counts(*gpu, wish)?),
        };
        match groups.iter_mut().find(|(there, _)| *there == counts) {
            Some((_, alike)) => alike.push(*gpu),
            None => groups.push((counts, vec![*gpu])),
        }
    }
    let mut text = begin(name);
    if groups.is_empty() {
        nobody(&mut text);
    }
    for (counts, alike) in groups {
        let alike: Vec<_> = alike.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    - devices: [{}]", alike.join(", "));
        match counts {
            None => text += OFF,
            Some(counts) if counts.is_empty() => text += &format!("{ON} {{}}\n"),
            Some(counts) => {
                text += &format!("{ON}\n");
                for (profile, count) in counts {
                    let _ = writeln!(text, "        {}: {count}", quoted(&profile));
                }
            }
        }
    }
    Ok(text)
}

/// A file with one configuration that brings everything back where it was: GPUs by UUID, and words of
/// wishes that say all that the layouts say.
#[must_use]
pub fn pinned_yaml(name: &str, gpus: &[(GpuUuid, Layout)]) -> String {
    let mut text = begin(name);
    if gpus.is_empty() {
        nobody(&mut text);
    }
    for (uuid, layout) in gpus {
        let _ = writeln!(text, "    - devices: [{uuid}]");
        match layout {
            Layout::Off => text += OFF,
            Layout::Divided(wish) if wish.items.is_empty() => text += &format!("{ON} []\n"),
            Layout::Divided(wish) => {
                text += &format!("{ON}\n");
                for item in &wish.items {
                    let _ = writeln!(text, "        - {}", quoted(&item.word));
                }
            }
        }
    }
    text
}

const OFF: &str = "      mig-enabled: false\n";
const ON: &str = "      mig-enabled: true\n      mig-devices:";

fn begin(name: &str) -> String {
    format!("version: v1\nmig-configs:\n  {}:\n", quoted(name))
}

/// A configuration needs an entry; this one speaks for no GPU.
fn nobody(text: &mut String) {
    *text += "    - devices: []\n";
    *text += OFF;
}

/// A text as YAML, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            other => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(other));
            }
        }
    }
    quoted + "\""
}

/// How many there are, by profile as mig-parted names it.
type Counts = BTreeMap<String, usize>;

fn counts(gpu: GpuIndex, wish: &Wish) -> Result<Counts, Unsayable> {
    let unsayable = |item: &Item, reason| Unsayable { gpu, item: item.word.clone(), reason };
    let mut counts = Counts::new();
    for item in &wish.items {
        let ProfileWord::Name(profile) = &item.profile else {
            return Err(unsayable(item, "mig-parted knows profiles by name only"));
        };
        match split(item) {
            None => *counts.entry(profile.to_string()).or_default() += 1,
            Some(parts) if parts.is_empty() => {
                return Err(unsayable(
                    item,
                    "mig-parted knows no gpu instance without compute instances",
                ));
            }
            Some(parts) => {
                for slices in parts {
                    *counts.entry(format!("{slices}c.{profile}")).or_default() += 1;
                }
            }
        }
    }
    let back = of_counts(&counts);
    // As many compute instances come back as went out: when every item is found, nothing is left over.
    match missing(&wish.items, &back) {
        Some(item) => {
            Err(unsayable(item, "mig-parted would put its compute instances together with others"))
        }
        None => Ok(counts),
    }
}

/// The first of the items that is not among the others, each of which is used once.
fn missing<'a>(items: &'a [Item], others: &[Item]) -> Option<&'a Item> {
    let mut left: Vec<_> = others.iter().map(kind).collect();
    items.iter().find(|item| match left.iter().position(|other| *other == kind(item)) {
        Some(at) => {
            left.swap_remove(at);
            false
        }
        None => true,
    })
}

/// What an item is, wherever.
fn kind(item: &Item) -> (String, Option<Vec<u32>>) {
    (item.profile.to_string(), split(item))
}

/// Compute slices of its compute instances; `None` for one that spans it, however that is written.
fn split(item: &Item) -> Option<Vec<u32>> {
    let slices: Vec<_> = item.compute.as_ref()?.iter().map(|part| part.slices).collect();
    (slices != [number(&item.profile.to_string())]).then_some(slices)
}
