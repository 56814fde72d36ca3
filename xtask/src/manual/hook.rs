//! Pages of `mig-cdi-hook`, which is also `mig-cdi-runtime`, made from its usage text and `docs/hook.md`. The hook links no clap,
//! so no crate can make them.

use super::{
    documents,
    links::prose,
    markdown,
    roff::{ManPage, bold, italic},
    usage::{self, UsageEntry, UsageSection},
};
use crate::{Error, OrMissing, Result};
use mig_cdi_hook::cli::{HookCommand, parse};

/// Name of the program in errors.
const HOOK: &str = "mig-cdi-hook";
/// Document that the pages are made from too.
const DOCUMENT: &str = "docs/hook.md";

/// Returns the page of the hook and that of the runtime.
pub(super) fn pages() -> Result<[ManPage; 2]> {
    let sections = usage::parse(HOOK, &usage_text()?)?;
    let document = documents::read(DOCUMENT)?;
    Ok([hook(&sections, &document)?, runtime(&sections, &document)?])
}

fn usage_text() -> Result<String> {
    match parse(["mig-cdi-hook", "--help"].map(Into::into).into()) {
        Ok(HookCommand::Print(text)) => Ok(text),
        other => Err(Error { source: HOOK, part: format!("--help is {other:?}") }),
    }
}

fn hook(sections: &[UsageSection], document: &str) -> Result<ManPage> {
    let paragraphs: Vec<&str> = sections
        .iter()
        .filter(|section| section.heading.is_none())
        .map(|section| section.entries[0].term.as_str())
        .collect();
    let [about, usage, request, ..] = paragraphs[..] else {
        let part = "no description, usage and paragraph on requests".to_owned();
        return Err(Error { source: HOOK, part });
    };
    let mut page = ManPage::new("mig-cdi-hook", 8, &uncapitalized(about));
    synopsis(&mut page, usage)?;
    let (description, rest) =
        document.split_at(document.find("\n## ").or_missing(DOCUMENT, "section")?);
    markdown::write(&mut page, DOCUMENT, description)?;
    page.paragraph(&prose(request, &[]));
    let modes = modes(sections)?;
    page.section(modes.heading.as_deref().unwrap_or_default());
    entries(&mut page, modes);
    page.section("Options");
    entries(&mut page, usage::section(HOOK, sections, "Options")?);
    let is_other = |heading: &str| {
        !["Options", "Exit codes"].contains(&heading) && Some(heading) != modes.heading.as_deref()
    };
    for section in sections {
        if let Some(heading) = section.heading.as_deref().filter(|heading| is_other(heading)) {
            page.subsection(heading);
            entries(&mut page, section);
        }
    }
    exit_status(&mut page, sections)?;
    markdown::write_part(&mut page, DOCUMENT, rest)?;
    files(&mut page);
    page.see_also(&[
        "mig-cdi(1)",
        "mig-cdi-generate(1)",
        "mig-cdi.toml(5)",
        "mig-cdi-spec(5)",
        "mig-cdi-runtime(8)",
    ]);
    Ok(page)
}

/// Writes SYNOPSIS from the line `Usage: mig-cdi-hook MODE [OPTIONS]`.
fn synopsis(page: &mut ManPage, usage: &str) -> Result<()> {
    let usage = usage.strip_prefix("Usage: ").or_missing(HOOK, "usage as its second paragraph")?;
    let mode = usage.split(' ').nth(1).unwrap_or_default();
    page.section("Synopsis");
    let line = prose(usage, &[mode, "[OPTIONS"]);
    page.paragraph(&line.replace("mig\\-cdi\\-hook", &bold("mig-cdi-hook")));
    Ok(())
}

/// Returns the section of the usage text that lists the modes of the hook: the one with `runtime`.
fn modes(sections: &[UsageSection]) -> Result<&UsageSection> {
    let has_runtime = |section: &&UsageSection| section.entries.iter().any(is_runtime);
    sections.iter().find(has_runtime).or_missing(HOOK, "mode runtime in its usage text")
}

fn is_runtime(entry: &UsageEntry) -> bool {
    entry.term.split(' ').next() == Some("runtime")
}

