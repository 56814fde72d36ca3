//! Tests of `mig-cdi-hook` that anyone can run: no root, no network, no engine.
// Tests create files and processes, and panic. Only the product confines that to the crate sys.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod hook_modes;
mod hook_requests;
mod hook_settings;
mod hook_sources;
