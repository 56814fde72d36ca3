//! The manual pages and the completions of `packaging/` in the programs that read them: mandoc and three shells.

use mig_cdi_tests::{hook::feed, project, run};
use std::{fs, process::Command};

/// mandoc warns about a page without a date. Ours have none, so that two builds give the same bytes.
#[test]
fn pages_are_well_formed() {
    let pages = fs::read_dir(project().join("packaging/man")).unwrap();
    let pages: Vec<_> = pages.map(|page| page.unwrap().path()).collect();
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        let (name, text) = (page.display(), fs::read_to_string(&page).unwrap());
        let dated: String = text
            .lines()
            .map(|line| match line.starts_with(".TH ") {
                true => line.replacen(" \"\" ", " \"2026-01-01\" ", 1) + "\n",
                false => format!("{line}\n"),
            })
            .collect();
        let lint =
            feed(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]), dated.as_bytes());
        assert_eq!((lint.stdout.as_str(), lint.stderr.as_str()), ("", ""), "{name}");
    }
}

#[test]
fn shells_parse_the_completions_and_bash_completes_with_them() {
    let dir = project().join("packaging/completions");
    for (shell, flag, names) in [
        ("bash", "-n", ["mig-cdi", "mig-cdi-kubelet"]),
        ("zsh", "-n", ["_mig-cdi", "_mig-cdi-kubelet"]),
        ("fish", "--no-execute", ["mig-cdi.fish", "mig-cdi-kubelet.fish"]),
    ] {
        for name in names {
            let read = run(Command::new(shell).arg(flag).arg(dir.join(shell).join(name)));
            assert_eq!((read.code, read.stderr.as_str()), (0, ""), "{shell} {name}");
        }
    }
    let complete = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let script = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD={}; _mig__cdi mig-cdi '{}' '{}'; echo \"${{COMPREPLY[*]}}\"",
            dir.join("bash/mig-cdi").display(),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let run = run(Command::new("bash").args(["-c", &script]));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}");
        run.stdout
    };
    assert_eq!(complete("mig-cdi gen"), "generate\n");
    assert_eq!(complete("mig-cdi generate --lib"), "--library-dirs --library-search-path\n");
    assert_eq!(complete("mig-cdi verif"), "\n", "a hidden command is completed");
}
