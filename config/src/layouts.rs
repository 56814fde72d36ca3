//! How the GPUs of a node are to be divided, as administrators declare it.
//!
//! In a file of mig-parted's format, version v1 (NVIDIA/mig-parted `api/spec/v1/spec.go`), with
//! additions in its spirit; or one word per GPU on the command line. `docs/layouts.md` is the
//! reference of both. Pure: text in, values out.

mod assignment;
mod devices;
mod gpu;
mod read;
mod select;
mod write;
mod yaml;

pub use assignment::Assignment;
pub use gpu::{Candidate, GpuWord};
pub use write::{Unsayable, mig_parted_yaml, pinned_yaml};

use gpu::DeviceFilter;
use mig_cdi_layout::{BadWish, Wish};
use std::{fmt, str::FromStr};

/// Where something was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// A word of the command line.
    Argument(String),
}

impl Origin {
    /// The line, of what stands in a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Origin::Line(line) => Some(*line),
            Origin::Argument(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line(line) => write!(f, "line {line}"),
            Origin::Argument(word) => {
                write!(f, "{:?}", word.chars().take(64).collect::<String>())
            }
        }
    }
}

/// A declaration that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct BadLayouts {
    /// Where.
    pub origin: Origin,
    /// What is wrong and what to write, in one line.
    pub message: String,
}

/// What one GPU is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// MIG mode off.
    Off,
    /// MIG mode on, with the GPU instances of the wish and no others.
    Divided(Wish),
}

/// `off`, or the wish: written so that it reads back as the same layout.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Off => f.write_str("off"),
            Layout::Divided(wish) => wish.fmt(f),
        }
    }
}

impl FromStr for Layout {
    type Err = BadWish;

    /// # Errors
    /// A word that is neither `off` nor of a wish.
    fn from_str(text: &str) -> Result<Layout, BadWish> {
        match text.trim() {
            "off" => Ok(Layout::Off),
            wish => wish.parse().map(Layout::Divided),
        }
    }
}

/// A GPU for which something is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its position among the candidates.
    pub gpu: usize,
    /// What it is to be.
    pub layout: Layout,
    /// Where that is declared.
    pub origin: Origin,
    /// False when it is selected by `all`. mig-parted leaves out GPUs that have no MIG then, and
    /// takes them for an error when they are named and MIG mode is to be on
    /// (`cmd/nvidia-mig-parted/apply/config.go`).
    pub named: bool,
}

/// What one entry of a configuration says: these GPUs, if they match, are to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    origin: Origin,
    /// None for every GPU.
    filters: Vec<DeviceFilter>,
    gpus: Vec<(GpuWord, Origin)>,
    layout: Layout,
}

/// The configurations of a file, each of which says how the GPUs of a node are to be divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layouts {
    /// The line of `mig-configs`.
    line: usize,
    configs: Vec<(String, Vec<Entry>)>,
}
