//! Files of the source tree that are made from the programs: `cargo xtask` writes them, and a test compares them.
//!
//! | task | writes | from | compared by |
//! |---|---|---|---|
//! | `man` | `packaging/man` | [`manual::pages`] | `manual.rs` |
//! | `completions` | `packaging/completions` | [`completions::completions`] | `manual.rs` |
//! | `engine-table` | the table of `docs/engines.md` | [`engine_table::with_table`] | `engine_rows.rs` |
//! | `golden` | expected outputs | the tests themselves | those of [`golden::GOLDEN_TESTS`] |
//!
//! The sources are those that the programs have: their clap commands, the usage text of the hook, the shipped
//! `config.toml` and the Markdown of `docs/`. Nothing here is installed.
//!
//! ```
//! let pages = xtask::manual::pages()?;
//! assert!(pages["mig-cdi.1"].contains(".SH SYNOPSIS"));
//! # Ok::<(), xtask::Error>(())
//! ```

pub mod completions;
pub mod engine_table;
pub mod golden;
pub mod manual;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Texts of files by their path below a directory.
pub type Files = BTreeMap<String, String>;

/// Returns the root of the source tree.
#[must_use]
pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Part that a page needs and its source lacks.
#[derive(Debug)]
pub struct Error {
    /// File or program that is the source.
    pub source: &'static str,
    /// Missing or unknown part of it.
    pub part: String,
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; change it, or xtask/src/manual that reads it", self.source, self.part)
    }
}

impl std::error::Error for Error {}

/// Adds to a missing part where it is missing.
trait OrMissing<T> {
    /// Turns nothing into an error.
    fn or_missing(self, source: &'static str, part: &str) -> Result<T>;
}

impl<T> OrMissing<T> for Option<T> {
    fn or_missing(self, source: &'static str, part: &str) -> Result<T> {
        self.ok_or_else(|| Error { source, part: format!("no {part}") })
    }
}

/// Replaces all files of a directory by these.
///
/// # Errors
/// When a file cannot be removed or written.
pub fn replace_files(dir: &Path, files: &Files) -> io::Result<()> {
    // All are removed first: the page of a command that no longer exists would be packaged.
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, text)?;
    }
    Ok(())
}
