//! Plans the steps from the current instances of a GPU to a desired layout.

use crate::{
    CurrentInstance, DesiredLayout, GpuCapacity, Impossible,
    alternatives::{no_placement, with_cure},
    candidates::{
        ComputeRequest, InstanceRequest, check_limits, place_compute, place_instances, resolve,
    },
    search::{Candidate, overlap},
};
use mig_cdi_model::{CiId, GiId, Placement, Profile};
use std::fmt;

/// The GPU instance in which a compute instance is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentInstance {
    /// An existing GPU instance.
    Existing(GiId),
    /// The GPU instance that an earlier step creates at this placement. Its id is unknown until then:
    /// the driver chooses it.
    Created(Placement),
}

/// One call of the driver. Profile ids are those that `nvidia-smi mig -lgip` and `-lcip` print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Destroys a compute instance.
    DestroyComputeInstance {
        /// Its GPU instance.
        gi: GiId,
        /// Its id.
        ci: CiId,
    },
    /// Destroys a GPU instance that has no compute instance left.
    DestroyGpuInstance {
        /// Its id.
        gi: GiId,
    },
    /// Creates a GPU instance.
    CreateGpuInstance {
        /// Profile name.
        name: Profile,
        /// Profile id.
        profile: u32,
        /// Memory slices of the GPU.
        placement: Placement,
    },
    /// Creates a compute instance.
    CreateComputeInstance {
        /// Its GPU instance.
        parent: ParentInstance,
        /// Profile id.
        profile: u32,
        /// Compute slices of the GPU instance.
        placement: Placement,
    },
}

impl Action {
    /// Reports whether it destroys an instance.
    #[must_use]
    pub fn destroys(&self) -> bool {
        match self {
            Action::DestroyComputeInstance { .. } | Action::DestroyGpuInstance { .. } => true,
            Action::CreateGpuInstance { .. } | Action::CreateComputeInstance { .. } => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::DestroyComputeInstance { gi, ci } => {
                write!(f, "destroy compute instance {ci} of gpu instance {gi}")
            }
            Action::DestroyGpuInstance { gi } => write!(f, "destroy gpu instance {gi}"),
            Action::CreateGpuInstance { name, placement, .. } => {
                write!(f, "create gpu instance {name} at {placement}")
            }
            Action::CreateComputeInstance { parent, placement, .. } => {
                write!(f, "create compute instance {placement} in ")?;
                match parent {
                    ParentInstance::Existing(gi) => write!(f, "gpu instance {gi}"),
                    ParentInstance::Created(place) => write!(f, "the gpu instance at {place}"),
                }
            }
        }
    }
}

/// The reason for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepReason {
    /// The desired layout has this instance.
    Requested(String),
    /// The desired layout has no such instance, and nothing in its place.
    NotRequested,
    /// This instance of the desired layout needs its slices.
    MakesRoom(String),
}

impl fmt::Display for StepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepReason::Requested(desired) => write!(f, "requested as {desired}"),
            StepReason::NotRequested => f.write_str("not requested"),
            StepReason::MakesRoom(desired) => write!(f, "makes room for {desired}"),
        }
    }
}

/// An action with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Call of the driver.
    pub action: Action,
    /// Reason for it.
    pub reason: StepReason,
}

/// A GPU instance that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptInstance {
    /// GPU instance id.
    pub gi: GiId,
    /// Desired instance that it meets, as the user wrote it.
    pub desired: String,
    /// Names of its holders, each once; empty when it is not in use.
    pub holders: Vec<String>,
}

/// The steps to a desired layout, and the GPU instances that stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Steps in order: destroys before creates; a compute instance is destroyed before its GPU instance
    /// and created after it. After every prefix the GPU is in a state that the driver accepts.
    pub steps: Vec<Step>,
    /// GPU instances that stay, in the order of the desired layout. Their compute instances may change,
    /// except those in use.
    pub kept: Vec<KeptInstance>,
}

impl PartitionPlan {
    /// Number of GPU instances that are destroyed.
    #[must_use]
    pub fn destroyed(&self) -> usize {
        let is_destroy = |step: &&Step| matches!(step.action, Action::DestroyGpuInstance { .. });
        self.steps.iter().filter(is_destroy).count()
    }

    /// Number of GPU instances that are created.
    #[must_use]
    pub fn created(&self) -> usize {
        let is_create = |step: &&Step| matches!(step.action, Action::CreateGpuInstance { .. });
        self.steps.iter().filter(is_create).count()
    }
}

