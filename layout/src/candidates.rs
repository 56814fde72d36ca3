//! Resolves a desired layout against the capacity of a GPU: known profiles, limits, and the candidate
//! placements of every instance.

use crate::{
    ComputeInstanceProfile, CurrentComputeInstance, CurrentInstance, DesiredComputeInstance,
    DesiredInstance, DesiredLayout, GpuCapacity, GpuInstanceProfile, Impossible, ProfileSelector,
    capacity::RESOURCES,
    search::{Candidate, Requirement, cheapest},
};
use mig_cdi_model::Placement;

/// Cost of creating a GPU instance: above that of changing every compute instance of a GPU (at most
/// 15 x 8, `nv-caps.c:57-148`), so that keeping a GPU instance is always cheaper.
const CREATE_COST: u32 = 10_000;

/// A desired GPU instance with its profile on this GPU.
#[derive(Debug, Clone)]
pub(crate) struct InstanceRequest<'a> {
    /// The user's text for it.
    pub text: String,
    /// Profile that the text names.
    pub profile: &'a GpuInstanceProfile,
    /// Memory slice at which it has to start.
    pub start: Option<u32>,
    /// Its compute instances.
    pub compute: Vec<ComputeRequest<'a>>,
}

/// A desired compute instance with its profile in the GPU instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComputeRequest<'a> {
    /// Profile of this size.
    pub profile: &'a ComputeInstanceProfile,
    /// Compute slice of the GPU instance at which it has to start.
    pub start: Option<u32>,
}

impl ComputeRequest<'_> {
    fn is_same(&self, other: &ComputeRequest) -> bool {
        self.profile.id == other.profile.id && self.start == other.start
    }
}

impl InstanceRequest<'_> {
    fn is_same(&self, other: &InstanceRequest) -> bool {
        let (mine, others) = (&self.compute, &other.compute);
        self.profile.id == other.profile.id
            && self.start == other.start
            && mine.len() == others.len()
            && mine.iter().zip(others).all(|(a, b)| a.is_same(b))
    }
}

/// Resolves every instance of a desired layout. Equal ones end up side by side, which lets the search
/// skip their permutations.
pub(crate) fn resolve<'a>(
    capacity: &'a GpuCapacity,
    desired: &DesiredLayout,
) -> Result<Vec<InstanceRequest<'a>>, Impossible> {
    let mut requests: Vec<InstanceRequest> = Vec::new();
    for instance in &desired.instances {
        let request = resolve_instance(capacity, instance)?;
        let twin = requests.iter().rposition(|other| other.is_same(&request));
        requests.insert(twin.map_or(requests.len(), |i| i + 1), request);
    }
    Ok(requests)
}

fn resolve_instance<'a>(
    capacity: &'a GpuCapacity,
    instance: &DesiredInstance,
) -> Result<InstanceRequest<'a>, Impossible> {
    let DesiredInstance { text, profile, start, compute } = instance;
    let profile = match profile {
        ProfileSelector::Name(name) => capacity.by_name(name),
        ProfileSelector::Id(id) => capacity.by_id(*id),
    };
    let profile = profile.ok_or_else(|| Impossible::unknown_profile(text, capacity))?;
    let starts = || profile.placements.iter().map(|placement| placement.start);
    if start.is_some_and(|start| starts().all(|possible| possible != start)) {
        return Err(Impossible::BadStart { desired: text.clone(), starts: starts().collect() });
    }
    // The default, `*` in `nvidia-smi mig -lcip`, which `-cgi … -C` creates.
    let whole = [DesiredComputeInstance { slices: profile.slices, start: None }];
    let compute = resolve_compute(profile, text, compute.as_deref().unwrap_or(&whole))?;
    Ok(InstanceRequest { text: text.clone(), profile, start: *start, compute })
}

fn resolve_compute<'a>(
    profile: &'a GpuInstanceProfile,
    text: &str,
    desired: &[DesiredComputeInstance],
) -> Result<Vec<ComputeRequest<'a>>, Impossible> {
    // Sizes alone do not decide: 2c + 1c fit a 3g, but not with the 2c at 1.
    let requests = desired.iter().map(|instance| compute_request(profile, text, *instance));
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let desired_text = text.to_owned();
    let count = |id| requests.iter().filter(|request| request.profile.id == id).count();
    let too_many =
        |request: &ComputeRequest| count(request.profile.id) > request.profile.max as usize;
    let fit = |requests: &[ComputeRequest]| place_compute(requests, &[], |_| false).is_some();
    let anywhere: Vec<_> =
        requests.iter().map(|request| ComputeRequest { start: None, ..*request }).collect();
    if requests.iter().any(too_many) || !fit(&anywhere) {
        let needs = desired.iter().fold(0, |sum: u32, one| sum.saturating_add(one.slices));
        let has = profile.slices;
        return Err(Impossible::ComputeSlices { desired: desired_text, needs, has });
    }
    if !fit(&requests) {
        return Err(Impossible::ComputeStarts { desired: desired_text });
    }
    Ok(requests)
}

fn compute_request<'a>(
    profile: &'a GpuInstanceProfile,
    text: &str,
    DesiredComputeInstance { slices, start }: DesiredComputeInstance,
) -> Result<ComputeRequest<'a>, Impossible> {
    let Some(found) = profile.compute.iter().find(|one| one.slices == slices) else {
        let has = profile.compute.iter().map(|one| one.slices).collect();
        return Err(Impossible::UnknownComputeProfile { desired: text.to_owned(), has });
    };
    let starts = || found.placements.iter().map(|placement| placement.start);
    match start.filter(|start| starts().all(|possible| possible != *start)) {
        Some(start) => {
            let (desired, starts) = (text.to_owned(), starts().collect());
            Err(Impossible::BadComputeStart { desired, slices, start, starts })
        }
        None => Ok(ComputeRequest { profile: found, start }),
    }
}

