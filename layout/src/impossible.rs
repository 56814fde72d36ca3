//! The reason why a desired layout is impossible, with its numbers and its cure.

use crate::GpuCapacity;
use mig_cdi_model::{GiId, Placement};
use std::fmt;

/// A GPU instance in use for which the desired layout has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// GPU instance id.
    pub gi: GiId,
    /// Name of its profile; `profile ID` when the driver no longer reports the profile.
    pub profile: String,
    /// Memory slices.
    pub placement: Placement,
    /// Names of its holders, each once.
    pub holders: Vec<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { gi, profile, placement, holders } = self;
        let holders = list(holders, ", ");
        write!(f, "gpu instance {gi} ({profile} at {placement}) is in use by {holders}")
    }
}

/// The reason why a desired layout is impossible on a GPU.
///
/// `desired` is always the user's own text. Displayed as `cause; cure`, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.cause(), self.cure())]
pub enum Impossible {
    /// The GPU has no such profile.
    UnknownProfile {
        /// Desired GPU instance.
        desired: String,
        /// Profiles of the GPU, as `name (id)`.
        profiles: Vec<String>,
    },
    /// The profile has no placement with this start.
    BadStart {
        /// Desired GPU instance.
        desired: String,
        /// Memory slices at which the profile can start.
        starts: Vec<u32>,
    },
    /// The GPU instance has no compute instance profile of this size.
    UnknownComputeProfile {
        /// Desired GPU instance.
        desired: String,
        /// Possible sizes, in compute slices.
        has: Vec<u32>,
    },
    /// The compute instance profile has no placement with this start.
    BadComputeStart {
        /// Desired GPU instance.
        desired: String,
        /// Size of the compute instance, in compute slices.
        slices: u32,
        /// Compute slice at which it was to start.
        start: u32,
        /// Compute slices at which it can start.
        starts: Vec<u32>,
    },
    /// The compute instances fit the GPU instance, but not at the starts that the user gave.
    ComputeStarts {
        /// Desired GPU instance.
        desired: String,
    },
    /// The compute instances do not fit the GPU instance.
    ComputeSlices {
        /// Desired GPU instance.
        desired: String,
        /// Compute slices that they need.
        needs: u32,
        /// Compute slices of the GPU instance.
        has: u32,
    },
    /// The GPU has too little of a resource.
    Resources {
        /// Desired instances with a verb: `3 x 3g.40gb needs`, `3g.40gb + 2g.20gb need`.
        desired: String,
        /// Memory slices, compute slices, or a kind of media engine.
        resource: &'static str,
        /// Amount that they need.
        needs: u32,
        /// Amount on the GPU.
        has: u32,
        /// Cure: another request.
        cure: String,
    },
    /// The driver allows fewer instances of a profile.
    TooMany {
        /// Profile name.
        name: String,
        /// Desired number.
        count: usize,
        /// Most that the GPU holds.
        max: u32,
        /// Cure: another request.
        cure: String,
    },
    /// The placements overlap, although resources suffice. Without any one of `desired` the rest fits.
    NoPlacement {
        /// The smallest set of desired instances that does not fit.
        desired: String,
        /// Size and possible starts of each, as text.
        starts: String,
        /// Cure: another request.
        cure: String,
    },
    /// GPU instances in use take the room. Each of `blockers` alone makes the layout impossible.
    InUse {
        /// GPU instances in the way, with their holders.
        blockers: Vec<Blocker>,
        /// Cure: another request, or the release to wait for.
        cure: String,
    },
}

impl Impossible {
    /// Returns the reason with its numbers, without the cure.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Impossible::UnknownProfile { desired, profiles } if profiles.is_empty() => {
                format!("{desired} is not a profile of this GPU, which has none")
            }
            Impossible::UnknownProfile { desired, .. } => {
                format!("{desired} is not a profile of this GPU")
            }
            Impossible::BadStart { desired, .. } => format!("{desired} cannot start there"),
            Impossible::UnknownComputeProfile { desired, .. } => {
                format!("{desired} has no such compute instance")
            }
            Impossible::BadComputeStart { desired, slices, start, .. } => {
                format!("{desired} cannot have its {slices}c at {start}")
            }
            Impossible::ComputeStarts { desired } => {
                format!("the compute instances of {desired} do not fit side by side")
            }
            Impossible::ComputeSlices { desired, needs, has } => format!(
                "the compute instances of {desired} need {needs} compute slices side by side of {has}"
            ),
            Impossible::Resources { desired, resource, needs, has, .. } => {
                format!("{desired} {needs} {resource} of {has}")
            }
            Impossible::TooMany { name, count, max, .. } => {
                format!("{count} x {name}, but the GPU holds {max} at most")
            }
            Impossible::NoPlacement { desired, starts, .. } => {
                format!("no placement is left for {desired} side by side: {starts}")
            }
            Impossible::InUse { blockers, .. } => {
                let them = if blockers.len() == 1 { "it" } else { "them" };
                let blockers = list(blockers, ", ");
                format!("{blockers}, and the desired layout has no room for {them}")
            }
        }
    }

    /// Returns the cure: another request, or the release to wait for.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            // Some drivers list profiles only in MIG mode.
            Impossible::UnknownProfile { profiles, .. } if profiles.is_empty() => {
                "enable mig mode".to_owned()
            }
            Impossible::UnknownProfile { profiles, .. } => {
                format!("it has {}", list(profiles, ", "))
            }
            Impossible::BadStart { starts, .. } | Impossible::BadComputeStart { starts, .. } => {
                format!("it can start at {}", list(starts, ", "))
            }
            Impossible::UnknownComputeProfile { has, .. } => {
                format!("it has those of {} slices", list(has, ", "))
            }
            Impossible::ComputeStarts { .. } => "without their @ they would".to_owned(),
            Impossible::ComputeSlices { .. } => "request fewer".to_owned(),
            Impossible::Resources { cure, .. }
            | Impossible::TooMany { cure, .. }
            | Impossible::NoPlacement { cure, .. }
            | Impossible::InUse { cure, .. } => cure.clone(),
        }
    }

    /// The GPU instances in use that are in the way; empty for every other reason.
    #[must_use]
    pub fn blockers(&self) -> &[Blocker] {
        match self {
            Impossible::InUse { blockers, .. } => blockers,
            _ => &[],
        }
    }

    pub(crate) fn unknown_profile(desired: &str, capacity: &GpuCapacity) -> Impossible {
        let profiles =
            capacity.profiles.iter().map(|profile| format!("{} ({})", profile.name, profile.id));
        let (desired, profiles) = (desired.to_owned(), profiles.collect());
        Impossible::UnknownProfile { desired, profiles }
    }
}

/// Joins values for a message.
pub(crate) fn list(parts: &[impl ToString], separator: &str) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
