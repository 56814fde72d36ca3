//! Simulated nodes: machines with MIG GPUs, described in a TOML file (`--node`).
//!
//! A [`SimulatedNode`] is parsed from a description. [`ProcTree`] turns it into the text files and device
//! nodes that the NVIDIA driver would show, and [`SimulatedMachine`] answers for it as `/proc` and NVML
//! do; everything behind that is the code that reads a real machine. The fake driver and the fake host
//! trees of the tests are made from the same descriptions.
//!
//! Tables of profiles and placements ([`MODELS`]) are here and nowhere else: a real machine's driver is
//! asked instead. This crate never touches the machine that it runs on.
//!
//! # Example
//! An A100 with two GPU instances, the second of them with a compute instance that does not span it:
//!
//! ```
//! use mig_cdi_sim::SimulatedNode;
//!
//! let mut node = SimulatedNode::parse(
//!     r#"
//!     [[gpu]]
//!     model = "a100-80gb"
//!     instances = [
//!         { profile = "3g.40gb", start = 4 },
//!         { profile = "2g.20gb", compute = ["1c"] },
//!     ]
//!     "#,
//! )?;
//! let names: Vec<_> = node.gpus[0].mig_devices().map(|device| device.name).collect();
//! assert_eq!(names[0], "NVIDIA A100-SXM4-80GB MIG 3g.40gb");
//! assert_eq!(names[1], "NVIDIA A100-SXM4-80GB MIG 1c.2g.20gb");
//!
//! // The calls of NVML are refused as the driver refuses them: the GPU instance is not empty.
//! let first = node.gpus[0].instances[0].id;
//! assert_eq!(node.destroy_gpu_instance(0, first), Err(mig_cdi_sim::Refusal::InUse));
//!
//! let error = SimulatedNode::parse("[[gpu]]\nmodel = \"a100\"\n").unwrap_err();
//! assert_eq!(error.cause, "unknown model \"a100\"");
//! # Ok::<(), mig_cdi_sim::Error>(())
//! ```

mod capacity;
mod description;
mod error;
mod from_description;
mod gpu_models;
mod machine;
mod nvml_partitioner;
mod partitioning;
mod placement;
mod presets;
mod proc_tree;
mod simulated_node;
mod to_toml;
mod uuid;

pub use description::{Dri, FileFault, MajorNumbers, NvmlFault, ProcessDescription, ProcessKind};
pub use error::{DescriptionPart, Error};
pub use gpu_models::{MODELS, Model, ProfileRow};
pub use machine::SimulatedMachine;
pub use partitioning::Refusal;
pub use presets::{PRESETS, preset};
pub use proc_tree::ProcTree;
pub use simulated_node::{
    SimulatedComputeInstance, SimulatedGpu, SimulatedInstance, SimulatedNode,
};
pub use uuid::mig_uuid;
