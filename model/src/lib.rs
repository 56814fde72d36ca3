//! The values that mig-cdi speaks of, and the rules that hold between them.
//!
//! This crate never touches the machine: no file, no clock, no environment. Everything in it can be
//! built from literals in a test.

mod backoff;
mod claim;
mod driver_file;
mod id;
mod profile;
mod topology;

pub mod cdi;

pub use backoff::Backoff;
pub use claim::{BadClaim, Claim, SliceId, Variable};
pub use driver_file::{BadCapabilities, Capabilities, Capability, DriverFile, Place};
pub use id::{
    BadId, CiId, GiId, GpuIndex, GpuMinor, GpuUuid, Major, MigIndex, MigUuid, Minor, PciAddress,
};
pub use profile::{BadProfile, Placement, Profile};
pub use topology::{
    AdminNode, Attributes, ComputeInstance, DeviceNode, Gpu, GpuInstance, HostNode, MigDevice,
    MigMode, Release, Topology,
};
