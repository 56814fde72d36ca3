//! A layout for one GPU as an argument of the command line.

use super::{Entry, GpuLayoutSetting, GpuSelector, LayoutsError, SourceLocation};
use std::str::FromStr;

/// An argument `GPU=LAYOUT`: `0=3x2g.20gb,1g.10gb`, `GPU-...=off`, `0000:07:00.0=none`, `all=7g.80gb`.
///
/// `off` disables MIG mode; `none` enables it without an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The argument.
    pub text: String,
    /// GPU or GPUs.
    pub gpu: GpuSelector,
    /// Layout for it.
    pub layout: GpuLayoutSetting,
}

impl FromStr for Assignment {
    type Err = LayoutsError;

    /// # Errors
    /// [`LayoutsError`] with the argument, and what to write instead.
    fn from_str(text: &str) -> Result<Assignment, LayoutsError> {
        let location = || SourceLocation::Argument(text.to_owned());
        let (gpu, layout) = text.split_once('=').ok_or_else(|| {
            LayoutsError::new(location(), "no = between a gpu and its layout")
                .with_cure("write both, such as 0=3x2g.20gb,1g.10gb")
        })?;
        let gpu = gpu.trim().parse().map_err(|error| LayoutsError::of_gpu(location(), &error))?;
        let layout = layout.parse().map_err(|error| {
            let bad = LayoutsError::of_layout(location(), &error);
            // Only a GPU on the command line, and no layout in a file, can be turned off by a word.
            match error.cure.ends_with("none for an empty GPU") {
                true => bad.with_cure(format!("{}, or off for mig mode off", error.cure)),
                false => bad,
            }
        })?;
        Ok(Assignment { text: text.to_owned(), gpu, layout })
    }
}

impl Assignment {
    pub(super) fn entry(&self) -> Entry {
        let location = SourceLocation::Argument(self.text.clone());
        Entry {
            location: location.clone(),
            filters: Vec::new(),
            gpus: vec![(self.gpu.clone(), location)],
            layout: self.layout.clone(),
        }
    }
}
