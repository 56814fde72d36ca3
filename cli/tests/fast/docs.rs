//! The documents match the programs: links resolve, named tests exist, and every command is run here or names the
//! test that runs it. Pages are found in the file system, so that new ones are checked too.

use mig_cdi_tests::{
    SHIPPED_CRATES,
    docs::{DocPage, is_test, is_test_file},
    documented_commands::TESTED_ELSEWHERE,
    mig_cdi, program, project, run,
};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Page that names no test: it describes what people do.
const UNTESTED: [&str; 1] = ["SECURITY.md"];

#[test]
fn links_of_the_documents_resolve() {
    let pages = DocPage::all().into_iter().chain([DocPage::read("ARCHITECTURE.md")]);
    for page in pages {
        let dir = project().join(Path::new(&page.path).parent().unwrap());
        for link in page.links().iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { project().join(&page.path) } else { dir.join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.path);
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let anchors = DocPage { path: link.clone(), text }.anchors();
                assert!(anchors.iter().any(|a| a == anchor), "{}: {link}: {anchors:?}", page.path);
            }
        }
    }
}

/// Tests and benchmarks that documents name as `file::test`, `file.rs` or `--bench name` exist. Every page names one.
#[test]
fn named_tests_and_benchmarks_exist() {
    let there = |path: &str| project().join(path).exists();
    for page in DocPage::all() {
        let mut named = 0;
        for span in page.spans() {
            let path = &page.path;
            if span.contains("::") && !span.contains(' ') {
                assert!(is_test(&span), "{path}: {span} is no test");
                named += 1;
            } else if span.ends_with(".rs") {
                assert!(there(&span) || is_test_file(&span), "{path}: {span} is not there");
                named += 1;
            } else if let Some((_, bench)) = span.split_once("--bench ") {
                assert!(there(&format!("tests/benches/{bench}.rs")), "{path}: {span}");
                assert!(span.starts_with("cargo bench -p mig-cdi-tests "), "{path}: {span}");
                named += 1;
            } else if span.starts_with("tests/") && !span.contains(' ') {
                assert!(there(&span), "{path}: {span} is not there");
            }
        }
        let may = UNTESTED.contains(&page.path.as_str());
        assert!(named > 0 || may, "{}: no test is named", page.path);
    }
}

/// Every command of another program, and every one that no test may run on its machine, has a test or a script, and is
/// still in a document. The tests `docs::commands::…` run the others (`cli/tests/cases.rs`, `tests/tests/host_cases.rs`).
#[test]
fn commands_that_are_tested_elsewhere_are_documented_and_tested() {
    let pages = DocPage::all();
    let commands: Vec<_> = pages.iter().flat_map(DocPage::shell).flatten().collect();
    for (begin, proof) in TESTED_ELSEWHERE {
        let is_used = commands.iter().any(|command| command.starts_with(begin));
        assert!(is_used, "no document has {begin:?}");
        assert!(is_test(proof) || project().join(proof).exists(), "{begin}: {proof} is no test");
    }
    assert!(project().join("tests/packages/run").exists(), "it runs the commands of PACKAGES");
}

/// The README links all pages, and all commands of the program are on one of them.
#[test]
fn every_page_is_linked_and_every_command_documented() {
    let pages = DocPage::all();
    let links = pages[0].links();
    for page in &pages[1..] {
        assert!(links.contains(&page.path), "README.md does not link {}", page.path);
    }
    let help = run(&mut mig_cdi(["--help"])).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // The description of a command continues on lines that are indented further.
    let lines = commands.lines().filter(|line| !line.starts_with("   "));
    let names: Vec<_> = lines.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(names.len() > 10, "{help}");
    for name in names {
        let command = format!("mig-cdi {name}");
        assert!(pages.iter().any(|page| page.text.contains(&command)), "no page has {command}");
    }
}

