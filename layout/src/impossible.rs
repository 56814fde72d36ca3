//! Why a wish cannot be met, in one line with the numbers and the cure.

use crate::Offer;
use mig_cdi_model::{GiId, Placement};
use std::fmt;

/// A GPU instance in use for which the wish has no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Which.
    pub gi: GiId,
    /// Name of its profile.
    pub profile: String,
    /// Memory slices.
    pub placement: Placement,
    /// Who uses it.
    pub holder: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { gi, profile, placement, holder } = self;
        write!(f, "gpu instance {gi} ({profile} at {placement}) is in use by {holder}")
    }
}

/// A wish that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// The GPU has no such profile.
    #[error("{word} is no profile of this GPU; it has {has}")]
    Unknown {
        /// As wished.
        word: String,
        /// Names and ids.
        has: String,
    },
    /// The profile never starts there.
    #[error("{word} cannot start there; it can at {}", list(starts, ", "))]
    Start {
        /// As wished.
        word: String,
        /// Memory slices at which it can start.
        starts: Vec<u32>,
    },
    /// The profile has no compute instances of this size.
    #[error("{word} has no such compute instance; it has those of {} slices", list(has, ", "))]
    UnknownCompute {
        /// As wished.
        word: String,
        /// Sizes in compute slices.
        has: Vec<u32>,
    },
    /// Compute instances of this size never start there.
    #[error("{word} cannot have its {slices}c at {start}; it can start at {}", list(starts, ", "))]
    ComputeStart {
        /// As wished.
        word: String,
        /// Compute slices.
        slices: u32,
        /// The compute slice at which it was to start.
        start: u32,
        /// Compute slices at which it can start.
        starts: Vec<u32>,
    },
    /// The compute instances would fit, but not with each at its start.
    #[error("the compute instances of {word} do not fit side by side; without their @ they would")]
    ComputePlaces {
        /// As wished.
        word: String,
    },
    /// The compute instances do not fit into their GPU instance.
    #[error(
        "the compute instances of {word} need {needs} compute slices side by side of {has}; wish for fewer"
    )]
    Compute {
        /// As wished.
        word: String,
        /// Compute slices.
        needs: u32,
        /// Compute slices.
        has: u32,
    },
    /// There is not enough of something.
    #[error("{wished} {needs} {what} of {has}; {cure}")]
    Short {
        /// `3 x 3g.40gb needs`, `3g.40gb + 2g.20gb need`.
        wished: String,
        /// Memory slices, compute slices or a kind of engine.
        what: &'static str,
        /// How many.
        needs: u32,
        /// How many there are.
        has: u32,
        /// What to wish for.
        cure: String,
    },
    /// The GPU holds fewer of a profile.
    #[error("{count} x {name}, but the GPU holds {max} at most; {cure}")]
    TooMany {
        /// The profile.
        name: String,
        /// How many are wished for.
        count: usize,
        /// How many it holds.
        max: u32,
        /// What to wish for.
        cure: String,
    },
    /// Each would fit, but not side by side. Without any of `wished` the others fit.
    #[error("no placement is left for {wished} side by side: {starts}; {cure}")]
    NoPlacement {
        /// The least of the wish that does not fit.
        wished: String,
        /// Where each could start.
        starts: String,
        /// What to wish for.
        cure: String,
    },
    /// It would fit if these were not in use; if any one of them still is, it does not.
    #[error("{}, which the wish has no place for; {cure}", list(blockers, ", "))]
    InUse {
        /// What stands in the way.
        blockers: Vec<Blocker>,
        /// What to wish for.
        cure: String,
    },
}

impl Impossible {
    pub(crate) fn unknown(word: &str, offer: &Offer) -> Impossible {
        let has = offer.profiles.iter().map(|profile| format!("{} ({})", profile.name, profile.id));
        let has: Vec<_> = has.collect();
        let has =
            if has.is_empty() { "none; turn MIG mode on".to_owned() } else { list(&has, ", ") };
        Impossible::Unknown { word: word.to_owned(), has }
    }
}

pub(crate) fn list(parts: &[impl ToString], between: &str) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}
