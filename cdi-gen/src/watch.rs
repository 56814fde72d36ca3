//! What `mig-cdi watch` knows: when to look, what is no longer so, and what it says of itself.

pub(crate) mod ear;
pub(crate) mod engines;
pub(crate) mod foreign;
pub(crate) mod metrics;
pub(crate) mod prune;
pub(crate) mod status;
pub(crate) mod wait;

use crate::inventory::Inventory;
pub use mig_cdi_sys::nvml::Xid;
use std::collections::BTreeSet;

/// What a watch says to the program that it is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It has begun: from now on SIGTERM, SIGINT and SIGHUP are its own.
    Begins,
    /// The specs say what the node is, and this is what they offer.
    Found(Inventory),
    /// The node could not be asked.
    Failed {
        /// Why, on a line.
        why: String,
        /// CDI names that specs of before still have: as far as `/proc` tells, they are what they were.
        standing: BTreeSet<String>,
    },
    /// A GPU has an error that the driver calls critical; told with `--health` alone, and at once. What is
    /// found next was looked at after it.
    Xid(Xid),
    /// SIGHUP: what was held against a device may be forgotten. What is found next was looked at after it.
    Reload,
}