fn runtime(sections: &[UsageSection], document: &str) -> Result<ManPage> {
    let mode = modes(sections)?.entries.iter().find(|entry| is_runtime(entry));
    let mode = mode.or_missing(HOOK, "mode runtime in its usage text")?;
    let about = "an OCI runtime that gives containers slices of NVIDIA GPUs";
    let mut page = ManPage::new("mig-cdi-runtime", 8, about);
    page.section("Synopsis");
    let typed = prose(&mode.term, &["ARGUMENTS"]).replacen("runtime", "", 1);
    let (ours, theirs) = (bold("mig-cdi-hook runtime"), italic("ARGUMENTS"));
    page.paragraph(&format!("{} {theirs}", bold("mig-cdi-runtime")));
    page.next_line(&format!(
        "{ours} [{} {}] [{}]{typed}",
        bold("--config"),
        italic("FILE"),
        bold("--dry-run")
    ));
    page.section("Description");
    page.paragraph(&prose(&mode.sentence(), &["ARGUMENTS"]));
    markdown::write_part(&mut page, DOCUMENT, first_section(document)?)?;
    page.section("Installing it");
    markdown::write_part(&mut page, DOCUMENT, installation_of_the_runtime(document)?)?;
    exit_status(&mut page, sections)?;
    page.paragraph(
        "When it does not refuse, it becomes the real runtime, whose exit status is then its own.",
    );
    files(&mut page);
    page.see_also(&["mig-cdi(1)", "mig-cdi-configure(1)", "mig-cdi.toml(5)", "mig-cdi-hook(8)"]);
    Ok(page)
}

/// Returns the first section of `docs/hook.md` with its heading: requests of containers.
fn first_section(document: &str) -> Result<&str> {
    let start = document.find("\n## ").or_missing(DOCUMENT, "section")? + 1;
    let length = document[start..].find("\n## ").or_missing(DOCUMENT, "second section")?;
    Ok(&document[start..start + length])
}

/// Returns the part of `docs/hook.md` on the mode `runtime`, which begins with a bold name of the mode and ends before the
/// next one.
fn installation_of_the_runtime(document: &str) -> Result<&str> {
    let is_start = |start: &usize| {
        let title = document[start + 3..].split("**").next().unwrap_or_default();
        title.contains("`runtime`")
    };
    let mut starts = document.match_indices("\n**").map(|(start, _)| start);
    let start = starts.by_ref().find(is_start);
    let start = start.or_missing(DOCUMENT, "installation of `runtime`")?;
    let end = starts.next().or_missing(DOCUMENT, "installation of a mode after `runtime`")?;
    Ok(&document[start..end])
}

fn entries(page: &mut ManPage, section: &UsageSection) {
    for entry in &section.entries {
        // Literal words are in small letters, except the short options -h and -V; placeholders are in capitals.
        let is_flag = entry.term.starts_with("-h") || entry.term.starts_with("-V");
        let value = entry.term.find(|c: char| c.is_ascii_uppercase() && !is_flag);
        let (typed, rest) = entry.term.split_at(value.unwrap_or(entry.term.len()));
        let rest = rest.trim_end_matches('…');
        let dots = if entry.term.ends_with('…') { "..." } else { "" };
        let value =
            if rest.is_empty() { String::new() } else { format!(" {}{dots}", italic(rest)) };
        let meaning = prose(&entry.sentence(), &[rest]);
        page.term(&format!("{}{value}", bold(typed.trim())), &[meaning]);
    }
}

fn exit_status(page: &mut ManPage, sections: &[UsageSection]) -> Result<()> {
    page.section("Exit status");
    for entry in &usage::section(HOOK, sections, "Exit codes")?.entries {
        page.term(&bold(&entry.term), &[prose(&entry.sentence(), &[])]);
    }
    Ok(())
}

fn files(page: &mut ManPage) {
    page.section("Files");
    for (path, meaning) in [
        ("/etc/mig-cdi/config.toml", "Settings: see mig-cdi.toml(5)."),
        ("/etc/cdi, /var/run/cdi", "Directories of the CDI specs that are read."),
        ("/usr/share/mig-cdi/hooks.d", "Files for engines that read a directory of hooks."),
        (
            "/run/mig-cdi/environment",
            "In a container: the environment variables that create-runtime cannot set itself.",
        ),
    ] {
        page.term(&italic(path), &[prose(meaning, &[])]);
    }
}

/// Returns the text with a small first letter, as a phrase in NAME.
fn uncapitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().collect::<String>())
        + letters.as_str()
}
