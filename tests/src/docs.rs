//! Parser of the documents: links, headings, words in backquotes, and commands.

use crate::{
    debian_release::DebianRelease, documented_commands::documented_commands,
    engine_checks::table_rows, golden, project,
};
use std::fs;

/// Document of the project.
#[derive(Debug, Clone)]
pub struct DocPage {
    /// Path from the root of the project.
    pub path: String,
    /// Text of the whole file.
    pub text: String,
}

/// Code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBlock {
    /// Language in the fence, or nothing.
    pub language: String,
    /// Lines, without the indentation of the block.
    pub lines: Vec<String>,
}

/// Programs with which a line of shell begins. A line that begins otherwise is no command.
const PROGRAMS: [&str; 18] = [
    "mig-cdi",
    "mig-cdi-hook",
    "mig-cdi-kubelet",
    "mig-cdi-runtime",
    "podman",
    "docker",
    "kubectl",
    "helm",
    "systemctl",
    "journalctl",
    "make",
    "cargo",
    "apt",
    "dnf",
    "rpm",
    "dpkg",
    "mkdir",
    ".",
];

impl DocPage {
    /// Reads a document.
    ///
    /// # Panics
    /// When it does not exist.
    #[must_use]
    pub fn read(path: &str) -> DocPage {
        let text = fs::read_to_string(project().join(path));
        let text = text.unwrap_or_else(|e| panic!("{path}: {e}"));
        DocPage { path: path.to_owned(), text }
    }

    /// Reads every document for users: those at the top, and all in `docs`.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn all() -> Vec<DocPage> {
        let found = fs::read_dir(project().join("docs")).expect("docs is there");
        let names = found.map(|entry| entry.expect("an entry").file_name());
        let mut paths: Vec<_> = names
            .map(|name| format!("docs/{}", name.to_str().expect("a name in utf-8")))
            .filter(|path| path.ends_with(".md"))
            .collect();
        paths.sort();
        paths.splice(0..0, ["README.md", "SECURITY.md"].map(str::to_owned));
        paths.iter().map(|path| DocPage::read(path)).collect()
    }

    /// Splits the document into text and code blocks.
    #[must_use]
    pub fn parts(&self) -> (String, Vec<CodeBlock>) {
        let (mut prose, mut blocks) = (String::new(), Vec::new());
        let (mut open, mut fenced, mut after_blank) = (None::<CodeBlock>, false, true);
        for line in self.text.lines() {
            let fence = line.strip_prefix("```");
            let indented = line.strip_prefix("    ");
            match (&mut open, fence, indented) {
                (Some(_), Some(_), _) if fenced => {
                    blocks.extend(open.take());
                    fenced = false;
                }
                (Some(block), _, _) if fenced => block.lines.push(line.to_owned()),
                (Some(block), _, Some(rest)) => block.lines.push(rest.to_owned()),
                (None, Some(language), _) => {
                    open = Some(CodeBlock { language: language.to_owned(), lines: Vec::new() });
                    fenced = true;
                }
                (None, _, Some(rest)) if after_blank => {
                    open =
                        Some(CodeBlock { language: String::new(), lines: vec![rest.to_owned()] });
                }
                _ => {
                    blocks.extend(open.take());
                    prose += line;
                    prose.push('\n');
                }
            }
            after_blank = line.is_empty();
        }
        blocks.extend(open);
        (prose, blocks)
    }

    /// Returns the text in backquotes; a line break counts as a blank.
    #[must_use]
    pub fn spans(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
    }

    /// Returns the targets of links.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        // Text in backquotes is no link.
        let text: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("x");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }

    /// Returns the anchors of the headings, as links have them after `#`.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// Returns the commands of each block of shell.
    ///
    /// # Panics
    /// When only some lines of a block are commands.
    #[must_use]
    pub fn shell(&self) -> Vec<Vec<String>> {
        let (_, blocks) = self.parts();
        blocks.iter().filter_map(|block| self.commands(block)).collect()
    }

    fn commands(&self, block: &CodeBlock) -> Option<Vec<String>> {
        let named = ["", "sh", "bash", "console"].contains(&block.language.as_str());
        let first = block.lines.first().map_or("", String::as_str);
        if !named || !is_command(first) {
            let ours = block.lines.iter().find(|line| line.starts_with("mig-cdi "));
            assert!(ours.is_none(), "{}: a command in what is no shell: {ours:?}", self.path);
            return None;
        }
        let lines = block.lines.iter().filter(|line| !line.trim().is_empty());
        let commands = lines.flat_map(|line| {
            assert!(is_command(line), "{}: {line:?} in a block of commands", self.path);
            without_comment(line).split(" && ").flat_map(|part| part.split("; ")).map(plain)
        });
        Some(commands.flat_map(|command| choices(&command)).collect())
    }
}

