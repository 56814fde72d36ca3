//! `mig-cdi-kubelet`.
fn main() {}
