//! Reading small text files below a root, with errors that a verdict can show.

use mig_cdi_sys::Root;

/// Upper bound for a file in bytes, far above any configuration of an engine.
pub(super) const TEXT_LIMIT: usize = 1 << 20;

/// Reason why a file cannot be used. The message names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] mig_cdi_sys::Error),
    /// The file is not text.
    #[error("read {path}: not valid utf-8")]
    NotUtf8 {
        /// Path below the root.
        path: String,
    },
    /// The file is not in its format.
    #[error("parse {path}: {cause}")]
    Parse {
        /// Path below the root.
        path: String,
        /// Message of the parser, in one line.
        cause: String,
    },
}

impl TextFileError {
    /// True when another user might be allowed to read it.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, TextFileError::Read(error) if error.is_denied())
    }
}

/// Reads a file; `None` when it does not exist.
pub(super) fn read_text(root: &Root, path: &str) -> Option<Result<String, TextFileError>> {
    match root.read(path, TEXT_LIMIT) {
        Ok(bytes) => {
            let not_utf8 = |_| TextFileError::NotUtf8 { path: path.to_owned() };
            Some(String::from_utf8(bytes?).map_err(not_utf8))
        }
        Err(error) => Some(Err(error.into())),
    }
}
