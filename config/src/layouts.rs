//! Declared layouts: how an administrator wants the GPUs of a node to be partitioned.
//!
//! They come from a file in mig-parted's format, version v1 (NVIDIA/mig-parted `api/spec/v1/spec.go`), with
//! additions in its spirit ([`Layouts`]), or from `GPU=LAYOUT` arguments of the command line
//! ([`Assignment`]). `docs/layouts.md` is the reference of both. This module reads text and writes text; it
//! opens no file and calls no driver: whether a layout is possible is `mig_cdi_layout`'s to decide.

mod assignment;
mod gpu_selector;
mod mig_devices;
mod read;
mod selection;
mod write;
mod yaml;

pub use assignment::Assignment;
pub use gpu_selector::{GpuIdentity, GpuSelector, GpuSelectorError};
pub use write::{NotExpressible, mig_parted_yaml, pinned_yaml};

use gpu_selector::DeviceFilter;
use mig_cdi_layout::{DesiredLayout, DesiredLayoutError};
use std::{fmt, str::FromStr};

/// The place of a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// A line of the file, from 1.
    Line(usize),
    /// An argument of the command line.
    Argument(String),
}

impl SourceLocation {
    /// Returns the line, for a place in a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            SourceLocation::Line(line) => Some(*line),
            SourceLocation::Argument(_) => None,
        }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceLocation::Line(line) => write!(f, "line {line}"),
            SourceLocation::Argument(text) => {
                write!(f, "{:?}", text.chars().take(64).collect::<String>())
            }
        }
    }
}

/// A declaration that cannot be followed. Displayed as `location: cause; cure`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutsError {
    /// Place of the declaration.
    pub location: SourceLocation,
    /// The mistake in it.
    pub cause: String,
    /// Cure: text to write instead, where there is one.
    pub cure: Option<String>,
    /// True when it names a GPU that is not among those of the node.
    pub is_about_absent_gpu: bool,
}

impl LayoutsError {
    fn new(location: SourceLocation, cause: impl Into<String>) -> LayoutsError {
        LayoutsError { location, cause: cause.into(), cure: None, is_about_absent_gpu: false }
    }

    fn with_cure(self, cure: impl Into<String>) -> LayoutsError {
        LayoutsError { cure: Some(cure.into()), ..self }
    }

    /// Puts the error of a desired layout at its place.
    fn of_layout(location: SourceLocation, error: &DesiredLayoutError) -> LayoutsError {
        let DesiredLayoutError { text, cause, cure } = error;
        LayoutsError::new(location, format!("{text:?} {cause}")).with_cure(*cure)
    }

    /// Puts the error of a GPU selector at its place.
    fn of_gpu(location: SourceLocation, error: &GpuSelectorError) -> LayoutsError {
        LayoutsError::new(location, error.cause()).with_cure(GpuSelectorError::CURE)
    }
}

impl fmt::Display for LayoutsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.cause)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

impl std::error::Error for LayoutsError {}

/// The declared layout of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuLayoutSetting {
    /// MIG mode off.
    Off,
    /// MIG mode on, with these GPU instances and no others.
    Partitioned(DesiredLayout),
}

/// Formats `off`, or the desired layout, so that it parses to the same layout.
impl fmt::Display for GpuLayoutSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuLayoutSetting::Off => f.write_str("off"),
            GpuLayoutSetting::Partitioned(desired) => desired.fmt(f),
        }
    }
}

impl FromStr for GpuLayoutSetting {
    type Err = DesiredLayoutError;

    /// # Errors
    /// A text that is neither `off` nor a desired layout.
    fn from_str(text: &str) -> Result<GpuLayoutSetting, DesiredLayoutError> {
        match text.trim() {
            "off" => Ok(GpuLayoutSetting::Off),
            desired => desired.parse().map(GpuLayoutSetting::Partitioned),
        }
    }
}

/// A GPU with the layout that is declared for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedLayout {
    /// Position of the GPU in the list that was selected from.
    pub gpu: usize,
    /// Declared layout.
    pub layout: GpuLayoutSetting,
    /// Place of the declaration.
    pub location: SourceLocation,
    /// Whether the declaration names the GPU; false for `all`. mig-parted skips GPUs without MIG for `all`,
    /// and reports an error for one that is named while MIG mode is to be on
    /// (`cmd/nvidia-mig-parted/apply/config.go`).
    pub is_named: bool,
}

/// An entry of a configuration: a layout for these GPUs, if they match the filters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    location: SourceLocation,
    /// Filters of which one has to match; empty for every GPU.
    filters: Vec<DeviceFilter>,
    gpus: Vec<(GpuSelector, SourceLocation)>,
    layout: GpuLayoutSetting,
}

/// The named configurations of a layout file; each declares layouts for the GPUs of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layouts {
    /// Line of `mig-configs`.
    line: usize,
    configs: Vec<(String, Vec<Entry>)>,
}
