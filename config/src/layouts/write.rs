//! Writes layouts as files that [`Layouts::parse`](super::Layouts::parse) reads.

use super::{
    GpuLayoutSetting,
    mig_devices::{instances_of_counts, leading_number},
};
use mig_cdi_layout::{DesiredInstance, DesiredLayout, ProfileSelector};
use mig_cdi_model::{GpuIndex, GpuUuid};
use std::{collections::BTreeMap, fmt::Write as _};

/// A layout that mig-parted's format cannot express. Displayed as `gpu: instance: cause; cure`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gpu {gpu}: {instance}: {cause}; {}", NotExpressible::CURE)]
pub struct NotExpressible {
    /// GPU.
    pub gpu: GpuIndex,
    /// First GPU instance that cannot be expressed, in the form of desired layouts.
    pub instance: String,
    /// Reason for it.
    pub cause: &'static str,
}

impl NotExpressible {
    /// Cure: the command that can store it.
    pub const CURE: &str = "a checkpoint can hold it";
}

/// Writes a file in mig-parted's own format with one configuration: GPUs by index, those with equal counts in one
/// entry, and the count of each profile. Placements are omitted: the format has none.
///
/// # Errors
/// [`NotExpressible`] when reading the file would not give the same instances: for a GPU instance without compute
/// instances, a profile whose name is not known, and compute instances that are spread over more GPU instances
/// than they need.
pub fn mig_parted_yaml(
    name: &str,
    gpus: &[(GpuIndex, GpuLayoutSetting)],
) -> Result<String, NotExpressible> {
    // mig-parted takes numbers of GPUs in one list (`devices` is `[]int` in `MigConfigSpec`), so GPUs with equal counts
    // share an entry.
    let mut groups: Vec<(Option<Counts>, Vec<GpuIndex>)> = Vec::new();
    for (gpu, layout) in gpus {
        let counts = match layout {
            GpuLayoutSetting::Off => None,
            GpuLayoutSetting::Partitioned(desired) => Some(counts(*gpu, desired)?),
        };
        match groups.iter_mut().find(|(there, _)| *there == counts) {
            Some((_, alike)) => alike.push(*gpu),
            None => groups.push((counts, vec![*gpu])),
        }
    }
    let mut text = begin(name);
    if groups.is_empty() {
        add_empty_entry(&mut text);
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

/// Writes a file with one configuration that restores everything at its placement: GPUs by UUID, instances with
/// their starts.
#[must_use]
pub fn pinned_yaml(name: &str, gpus: &[(GpuUuid, GpuLayoutSetting)]) -> String {
    let mut text = begin(name);
    if gpus.is_empty() {
        add_empty_entry(&mut text);
    }
    for (uuid, layout) in gpus {
        let _ = writeln!(text, "    - devices: [{uuid}]");
        match layout {
            GpuLayoutSetting::Off => text += OFF,
            // Without a value the field would be null, which is no list.
            GpuLayoutSetting::Partitioned(desired) if desired.instances.is_empty() => {
                text += &format!("{ON} []\n");
            }
            GpuLayoutSetting::Partitioned(desired) => {
                text += &format!("{ON}\n");
                for instance in &desired.instances {
                    let _ = writeln!(text, "        - {}", quoted(&instance.text));
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

/// Adds an entry for no GPU: a configuration needs one.
fn add_empty_entry(text: &mut String) {
    *text += "    - devices: []\n";
    *text += OFF;
}

/// Quotes any text as a YAML scalar. Everything but printable ASCII is escaped, since YAML gives other characters
/// a meaning (U+FEFF) or takes them for line breaks (U+2028).
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

/// Counts by profile name, as mig-parted has it.
type Counts = BTreeMap<String, usize>;

fn counts(gpu: GpuIndex, desired: &DesiredLayout) -> Result<Counts, NotExpressible> {
    let bad = |instance: &DesiredInstance, cause| NotExpressible {
        gpu,
        instance: instance.text.clone(),
        cause,
    };
    let mut counts = Counts::new();
    for instance in &desired.instances {
        let ProfileSelector::Name(profile) = &instance.profile else {
            return Err(bad(instance, "mig-parted knows profiles by name only"));
        };
        match compute_slices(instance) {
            None => *counts.entry(profile.to_string()).or_default() += 1,
            Some(sizes) if sizes.is_empty() => {
                return Err(bad(
                    instance,
                    "mig-parted knows no gpu instance without compute instances",
                ));
            }
            Some(sizes) => {
                for slices in sizes {
                    *counts.entry(format!("{slices}c.{profile}")).or_default() += 1;
                }
            }
        }
    }
    // The format cannot say in which GPU instance a compute instance is: read the counts back and compare.
    let back = instances_of_counts(&counts);
    // The counts have as many compute instances as the layout: when every instance is found again, nothing is left
    // over.
    match missing(&desired.instances, &back) {
        Some(instance) => {
            Err(bad(instance, "mig-parted would put its compute instances together with others"))
        }
        None => Ok(counts),
    }
}

/// Returns the first of the instances that is not among the others, each of which is used once.
fn missing<'a>(
    instances: &'a [DesiredInstance],
    others: &[DesiredInstance],
) -> Option<&'a DesiredInstance> {
    let mut left: Vec<_> = others.iter().map(kind).collect();
    instances.iter().find(|instance| match left.iter().position(|other| *other == kind(instance)) {
        Some(position) => {
            left.swap_remove(position);
            false
        }
        None => true,
    })
}

/// Returns the profile and the compute instances of an instance, without placements.
fn kind(instance: &DesiredInstance) -> (String, Option<Vec<u32>>) {
    (instance.profile.to_string(), compute_slices(instance))
}

/// Returns the sizes of its compute instances; `None` for one that spans it, however that is written.
fn compute_slices(instance: &DesiredInstance) -> Option<Vec<u32>> {
    let slices: Vec<_> = instance.compute.as_ref()?.iter().map(|compute| compute.slices).collect();
    (slices != [leading_number(&instance.profile.to_string())]).then_some(slices)
}
