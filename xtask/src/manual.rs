//! Manual pages, made from the commands of the programs, the usage text of the hook, the shipped `config.toml` and the
//! Markdown of `docs/`. It writes no file: [`pages`] returns the texts.

mod command;
mod config;
mod hook;
mod links;
mod markdown;
mod roff;
mod usage;

use crate::{Error, Files, Result, source_root};
use clap::Command;
use roff::ManPage;
use std::fs;

/// Pages of section 5 that are made from a file of `docs/`: name of the page, name of the file, one-line description.
const DOCUMENTS: [(&str, &str, &str); 3] = [
    ("mig-cdi-layouts", "docs/layouts.md", "layouts of GPUs, on the command line and in files"),
    (
        "mig-cdi-node",
        "docs/node-description.md",
        "descriptions of simulated nodes with NVIDIA GPUs",
    ),
    ("mig-cdi-spec", "docs/spec.md", "contents of the CDI specs that mig-cdi writes"),
];

/// Returns every manual page by its file name.
///
/// # Errors
/// When a source of a page lacks a part that the page needs, or has Markdown that cannot be converted.
pub fn pages() -> Result<Files> {
    let mut pages = command::pages(&built(mig_cdi::command()))?;
    pages.push(command::kubelet_page(&built(mig_cdi_kubelet::command()))?);
    pages.extend(hook::pages()?);
    pages.push(config::page()?);
    for (name, file, about) in DOCUMENTS {
        pages.push(document(name, file, about)?);
    }
    Ok(pages.into_iter().map(|page| (page.file_name(), page.finish())).collect())
}

/// Returns the command with its global options propagated to its subcommands.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

fn document(name: &str, file: &'static str, about: &str) -> Result<ManPage> {
    let mut page = ManPage::new(name, 5, about);
    markdown::write(&mut page, file, &read_document(file)?)?;
    page.see_also(&["mig-cdi(1)", "mig-cdi.toml(5)"]);
    Ok(page)
}

/// Reads a file of `docs/`.
fn read_document(file: &'static str) -> Result<String> {
    let text = fs::read_to_string(source_root().join(file));
    text.map_err(|e| Error { source: file, part: format!("read: {e}") })
}

/// Returns the text as a sentence, with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map_or(String::new(), |first| first.to_uppercase().collect());
    let stop = if text.ends_with(['?', '.']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}
