//! Simulated nodes: a machine with MIG GPUs, described in a TOML file.
//!
//! The description becomes the text files, device nodes and NVML answers that the driver would give
//! for it; everything behind that is the code that reads a real machine. The tests' fake driver and
//! fake host tree are fed by the same descriptions.
//!
//! Tables of profiles and placements stand here and nowhere else: on a real machine the driver is
//! asked.

mod change;
mod description;
mod divide;
mod geometry;
mod machine;
mod node;
mod offer;
mod placement;
mod presets;
mod tree;
mod uuid;
mod write;

pub use change::Refusal;
pub use description::{Dri, FileFault, Majors, NvmlFault, Process, ProcessKind};
pub use geometry::{COMPUTE_PROFILE_KINDS, GPU_PROFILE_KINDS, MODELS, Model, ProfileRow};
pub use machine::SimulatedMachine;
pub use node::{Compute, Gpu, Instance, Node};
pub use presets::{PRESETS, preset};
pub use tree::Tree;
pub use uuid::mig_uuid;

/// A description that no driver would answer to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or not the keys of a node description.
    #[error("{0}")]
    Syntax(String),
    /// A layout that the hardware refuses, with the reason.
    #[error("gpu {gpu}: {reason}")]
    Layout {
        /// Position in the file, from 0.
        gpu: usize,
        /// Why.
        reason: String,
    },
    /// Anything else that cannot be.
    #[error("{0}")]
    Impossible(String),
}
