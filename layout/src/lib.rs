//! Plans how to partition a GPU into the MIG instances that a user requests, without disturbing the
//! slices that are in use.
//!
//! Values in, values out. A [`GpuCapacity`] lists the profiles and placements that the driver reports
//! for a GPU, [`CurrentInstance`]s are the GPU instances and compute instances that exist on it with
//! their holders, and a [`DesiredLayout`] is the requested partitioning. [`plan`] returns a
//! [`PartitionPlan`] with the fewest [`Step`]s between the two, or [`Impossible`] with the reason.
//!
//! This crate never calls a driver, never changes a GPU, and holds no table of profiles: NVIDIA changes
//! names and sizes between driver and board revisions of one product, so only the driver's own report
//! counts.
//!
//! # Terms
//! The nouns are those of NVIDIA's MIG user guide. A *GPU instance* owns a run of *memory slices* and a
//! number of *compute slices* of the GPU; its *placement* is written `start:size` in memory slices. A
//! *compute instance* owns some of the compute slices of its GPU instance; its placement is in compute
//! slices, counted within the GPU instance. A *profile* is a kind of instance, by name (`3g.40gb`) or
//! by the id that `nvidia-smi mig -lgip` prints (`9`).
//!
//! # Example
//! A GPU with eight memory slices, empty, gets two `3g.40gb`:
//!
//! ```
//! use mig_cdi_layout::{
//!     Action, ComputeInstanceProfile, GpuCapacity, GpuInstanceProfile, MediaEngines, plan,
//! };
//! use mig_cdi_model::Placement;
//!
//! let capacity = GpuCapacity {
//!     profiles: vec![GpuInstanceProfile {
//!         name: "3g.40gb".parse().unwrap(),
//!         id: 9,
//!         max: 2,
//!         slices: 3,
//!         engines: MediaEngines::default(),
//!         placements: vec![Placement { start: 0, size: 4 }, Placement { start: 4, size: 4 }],
//!         compute: vec![ComputeInstanceProfile {
//!             id: 2,
//!             slices: 3,
//!             max: 1,
//!             placements: vec![Placement { start: 0, size: 3 }],
//!         }],
//!     }],
//! };
//! let plan_for = |layout: &str| plan(&capacity, &[], &layout.parse().unwrap());
//!
//! let plan = plan_for("2x3g.40gb").unwrap();
//! assert_eq!(plan.created(), 2);
//! assert_eq!(plan.steps[0].action.to_string(), "create gpu instance 3g.40gb at 0:4");
//! assert!(matches!(plan.steps[1].action, Action::CreateComputeInstance { .. }));
//!
//! let impossible = plan_for("3x3g.40gb").unwrap_err();
//! assert_eq!(impossible.cause(), "3 x 3g.40gb needs 12 memory slices of 8");
//! ```

mod alternatives;
mod candidates;
mod capacity;
mod current;
mod desired_layout;
mod impossible;
mod pinned;
mod plan;
mod search;

pub use capacity::{ComputeInstanceProfile, GpuCapacity, GpuInstanceProfile, MediaEngines};
pub use current::{CurrentComputeInstance, CurrentInstance};
pub use desired_layout::{
    DesiredComputeInstance, DesiredInstance, DesiredLayout, DesiredLayoutError, ProfileSelector,
};
pub use impossible::{Blocker, Impossible};
pub use plan::{Action, KeptInstance, ParentInstance, PartitionPlan, Step, StepReason, plan};
