//! What `mig-cdi watch` knows: when to look, what is no longer so, and what it says of itself.

pub(crate) mod ear;
pub(crate) mod engines;
pub(crate) mod foreign;
pub(crate) mod metrics;
pub(crate) mod prune;
pub(crate) mod status;
pub(crate) mod wait;
