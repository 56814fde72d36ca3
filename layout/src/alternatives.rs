//! Explains why requests do not fit, and finds layouts that would: an [`Impossible`] is only useful
//! with something that the user can request instead.

use crate::{
    Blocker, CurrentInstance, DesiredInstance, DesiredLayout, GpuCapacity, GpuInstanceProfile,
    Impossible,
    candidates::{InstanceRequest, check_limits, place_instances, resolve, sum_text},
    impossible::list,
};
use std::cmp::Reverse;

/// Reports whether an empty GPU could hold the requests.
fn fits_empty(capacity: &GpuCapacity, requests: &[InstanceRequest]) -> bool {
    check_limits(capacity, requests).is_ok() && place_instances(requests, &[], &[]).is_some()
}

/// Adds to a reason what could be requested instead.
pub(crate) fn with_cure(
    mut reason: Impossible,
    capacity: &GpuCapacity,
    requests: &[InstanceRequest],
) -> Impossible {
    if let Impossible::Resources { cure, .. } | Impossible::TooMany { cure, .. } = &mut reason {
        *cure = smaller_profile(capacity, requests);
    }
    reason
}

/// Suggests the largest smaller profile that would fit instead of one that is requested.
fn smaller_profile(capacity: &GpuCapacity, requests: &[InstanceRequest]) -> String {
    let is_one_profile =
        requests.iter().all(|request| request.profile.id == requests[0].profile.id);
    let mut largest_first: Vec<_> = capacity.profiles.iter().collect();
    // Among equal sizes, a profile without an attribute comes first: only one instance can have +me, so its maximum is 1.
    largest_first.sort_by_key(|p| (Reverse((p.slices, p.size(), p.max)), p.id));
    for request in requests {
        let old = request.profile;
        let is_smaller = |new: &&&GpuInstanceProfile| {
            new.id != old.id && new.slices <= old.slices && new.size() <= old.size()
        };
        let would_fit =
            |new: &&&GpuInstanceProfile| fits_empty(capacity, &with_profile(requests, old, new));
        match largest_first.iter().filter(is_smaller).find(would_fit) {
            // Mistaking 9 (3g.40gb) for 14 (2g.20gb) is the usual case: `nvidia-smi mig -cgi 9,9,9,19`.
            Some(new) if is_one_profile => {
                return format!("did you mean {} (profile {})?", new.name, new.id);
            }
            Some(new) => {
                let (new, id) = (&new.name, new.id);
                return format!("{new} (profile {id}) instead of {} would fit", old.name);
            }
            None => {}
        }
    }
    "request fewer".to_owned()
}

/// Returns the requests with another profile instead of one, at any placement.
fn with_profile<'a>(
    requests: &[InstanceRequest<'a>],
    old: &GpuInstanceProfile,
    new: &'a GpuInstanceProfile,
) -> Vec<InstanceRequest<'a>> {
    let replaced = |request: &InstanceRequest<'a>| match request.profile.id == old.id {
        true => {
            InstanceRequest { profile: new, start: None, compute: Vec::new(), ..request.clone() }
        }
        false => request.clone(),
    };
    requests.iter().map(replaced).collect()
}

/// Explains why requests within all limits have no placements.
pub(crate) fn no_placement(
    capacity: &GpuCapacity,
    requests: &[InstanceRequest],
    current: &[CurrentInstance],
    held: &[bool],
) -> Impossible {
    // On an empty GPU they fit, so only the instances in use are in the way.
    if place_instances(requests, &[], &[]).is_some() {
        return in_use(capacity, requests, current, held);
    }
    let mut least = smallest_conflict(requests);
    let desired = sum_text(&least);
    least.dedup_by(|a, b| a.text == b.text);
    let starts: Vec<_> = least.iter().map(starts_text).collect();
    let anywhere: Vec<_> =
        requests.iter().map(|request| InstanceRequest { start: None, ..request.clone() }).collect();
    let cure = match fits_empty(capacity, &anywhere) {
        true => "without their @ all would fit".to_owned(),
        false => smaller_profile(capacity, requests),
    };
    Impossible::NoPlacement { desired, starts: starts.join(", "), cure }
}

/// Removes every request that does not matter: the rest does not fit, and would without any one of it.
fn smallest_conflict<'a>(requests: &[InstanceRequest<'a>]) -> Vec<InstanceRequest<'a>> {
    let mut least = requests.to_vec();
    // Backwards: a removal then moves only requests that have been tried.
    for i in (0..least.len()).rev() {
        let mut fewer = least.clone();
        fewer.remove(i);
        if place_instances(&fewer, &[], &[]).is_none() {
            least = fewer;
        }
    }
    least
}

/// Formats the size and the possible starts of a request: `3g.40gb@0 takes 4 from 0`.
fn starts_text(request: &InstanceRequest) -> String {
    let all = request.profile.placements.iter().map(|placement| placement.start);
    let starts: Vec<_> = all.filter(|s| request.start.is_none_or(|start| start == *s)).collect();
    format!("{} takes {} from {}", request.text, request.profile.size(), list(&starts, ", "))
}

/// Names the instances in use that make the requests impossible.
fn in_use(
    capacity: &GpuCapacity,
    requests: &[InstanceRequest],
    current: &[CurrentInstance],
    held: &[bool],
) -> Impossible {
    // An instance in use that can stay beside the requests is not in the way. Each of the others is,
    // given those that stay, so the user sees only holders that matter.
    let mut stays = vec![false; held.len()];
    for i in (0..held.len()).filter(|&i| held[i]) {
        stays[i] = true;
        stays[i] = place_instances(requests, current, &stays).is_some();
    }
    let in_way: Vec<_> =
        (0..held.len()).filter(|&i| held[i] && !stays[i]).map(|i| &current[i]).collect();
    let additions =
        in_way.iter().map(|gi| DesiredInstance::of(capacity, gi).at_any_compute_start());
    let additions = DesiredLayout { instances: additions.collect() };
    let until = if in_way.len() == 1 { "it is released" } else { "they are released" };
    let cure = match fits_with(capacity, requests, &additions, current, held) {
        true => format!("add {additions} to the layout, or wait until {until}"),
        false => format!("wait until {until}, or request less"),
    };
    let blocker = |gi: &&CurrentInstance| Blocker {
        gi: gi.id,
        profile: profile_name(capacity, gi),
        placement: gi.placement,
        holders: gi.all_holders(),
    };
    Impossible::InUse { blockers: in_way.iter().map(blocker).collect(), cure }
}

/// Reports whether the requests fit together with some more, everything in use left alone.
fn fits_with(
    capacity: &GpuCapacity,
    requests: &[InstanceRequest],
    additions: &DesiredLayout,
    current: &[CurrentInstance],
    held: &[bool],
) -> bool {
    resolve(capacity, additions).is_ok_and(|additions| {
        let all = [requests.to_vec(), additions].concat();
        check_limits(capacity, &all).is_ok() && place_instances(&all, current, held).is_some()
    })
}

fn profile_name(capacity: &GpuCapacity, gi: &CurrentInstance) -> String {
    let known = capacity.by_id(gi.profile);
    known.map_or_else(|| format!("profile {}", gi.profile), |profile| profile.name.to_string())
}
