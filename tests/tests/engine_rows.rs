//! Rows of the table of engines in `docs/engines.md`, each a test of its own: an engine with an OCI runtime and a cgroup
//! version. It runs the engine, and fails when the document has anything other than what it sees. `cargo xtask engine-table`
//! runs all and writes the table into the document. With another Debian release or a CRI-O, which `tests/engines/matrix` asks
//! for, there is no document, and every check has to pass.

#[path = "engine_rows/crio_settings.rs"]
mod crio_settings;

use libtest_mimic::{Arguments, Failed, Trial};
use mig_cdi_tests::{
    debian_release::DebianRelease,
    engine_checks::{MatrixRow, table_head, table_rows},
    project,
};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};
use xtask::engine_table::{path_of_last_run, table_of};

/// Lines of the rows that ran and passed their checks, by their place in the table.
type Seen = Arc<Mutex<BTreeMap<usize, String>>>;

fn main() {
    let mut arguments = Arguments::from_args();
    // Each row starts an engine.
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    arguments.test_threads.get_or_insert(threads);
    let release = DebianRelease::requested();
    let is_documented = release == DebianRelease::Trixie && std::env::var_os("CRIO").is_none();
    let text = fs::read_to_string(project().join("docs/engines.md")).expect("the document");
    let document = table_of(&text).expect("it has the table").to_owned();
    let rows = Arc::new(table_rows(release));
    let seen = Seen::default();
    let row = |at: usize| {
        let (seen, line) = (Arc::clone(&seen), document.lines().nth(at + 2).map(str::to_owned));
        let (name, rows) = (format!("engine_rows::{}", rows[at].name), Arc::clone(&rows));
        Trial::test(name, move || {
            check(&rows[at], is_documented.then_some(line.as_deref().unwrap_or("")), |line| {
                seen.lock().expect("no panic").insert(at, line);
            })
        })
    };
    let mut trials: Vec<_> = (0..rows.len()).map(row).collect();
    if is_documented {
        let rows = Arc::clone(&rows);
        trials.push(Trial::test("engine_rows::the_document_has_these_rows", move || {
            has_these_rows(&document, &rows);
            Ok(())
        }));
    }
    // Debian has no CRI-O.
    if let Some(crio) = std::env::var_os("CRIO").map(PathBuf::from) {
        trials.push(Trial::test("engine_rows::crio_keeps_what_it_has", move || {
            crio_settings::keeps_what_it_has(&crio);
            Ok(())
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let seen = seen.lock().expect("no panic");
    if seen.len() == rows.len() {
        let table = table_head() + &seen.values().cloned().collect::<String>();
        println!("{table}");
        fs::write(path_of_last_run(), table).expect("write the table");
    }
    conclusion.exit();
}

/// Runs the engine of a row, hands over its line of the table if all checks passed, and compares it with the document.
fn check(row: &MatrixRow, document: Option<&str>, passed: impl Fn(String)) -> Result<(), Failed> {
    let results = row.run_checks();
    let failures = MatrixRow::failures(&results);
    if !failures.is_empty() {
        return Err(failures.into());
    }
    let line = row.line(&results);
    passed(line.clone());
    if let Some(document) = document {
        similar_asserts::assert_eq!(line.trim_end(), document, "run cargo xtask engine-table");
    }
    Ok(())
}

fn has_these_rows(document: &str, rows: &[MatrixRow]) {
    let head = table_head();
    assert!(document.starts_with(&head), "{document}");
    let first_cells = |line: &str| {
        line.trim_start_matches("| ").split(" | ").take(3).collect::<Vec<_>>().join(", ") + "\n"
    };
    let found: String = document[head.len()..].lines().map(first_cells).collect();
    let rows: String = rows.iter().map(|row| row.first_cells().join(", ") + "\n").collect();
    similar_asserts::assert_eq!(rows, found, "run cargo xtask engine-table");
}
