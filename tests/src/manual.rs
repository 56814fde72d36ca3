//! The manual pages and the completions, rendered from what they are about: the command lines, the usage text
//! of the hook, the shipped `config.toml` and the Markdown of `docs/`. Nothing is written twice, and the test of
//! the same name holds what is committed in `packaging/` against this.

mod command;
mod config;
mod hook;
mod links;
mod markdown;
mod roff;
mod usage;

use crate::project;
use clap::Command;
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};
use roff::Page;
use std::{collections::BTreeMap, fs};

/// Files by their path below a directory.
pub type Files = BTreeMap<String, String>;

/// The pages of section 5 that are a file of `docs/`: name, file, what the page says of itself.
const DOCUMENTS: [(&str, &str, &str); 3] = [
    ("mig-cdi-layouts", "layouts", "how GPUs are to be divided, in words and in files"),
    ("mig-cdi-node", "node-description", "descriptions of simulated nodes with NVIDIA GPUs"),
    ("mig-cdi-spec", "spec", "what mig-cdi writes into a CDI spec"),
];

/// Every manual page, by its file name.
#[must_use]
pub fn pages() -> Files {
    let mut pages = command::pages(&built(mig_cdi::command()));
    let kubelet = built(mig_cdi_kubelet::command());
    pages.push(command::daemon(&kubelet));
    pages.extend(hook::pages());
    pages.push(config::page());
    pages.extend(DOCUMENTS.iter().map(|(name, file, about)| document(name, file, about)));
    pages.into_iter().map(|page| (page.file_name(), page.finish())).collect()
}

/// The completions of each program for each shell, as `SHELL/FILE`: the names are those under which shells
/// look for them.
#[must_use]
pub fn completions() -> Files {
    let mut files = Files::new();
    for command in [mig_cdi::command, mig_cdi_kubelet::command] {
        let name = command().get_name().to_owned();
        // clap_complete 4.6 takes the hyphen of a program's name for the seam between two commands, in one of the
        // two places that have to agree, and nothing behind a command is then completed.
        let parts: Vec<_> = name.split('-').collect();
        let (wrong, right) = (parts.join("__subcmd__"), parts.join("__"));
        let bash =
            completion(Bash, command()).replace(&(wrong + "__subcmd__"), &(right + "__subcmd__"));
        files.insert(format!("bash/{name}"), bash);
        files.insert(format!("fish/{name}.fish"), completion(Fish, command()));
        files.insert(format!("zsh/_{name}"), completion(Zsh, command()));
    }
    files
}

fn completion(shell: impl Generator, command: Command) -> String {
    let (mut out, mut command) = (Vec::new(), visible(command));
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut out);
    let text = String::from_utf8(out).expect("completions are UTF-8");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

/// The command line without what its help does not show: shells would offer it.
fn visible(command: Command) -> Command {
    // clap takes names that live for ever.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut shown = Command::new(name);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if command.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    shown = shown.disable_help_subcommand(true).propagate_version(true);
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.args(args).subcommands(commands.map(|command| visible(command.clone())))
}

/// With the options that all commands share in each of them.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

fn document(name: &str, file: &str, about: &str) -> Page {
    let mut page = Page::new(name, 5, about);
    markdown::write(&mut page, &doc(file));
    page.see_also(&["mig-cdi(1)", "mig-cdi.toml(5)"]);
    page
}

/// The text of a file of `docs/`.
fn doc(file: &str) -> String {
    let path = project().join("docs").join(file).with_extension("md");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}
