//! The pages of `mig-cdi-hook`, which is also `mig-cdi-runtime`, from its usage text and `docs/hook.md`.

use super::{
    doc,
    links::prose,
    markdown,
    roff::{Page, bold, italic},
    usage::{self, Block},
};
use mig_cdi_hook::cli::{HookCommand, parse};

/// Both pages.
pub(super) fn pages() -> [Page; 2] {
    let usage = usage_text();
    let blocks = usage::parse(&usage);
    [hook(&blocks), runtime(&blocks)]
}

fn usage_text() -> String {
    match parse(["mig-cdi-hook", "--help"].map(Into::into).into()) {
        Ok(HookCommand::Print(text)) => text,
        other => panic!("--help led to {other:?}"),
    }
}

fn hook(blocks: &[Block]) -> Page {
    let text =
        |n: usize| blocks.iter().filter(|b| b.heading.is_none()).nth(n).map(|b| &b.entries[0].term);
    let mut page = Page::new("mig-cdi-hook", 8, &about(text(0).expect("it says what it does")));
    let usage = text(1).and_then(|line| line.strip_prefix("Usage: ")).expect("it shows its usage");
    page.section("Synopsis");
    page.paragraph(
        &prose(usage, &["MODE", "[OPTIONS"]).replace("mig\\-cdi\\-hook", &bold("mig-cdi-hook")),
    );
    let document = doc("hook");
    let (description, sections) =
        document.split_at(document.find("\n## ").expect("it has sections"));
    markdown::write(&mut page, description);
    page.paragraph(&prose(text(2).expect("it says how it is asked"), &[]));
    page.section("Modes");
    entries(&mut page, usage::block(blocks, "Modes"));
    page.section("Options");
    entries(&mut page, usage::block(blocks, "Options"));
    for block in blocks {
        let heading = block.heading.as_deref().filter(|heading| heading.starts_with("Only for "));
        if let Some(heading) = heading {
            page.subsection(heading);
            entries(&mut page, block);
        }
    }
    exit_status(&mut page, blocks);
    markdown::go(&mut page, sections);
    files(&mut page);
    page.see_also(&[
        "mig-cdi(1)",
        "mig-cdi-generate(1)",
        "mig-cdi.toml(5)",
        "mig-cdi-spec(5)",
        "mig-cdi-runtime(8)",
    ]);
    page
}

fn runtime(blocks: &[Block]) -> Page {
    let mode = usage::block(blocks, "Modes").entries.iter().find(|e| e.term.starts_with("runtime"));
    let mode = mode.expect("there is a mode for runtimes");
    let what = "an OCI runtime that gives containers slices of NVIDIA GPUs";
    let mut page = Page::new("mig-cdi-runtime", 8, what);
    page.section("Synopsis");
    let typed = prose(&mode.term, &["ARGUMENTS"]).replacen("runtime", "", 1);
    let (ours, theirs) = (bold("mig-cdi-hook runtime"), italic("ARGUMENTS"));
    page.paragraph(&format!("{} {theirs}", bold("mig-cdi-runtime")));
    page.then(&format!(
        "{ours} [{} {}] [{}]{typed}",
        bold("--config"),
        italic("FILE"),
        bold("--dry-run")
    ));
    page.section("Description");
    page.paragraph(&prose(&sentence(&mode.meaning), &["ARGUMENTS"]));
    let document = doc("hook");
    markdown::go(&mut page, between(&document, "## Requesting a slice", "## Installing a mode"));
    page.section("Installing it");
    markdown::go(&mut page, between(&document, "**Any engine, `runtime`.**", "**podman and CRI-O"));
    exit_status(&mut page, blocks);
    page.paragraph(
        "Where it does not refuse, the exit status is that of the real runtime, which it becomes.",
    );
    files(&mut page);
    page.see_also(&["mig-cdi(1)", "mig-cdi-configure(1)", "mig-cdi.toml(5)", "mig-cdi-hook(8)"]);
    page
}

/// The part of a document from one text up to another.
fn between<'a>(document: &'a str, from: &str, to: &str) -> &'a str {
    let place =
        |text| document.find(text).unwrap_or_else(|| panic!("docs/hook.md has no {text:?}"));
    &document[place(from)..place(to)]
}

fn entries(page: &mut Page, block: &Block) {
    for entry in &block.entries {
        let (typed, rest) = entry.term.split_at(
            entry
                .term
                .find(|c: char| {
                    c.is_ascii_uppercase()
                        && !entry.term.starts_with("-h")
                        && !entry.term.starts_with("-V")
                })
                .unwrap_or(entry.term.len()),
        );
        let rest = rest.trim_end_matches('…');
        let dots = if entry.term.ends_with('…') { "..." } else { "" };
        let value =
            if rest.is_empty() { String::new() } else { format!(" {}{dots}", italic(rest)) };
        let names = [rest];
        page.term(
            &format!("{}{value}", bold(typed.trim())),
            &[prose(&sentence(&entry.meaning), &names)],
        );
    }
}

fn exit_status(page: &mut Page, blocks: &[Block]) {
    page.section("Exit status");
    for entry in &usage::block(blocks, "Exit codes").entries {
        page.term(&bold(&entry.term), &[prose(&sentence(&entry.meaning), &[])]);
    }
}

fn files(page: &mut Page) {
    page.section("Files");
    for (path, what) in [
        ("/etc/mig-cdi/config.toml", "Settings: see mig-cdi.toml(5)."),
        ("/etc/cdi, /var/run/cdi", "Where specs are looked for."),
        ("/usr/share/mig-cdi/hooks.d", "Files for the engines that read such a directory."),
        (
            "/run/mig-cdi/environment",
            "In a container: the variables that create-runtime could not set.",
        ),
    ] {
        page.term(&italic(path), &[prose(what, &[])]);
    }
}

/// As a sentence, with a capital and its full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map_or(String::new(), |first| first.to_uppercase().collect());
    let stop = if text.ends_with(['?', '.']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// As a phrase: the line of NAME.
fn about(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_lowercase() + rest
}
