//! The table of engines in `docs/engines.md`. The test runs every engine, and fails when the document says anything other than
//! what the test sees. `cargo xtask engine-table` runs it and writes its table into the document. With another Debian release
//! or a CRI-O, which `tests/engines/matrix` asks for, there is no document, and every check has to pass.

use mig_cdi_tests::{
    debian_release::DebianRelease,
    engine_checks::{failures, run_checks, table, table_rows},
    project,
};
use std::fs;
use xtask::engine_table::{path_of_last_run, with_table};

#[test]
fn every_engine_passes_all_checks_and_the_table_is_current() {
    let release = DebianRelease::requested();
    let engines = table_rows(release);
    let results = run_checks(&engines);
    let seen = table(&engines, &results);
    println!("{seen}");
    let failures = failures(&engines, &results);
    assert!(failures.is_empty(), "{failures}");
    fs::write(path_of_last_run(), &seen).unwrap();
    if release != DebianRelease::Trixie || std::env::var_os("CRIO").is_some() {
        return;
    }
    let text = fs::read_to_string(project().join("docs/engines.md")).unwrap();
    let written = with_table(&text, &seen).unwrap();
    similar_asserts::assert_eq!(text, written, "run cargo xtask engine-table");
}
