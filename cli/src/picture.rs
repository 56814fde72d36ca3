//! Pictures of partitioned GPUs: memory slices, the compute slices that belong to them, their holders, free slices,
//! and the profiles that still fit.
//!
//! Takes values and returns text; queries no driver and writes nothing. A [`GpuLayout`] can only be made of what can
//! be drawn: every memory slice is in one region, and every compute slice of a GPU instance in one span.

mod contents;
mod gpu_layout;
mod legend;
mod style;
mod svg;
mod text;
mod tree;

pub(crate) use contents::{GpuState, GpuView, Picture};
pub(crate) use gpu_layout::GpuLayout;
pub(crate) use style::Style;
pub(crate) use svg::svg;
pub(crate) use text::text;
pub(crate) use tree::tree;
