//! The field `mig-devices`: the instances that a GPU is to have, as counts of profiles (mig-parted's own form)
//! or as a list of instances.

use super::{
    LayoutsError, SourceLocation,
    yaml::{YamlField, YamlNode, YamlValue, bad, quoted},
};
use mig_cdi_layout::{DesiredComputeInstance, DesiredInstance, DesiredLayout, ProfileSelector};
use mig_cdi_model::Profile;
use std::collections::BTreeMap;

/// Returns the instances that a file with these counts is read as.
pub(super) fn instances_of_counts(counts: &BTreeMap<String, usize>) -> Vec<DesiredInstance> {
    let (mut instances, mut compute) = (Vec::new(), ComputeCounts::default());
    for (name, count) in counts {
        match name.parse::<Profile>() {
            Ok(profile) if profile.is_partial() => compute.add(&profile, *count),
            Ok(profile) => {
                let instance = DesiredInstance::new(ProfileSelector::Name(profile), None, None);
                instances.extend(std::iter::repeat_n(instance, *count));
            }
            // The keys are made from profiles.
            Err(_) => {}
        }
    }
    instances.extend(compute.packed());
    instances
}

/// Most instances of a GPU. The driver has ids for 15 GPU instances (`nv-caps.c:57-148`), so a larger number is a
/// mistake.
const MAX_INSTANCES: usize = 64;

/// Reads the desired layout of a map of counts or a list of instances.
pub(super) fn desired_layout(node: &YamlNode) -> Result<DesiredLayout, LayoutsError> {
    let instances = match &node.value {
        YamlValue::Map(map) => from_counts(node, map)?,
        YamlValue::List(list) => from_list(list)?,
        YamlValue::Text { .. } => {
            let cure = "write a count for each profile, or a list of instances such as [3g.40gb@4]";
            return Err(node.bad(format!("mig-devices is {}", node.kind())).with_cure(cure));
        }
    };
    Ok(DesiredLayout { instances })
}

fn from_counts(node: &YamlNode, map: &[YamlField]) -> Result<Vec<DesiredInstance>, LayoutsError> {
    let (mut instances, mut compute, mut total) = (Vec::new(), ComputeCounts::default(), 0);
    for field in map {
        let (key, line) = (&field.key, field.line);
        let count = count(field)?;
        total += count;
        check_number(total, line)?;
        match key.parse::<Profile>() {
            Ok(profile) if profile.is_partial() => compute.add(&profile, count),
            _ => instances.extend(std::iter::repeat_n(counted_instance(key, line)?, count)),
        }
    }
    // An error in mig-parted too (`pkg/types/mig_config.go`, `AssertValid`).
    if total == 0 && !map.is_empty() {
        return Err(node.bad("all counts are 0").with_cure("write {} for no instance"));
    }
    instances.extend(compute.packed());
    Ok(instances)
}

fn from_list(list: &[YamlNode]) -> Result<Vec<DesiredInstance>, LayoutsError> {
    let mut instances = Vec::new();
    for node in list {
        instances.extend(listed_instances(node)?);
        check_number(instances.len(), node.line)?;
    }
    Ok(instances)
}

fn check_number(count: usize, line: usize) -> Result<(), LayoutsError> {
    match count > MAX_INSTANCES {
        true => {
            let cause = format!("more than {MAX_INSTANCES} instances");
            Err(bad(line, cause).with_cure("request fewer"))
        }
        false => Ok(()),
    }
}

fn count(YamlField { key, value: node, .. }: &YamlField) -> Result<usize, LayoutsError> {
    // YAML 1.1, which mig-parted reads, takes 010 for 8 and YAML 1.2 for 10: neither is meant.
    let digits = |text: &str| {
        let is_decimal = text == "0" || !text.starts_with('0');
        let is_number = is_decimal && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten().filter(|count| *count <= MAX_INSTANCES)
    };
    let count = match &node.value {
        YamlValue::Text { text, is_plain: true } => digits(text),
        _ => None,
    };
    count.ok_or_else(|| {
        let cause = format!("{} of {}", node.kind(), quoted(key));
        node.bad(cause).with_cure(format!("write a count from 0 to {MAX_INSTANCES}"))
    })
}

