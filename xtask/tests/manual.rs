//! The manual pages and the completions of `packaging/`: they are what `cargo xtask man` and `cargo xtask completions` write,
//! and name every command and option of the programs.

use mig_cdi_tests::{program, project, run};
use std::{fs, path::Path, process::Command};
use xtask::{Files, completions::completions, manual};

/// Returns the files below a directory of `packaging/` by their path.
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

fn assert_committed(dir: &str, task: &str, rendered: &Files) {
    let dir = project().join("packaging").join(dir);
    let expected = committed(&dir);
    let cure = format!("run cargo xtask {task}, and read the diff");
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(rendered), names(&expected), "files of {}: {cure}", dir.display());
    for (path, text) in rendered {
        similar_asserts::assert_eq!(text, &expected[path], "{}: {cure}", dir.join(path).display());
    }
}

#[test]
fn committed_pages_are_what_xtask_writes() {
    assert_committed("man", "man", &manual::pages().unwrap());
}

#[test]
fn committed_completions_are_what_xtask_writes() {
    assert_committed("completions", "completions", &completions());
}

/// Compares with `--help` of the built programs, not with the clap commands that the pages are made from.
#[test]
fn pages_name_every_command_and_option_of_the_programs() {
    let pages = manual::pages().unwrap();
    let help = |name: &str, command: &[&str]| {
        let run = run(Command::new(program(name)).args(command).arg("--help"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let check = |page: &str, help: &str| {
        let text = pages.get(page).unwrap_or_else(|| panic!("no page {page}")).replace("\\-", "-");
        let mut options = 0;
        for line in help.lines().map(str::trim).filter(|line| line.starts_with('-')) {
            for word in line.split([' ', ',', '=', '[']).filter(|word| word.starts_with("--")) {
                assert!(text.contains(word), "{page} has no {word}");
                options += 1;
            }
        }
        options
    };
    let main = help("mig-cdi", &[]);
    let commands = main.split_once("Commands:\n").unwrap().1;
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.contains(&"generate") && commands.contains(&"map"), "{commands:?}");
    let options: usize = commands
        .iter()
        .map(|name| check(&format!("mig-cdi-{name}.1"), &help("mig-cdi", &[name])))
        .sum();
    assert!(options > 100, "{options}");
    assert!(check("mig-cdi.1", &main) > 3);
    assert!(check("mig-cdi-kubelet.8", &help("mig-cdi-kubelet", &[])) > 3);
}
