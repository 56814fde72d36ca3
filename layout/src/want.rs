//! A wish held against an offer: what is known, what is too much, where it could sit.

use crate::{
    Compute, ComputeItem, ComputeOffer, Impossible, Instance, Offer, ProfileOffer, ProfileWord,
    Wish,
    offer::RESOURCES,
    search::{Choice, Piece, cheapest},
};
use mig_cdi_model::Placement;

/// More than all changes of compute instances on a GPU: a GPU instance that stays is always cheaper.
const CREATED: u32 = 10_000;

/// A GPU instance that is wished for, of a profile that the GPU has.
#[derive(Debug, Clone)]
pub(crate) struct Want<'a> {
    pub word: String,
    pub profile: &'a ProfileOffer,
    pub start: Option<u32>,
    pub compute: Vec<Part<'a>>,
}

/// A compute instance of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub offer: &'a ComputeOffer,
    pub start: Option<u32>,
}

impl Part<'_> {
    fn same(&self, other: &Part) -> bool {
        self.offer.id == other.offer.id && self.start == other.start
    }
}

impl Want<'_> {
    fn same(&self, other: &Want) -> bool {
        let (mine, others) = (&self.compute, &other.compute);
        self.profile.id == other.profile.id
            && self.start == other.start
            && mine.len() == others.len()
            && mine.iter().zip(others).all(|(a, b)| a.same(b))
    }
}

/// The wishes with what the offer says of each; alike ones stand side by side.
pub(crate) fn resolve<'a>(offer: &'a Offer, wish: &Wish) -> Result<Vec<Want<'a>>, Impossible> {
    let mut wants: Vec<Want> = Vec::new();
    for item in &wish.items {
        let profile = match &item.profile {
            ProfileWord::Name(name) => offer.by_name(name),
            ProfileWord::Id(id) => offer.by_id(*id),
        };
        let profile = profile.ok_or_else(|| Impossible::unknown(&item.word, offer))?;
        if item.start.is_some_and(|start| profile.placements.iter().all(|p| p.start != start)) {
            return Err(Impossible::Start {
                word: item.word.clone(),
                starts: profile.placements.iter().map(|p| p.start).collect(),
            });
        }
        let whole = [ComputeItem { slices: profile.slices, start: None }];
        let compute = compute(profile, &item.word, item.compute.as_deref().unwrap_or(&whole))?;
        let want = Want { word: item.word.clone(), profile, start: item.start, compute };
        let after =
            wants.iter().rposition(|other| other.same(&want)).map_or(wants.len(), |i| i + 1);
        wants.insert(after, want);
    }
    Ok(wants)
}

fn compute<'a>(
    profile: &'a ProfileOffer,
    word: &str,
    items: &[ComputeItem],
) -> Result<Vec<Part<'a>>, Impossible> {
    let mut parts: Vec<Part> = Vec::new();
    for &ComputeItem { slices, start } in items {
        let Some(offer) = profile.compute.iter().find(|offer| offer.slices == slices) else {
            let has = profile.compute.iter().map(|offer| offer.slices).collect();
            return Err(Impossible::UnknownCompute { word: word.to_owned(), has });
        };
        let starts = || offer.placements.iter().map(|place| place.start);
        if let Some(start) = start.filter(|start| starts().all(|there| there != *start)) {
            let (word, starts) = (word.to_owned(), starts().collect());
            return Err(Impossible::ComputeStart { word, slices, start, starts });
        }
        parts.push(Part { offer, start });
    }
    let count = |id| parts.iter().filter(|part| part.offer.id == id).count();
    let many = parts.iter().any(|part| count(part.offer.id) > part.offer.max as usize);
    let fits = |parts: &[Part]| compute_choices(parts, &[], |_| false).is_some();
    let loose: Vec<_> = parts.iter().map(|part| Part { start: None, ..*part }).collect();
    if many || !fits(&loose) {
        let needs = items.iter().fold(0, |sum: u32, item| sum.saturating_add(item.slices));
        return Err(Impossible::Compute { word: word.to_owned(), needs, has: profile.slices });
    }
    if !fits(&parts) {
        return Err(Impossible::ComputePlaces { word: word.to_owned() });
    }
    Ok(parts)
}

