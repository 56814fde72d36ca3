//! The search itself: one place for each piece, nothing overlapping, as cheap as can be.
//!
//! It is the same for GPU instances on a GPU and for compute instances in a GPU instance.

use mig_cdi_model::Placement;

/// One place for a piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub place: Placement,
    /// What is there now and stays, as an index into what is there.
    pub keeps: Option<usize>,
    /// What stays is in use.
    pub held: bool,
    pub cost: u32,
}

/// A piece that needs a place.
#[derive(Debug)]
pub(crate) struct Piece {
    /// From the lowest place up.
    choices: Vec<Choice>,
    /// It has the same choices as the piece before it: only one order of the two is tried.
    twin: bool,
}

impl Piece {
    pub(crate) fn new(choices: impl Iterator<Item = Choice>, twin: bool) -> Piece {
        let mut choices: Vec<_> = choices.collect();
        choices.sort_unstable_by_key(|choice| choice.place);
        Piece { choices, twin }
    }
}

/// The cheapest choice for every piece such that `held` of them keep something in use, which is all
/// of it, so that nothing else can take its place; of equally cheap ones the first. `None` proves that there is none: every combination is tried or excluded by
/// its cost.
pub(crate) fn cheapest(pieces: &[Piece], held: usize) -> Option<Vec<Choice>> {
    let mut search = Search { pieces, chosen: Vec::new(), best: None };
    search.descend(0, held, 0);
    let (_, chosen) = search.best?;
    Some(chosen.iter().zip(pieces).map(|(&i, piece)| piece.choices[i]).collect())
}

struct Search<'a> {
    pieces: &'a [Piece],
    chosen: Vec<usize>,
    best: Option<(u32, Vec<usize>)>,
}

impl Search<'_> {
    fn descend(&mut self, used: u64, held: usize, cost: u32) {
        let left = self.pieces.len() - self.chosen.len();
        if held > left || self.best.as_ref().is_some_and(|(best, _)| *best <= cost) {
            return;
        }
        let Some(piece) = self.pieces.get(self.chosen.len()) else {
            self.best = Some((cost, self.chosen.clone()));
            return;
        };
        let first = self.chosen.last().filter(|_| piece.twin).map_or(0, |last| last + 1);
        for (i, choice) in piece.choices.iter().enumerate().skip(first) {
            let mask = mask(choice.place);
            if used & mask == 0 {
                self.chosen.push(i);
                let held = held.saturating_sub(usize::from(choice.held));
                self.descend(used | mask, held, cost + choice.cost);
                self.chosen.pop();
            }
        }
    }
}

/// The slices of a placement as bits; all of them for a placement that no GPU has.
pub(crate) fn mask(place: Placement) -> u64 {
    match (place.start, place.size) {
        (start, size @ 1..=63) if start <= 64 - size => ((1 << size) - 1) << start,
        _ => u64::MAX,
    }
}

pub(crate) fn overlap(a: Placement, b: Placement) -> bool {
    mask(a) & mask(b) != 0
}