fn counted_instance(key: &str, line: usize) -> Result<DesiredInstance, LayoutsError> {
    let instance: DesiredInstance =
        key.parse().map_err(|error| LayoutsError::of_layout(SourceLocation::Line(line), &error))?;
    // A count of 1c.3g.40gb is one of compute instances, as in mig-parted. With a placement it would be one
    // of GPU instances.
    let profile = key.split(['@', '(']).next().unwrap_or_default().trim();
    if profile.parse::<Profile>().is_ok_and(|profile| profile.is_partial()) {
        let DesiredInstance { profile, start, compute, .. } = instance;
        let cure = format!("write {}", DesiredInstance::new(profile, start, compute));
        return Err(bad(line, format!("the count of {} is ambiguous", quoted(key))).with_cure(cure));
    }
    Ok(instance)
}

fn listed_instances(node: &YamlNode) -> Result<Vec<DesiredInstance>, LayoutsError> {
    let YamlValue::Text { text, .. } = &node.value else {
        let cause = format!("{} in a list of instances such as 3g.40gb@4", node.kind());
        return Err(node.bad(cause));
    };
    let layout = text.parse::<DesiredLayout>().map_err(|error| {
        let bad = LayoutsError::of_layout(SourceLocation::Line(node.line), &error);
        // YAML splits [3g.40gb(1c,2c)] at its comma.
        match text.contains('(') != text.contains(')') {
            true => bad.with_cure(format!("{}; an instance with a comma needs quotes", error.cure)),
            false => bad,
        }
    })?;
    Ok(layout.instances)
}

/// Counts of compute instances without their GPU instances.
#[derive(Default)]
struct ComputeCounts {
    /// Compute slices of each, by profile of the GPU instance, in the order of the file.
    by_profile: Vec<(Profile, Vec<u32>)>,
}

impl ComputeCounts {
    fn add(&mut self, profile: &Profile, count: usize) {
        let gpu_instance = profile.gpu_instance_profile();
        let slices = leading_number(profile.as_str());
        let position = self.by_profile.iter().position(|(known, _)| *known == gpu_instance);
        let position = position.unwrap_or_else(|| {
            self.by_profile.push((gpu_instance, Vec::new()));
            self.by_profile.len() - 1
        });
        self.by_profile[position].1.extend(std::iter::repeat_n(slices, count));
    }

    /// Packs the compute instances into as few GPU instances as possible, largest first.
    fn packed(self) -> impl Iterator<Item = DesiredInstance> {
        // mig-parted fills a GPU instance until nothing more fits and then makes the next, trying other orders
        // when the GPU is full (`pkg/mig/config/config.go`, `SetMigConfig`): whenever it succeeds, this fits
        // too.
        self.by_profile.into_iter().flat_map(|(profile, mut sizes)| {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let room = leading_number(profile.as_str());
            let mut parents: Vec<Vec<u32>> = Vec::new();
            for size in sizes {
                let fits = |parent: &&mut Vec<u32>| parent.iter().sum::<u32>() + size <= room;
                match parents.iter_mut().find(fits) {
                    Some(parent) => parent.push(size),
                    None => parents.push(vec![size]),
                }
            }
            parents.into_iter().map(move |parent| {
                let compute = |slices| DesiredComputeInstance { slices, start: None };
                let compute = (parent != [room]).then(|| parent.into_iter().map(compute).collect());
                DesiredInstance::new(ProfileSelector::Name(profile.clone()), None, compute)
            })
        })
    }
}

/// Returns the number that a profile name begins with: `3` of `3g.40gb`, `1` of `1c.3g.40gb`.
pub(super) fn leading_number(name: &str) -> u32 {
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..end].parse().unwrap_or(0)
}
