//! The steps from how a GPU is divided to how it is wished to be.

use crate::{
    Impossible, Offer, Wish,
    explain::{no_place, with_cure},
    impossible::list,
    search::{Choice, overlap},
    want::{Part, Want, compute_choices, limits, resolve, solve},
};
use mig_cdi_model::{CiId, GiId, Placement, Profile};
use std::fmt;

/// A compute instance that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compute {
    /// Its id.
    pub id: CiId,
    /// Compute slices of its GPU instance.
    pub placement: Placement,
    /// Who uses it.
    pub holder: Option<String>,
}

/// A GPU instance that is there. It is in use when it or one of its compute instances has a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: GiId,
    /// The id of its profile, as nvidia-smi shows it.
    pub profile: u32,
    /// Memory slices.
    pub placement: Placement,
    /// Who uses it as a whole; then all of its compute instances count as used.
    pub holder: Option<String>,
    /// By id.
    pub compute: Vec<Compute>,
}

impl Instance {
    /// True when somebody uses it or a part of it.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.holder.is_some() || self.compute.iter().any(|compute| compute.holder.is_some())
    }

    pub(crate) fn holds(&self, compute: &Compute) -> bool {
        self.holder.is_some() || compute.holder.is_some()
    }

    pub(crate) fn holders(&self) -> String {
        let compute = self.compute.iter().filter_map(|compute| compute.holder.as_ref());
        let mut holders: Vec<_> = self.holder.iter().chain(compute).collect();
        holders.sort_unstable();
        holders.dedup();
        list(&holders, ", ")
    }
}

/// The GPU instance in which a compute instance is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// One that is there.
    Kept(GiId),
    /// The one that an earlier step makes at this placement.
    Made(Placement),
}

/// One change. Profiles are given by name and by the id that nvidia-smi shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Destroys a compute instance.
    DestroyCompute {
        /// Its GPU instance.
        gi: GiId,
        /// Which.
        ci: CiId,
    },
    /// Destroys a GPU instance that has no compute instance left.
    DestroyGpu {
        /// Which.
        gi: GiId,
    },
    /// Makes a GPU instance.
    CreateGpu {
        /// What.
        name: Profile,
        /// What.
        profile: u32,
        /// Where, in memory slices.
        placement: Placement,
    },
    /// Makes a compute instance.
    CreateCompute {
        /// In which GPU instance.
        home: Home,
        /// What.
        profile: u32,
        /// Where, in compute slices of the GPU instance.
        placement: Placement,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::DestroyCompute { gi, ci } => {
                write!(f, "destroy compute instance {ci} of gpu instance {gi}")
            }
            Action::DestroyGpu { gi } => write!(f, "destroy gpu instance {gi}"),
            Action::CreateGpu { name, placement, .. } => {
                write!(f, "create gpu instance {name} at {placement}")
            }
            Action::CreateCompute { home, placement, .. } => {
                write!(f, "create compute instance {placement} in ")?;
                match home {
                    Home::Kept(gi) => write!(f, "gpu instance {gi}"),
                    Home::Made(place) => write!(f, "the gpu instance at {place}"),
                }
            }
        }
    }
}

/// Why a step is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// This word of the wish asks for it.
    Wished(String),
    /// Nothing in the wish asks for it, nor for what it takes.
    Unwished,
    /// This word of the wish takes its slices.
    InTheWay(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Wished(word) => write!(f, "wished as {word}"),
            Why::Unwished => f.write_str("not in the wish"),
            Why::InTheWay(word) => write!(f, "in the way of {word}"),
        }
    }
}

/// A change and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why.
    pub why: Why,
}

/// A GPU instance that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub gi: GiId,
    /// The word of the wish that it meets.
    pub word: String,
    /// Who uses it, if anybody.
    pub holders: Option<String>,
}

/// What to do. Every prefix of the steps leaves a GPU that the driver accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order: destroys before creates, compute instances before the GPU instance that they are in
    /// when destroyed, after it when made.
    pub steps: Vec<Step>,
    /// What stays, in the order of the wish. Its compute instances may change; those in use do not.
    pub kept: Vec<Kept>,
}

