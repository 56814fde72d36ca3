//! The table of engines in `docs/engines.md`: this test runs them all and writes it, and holds what it wrote against
//! what the document says. `UPDATE_GOLDEN=1` writes the table into the document. With another root or a CRI-O,
//! which `tests/engines/matrix` asks for, there is no document, and each cell has to be as it should.

use mig_cdi_tests::{
    matrix::{cells, rows, table, wrong},
    project,
    root::Root,
};
use std::fs;

/// The lines around the table.
const MARKS: [&str; 2] = [
    "<!-- the table: written by tests/tests/engine_matrix.rs -->\n",
    "<!-- end of the table -->\n",
];

/// The document with this table in the place of its own.
fn with_table(document: &str, table: &str) -> String {
    let [begin, end] = MARKS;
    let (before, rest) = document.split_once(begin).expect("docs/engines.md has the first mark");
    let (_, after) = rest.split_once(end).expect("docs/engines.md has the second mark");
    [before, begin, table, end, after].concat()
}

#[test]
fn every_engine_gives_what_is_asked_and_the_document_says_so() {
    let root = Root::asked();
    let cells = cells(root);
    let rows = rows(&cells);
    let seen = table(&cells, &rows);
    println!("{seen}");
    fs::write(project().join("target/engines-matrix.md"), &seen).unwrap();
    let wrong = wrong(&cells, &rows);
    assert!(wrong.is_empty(), "{wrong}");
    if root != Root::Trixie || std::env::var_os("CRIO").is_some() {
        return;
    }
    let document = project().join("docs/engines.md");
    let text = fs::read_to_string(&document).unwrap();
    let written = with_table(&text, &seen);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&document, &written).unwrap();
    } else {
        similar_asserts::assert_eq!(text, written);
    }
}