/// Where compute instances sit in a GPU instance that has those of `now`, changing the fewest.
pub(crate) fn compute_choices(
    wants: &[Part],
    now: &[Compute],
    held: impl Fn(&Compute) -> bool,
) -> Option<Vec<Choice>> {
    let choice = |&place: &Placement| {
        let keeps = now.iter().position(|there| there.placement == place);
        let held = keeps.is_some_and(|i| held(&now[i]));
        Choice { place, keeps, held, cost: u32::from(keeps.is_none()) }
    };
    let piece = |(i, want): (usize, &Part)| {
        let pinned = |place: &&Placement| want.start.is_none_or(|start| start == place.start);
        let twin = i > 0 && wants[i - 1].same(want);
        Piece::new(want.offer.placements.iter().filter(pinned).map(choice), twin)
    };
    let pieces: Vec<_> = wants.iter().enumerate().map(piece).collect();
    cheapest(&pieces, now.iter().filter(|compute| held(compute)).count())
}

/// What does not depend on where instances sit: each profile for itself, then all together.
pub(crate) fn limits(offer: &Offer, wants: &[Want]) -> Result<(), Impossible> {
    for want in wants {
        let alike: Vec<_> = wants.iter().filter(|w| w.profile.id == want.profile.id).collect();
        let (name, max, count) = (want.profile.name.to_string(), want.profile.max, alike.len());
        short(offer, alike.into_iter(), &format!("{count} x {name} needs"))?;
        if count > max as usize {
            return Err(Impossible::TooMany { name, count, max, cure: String::new() });
        }
    }
    short(offer, wants.iter(), &format!("{} need", words(wants)))
}

pub(crate) fn words(wants: &[Want]) -> String {
    wants.iter().map(|want| want.word.as_str()).collect::<Vec<_>>().join(" + ")
}

fn short<'a>(
    offer: &Offer,
    wants: impl Iterator<Item = &'a Want<'a>>,
    wished: &str,
) -> Result<(), Impossible> {
    let mut needs = [0u32; RESOURCES.len()];
    for want in wants {
        for (sum, need) in needs.iter_mut().zip(want.profile.needs()) {
            *sum = sum.saturating_add(need);
        }
    }
    let totals = offer.totals();
    match (0..RESOURCES.len()).find(|&i| needs[i] > totals[i]) {
        Some(i) => Err(Impossible::Short {
            wished: wished.to_owned(),
            what: RESOURCES[i],
            needs: needs[i],
            has: totals[i],
            cure: String::new(),
        }),
        None => Ok(()),
    }
}

/// The cheapest places for everything wished, with `held` of the current instances untouched.
/// `None` proves that there are none.
pub(crate) fn solve(wants: &[Want], current: &[Instance], held: &[bool]) -> Option<Vec<Choice>> {
    let piece = |(i, want): (usize, &Want)| {
        let pinned = |place: &&Placement| want.start.is_none_or(|start| start == place.start);
        let places = want.profile.placements.iter().filter(pinned);
        let choices = places.filter_map(|&place| choice(want, place, current, held));
        Piece::new(choices, i > 0 && wants[i - 1].same(want))
    };
    let pieces: Vec<_> = wants.iter().enumerate().map(piece).collect();
    cheapest(&pieces, held.iter().filter(|held| **held).count())
}

fn choice(want: &Want, place: Placement, current: &[Instance], held: &[bool]) -> Option<Choice> {
    let is_it = |there: &Instance| there.profile == want.profile.id && there.placement == place;
    let keeps = current.iter().position(is_it);
    let Some(i) = keeps else {
        return Some(Choice { place, keeps, held: false, cost: CREATED });
    };
    let there = &current[i].compute;
    let inner = compute_choices(&want.compute, there, |c| held[i] && current[i].holds(c))?;
    let stay = inner.iter().filter(|choice| choice.keeps.is_some()).count();
    let cost = (inner.len() + there.len() - 2 * stay) as u32;
    Some(Choice { place, keeps, held: held[i], cost })
}