impl Plan {
    /// How many GPU instances are destroyed.
    #[must_use]
    pub fn destroyed(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s.action, Action::DestroyGpu { .. })).count()
    }

    /// How many GPU instances are made.
    #[must_use]
    pub fn created(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s.action, Action::CreateGpu { .. })).count()
    }
}

/// Divides a GPU as wished. Afterwards it holds what the wish says and nothing else, and whatever is
/// in use is still there: an instance in use has to meet an item of the wish, or there is no plan.
///
/// Of all ways it takes the one that destroys the fewest GPU instances, which also makes the fewest;
/// then the one that changes the fewest compute instances; then the lowest placements, those of
/// earlier words first. Instances that are as wished stay. A GPU instance of which only the compute
/// instances differ stays and they change, but never those in use.
///
/// # Errors
/// Why there is no such way, who stands in it, and what could be wished for instead. The search is
/// complete: an error is a proof.
pub fn plan(offer: &Offer, current: &[Instance], wish: &Wish) -> Result<Plan, Impossible> {
    let wants = resolve(offer, wish)?;
    limits(offer, &wants).map_err(|reason| with_cure(reason, offer, &wants))?;
    let held: Vec<_> = current.iter().map(Instance::in_use).collect();
    let choices =
        solve(&wants, current, &held).ok_or_else(|| no_place(offer, &wants, current, &held))?;
    let mut plan = Plan::default();
    for (i, there) in current.iter().enumerate() {
        if choices.iter().all(|choice| choice.keeps != Some(i)) {
            destroy(&mut plan, there, &wants, &choices);
        }
    }
    let mut made = Vec::new();
    for (want, choice) in wants.iter().zip(&choices) {
        match choice.keeps {
            Some(i) => made.extend(keep(&mut plan, want, &current[i])),
            None => made.extend(create(want, choice.place)),
        }
    }
    plan.steps.extend(made);
    Ok(plan)
}

fn destroy(plan: &mut Plan, there: &Instance, wants: &[Want], choices: &[Choice]) {
    let gi = there.id;
    let taker =
        wants.iter().zip(choices).find(|(_, choice)| overlap(choice.place, there.placement));
    let why = taker.map_or(Why::Unwished, |(want, _)| Why::InTheWay(want.word.clone()));
    let compute = there.compute.iter().map(|c| Action::DestroyCompute { gi, ci: c.id });
    let actions = compute.chain([Action::DestroyGpu { gi }]);
    plan.steps.extend(actions.map(|action| Step { action, why: why.clone() }));
}

/// Notes what stays and what goes of a GPU instance that stays; returns what is made in it.
fn keep(plan: &mut Plan, want: &Want, there: &Instance) -> Vec<Step> {
    let holders = there.in_use().then(|| there.holders());
    plan.kept.push(Kept { gi: there.id, word: want.word.clone(), holders });
    let choices = compute_choices(&want.compute, &there.compute, |c| there.holds(c));
    let choices = choices.unwrap_or_default();
    for (i, compute) in there.compute.iter().enumerate() {
        if choices.iter().all(|choice| choice.keeps != Some(i)) {
            let action = Action::DestroyCompute { gi: there.id, ci: compute.id };
            plan.steps.push(Step { action, why: Why::InTheWay(want.word.clone()) });
        }
    }
    create_compute(want, &choices, Home::Kept(there.id))
}

fn create(want: &Want, placement: Placement) -> Vec<Step> {
    let (name, profile) = (want.profile.name.clone(), want.profile.id);
    let action = Action::CreateGpu { name, profile, placement };
    let choices = compute_choices(&want.compute, &[], |_| false).unwrap_or_default();
    let mut steps = vec![Step { action, why: Why::Wished(want.word.clone()) }];
    steps.extend(create_compute(want, &choices, Home::Made(placement)));
    steps
}

fn create_compute(want: &Want, choices: &[Choice], home: Home) -> Vec<Step> {
    let new = want.compute.iter().zip(choices).filter(|(_, choice)| choice.keeps.is_none());
    let step = |(part, choice): (&Part, &Choice)| Step {
        action: Action::CreateCompute { home, profile: part.offer.id, placement: choice.place },
        why: Why::Wished(want.word.clone()),
    };
    new.map(step).collect()
}
