//! The error of reading a node description.

use std::fmt;

/// The part of a node description that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptionPart {
    /// The node as a whole.
    Node,
    /// A line of the file, from 1.
    Line(usize),
    /// A GPU, by its position in the file from 0, which is its index in nvidia-smi.
    Gpu(usize),
}

/// A node description that no driver would answer to. Displayed as `part: cause; cure`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Part of the description.
    pub part: DescriptionPart,
    /// The mistake in it.
    pub cause: String,
    /// The right values, where there are any to name.
    pub cure: Option<String>,
}

impl Error {
    pub(crate) fn new(cause: impl Into<String>) -> Error {
        Error { part: DescriptionPart::Node, cause: cause.into(), cure: None }
    }

    pub(crate) fn with_cure(self, cure: impl Into<String>) -> Error {
        Error { cure: Some(cure.into()), ..self }
    }

    pub(crate) fn about(self, part: DescriptionPart) -> Error {
        Error { part, ..self }
    }

    /// Returns the message up to the cure: `part: cause`.
    #[must_use]
    pub fn without_cure(&self) -> String {
        let cause = &self.cause;
        match self.part {
            DescriptionPart::Node => cause.clone(),
            DescriptionPart::Line(line) => format!("line {line}: {cause}"),
            DescriptionPart::Gpu(gpu) => format!("gpu {gpu}: {cause}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_cure())?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

impl std::error::Error for Error {}
