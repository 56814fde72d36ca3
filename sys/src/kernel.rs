//! System calls that nix has no safe form of, each behind a function that cannot be misused. With
//! `nvml/raw.rs` the only files with `unsafe` in the product.

pub(crate) mod bpf;
pub(crate) mod mount;
pub(crate) mod process;
