//! Pages of programs whose command line is clap's.
//!
//! `clap_mangen` writes NAME, SYNOPSIS, DESCRIPTION, COMMANDS and OPTIONS. The sections below them are ours. Its EXTRA would be
//! the text after the help with its columns run together, and it has no EXIT STATUS, FILES, EXAMPLES or SEE ALSO.

use super::{
    links::{prose, with_installed_documents},
    roff::{ManPage, bold, italic, plain},
    usage::{self, UsageSection},
};
use crate::{Error, OrMissing, Result};
use clap::{Arg, Command, builder::StyledStr};
use clap_mangen::Man;

/// Default paths that commands read and write, with a description of each.
const FILES: [(&str, &str); 6] = [
    ("/etc/mig-cdi/config.toml", "Settings: see mig-cdi.toml(5)."),
    ("/var/run/cdi/nvidia.com-mig.json", "CDI spec of the MIG devices: see mig-cdi-spec(5)."),
    (
        "/var/run/cdi/nvidia.com-gpu.json",
        "CDI spec of the GPUs that are not in MIG mode, with `--gpus`.",
    ),
    (
        "/var/lib/mig-cdi",
        "Journal of a partitioning that is in progress, and `layout.yaml`, which checkpoint writes for restore.",
    ),
    ("/run/mig-cdi", "State that watch writes and status reads."),
    ("/usr/share/mig-cdi", "Examples for hooks, engines and Kubernetes."),
];

/// Commands, and the references that their pages have in addition to those of every page.
const SEE_ALSO: [(&[&str], &[&str]); 6] = [
    (&["generate", "check", "compare", "show"], &["mig-cdi-spec(5)"]),
    (&["watch", "status"], &["mig-cdi-spec(5)", "/usr/share/doc/mig-cdi/watch.md"]),
    (&["doctor"], &["/usr/share/doc/mig-cdi/doctor.md"]),
    (&["configure"], &["mig-cdi-hook(8)", "/usr/share/doc/mig-cdi/engines.md"]),
    (&["nodes"], &["mig-cdi-spec(5)"]),
    (
        &["profiles", "plan", "apply", "assert", "export", "checkpoint", "restore"],
        &["mig-cdi-layouts(5)", "/usr/share/doc/mig-cdi/partition.md"],
    ),
];

/// Lines that `clap_mangen` puts before each section: they define `\*(Aq` as an apostrophe.
const APOSTROPHE: [&str; 2] = [".ie \\n(.g .ds Aq \\(aq", ".el .ds Aq '"];