/// Plans how to bring a GPU to a desired layout. Afterwards the GPU has exactly the desired instances,
/// and everything in use still exists: an instance in use has to meet a desired one, or there is no
/// plan.
///
/// Chooses the plan that destroys the fewest GPU instances, which also creates the fewest;
/// then the one that changes the fewest compute instances; then the lowest placements, those of earlier
/// desired instances first. Instances that are as desired stay. A GPU instance of which only the compute
/// instances differ stays and they change, except those in use.
///
/// # Errors
/// [`Impossible`] with the reason, the holders in the way, and what to request instead. The search is
/// complete: an error is a proof.
pub fn plan(
    capacity: &GpuCapacity,
    current: &[CurrentInstance],
    desired: &DesiredLayout,
) -> Result<PartitionPlan, Impossible> {
    // The whole layout is placed before the first call: nvidia-smi keeps what it created before a `-cgi` list
    // fails (NVIDIA's MIG user guide, `-cgi 19,19,14,9`).
    let requests = resolve(capacity, desired)?;
    check_limits(capacity, &requests).map_err(|reason| with_cure(reason, capacity, &requests))?;
    // The driver protects only instances with a running client (`kernel_mig_manager.c:5627-5635`). A container
    // that merely has the nodes would open the next instance with the same ids, so every holder counts.
    let held: Vec<_> = current.iter().map(CurrentInstance::in_use).collect();
    let candidates = place_instances(&requests, current, &held)
        .ok_or_else(|| no_placement(capacity, &requests, current, &held))?;
    let mut plan = PartitionPlan::default();
    for (i, existing) in current.iter().enumerate() {
        if candidates.iter().all(|candidate| candidate.keeps != Some(i)) {
            destroy(&mut plan, existing, &requests, &candidates);
        }
    }
    let mut creates = Vec::new();
    for (request, candidate) in requests.iter().zip(&candidates) {
        match candidate.keeps {
            Some(i) => creates.extend(keep(&mut plan, request, &current[i])),
            None => creates.extend(create(request, candidate.placement)),
        }
    }
    // Creates come last: a placement is free once everything that overlaps it is destroyed.
    plan.steps.extend(creates);
    Ok(plan)
}

/// Adds the steps that destroy a GPU instance.
fn destroy(
    plan: &mut PartitionPlan,
    existing: &CurrentInstance,
    requests: &[InstanceRequest],
    candidates: &[Candidate],
) {
    let gi = existing.id;
    let successor = requests
        .iter()
        .zip(candidates)
        .find(|(_, candidate)| overlap(candidate.placement, existing.placement));
    let reason = successor.map_or(StepReason::NotRequested, |(request, _)| {
        StepReason::MakesRoom(request.text.clone())
    });
    // The driver answers IN_USE for a GPU instance that still has compute instances (`kernel_mig_manager.c:6168-6189`).
    let compute = existing.compute.iter().map(|c| Action::DestroyComputeInstance { gi, ci: c.id });
    let actions = compute.chain([Action::DestroyGpuInstance { gi }]);
    plan.steps.extend(actions.map(|action| Step { action, reason: reason.clone() }));
}

/// Keeps a GPU instance and adds the steps that destroy its unwanted compute instances. Returns the
/// steps that create others.
fn keep(
    plan: &mut PartitionPlan,
    request: &InstanceRequest,
    existing: &CurrentInstance,
) -> Vec<Step> {
    let (desired, holders) = (request.text.clone(), existing.all_holders());
    plan.kept.push(KeptInstance { gi: existing.id, desired, holders });
    let candidates =
        place_compute(&request.compute, &existing.compute, |compute| existing.uses(compute));
    let candidates = candidates.unwrap_or_default();
    for (i, compute) in existing.compute.iter().enumerate() {
        if candidates.iter().all(|candidate| candidate.keeps != Some(i)) {
            let action = Action::DestroyComputeInstance { gi: existing.id, ci: compute.id };
            let reason = StepReason::MakesRoom(request.text.clone());
            plan.steps.push(Step { action, reason });
        }
    }
    create_compute(request, &candidates, ParentInstance::Existing(existing.id))
}

/// Returns the steps that create a GPU instance with its compute instances.
fn create(request: &InstanceRequest, placement: Placement) -> Vec<Step> {
    let (name, profile) = (request.profile.name.clone(), request.profile.id);
    let action = Action::CreateGpuInstance { name, profile, placement };
    // The resolver has checked that they fit.
    let candidates = place_compute(&request.compute, &[], |_| false).unwrap_or_default();
    let mut steps = vec![Step { action, reason: StepReason::Requested(request.text.clone()) }];
    steps.extend(create_compute(request, &candidates, ParentInstance::Created(placement)));
    steps
}

/// Returns the steps that create the compute instances which no existing one is kept for.
fn create_compute(
    request: &InstanceRequest,
    candidates: &[Candidate],
    parent: ParentInstance,
) -> Vec<Step> {
    let new = request.compute.iter().zip(candidates).filter(|(_, c)| c.keeps.is_none());
    let step = |(compute, candidate): (&ComputeRequest, &Candidate)| {
        let (profile, placement) = (compute.profile.id, candidate.placement);
        Step {
            action: Action::CreateComputeInstance { parent, profile, placement },
            reason: StepReason::Requested(request.text.clone()),
        }
    };
    new.map(step).collect()
}
