//! Tests of `mig-cdi` that anyone can run: no root, no network, no engine.
// Tests create files and processes, and panic. Only the product confines that to the crate sys.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]
// Tables of cases are long.
#![allow(clippy::too_many_lines)]

mod cli;
mod compare;
mod configure;
mod configure_containerd;
mod configure_key_case;
mod configure_properties;
mod configure_running;
mod deadlines;
mod discover;
mod docs;
mod doctor_specs;
mod fingerprint;
mod gpu_models;
mod gpus_and_admin;
mod in_use;
mod layout;
mod layouts;
mod no_slices;
mod packaging;
mod pending_modes;
mod picture;
mod privileges;
mod settings;
mod sim_partitioning;
mod systemd;
mod watch;
mod watch_errors;
mod watch_events;
mod write;
