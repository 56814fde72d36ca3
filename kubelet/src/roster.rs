//! What is offered at one moment, and whether each may be given out.

use crate::strategy::{Offer, Resource};
use std::collections::BTreeMap;

/// Something offered, and why it may not be given to a pod now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub offer: Offer,
    /// Why it is not healthy.
    pub sick: Option<String>,
}

/// Every resource that was offered since the program began: one with nothing left stays, with an empty list,
/// so that the kubelet counts none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(pub BTreeMap<Resource, Vec<Entry>>);

impl Roster {
    /// What a resource has; nothing, when it is not known.
    #[must_use]
    pub fn of(&self, resource: &Resource) -> &[Entry] {
        self.0.get(resource).map_or(&[], Vec::as_slice)
    }
}