/// Returns the page of `mig-cdi` and those of its commands.
pub(super) fn pages(program: &Command) -> Result<Vec<ManPage>> {
    let after = program.get_after_help().or_missing("mig-cdi", "text after its help")?;
    let help = usage::parse("mig-cdi", &text(after))?;
    let mut page = head(program, 1)?;
    options(&mut page, program, 1)?;
    exit_status(&mut page, &help)?;
    files(&mut page, None);
    page.section("Examples");
    // The text after the help: exit codes, which have a section of their own, and groups of examples.
    for section in help.iter().filter(|section| section.heading.as_deref() != Some("Exit codes")) {
        if section.heading.as_deref() != Some("Examples") {
            page.paragraph(&plain(&format!("{}:", section.heading.as_deref().unwrap_or_default())));
        }
        examples(&mut page, section, "");
    }
    let shown = || program.get_subcommands().filter(|command| !command.is_hide_set());
    let commands = shown().map(|command| format!("{}(1)", page_name(command)));
    let others = ["mig-cdi-hook(8)", "mig-cdi-kubelet(8)", "mig-cdi-runtime(8)"];
    let formats = ["mig-cdi-layouts(5)", "mig-cdi-node(5)", "mig-cdi-spec(5)", "mig-cdi.toml(5)"];
    let all: Vec<String> =
        commands.chain(formats.iter().chain(&others).map(|&name| name.to_owned())).collect();
    page.see_also(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let commands = shown().map(|command| command_page(command, &help));
    std::iter::once(Ok(page)).chain(commands).collect()
}

fn command_page(command: &Command, help: &[UsageSection]) -> Result<ManPage> {
    let mut page = head(command, 1)?;
    options(&mut page, command, 1)?;
    exit_status(&mut page, help)?;
    files(&mut page, Some(command));
    let own = format!("mig-cdi {}", command.get_name());
    let is_own = |term: &str| term == own || term.starts_with(&format!("{own} "));
    if help.iter().any(|section| section.entries.iter().any(|entry| is_own(&entry.term))) {
        page.section("Examples");
        help.iter().for_each(|section| examples(&mut page, section, &own));
    }
    let more = SEE_ALSO.iter().filter(|(names, _)| names.contains(&command.get_name()));
    let more = more.flat_map(|(_, references)| references.iter().copied());
    let both = ["mig-cdi(1)", "mig-cdi-node(5)", "mig-cdi.toml(5)"];
    page.see_also(&both.into_iter().chain(more).collect::<Vec<_>>());
    Ok(page)
}

/// Returns the page of `mig-cdi-kubelet`, which runs as a service.
pub(super) fn kubelet_page(program: &Command) -> Result<ManPage> {
    let mut page = head(program, 8)?;
    let after = program.get_after_help().or_missing("mig-cdi-kubelet", "text after its help")?;
    let after = usage::parse("mig-cdi-kubelet", &text(after))?;
    let (exit, others): (Vec<_>, Vec<_>) = after
        .iter()
        .map(|section| &section.entries[0].term)
        .partition(|term| term.starts_with("Exit"));
    others.iter().for_each(|text| page.paragraph(&prose(text, &[])));
    options(&mut page, program, 8)?;
    environment(&mut page, program);
    page.section("Exit status");
    exit.iter().for_each(|text| page.paragraph(&prose(text, &[])));
    files(&mut page, Some(program));
    page.see_also(&[
        "mig-cdi(1)",
        "mig-cdi-watch(1)",
        "mig-cdi-layouts(5)",
        "mig-cdi.toml(5)",
        "/usr/share/doc/mig-cdi/kubernetes.md",
    ]);
    Ok(page)
}

fn text(help: &StyledStr) -> String {
    help.to_string()
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// Writes the title, NAME, SYNOPSIS and DESCRIPTION.
fn head(command: &Command, section: u8) -> Result<ManPage> {
    let mut page = ManPage::with_title(&page_name(command), section);
    let man = Man::new(for_mangen(command)?);
    page.append(&rendered(|out| man.render_name_section(out)));
    page.append(&rendered(|out| man.render_synopsis_section(out)));
    page.append(&rendered(|out| man.render_description_section(out)));
    Ok(page)
}

/// Writes COMMANDS, where there are some, and OPTIONS with a section for each heading of the help.
fn options(page: &mut ManPage, command: &Command, section: u8) -> Result<()> {
    let man = Man::new(for_mangen(command)?).section(section.to_string());
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        page.append(&rendered(|out| man.render_subcommands_section(out)));
    }
    page.append(&rendered(|out| man.render_options_section(out)));
    Ok(())
}

/// Returns the command with what `clap_mangen` does not take from it by itself.
fn for_mangen(command: &Command) -> Result<Command> {
    // Made from the arguments, its synopsis is a list of all options without their values, and has neither the dots of a
    // repeated argument nor the `--` before the last ones.
    let usage = text(&command.clone().render_usage());
    let usage = usage.trim().trim_start_matches("Usage: ").to_owned();
    let without_help =
        command.get_arguments().find(|arg| !arg.is_hide_set() && arg.get_help().is_none());
    if let Some(arg) = without_help {
        return Err(Error {
            source: "a command line",
            part: format!("{} has no help", arg.get_id()),
        });
    }
    let command = command.clone().override_usage(usage).subcommand_help_heading("COMMANDS");
    Ok(command.mut_args(|arg| for_mangen_argument(&arg)))
}

fn for_mangen_argument(arg: &Arg) -> Arg {
    let mut help = arg.get_long_help().or(arg.get_help()).map(text).unwrap_or_default();
    // clap_mangen writes one name of an option only.
    for alias in arg.get_visible_aliases().unwrap_or_default() {
        help.push_str(&format!(" [alias: --{alias}]"));
    }
    let help = with_installed_documents(&help);
    arg.clone().help(help.clone()).long_help(help)
}

/// Returns a section as `clap_mangen` renders it, with quotes, carets and tildes that stay ASCII as in [`plain`].
fn rendered(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    // A Vec takes every write.
    let _ = render(&mut out);
    let text = String::from_utf8_lossy(&out);
    let lines = text.lines().filter(|line| !APOSTROPHE.contains(line));
    let text: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    // A blank line between two breaks, before the possible values: mandoc warns about each of the three.
    let text = text.replace(".br\n\n.br\n", ".sp\n");
    let escapes =
        [("\\*(Aq", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti"), ("…", "...")];
    escapes.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// Writes ENVIRONMENT. `clap_mangen` can name a variable with its option, but not that the option wins.
fn environment(page: &mut ManPage, program: &Command) {
    page.section("Environment");
    for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let (Some(variable), Some(long)) = (arg.get_env(), arg.get_long()) else { continue };
        let variable = variable.to_string_lossy();
        let meaning = format!("Value of --{long}; the option wins over it.");
        page.term(&bold(&variable), &[prose(&meaning, &[])]);
    }
}

fn exit_status(page: &mut ManPage, help: &[UsageSection]) -> Result<()> {
    page.section("Exit status");
    for entry in &usage::section("mig-cdi", help, "Exit codes")?.entries {
        page.term(&bold(&entry.term), &[prose(&entry.sentence(), &[])]);
    }
    Ok(())
}

/// Writes FILES: all, or those that the help of a command names.
fn files(page: &mut ManPage, command: Option<&Command>) {
    let help = command.map(|command| command.clone().render_long_help().to_string());
    // clap wraps a help text at blanks: joined again, a path is found wherever it was.
    let own = help.map(|help| help.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_named = |path: &str| own.as_deref().is_none_or(|help| help.contains(path));
    page.section("Files");
    for (path, meaning) in FILES.iter().filter(|(path, _)| is_named(path)) {
        page.term(&italic(path), &[prose(meaning, &[])]);
    }
}

/// Writes the examples of a section whose command lines begin with `command`.
fn examples(page: &mut ManPage, section: &UsageSection, command: &str) {
    for entry in section.entries.iter().filter(|entry| entry.term.starts_with(command)) {
        let meaning = (!entry.meaning.is_empty()).then(|| plain(&entry.meaning));
        page.term(&bold(&entry.term), meaning.as_slice());
    }
}
