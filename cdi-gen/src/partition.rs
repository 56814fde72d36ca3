//! Dividing GPUs by declaration: `view` says how they are divided, `holders` who holds what,
//! `layout::plan` finds the steps, `apply` takes them, and the `journal` lets the next run end what this
//! one could not.

pub(crate) mod apply;
pub(crate) mod holders;
pub(crate) mod journal;
pub(crate) mod told;
pub(crate) mod view;
