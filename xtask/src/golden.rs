//! Tests that write the outputs which they expect, when `UPDATE_GOLDEN` is set.

/// Test that writes its expected output.
#[derive(Debug, Clone, Copy)]
pub struct GoldenTest {
    /// Name of its file, by which `cargo xtask golden` selects it.
    pub file: &'static str,
    /// Test target of cargo.
    pub target: &'static str,
    /// Filter that selects the test, and no other that is slow or needs more.
    pub filter: &'static str,
}

impl GoldenTest {
    const fn new(target: &'static str, file: &'static str, filter: &'static str) -> GoldenTest {
        GoldenTest { file, target, filter }
    }

    /// Returns whether it makes device nodes or uses programs that have to be root's.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        self.target != "fast"
    }
}

/// All of them; those that anyone can run come first.
pub const GOLDEN_TESTS: [GoldenTest; 6] = [
    GoldenTest::new("fast", "picture", "picture::"),
    GoldenTest::new("fast", "kubelet_labels", "kubelet_labels::labels_of_the_presets"),
    GoldenTest::new("host", "kubelet_labels", "kubelet_labels::labels_of_slices_with_graphics"),
    GoldenTest::new("host-cases", "golden", "golden::"),
    GoldenTest::new("host", "configure", "configure::the_shipped_files_are_what_configure_writes"),
    GoldenTest::new("host", "kubernetes_chart", "kubernetes_chart::the_shipped_manifest"),
];

/// Returns the tests of these files, or all.
///
/// # Errors
/// When a file has none: its name.
pub fn selected(files: &[String]) -> Result<Vec<GoldenTest>, String> {
    let known = |file: &str| GOLDEN_TESTS.iter().any(|test| test.file == file);
    if let Some(unknown) = files.iter().find(|file| !known(file)) {
        return Err(format!("{unknown}: no test of expected outputs; see --help"));
    }
    let is_selected =
        |test: &GoldenTest| files.is_empty() || files.iter().any(|file| file == test.file);
    Ok(GOLDEN_TESTS.into_iter().filter(is_selected).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source_root;
    use std::{collections::BTreeSet, fs, path::Path};

    /// Returns the sources below a directory that read the variable.
    fn writers(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a directory of tests") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                writers(&path, found);
            } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("var_os(\"UPDATE_"))
            {
                found.insert(path.file_stem().expect("a name").display().to_string());
            }
        }
    }

    #[test]
    fn every_test_that_writes_its_expected_output_is_listed() {
        let mut found = BTreeSet::new();
        for dir in ["cli/tests", "hook/tests", "kubelet/tests", "tests/src", "tests/tests"] {
            writers(&source_root().join(dir), &mut found);
        }
        let listed: BTreeSet<_> = GOLDEN_TESTS.map(|test| test.file.to_owned()).into();
        assert_eq!(found, listed);
    }

    #[test]
    fn tests_are_selected_by_their_files() {
        let files = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            selected(&names).map(|tests| tests.iter().map(|test| test.target).collect::<Vec<_>>())
        };
        assert_eq!(files(&["kubelet_labels"]), Ok(vec!["fast", "host"]));
        assert_eq!(files(&[]).map(|all| all.len()), Ok(GOLDEN_TESTS.len()));
        assert_eq!(files(&["x"]), Err("x: no test of expected outputs; see --help".to_owned()));
    }
}