/// Returns placements for compute instances in a GPU instance that has those of `current`, with the
/// fewest changes. `is_held` is true for those of `current` that have to stay.
pub(crate) fn place_compute(
    requests: &[ComputeRequest],
    current: &[CurrentComputeInstance],
    is_held: impl Fn(&CurrentComputeInstance) -> bool,
) -> Option<Vec<Candidate>> {
    let candidate = |&placement: &Placement| {
        let keeps = current.iter().position(|existing| existing.placement == placement);
        let is_held = keeps.is_some_and(|i| is_held(&current[i]));
        Candidate { placement, keeps, is_held, cost: u32::from(keeps.is_none()) }
    };
    let requirement = |(i, request): (usize, &ComputeRequest)| {
        let allowed =
            |placement: &&Placement| request.start.is_none_or(|start| start == placement.start);
        let is_twin = i > 0 && requests[i - 1].is_same(request);
        let placements = request.profile.placements.iter().filter(allowed);
        Requirement::new(placements.map(candidate), is_twin)
    };
    let requirements: Vec<_> = requests.iter().enumerate().map(requirement).collect();
    cheapest(&requirements, current.iter().filter(|compute| is_held(compute)).count())
}

/// Checks the limits that do not depend on placements: each profile by itself, then all together.
pub(crate) fn check_limits(
    capacity: &GpuCapacity,
    requests: &[InstanceRequest],
) -> Result<(), Impossible> {
    for request in requests {
        let alike: Vec<_> =
            requests.iter().filter(|other| other.profile.id == request.profile.id).collect();
        let profile = request.profile;
        let (name, max, count) = (profile.name.to_string(), profile.max, alike.len());
        // One profile first: its message is shorter, and names the profile to replace.
        check_resources(capacity, alike.into_iter(), &format!("{count} x {name} needs"))?;
        if count > max as usize {
            return Err(Impossible::TooMany { name, count, max, cure: String::new() });
        }
    }
    check_resources(capacity, requests.iter(), &format!("{} need", sum_text(requests)))
}

/// Formats requests as a sum: `3g.40gb + 2g.20gb`.
pub(crate) fn sum_text(requests: &[InstanceRequest]) -> String {
    requests.iter().map(|request| request.text.as_str()).collect::<Vec<_>>().join(" + ")
}

fn check_resources<'a>(
    capacity: &GpuCapacity,
    requests: impl Iterator<Item = &'a InstanceRequest<'a>>,
    desired: &str,
) -> Result<(), Impossible> {
    // Saturating here and in the totals: an absurd answer of a driver must not wrap around to a small number.
    let mut needs = [0u32; RESOURCES.len()];
    for request in requests {
        for (sum, need) in needs.iter_mut().zip(request.profile.needs()) {
            *sum = sum.saturating_add(need);
        }
    }
    let totals = capacity.totals();
    match (0..RESOURCES.len()).find(|&i| needs[i] > totals[i]) {
        Some(i) => Err(Impossible::Resources {
            desired: desired.to_owned(),
            resource: RESOURCES[i],
            needs: needs[i],
            has: totals[i],
            cure: String::new(),
        }),
        None => Ok(()),
    }
}

/// Returns the cheapest placements for all requests that keep the `held` current instances in their
/// places. `None` proves that there are none.
pub(crate) fn place_instances(
    requests: &[InstanceRequest],
    current: &[CurrentInstance],
    held: &[bool],
) -> Option<Vec<Candidate>> {
    let requirement = |(i, request): (usize, &InstanceRequest)| {
        let allowed =
            |placement: &&Placement| request.start.is_none_or(|start| start == placement.start);
        let placements = request.profile.placements.iter().filter(allowed);
        let candidates = placements.filter_map(|&place| candidate(request, place, current, held));
        Requirement::new(candidates, i > 0 && requests[i - 1].is_same(request))
    };
    let requirements: Vec<_> = requests.iter().enumerate().map(requirement).collect();
    cheapest(&requirements, held.iter().filter(|held| **held).count())
}

/// Returns the candidate at a placement; `None` when an instance in use is there and its compute
/// instances in use do not fit the request.
fn candidate(
    request: &InstanceRequest,
    placement: Placement,
    current: &[CurrentInstance],
    held: &[bool],
) -> Option<Candidate> {
    // The id is no criterion: the driver gives a recreated instance the id of an old one.
    let matches = |existing: &CurrentInstance| {
        existing.profile == request.profile.id && existing.placement == placement
    };
    let keeps = current.iter().position(matches);
    let Some(i) = keeps else {
        return Some(Candidate { placement, keeps, is_held: false, cost: CREATE_COST });
    };
    let existing = &current[i].compute;
    let inner =
        place_compute(&request.compute, existing, |compute| held[i] && current[i].uses(compute))?;
    let kept = inner.iter().filter(|candidate| candidate.keeps.is_some()).count();
    // Compute instances to create, and those to destroy.
    let cost = (inner.len() + existing.len() - 2 * kept) as u32;
    Some(Candidate { placement, keeps, is_held: held[i], cost })
}
