//! Partitions GPUs by declaration, without disturbing slices in use.
//!
//! [`view`] shows what a GPU offers and how it is partitioned, [`holders`] who uses which slice, [`mig_cdi_layout`] plans the
//! steps, [`apply`] takes them, and the [`journal`] lets the next run end what an interrupted one could not. [`gpus`] finds the
//! GPUs that a command line or a file of layouts names, and [`run`] joins all of this for a program.

pub mod apply;
pub mod containers;
pub mod gpus;
pub mod holders;
pub mod in_use;
pub mod journal;
pub mod run;
pub mod view;

pub use apply::{Change, Worker, label, layout_of};
pub use gpus::{CHECKPOINT, DesiredGpu, Goal, Gpus, LayoutFile};
pub use holders::{Asked, Holders};
pub use in_use::InUse;
