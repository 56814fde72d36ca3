//! Table of engines in `docs/engines.md`, which the tests `engine_rows` fill from what they see.

use crate::source_root;
use std::path::PathBuf;

/// First and last line around the table in the document.
const MARKERS: [&str; 2] =
    ["<!-- the table: written by cargo xtask engine-table -->\n", "<!-- end of the table -->\n"];

/// Path of the table that the test wrote when all engines passed.
#[must_use]
pub fn path_of_last_run() -> PathBuf {
    source_root().join("target/engines-matrix.md")
}

/// Returns the table of the document.
///
/// # Errors
/// When the document lacks one of the markers: the marker.
pub fn table_of(document: &str) -> Result<&str, MissingMarker> {
    let [begin, end] = MARKERS;
    let (_, rest) = document.split_once(begin).ok_or(MissingMarker(begin))?;
    let (table, _) = rest.split_once(end).ok_or(MissingMarker(end))?;
    Ok(table)
}

/// Returns the document with this table in the place of its own.
///
/// # Errors
/// When the document lacks one of the markers: the marker.
pub fn with_table(document: &str, table: &str) -> Result<String, MissingMarker> {
    let [begin, end] = MARKERS;
    let (before, rest) = document.split_once(begin).ok_or(MissingMarker(begin))?;
    let (_, after) = rest.split_once(end).ok_or(MissingMarker(end))?;
    Ok([before, begin, table, end, after].concat())
}

/// Marker of the table that a document does not have.
#[derive(Debug)]
pub struct MissingMarker(&'static str);

impl std::fmt::Display for MissingMarker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "docs/engines.md has no line {:?}", self.0.trim_end())
    }
}

impl std::error::Error for MissingMarker {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let [begin, end] = MARKERS;
        let document = format!("a\n{begin}| old |\n{end}b\n");
        let replaced = with_table(&document, "| new |\n").expect("both markers are there");
        assert_eq!(replaced, format!("a\n{begin}| new |\n{end}b\n"));
        assert_eq!(table_of(&replaced).expect("both markers are there"), "| new |\n");
        assert!(with_table(begin, "").is_err());
    }
}
