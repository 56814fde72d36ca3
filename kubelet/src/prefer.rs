//! Which free slices a container is given when it does not matter to it: those that leave GPUs whole for others,
//! and those that are near each other.

use crate::{api::ContainerPreferredAllocationRequest, roster::Entry};
use std::collections::BTreeMap;

/// As many of the free ones as are asked for. With those that are taken in any case come others of their
/// GPU, then of their memory domain. Where there is a choice of GPU, one that has just enough is taken, else the one
/// with the fewest free, which is the one in use most.
#[must_use]
pub fn preferred(entries: &[Entry], request: &ContainerPreferredAllocationRequest) -> Vec<String> {
    let size = usize::try_from(request.allocation_size).unwrap_or_default();
    let mut taken = request.must_include_device_ids.clone();
    taken.truncate(size);
    let place = |id: &str| {
        let entry = entries.iter().find(|entry| entry.offer.id == id)?;
        Some((entry.offer.gpu.as_str(), entry.offer.numa))
    };
    // By GPU, in the order of the request. What we do not know is not chosen.
    let mut free: BTreeMap<&str, (Option<u32>, Vec<&str>)> = BTreeMap::new();
    for id in &request.available_device_ids {
        let Some((gpu, numa)) = place(id).filter(|_| !taken.contains(id)) else { continue };
        free.entry(gpu).or_insert_with(|| (numa, Vec::new())).1.push(id);
    }
    while taken.len() < size && !free.is_empty() {
        let left = size - taken.len();
        let rank = |gpu: &str, numa: Option<u32>, count: usize| {
            let mut places = taken.iter().filter_map(|id| place(id));
            let same_gpu = places.clone().any(|(other, _)| other == gpu);
            let near = taken.is_empty() || places.any(|(_, other)| other == numa);
            // Of those that have too few, the one with most is least split.
            let waste = if count >= left { count } else { usize::MAX - count };
            (!same_gpu, !near, waste)
        };
        let best =
            free.iter().min_by_key(|(gpu, (numa, ids))| (rank(gpu, *numa, ids.len()), **gpu));
        let Some(gpu) = best.map(|(gpu, _)| *gpu) else { break };
        let (_, ids) = free.remove(gpu).unwrap_or_default();
        taken.extend(ids.into_iter().take(left).map(str::to_owned));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Offer;

    fn entry(id: &str, gpu: &str, numa: u32) -> Entry {
        let offer = Offer {
            id: id.to_owned(),
            name: format!("nvidia.com/mig={id}"),
            uuid: None,
            gpu: gpu.to_owned(),
            instance: None,
            numa: Some(numa),
        };
        Entry { offer, sick: None }
    }

    fn ask(available: &[&str], must: &[&str], size: i32) -> Vec<String> {
        let entries = ["a1", "a2", "a3", "b1", "b2", "c1"];
        let entries: Vec<_> =
            entries.iter().map(|id| entry(id, &id[..1], u32::from(id.starts_with('c')))).collect();
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        preferred(
            &entries,
            &ContainerPreferredAllocationRequest {
                available_device_ids: owned(available),
                must_include_device_ids: owned(must),
                allocation_size: size,
            },
        )
    }

    #[test]
    fn one_slice_is_taken_from_the_gpu_in_use_most() {
        assert_eq!(ask(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 1), ["c1"]);
        assert_eq!(ask(&["a1", "a2", "a3", "b2"], &[], 1), ["b2"]);
    }

    #[test]
    fn several_come_from_one_gpu_that_has_just_enough() {
        assert_eq!(ask(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 2), ["b1", "b2"]);
        assert_eq!(ask(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 3), ["a1", "a2", "a3"]);
    }

    #[test]
    fn what_must_be_taken_draws_its_gpu_and_then_its_memory_domain() {
        assert_eq!(ask(&["a1", "a2", "b1", "b2", "c1"], &["b1"], 2), ["b1", "b2"]);
        assert_eq!(ask(&["a3", "b1", "c1"], &["b1"], 2), ["b1", "a3"]);
    }

    #[test]
    fn more_than_there_are_gives_all_and_nonsense_gives_little() {
        assert_eq!(ask(&["a1", "b1"], &[], 5), ["a1", "b1"]);
        assert_eq!(ask(&["a1", "zz"], &[], 2), ["a1"]);
        assert!(ask(&["a1"], &["a1"], -3).is_empty());
    }
}
