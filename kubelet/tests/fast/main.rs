//! Tests of `mig-cdi-kubelet` that anyone can run: no root, no network, no kubelet but a fake one.
// Tests create files and processes, and panic. Only the product confines that to the crate sys.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod health;
mod kubelet_api;
mod kubelet_cluster;
mod kubelet_labels;
mod kubelet_life;
