//! Manual pages, made from the commands of the programs, the usage text of the hook, the shipped `config.toml` and the
//! Markdown of `docs/`. It writes no file: [`pages`] returns the texts.
//!
//! | file | pages |
//! |---|---|
//! | `command.rs` | `mig-cdi(1)` and one for each of its commands, `mig-cdi-kubelet(8)` |
//! | `hook.rs` | `mig-cdi-hook(8)`, `mig-cdi-runtime(8)` |
//! | `config.rs` | `mig-cdi.toml(5)` |
//! | `documents.rs` | `mig-cdi-layouts(5)`, `mig-cdi-node(5)`, `mig-cdi-spec(5)` |

mod command;
mod config;
mod documents;
mod hook;
mod links;
mod markdown;
mod roff;
mod usage;

use crate::{Files, Result};
use clap::Command;
use documents::DocumentPage;
use roff::ManPage;

/// Returns every manual page by its file name.
///
/// # Errors
/// When a source of a page lacks a part that the page needs, or has Markdown that cannot be converted.
pub fn pages() -> Result<Files> {
    let mut pages = command::pages(&built(mig_cdi::command()))?;
    pages.push(command::kubelet_page(&built(mig_cdi_kubelet::command()))?);
    pages.extend(hook::pages()?);
    pages.push(config::page()?);
    for page in &documents::PAGES {
        pages.push(document(page)?);
    }
    Ok(pages.into_iter().map(|page| (page.file_name(), page.finish())).collect())
}

/// Returns the command with its global options propagated to its subcommands, which clap does before it parses.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

fn document(page: &DocumentPage) -> Result<ManPage> {
    let DocumentPage { name, file, about } = *page;
    let mut page = ManPage::new(name, 5, about);
    markdown::write(&mut page, file, &documents::read(file)?)?;
    page.see_also(&["mig-cdi(1)", "mig-cdi.toml(5)"]);
    Ok(page)
}
