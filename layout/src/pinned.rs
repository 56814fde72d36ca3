//! How a GPU is divided, written down as the wish that keeps it so.

use crate::{ComputeItem, Instance, Item, Offer, ProfileWord, Wish};

impl Wish {
    /// The wish that these instances meet and nothing else does: every GPU instance and every compute
    /// instance where it is. [`crate::plan`] from them to it has no step.
    #[must_use]
    pub fn of(offer: &Offer, current: &[Instance]) -> Wish {
        let mut items: Vec<_> = current.iter().map(|there| Item::of(offer, there)).collect();
        items.sort_by_key(|item| item.start);
        Wish { items }
    }
}

impl Item {
    /// The item that only this GPU instance meets. A profile that the offer does not know is written
    /// as its id.
    #[must_use]
    pub fn of(offer: &Offer, there: &Instance) -> Item {
        let known = offer.by_id(there.profile);
        let name = known.map(|profile| ProfileWord::Name(profile.name.clone()));
        let compute = there.compute.iter().map(|compute| compute.placement);
        let compute: Vec<_> = compute
            .map(|place| ComputeItem { slices: place.size, start: Some(place.start) })
            .collect();
        let spans = |profile: &crate::ProfileOffer| {
            compute == [ComputeItem { slices: profile.slices, start: Some(0) }]
        };
        let compute = if known.is_some_and(spans) { None } else { Some(compute) };
        Item::new(
            name.unwrap_or(ProfileWord::Id(there.profile)),
            Some(there.placement.start),
            compute,
        )
    }

    /// The same with its compute instances wherever they fit.
    pub(crate) fn loose(self) -> Item {
        let loose = |c: ComputeItem| ComputeItem { start: None, ..c };
        let compute = self.compute.map(|all| all.into_iter().map(loose).collect());
        Item::new(self.profile, self.start, compute)
    }
}
