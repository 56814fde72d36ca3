//! The table of engines in `docs/engines.md`. The test runs every engine, and fails when the document says anything other than
//! what the test sees. `cargo xtask engine-table` runs it and writes its table into the document. With another Debian release
//! or a CRI-O, which `tests/engines/matrix` asks for, there is no document, and every check has to pass.

use mig_cdi_tests::{
    matrix::{cells, rows, table, wrong},
    project,
    root::Root,
};
use std::fs;
use xtask::engine_table::{path_of_last_run, with_table};

#[test]
fn every_engine_gives_what_is_asked_and_the_document_says_so() {
    let root = Root::asked();
    let cells = cells(root);
    let rows = rows(&cells);
    let seen = table(&cells, &rows);
    println!("{seen}");
    let wrong = wrong(&cells, &rows);
    assert!(wrong.is_empty(), "{wrong}");
    fs::write(path_of_last_run(), &seen).unwrap();
    if root != Root::Trixie || std::env::var_os("CRIO").is_some() {
        return;
    }
    let text = fs::read_to_string(project().join("docs/engines.md")).unwrap();
    let written = with_table(&text, &seen).unwrap();
    similar_asserts::assert_eq!(text, written, "run cargo xtask engine-table");
}
