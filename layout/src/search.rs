//! Searches for the cheapest assignment of instances to placements.
//!
//! The same search serves GPU instances on a GPU and compute instances in a GPU instance. It knows
//! neither profiles nor drivers: only placements, costs, and which of them keep something in use.

use mig_cdi_model::Placement;

/// One possible placement of a requested instance, with what it costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Slices that the instance would take.
    pub placement: Placement,
    /// Index of the existing instance that would be kept for it.
    pub keeps: Option<usize>,
    /// Whether the instance that is kept is in use.
    pub is_held: bool,
    /// Changes that the candidate costs, in the caller's unit.
    pub cost: u32,
}

/// A requested instance that needs one of its candidates.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// Candidates by placement, lowest first.
    candidates: Vec<Candidate>,
    /// Whether the requirement before it has the same candidates.
    is_twin: bool,
}

impl Requirement {
    pub(crate) fn new(candidates: impl Iterator<Item = Candidate>, is_twin: bool) -> Requirement {
        let mut candidates: Vec<_> = candidates.collect();
        candidates.sort_unstable_by_key(|candidate| candidate.placement);
        Requirement { candidates, is_twin }
    }
}

/// Returns the cheapest candidates, one for each requirement, that do not overlap and keep all `held`
/// instances in use; of equally cheap assignments the first.
///
/// `None` proves that there is none: every combination is tried, or excluded by its cost.
pub(crate) fn cheapest(requirements: &[Requirement], held: usize) -> Option<Vec<Candidate>> {
    let mut search = Search { requirements, chosen: Vec::new(), best: None };
    search.descend(0, held, 0);
    let (_, chosen) = search.best?;
    Some(chosen.iter().zip(requirements).map(|(&i, need)| need.candidates[i]).collect())
}

struct Search<'a> {
    requirements: &'a [Requirement],
    /// Indices of the candidates of the requirements before the current one.
    chosen: Vec<usize>,
    /// Cost and candidates of the cheapest assignment so far.
    best: Option<(u32, Vec<usize>)>,
}

impl Search<'_> {
    /// Tries every candidate of the next requirement. `used` has a bit for each slice that is taken,
    /// `held` counts the instances in use that are not kept yet.
    fn descend(&mut self, used: u64, held: usize, cost: u32) {
        // A requirement keeps one instance at most. At equal cost the first assignment stays.
        let left = self.requirements.len() - self.chosen.len();
        if held > left || self.best.as_ref().is_some_and(|(best, _)| *best <= cost) {
            return;
        }
        let Some(requirement) = self.requirements.get(self.chosen.len()) else {
            self.best = Some((cost, self.chosen.clone()));
            return;
        };
        // Seven 1g.10gb have 7! orders, all with one result: a twin starts behind the one before it.
        let first = self.chosen.last().filter(|_| requirement.is_twin).map_or(0, |last| last + 1);
        for (i, candidate) in requirement.candidates.iter().enumerate().skip(first) {
            let mask = mask(candidate.placement);
            if used & mask == 0 {
                self.chosen.push(i);
                let held = held.saturating_sub(usize::from(candidate.is_held));
                self.descend(used | mask, held, cost + candidate.cost);
                self.chosen.pop();
            }
        }
    }
}

/// Returns the slices of a placement as bits. A placement beyond 64 slices has all bits set, so that it
/// overlaps everything: no GPU has one, but a driver's answer is input like any other.
pub(crate) fn mask(placement: Placement) -> u64 {
    match (placement.start, placement.size) {
        // 1 << 64 would overflow.
        (start, size @ 1..=63) if start <= 64 - size => ((1 << size) - 1) << start,
        _ => u64::MAX,
    }
}

/// Reports whether two placements share a slice.
pub(crate) fn overlap(a: Placement, b: Placement) -> bool {
    mask(a) & mask(b) != 0
}
