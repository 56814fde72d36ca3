//! The answer to `GetPreferredAllocation`: which free slices a container gets when it does not matter to the container.
//!
//! It keeps GPUs whole for others, and the slices of one container near each other.

use crate::{advertised::AdvertisedDevice, api::ContainerPreferredAllocationRequest};
use std::collections::BTreeMap;

/// Chooses as many of the available devices as are requested, and returns their ids.
///
/// Next to devices that must be included come others of their GPU, then of their NUMA node. Otherwise the GPU with
/// just enough free devices is taken, else the one with the fewest, which is the one in use most.
#[must_use]
pub fn preferred_allocation(
    devices: &[AdvertisedDevice],
    request: &ContainerPreferredAllocationRequest,
) -> Vec<String> {
    let size = usize::try_from(request.allocation_size).unwrap_or_default();
    let mut chosen = request.must_include_device_ids.clone();
    chosen.truncate(size);
    let location = |id: &str| {
        let found = devices.iter().find(|advertised| advertised.device.id == id)?;
        Some((found.device.gpu.as_str(), found.device.numa))
    };
    // By GPU, in the order of the request. A device that is no longer advertised is not chosen: the kubelet may
    // call with an older list.
    let mut free: BTreeMap<&str, (Option<u32>, Vec<&str>)> = BTreeMap::new();
    for id in &request.available_device_ids {
        let Some((gpu, numa)) = location(id).filter(|_| !chosen.contains(id)) else { continue };
        free.entry(gpu).or_insert_with(|| (numa, Vec::new())).1.push(id);
    }
    while chosen.len() < size && !free.is_empty() {
        let missing = size - chosen.len();
        let rank = |gpu: &str, numa: Option<u32>, count: usize| {
            let mut locations = chosen.iter().filter_map(|id| location(id));
            let is_same_gpu = locations.clone().any(|(other, _)| other == gpu);
            let is_near = chosen.is_empty() || locations.any(|(_, other)| other == numa);
            // Of GPUs that have too few, the one with most splits the allocation least.
            let waste = if count >= missing { count } else { usize::MAX - count };
            (!is_same_gpu, !is_near, waste)
        };
        // The PCI address breaks ties, so that equal requests get equal answers.
        let best =
            free.iter().min_by_key(|(gpu, (numa, ids))| (rank(gpu, *numa, ids.len()), **gpu));
        let Some(gpu) = best.map(|(gpu, _)| *gpu) else { break };
        let (_, ids) = free.remove(gpu).unwrap_or_default();
        chosen.extend(ids.into_iter().take(missing).map(str::to_owned));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::AllocatableDevice;

    fn advertised(id: &str, gpu: &str, numa: u32) -> AdvertisedDevice {
        let device = AllocatableDevice {
            id: id.to_owned(),
            name: format!("nvidia.com/mig={id}"),
            uuid: None,
            gpu: gpu.to_owned(),
            instance: None,
            capability: None,
            config: None,
            numa: Some(numa),
        };
        AdvertisedDevice { device, unhealthy: None }
    }

    fn prefer(available: &[&str], must: &[&str], size: i32) -> Vec<String> {
        let devices = ["a1", "a2", "a3", "b1", "b2", "c1"];
        let device = |id: &&str| advertised(id, &id[..1], u32::from(id.starts_with('c')));
        let devices: Vec<_> = devices.iter().map(device).collect();
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        preferred_allocation(
            &devices,
            &ContainerPreferredAllocationRequest {
                available_device_ids: owned(available),
                must_include_device_ids: owned(must),
                allocation_size: size,
            },
        )
    }

    #[test]
    fn one_slice_is_taken_from_the_gpu_in_use_most() {
        assert_eq!(prefer(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 1), ["c1"]);
        assert_eq!(prefer(&["a1", "a2", "a3", "b2"], &[], 1), ["b2"]);
    }

    #[test]
    fn several_slices_come_from_the_gpu_that_has_just_enough() {
        assert_eq!(prefer(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 2), ["b1", "b2"]);
        assert_eq!(prefer(&["a1", "a2", "a3", "b1", "b2", "c1"], &[], 3), ["a1", "a2", "a3"]);
    }

    #[test]
    fn a_device_that_must_be_included_brings_its_gpu_and_then_its_numa_node() {
        assert_eq!(prefer(&["a1", "a2", "b1", "b2", "c1"], &["b1"], 2), ["b1", "b2"]);
        assert_eq!(prefer(&["a3", "b1", "c1"], &["b1"], 2), ["b1", "a3"]);
    }

    #[test]
    fn too_large_a_request_gets_all_and_unknown_ids_are_dropped() {
        assert_eq!(prefer(&["a1", "b1"], &[], 5), ["a1", "b1"]);
        assert_eq!(prefer(&["a1", "zz"], &[], 2), ["a1"]);
        assert!(prefer(&["a1"], &["a1"], -3).is_empty());
    }
}