/// The tables match the help and the source, and the programs exit with these codes.
#[test]
fn documented_exit_codes_match_the_programs() {
    let page = DocPage::read("docs/exit-codes.md").text;
    for name in ["mig-cdi", "mig-cdi-hook"] {
        let help = run(Command::new(program(name)).arg("--help").env_clear()).stdout;
        let in_help = help.split("Exit codes:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let in_help: Vec<_> =
            in_help.lines().filter_map(|line| line.trim().split_once("  ")).collect();
        let table = page.split(&format!("## {name}\n")).nth(1).unwrap();
        let rows = table.lines().skip(1).skip_while(|line| !line.starts_with('|'));
        let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
        let cells: Vec<_> = rows.map(|row| row.split(" | ").collect::<Vec<_>>()).collect();
        let table: Vec<_> =
            cells.iter().map(|row| (row[0].trim_start_matches("| "), row[1])).collect();
        assert_eq!(table, in_help, "{name}");
        let wrong = run(Command::new(program(name)).args(["--no-such-option"]).env_clear());
        assert_eq!(wrong.code, 2, "{name}");
    }
    let source = fs::read_to_string(project().join("cdi-gen/src/exit.rs")).unwrap();
    let codes: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
        .collect();
    let codes: Vec<_> = codes.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "6"]);
    for name in ["mig-cdi-kubelet", "mig-cdi-runtime"] {
        assert!(page.contains(&format!("## {name}\n")), "{name}");
    }
    let kubelet = run(Command::new(program("mig-cdi-kubelet")).arg("--no-such-option").env_clear());
    assert_eq!(kubelet.code, 2, "{}", kubelet.stderr);
}

/// A message that a page attributes to us is in the sources. One attributed to an engine is in the tests of engines,
/// or has a link to a report beside it.
#[test]
fn documented_messages_match_the_sources() {
    let page = DocPage::read("docs/troubleshooting.md").text;
    let section = |heading: &str| {
        let text =
            page.split(&format!("## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|row| {
            let (first, rest) = row[2..].split_once(" | ").unwrap();
            (first.split('`').nth(1).map(str::to_owned), rest.to_owned())
        })
        .collect::<Vec<_>>()
    };
    // A message that only `sim` has would be about a simulated node, which the page does not cover.
    let crates = SHIPPED_CRATES.iter().filter(|name| **name != "sim");
    let ours: String = crates.map(|name| sources(&project().join(name).join("src"))).collect();
    let rows = section("Messages of mig-cdi");
    assert!(rows.len() > 10);
    for (message, _) in rows {
        let message = message.expect("a message in backquotes");
        for part in message.split('…') {
            assert!(ours.contains(part.trim()), "no program prints {part:?}");
        }
    }
    let tests =
        sources(&project().join("tests/tests")) + &sources(&project().join("tests/src")) + &ours;
    for (message, rest) in section("Messages of engines") {
        let Some(message) = message.filter(|_| !rest.contains("](https://github.com/")) else {
            continue;
        };
        assert!(tests.contains(&message), "{message:?} is neither tested nor reported");
    }
}

/// Returns all Rust sources below a directory, with continued string literals joined.
fn sources(dir: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir:?}: {e}")) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut parts = text.split("\\\n");
            all += parts.next().unwrap();
            parts.for_each(|part| all += part.trim_start());
        }
    }
    all
}

/// The files and numbers of the table match the sources.
#[test]
fn the_inventory_of_unsafe_is_complete() {
    let listed = run(Command::new("find").current_dir(project()).args(SHIPPED_CRATES).args([
        "-name",
        "*.rs",
        "-type",
        "f",
        "-not",
        "-path",
        "*/tests/*",
    ]));
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let counted = listed.stdout.lines().filter_map(|path| {
        let text = std::fs::read_to_string(project().join(path)).ok()?;
        let forms = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "];
        let count: usize = forms.iter().map(|form| text.matches(form).count()).sum();
        (count > 0).then(|| format!("| `{path}` | {count} |"))
    });
    let page = DocPage::read("docs/unsafe.md").text;
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: BTreeSet<_> =
        rows.map(|row| row.rsplitn(3, '|').nth(2).unwrap().to_owned() + "|").collect();
    assert_eq!(rows, counted.collect());
}

/// A library does not know which command prints its messages. The flags in them are those of `watch`, which the plugin takes too,
/// unless they are named with their command, or of the only command that can cause them.
#[test]
fn flags_in_messages_of_libraries_are_known_to_their_programs() {
    const NAMED: [&str; 7] = [
        "run nvidia-smi drain --query",
        "mig-cdi apply --resume",
        "podman run --rm",
        "\"--version\"",
        "{program} --version",
        "--dir={dir}",
        // In messages about assignments GPU=LAYOUT, which only commands with this flag take.
        "name a file with --file",
    ];
    let help = run(&mut mig_cdi(["watch", "--help"])).stdout;
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    for library in ["cdi-gen/src", "partition/src"] {
        let text = sources(&project().join(library));
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code.filter(|line| !NAMED.iter().any(|named| line.contains(named))) {
            for rest in line.split("--").skip(1).filter(|rest| rest.starts_with(char::is_lowercase))
            {
                let end = rest.find(|c| !is_flag(c)).unwrap_or(rest.len());
                assert!(help.contains(&format!("--{}", &rest[..end])), "{library}: {line}");
            }
        }
    }
}
