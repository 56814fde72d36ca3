//! Partitions the GPUs of a node to declared layouts, without disturbing the slices that are in use.
//!
//! A [`LayoutSource`] names the desired layouts: by `GPU=LAYOUT`, by a file in the format of mig-parted, or by a checkpoint.
//! [`NodePartitioner`] reads the GPUs ([`NodeGpus`]), finds the [`Holders`] of slices, has [`mig_cdi_layout`] plan the steps of
//! each GPU ([`GpuChange`]), takes them, and refreshes the CDI spec. Two files make this safe: a journal, from which the next run
//! completes an interrupted one, and the lock beside it, which lets one process at a time change GPUs.
//!
//! A GPU ends in its desired layout or as it was. An instance that is in use is never destroyed: by a process, by a container that
//! can open its nodes, by a lease, or because the caller declares it [`InUse`]. This crate stops no process and resets no GPU.
//!
//! Cures name flags and commands: `--file`, `--source`, `mig-cdi apply --resume`. The shared flags are those of `mig-cdi-args`,
//! and the commands are of `mig-cdi`, which `mig-cdi-kubelet` is installed with.
//!
//! # Example
//! A simulated node has one A100 80GB with three `2g.20gb` and one `1g.10gb`. A `3g.40gb` takes the place of the last `2g.20gb` and
//! the `1g.10gb`; the other two stay:
//!
//! ```
//! use mig_cdi_gen::{NoMessages, NodeRoots, NodeSource, discover::Source};
//! use mig_cdi_partition::{Holders, LayoutSource, NodeGpus, gpu_label};
//! use mig_cdi_sim::{SimulatedNode, preset};
//!
//! let root = std::path::PathBuf::from("/");
//! let node = NodeSource {
//!     roots: NodeRoots {
//!         driver: root.clone(),
//!         library_search_path: Vec::new(),
//!         program_search_path: Vec::new(),
//!         dev: root.clone(),
//!         proc: root,
//!         reads_cuda_version: false,
//!     },
//!     source: Source::Nvml,
//!     simulated: Some(SimulatedNode::parse(preset("a100-80gb").unwrap()).unwrap()),
//! };
//! let gpus = NodeGpus::read(&node, &NoMessages)?;
//! let source = LayoutSource::Assignments(vec!["0=3g.40gb,2x2g.20gb".to_owned()]);
//! let desired = gpus.desired(&source, &NoMessages)?.gpus;
//! let changes = gpus.changes(&desired, &Holders::default())?;
//! for change in &changes {
//!     for step in change.plan.iter().flat_map(|plan| &plan.steps) {
//!         println!("{}: {}", gpu_label(&change.gpu), step.action);
//!     }
//! }
//! let plan = changes[0].plan.as_ref().unwrap();
//! assert_eq!((plan.kept.len(), plan.destroyed(), plan.created()), (2, 2, 1));
//! # Ok::<(), mig_cdi_gen::Error>(())
//! ```

mod container_holders;
mod gpu_change;
mod holders;
mod in_use;
mod journal;
mod layout_source;
mod leases;
mod node_gpus;
mod node_partitioner;
mod options;
mod planner_input;
mod processes;
mod refresh;
mod restored_layout;
mod step_runner;

pub use container_holders::{ContainerSearch, holders_in_containers};
pub use gpu_change::{GpuChange, ModeStep, current_layout, gpu_label};
pub use holders::Holders;
pub use in_use::{InUse, InUseError};
pub use journal::interrupted_gpus;
pub use layout_source::{CHECKPOINT_LAYOUT, DesiredGpu, DesiredGpus, LayoutFile, LayoutSource};
pub use leases::Lease;
pub use node_gpus::NodeGpus;
pub use node_partitioner::{ApplyOutcome, NodePartitioner, PlannedChanges, Resumed};
pub use options::{ApplyOptions, HolderOptions};
pub use planner_input::free_placements;
pub use processes::hide_command_lines;
