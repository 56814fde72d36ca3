//! What one GPU is to be, in one word of the command line.

use super::{BadLayouts, Entry, GpuWord, Layout, Origin};
use std::str::FromStr;

/// `0=3x2g.20gb,1g.10gb`, `GPU-...=off`, `0000:07:00.0=none`, `all=7g.80gb`.
///
/// Before the equals sign a GPU or `all`; behind it a wish, or `off` for MIG mode off. `none` is the
/// wish for MIG mode on and no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// As it was written.
    pub text: String,
    /// Which GPU.
    pub gpu: GpuWord,
    /// What it is to be.
    pub layout: Layout,
}

impl FromStr for Assignment {
    type Err = BadLayouts;

    /// # Errors
    /// The word, and what to write instead.
    fn from_str(text: &str) -> Result<Assignment, BadLayouts> {
        let bad = |message| BadLayouts { origin: Origin::Argument(text.to_owned()), message };
        let (gpu, layout) = text.split_once('=').ok_or_else(|| {
            bad("write a gpu and what it is to be, such as 0=3x2g.20gb,1g.10gb".to_owned())
        })?;
        let gpu = gpu.trim().parse().map_err(bad)?;
        let layout = layout.parse().map_err(|e| bad(format!("{e}, or off for mig mode off")))?;
        Ok(Assignment { text: text.to_owned(), gpu, layout })
    }
}

impl Assignment {
    pub(super) fn entry(&self) -> Entry {
        let origin = Origin::Argument(self.text.clone());
        Entry {
            origin: origin.clone(),
            filters: Vec::new(),
            gpus: vec![(self.gpu.clone(), origin)],
            layout: self.layout.clone(),
        }
    }
}