/// Returns the anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn is_command(line: &str) -> bool {
    let word = plain(line).split(' ').next().unwrap_or_default().to_owned();
    // `make PATH` is output of `mig-cdi nodes`.
    PROGRAMS.contains(&word.as_str()) && !line.starts_with("make /")
        || word.starts_with("tests/")
        || word.starts_with("packaging/")
}

fn without_comment(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(command, _)| command).trim()
}

/// Returns the command without `sudo` and variables in front of it.
fn plain(command: &str) -> String {
    let words = command.split(' ').skip_while(|word| *word == "sudo" || word.contains("=/"));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Returns the alternatives of a command: `a|b` is two commands.
fn choices(command: &str) -> Vec<String> {
    let Some(word) = command.split(' ').find(|word| word.contains('|') && word.len() > 1) else {
        return vec![command.to_owned()];
    };
    word.split('|').map(|choice| command.replace(word, choice)).collect()
}

/// Directories of the integration tests, by tier, and of the cases.
const TEST_DIRS: [&str; 9] = [
    "cli/tests/fast",
    "hook/tests/fast",
    "kubelet/tests/fast",
    "tests/fake-nvml/tests/fast",
    "xtask/tests",
    "tests/tests/host",
    "tests/tests/engines",
    "tests/tests/kubernetes",
    "tests/tests/soak",
];

/// Returns whether a file, such as `doctor.rs`, has tests of some tier.
#[must_use]
pub fn is_test_file(name: &str) -> bool {
    // The cases of a list are beside the directories of their tier.
    let dirs = TEST_DIRS.iter().chain(&["cli/tests", "tests/tests"]);
    dirs.copied().any(|dir| project().join(dir).join(name).is_file())
}

/// Returns whether `FILE::TEST` is a test of some tier, or a group of faults or of tests that are made from data, such
/// as `golden::presets`; `attacks` and `races` stand for `hook_attacks` and `hook_races`, as in `docs/attacks.md`.
#[must_use]
pub fn is_test(name: &str) -> bool {
    let Some((file, test)) = name.split_once("::") else { return false };
    let files = [format!("{file}.rs"), format!("hook_{file}.rs")];
    let paths = TEST_DIRS
        .iter()
        .flat_map(|dir| files.each_ref().map(|file| project().join(dir).join(file)));
    let mut sources = paths.filter_map(|path| fs::read_to_string(path).ok());
    sources.any(|source| has_test(&source, test)) || is_trial(name)
}

/// Returns whether a name is that of a trial or of a group of them.
fn is_trial(name: &str) -> bool {
    let golden = golden::cases().into_iter().map(|case| format!("golden::{}", case.name));
    let commands = documented_commands().into_iter().map(|case| format!("docs::{}", case.name));
    let rows = table_rows(DebianRelease::Trixie).into_iter();
    let rows = rows.map(|row| format!("engine_rows::{}", row.name));
    let mut all = golden
        .chain(commands)
        .chain(rows)
        .chain(["engine_rows::the_document_has_these_rows".to_owned()]);
    all.any(|trial| {
        trial.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

fn has_test(source: &str, test: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    // A macro makes a test of each fault of a group.
    let group = format!("{test} {{");
    if lines.windows(2).any(|pair| pair[0] == "faults! {" && pair[1] == group) {
        return true;
    }
    let functions = [format!("fn {test}("), format!("async fn {test}(")];
    let found = lines.iter().position(|line| functions.iter().any(|f| line.starts_with(f)));
    // The attributes of a function are just before it.
    found.is_some_and(|at| {
        let mut before = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        before.any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}
