//! What stands in the way of a wish, and what could be wished for instead.

use crate::{
    Blocker, Impossible, Instance, Item, Offer, ProfileOffer, Wish,
    impossible::list,
    want::{Want, limits, resolve, solve, words},
};
use std::cmp::Reverse;

/// Whether an empty GPU could hold it.
fn fits(offer: &Offer, wants: &[Want]) -> bool {
    limits(offer, wants).is_ok() && solve(wants, &[], &[]).is_some()
}

/// The same reason with what could be wished for instead.
pub(crate) fn with_cure(mut reason: Impossible, offer: &Offer, wants: &[Want]) -> Impossible {
    if let Impossible::Short { cure, .. } | Impossible::TooMany { cure, .. } = &mut reason {
        *cure = instead(offer, wants);
    }
    reason
}

/// The largest smaller profile that would fit in the place of one of those wished for.
fn instead(offer: &Offer, wants: &[Want]) -> String {
    let one = wants.iter().all(|want| want.profile.id == wants[0].profile.id);
    let mut smaller: Vec<_> = offer.profiles.iter().collect();
    smaller.sort_by_key(|p| (Reverse((p.slices, p.size(), p.max)), p.id));
    for want in wants {
        let old = want.profile;
        let less = |new: &&&ProfileOffer| {
            new.id != old.id && new.slices <= old.slices && new.size() <= old.size()
        };
        let better = smaller.iter().filter(less).find(|new| fits(offer, &swap(wants, old, new)));
        match better {
            Some(new) if one => return format!("did you mean {} (profile {})?", new.name, new.id),
            Some(new) => {
                let (new, id) = (&new.name, new.id);
                return format!("{new} (profile {id}) in the place of {} would fit", old.name);
            }
            None => {}
        }
    }
    "wish for fewer".to_owned()
}

/// The wishes with another profile in the place of one, wherever it may sit.
fn swap<'a>(wants: &[Want<'a>], old: &ProfileOffer, new: &'a ProfileOffer) -> Vec<Want<'a>> {
    let other = |want: &Want<'a>| match want.profile.id == old.id {
        true => Want { profile: new, start: None, compute: Vec::new(), ..want.clone() },
        false => want.clone(),
    };
    wants.iter().map(other).collect()
}

/// Why a wish within all limits has no solution.
pub(crate) fn no_place(
    offer: &Offer,
    wants: &[Want],
    current: &[Instance],
    held: &[bool],
) -> Impossible {
    if solve(wants, &[], &[]).is_some() {
        return in_use(offer, wants, current, held);
    }
    // Leave out whatever does not matter: what remains is impossible, and without any one possible.
    let mut least = wants.to_vec();
    for i in (0..least.len()).rev() {
        let mut fewer = least.clone();
        fewer.remove(i);
        if solve(&fewer, &[], &[]).is_none() {
            least = fewer;
        }
    }
    let wished = words(&least);
    least.dedup_by(|a, b| a.word == b.word);
    let starts = |want: &Want| {
        let all = want.profile.placements.iter().map(|place| place.start);
        let starts: Vec<_> = all.filter(|s| want.start.is_none_or(|start| start == *s)).collect();
        format!("{} takes {} from {}", want.word, want.profile.size(), list(&starts, ", "))
    };
    let starts: Vec<_> = least.iter().map(starts).collect();
    let loose: Vec<_> = wants.iter().map(|want| Want { start: None, ..want.clone() }).collect();
    let cure = match fits(offer, &loose) {
        true => "without their @ all would fit".to_owned(),
        false => instead(offer, wants),
    };
    Impossible::NoPlacement { wished, starts: starts.join(", "), cure }
}

fn in_use(offer: &Offer, wants: &[Want], current: &[Instance], held: &[bool]) -> Impossible {
    // Whoever can stay while it is possible stays; each of the others makes it impossible.
    let mut stays = vec![false; held.len()];
    for i in (0..held.len()).filter(|&i| held[i]) {
        stays[i] = true;
        stays[i] = solve(wants, current, &stays).is_some();
    }
    let blocks = |i: &usize| held[*i] && !stays[*i];
    let blocking = || (0..held.len()).filter(blocks).map(|i| &current[i]);
    let blocker = |gi: &Instance| Blocker {
        gi: gi.id,
        profile: name(offer, gi),
        placement: gi.placement,
        holder: gi.holders(),
    };
    let more = Wish { items: blocking().map(|gi| Item::of(offer, gi).loose()).collect() };
    let added = resolve(offer, &more).ok().and_then(|more| {
        let both = [wants.to_vec(), more].concat();
        (limits(offer, &both).is_ok() && solve(&both, current, held).is_some()).then_some(())
    });
    let cure = match added {
        Some(()) => format!("add {more} to the wish, or wait until it ends"),
        None => "wait until it ends, or wish for less".to_owned(),
    };
    Impossible::InUse { blockers: blocking().map(blocker).collect(), cure }
}

pub(crate) fn name(offer: &Offer, gi: &Instance) -> String {
    let known = offer.by_id(gi.profile);
    known.map_or_else(|| format!("profile {}", gi.profile), |profile| profile.name.to_string())
}
