//! How a GPU comes to be divided as wished, without disturbing the slices in use.
//!
//! Values in, values out: an [`Offer`] says what the GPU can be divided into, [`Instance`]s say how
//! it is divided now and who uses what, a [`Wish`] says how it is to be divided, and [`plan`] answers
//! with the fewest steps that lead there or with the reason why none do. This crate never asks a
//! driver, never changes a GPU and has no table of profiles.

mod explain;
mod impossible;
mod offer;
mod pinned;
mod plan;
mod search;
mod want;
mod wish;

pub use impossible::{Blocker, Impossible};
pub use offer::{ComputeOffer, Engines, Offer, ProfileOffer};
pub use plan::{Action, Compute, Home, Instance, Kept, Plan, Step, Why, plan};
pub use wish::{BadWish, ComputeItem, Item, ProfileWord, Wish};
