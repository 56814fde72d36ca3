//! System calls that nix has no safe form of, each behind a function that is sound for every argument. With
//! `nvml/raw.rs` and the file below it, these are the only files with `unsafe` in the product.

pub(crate) mod bpf;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod stat;
