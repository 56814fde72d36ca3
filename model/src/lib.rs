//! The values that mig-cdi works with, and the rules between them.
//!
//! - Identifiers: [`GpuIndex`], [`GpuMinor`], [`GiId`], [`CiId`], [`GpuUuid`], [`MigUuid`], [`PciAddress`].
//! - [`Profile`] and [`Placement`], as NVIDIA's MIG user guide writes them: `2g.20gb`, `4:2`.
//! - [`Topology`]: a snapshot of a node, with its [`Gpu`]s, their [`GpuInstance`]s, the
//!   [`ComputeInstance`]s in them, and the [`DeviceNode`]s that open each.
//! - [`ExpectedSlice`] and [`DeviceVariable`]: what a CDI spec records about a slice.
//! - [`DriverCapabilities`] and [`DriverFile`]: the driver's user-space files for a container.
//! - [`Backoff`]: the waits between retries.
//! - [`cdi`]: the CDI specification.
//!
//! This crate never touches the machine: no file, no clock, no environment. Every value can be built from
//! literals in a test.
//!
//! # Example
//! ```
//! use mig_cdi_model::{ExpectedSlice, Profile};
//!
//! let profile: Profile = "1c.3g.40gb".parse()?;
//! assert!(profile.is_partial());
//! assert_eq!(profile.gpu_instance_profile().as_str(), "3g.40gb");
//!
//! // GPU instance 3 of /dev/nvidia0, whose placement is two memory slices from 4.
//! let slice: ExpectedSlice = "0:3:0,nodes=195:508:30:31,profile=2g.20gb,at=4:2".parse()?;
//! assert_eq!(slice.id.to_string(), "gpu minor 0 gi 3 ci 0");
//! assert_eq!(slice.placement.unwrap().to_string(), "4:2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backoff;
mod driver_file;
mod gone;
mod id;
mod name_style;
mod pending_mode;
mod plural;
mod printable;
mod profile;
mod slice;
mod topology;

pub mod cdi;

pub use backoff::Backoff;
pub use driver_file::{
    Destination, DriverCapabilities, DriverCapabilitiesError, DriverCapability, DriverFile,
};
pub use gone::{GoneName, split_compute};
pub use id::{
    CiId, GiId, GpuIndex, GpuMinor, GpuUuid, IdError, Major, MigIndex, MigUuid, Minor, PciAddress,
};
pub use name_style::{NameStyle, NameStyleError};
pub use pending_mode::PendingMode;
pub use plural::counted;
pub use printable::{is_unprintable, one_line, printable_json, printable_lines};
pub use profile::{Placement, Profile, ProfileError};
pub use slice::{DeviceVariable, ExpectedSlice, SliceId, SliceTextError};
pub use topology::{
    AdminNode, Attributes, ComputeInstance, DeviceNode, DriNode, Gpu, GpuInstance, HostNodeState,
    MajorMinor, MigDevice, MigMode, NumberedNode, Topology,
};
