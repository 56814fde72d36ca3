//! The manual pages and the completions: what is committed is what the sources give.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mig-cdi-tests --test manual` writes them anew; read the diff.

use mig_cdi_tests::{
    manual::{self, Files},
    project,
};
use std::{fs, path::Path};

/// Files below a directory of `packaging/`, by their path.
fn committed(dir: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let below = committed(&entry.path()).into_iter();
            files.extend(below.map(|(path, text)| (format!("{name}/{path}"), text)));
        } else {
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
    files
}

fn check(dir: &str, rendered: &Files) {
    let dir = project().join("packaging").join(dir);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(&dir);
        for (path, text) in rendered {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let expected = committed(&dir);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(rendered), names(&expected), "files of {}", dir.display());
    for (path, text) in rendered {
        similar_asserts::assert_eq!(text, &expected[path], "{}", dir.join(path).display());
    }
}

#[test]
fn committed_pages_are_what_the_sources_give() {
    check("man", &manual::pages());
}

#[test]
fn committed_completions_are_what_the_sources_give() {
    check("completions", &manual::completions());
}
