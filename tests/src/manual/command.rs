//! The pages of programs whose command line is clap's.

use super::{
    links::prose,
    roff::{Page, bold, italic, plain},
    usage::{self, Block},
};
use clap::{Arg, ArgAction, Command, builder::StyledStr};

/// What a run reads and writes when it is told of no other place.
const FILES: [(&str, &str); 6] = [
    ("/etc/mig-cdi/config.toml", "Settings: see mig-cdi.toml(5)."),
    ("/var/run/cdi/nvidia.com-mig.json", "The CDI spec of the slices: see mig-cdi-spec(5)."),
    ("/var/run/cdi/nvidia.com-gpu.json", "That of GPUs which are not in MIG mode, with `--gpus`."),
    (
        "/var/lib/mig-cdi",
        "The journal of what is being divided, while it is; and `layout.yaml`, which checkpoint writes for restore.",
    ),
    ("/run/mig-cdi", "What watch did last, for status."),
    ("/usr/share/mig-cdi", "Files of hooks, engines and Kubernetes to copy from."),
];

/// What to read about a command besides the pages that all of them name.
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

/// The page of `mig-cdi` and those of its commands.
pub(super) fn pages(program: &Command) -> Vec<Page> {
    let help = usage::parse(&text(program.get_after_help().expect("the help has examples")));
    let shown = || program.get_subcommands().filter(|command| !command.is_hide_set());
    let mut page = head(program, 1);
    page.section("Commands");
    for command in shown() {
        let name = format!("{}(1)", page_name(command));
        page.term(&super::links::reference(&name), &[described(command)]);
    }
    options(&mut page, program);
    exit_status(&mut page, &help);
    files(&mut page, None);
    page.section("Examples");
    for block in help.iter().filter(|block| block.heading.as_deref() != Some("Exit codes")) {
        if block.heading.as_deref() != Some("Examples") {
            page.paragraph(&plain(&format!("{}:", block.heading.as_deref().unwrap_or_default())));
        }
        examples(&mut page, block, "");
    }
    let commands = shown().map(|command| format!("{}(1)", page_name(command)));
    let others = ["mig-cdi-hook(8)", "mig-cdi-kubelet(8)", "mig-cdi-runtime(8)"];
    let formats = ["mig-cdi-layouts(5)", "mig-cdi-node(5)", "mig-cdi-spec(5)", "mig-cdi.toml(5)"];
    let all: Vec<String> =
        commands.chain(formats.iter().chain(&others).map(|&name| name.to_owned())).collect();
    page.see_also(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let commands = shown().map(|command| command_page(command, &help));
    std::iter::once(page).chain(commands).collect()
}

fn command_page(command: &Command, help: &[Block]) -> Page {
    let mut page = head(command, 1);
    options(&mut page, command);
    exit_status(&mut page, help);
    files(&mut page, Some(command));
    let own = format!("mig-cdi {}", command.get_name());
    let is_own = |term: &str| term == own || term.starts_with(&format!("{own} "));
    if help.iter().any(|block| block.entries.iter().any(|entry| is_own(&entry.term))) {
        page.section("Examples");
        help.iter().for_each(|block| examples(&mut page, block, &own));
    }
    let more = SEE_ALSO.iter().filter(|(names, _)| names.contains(&command.get_name()));
    let more = more.flat_map(|(_, references)| references.iter().copied());
    let both = ["mig-cdi(1)", "mig-cdi-node(5)", "mig-cdi.toml(5)"];
    page.see_also(&both.into_iter().chain(more).collect::<Vec<_>>());
    page
}

/// The page of `mig-cdi-kubelet`, which runs as a service.
pub(super) fn daemon(program: &Command) -> Page {
    let mut page = head(program, 8);
    let after = usage::parse(&text(program.get_after_help().expect("the help goes on")));
    let (exit, others): (Vec<_>, Vec<_>) =
        after.iter().map(|block| &block.entries[0].term).partition(|t| t.starts_with("Exit"));
    others.iter().for_each(|text| page.paragraph(&prose(text, &[])));
    options(&mut page, program);
    page.section("Environment");
    for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let (Some(variable), Some(long)) = (arg.get_env(), arg.get_long()) else { continue };
        let variable = variable.to_str().expect("a variable of ours is UTF-8");
        let what = format!("Stands for --{long}, which wins over it.");
        page.term(&bold(variable), &[prose(&what, &[])]);
    }
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
    page
}

fn text(help: &StyledStr) -> String {
    help.to_string()
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// What a command does, as the help says it: a phrase without a full stop.
fn about(command: &Command) -> String {
    text(command.get_about().expect("a command says what it does"))
}

fn described(command: &Command) -> String {
    prose(&format!("{}.", about(command)), &[])
}

/// NAME, SYNOPSIS, DESCRIPTION.
fn head(command: &Command, section: u8) -> Page {
    let name = page_name(command);
    let about = about(command);
    let (first, rest) = about.split_at(about.chars().next().map_or(0, char::len_utf8));
    let mut page = Page::new(&name, section, &(first.to_lowercase() + rest));
    page.section("Synopsis");
    page.paragraph(&synopsis(command));
    page.section("Description");
    page.paragraph(&described(command));
    let long = command.get_long_about().map(text).unwrap_or_default();
    for paragraph in long.split("\n\n").skip(1) {
        page.paragraph(&prose(paragraph, &[]));
    }
    page
}

/// The usage that the help prints, in the fonts of a manual.
fn synopsis(command: &Command) -> String {
    let usage = text(&command.clone().render_usage());
    let usage = usage.trim().trim_start_matches("Usage: ");
    let end = usage.find(['[', '<']).unwrap_or(usage.len());
    let (typed, rest) = usage.split_at(end);
    let mut out = bold(typed.trim_end());
    let mut word = String::new();
    for c in format!(" {rest}\0").chars() {
        match c {
            'A'..='Z' | '=' => word.push(c),
            _ => {
                if !word.is_empty() {
                    out.push_str(&italic(&std::mem::take(&mut word)));
                }
                match c {
                    '<' | '>' | '\0' => {}
                    c => out.push_str(&plain(&c.to_string())),
                }
            }
        }
    }
    out
}

/// ARGUMENTS and OPTIONS, with the headings of the help.
fn options(page: &mut Page, command: &Command) {
    let shown: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let (words, flags): (Vec<&Arg>, Vec<&Arg>) =
        shown.into_iter().partition(|arg| arg.is_positional());
    if !words.is_empty() {
        page.section("Arguments");
        words.iter().for_each(|arg| option(page, arg));
    }
    page.section("Options");
    let mut headings: Vec<Option<&str>> = vec![None];
    for arg in &flags {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        heading.iter().for_each(|heading| page.subsection(heading));
        flags
            .iter()
            .filter(|arg| arg.get_help_heading() == heading)
            .for_each(|arg| option(page, arg));
    }
}

fn option(page: &mut Page, arg: &Arg) {
    let names: Vec<&str> =
        arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let help = arg.get_long_help().or(arg.get_help()).map(text);
    let mut help = help.unwrap_or_else(|| panic!("{} says nothing", arg.get_id()));
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let defaults = defaults.collect::<Vec<_>>().join(",");
    if takes_value && !defaults.is_empty() {
        help.push_str(&format!(" [default: {defaults}]"));
    }
    let values: Vec<_> = match takes_value {
        true => arg.get_possible_values().into_iter().filter(|v| !v.is_hide_set()).collect(),
        false => Vec::new(),
    };
    let explains = values.iter().any(|value| value.get_help().is_some());
    if !values.is_empty() && !explains {
        let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
        help.push_str(&format!(": one of {}", values.join(", ")));
    }
    page.term(&tag(arg, &names), &[prose(&help, &names)]);
    if explains {
        page.descend();
        for value in &values {
            let help = value.get_help().map(text).unwrap_or_default();
            page.term(&bold(value.get_name()), &[prose(&help, &[])]);
        }
        page.ascend();
    }
}

/// How an option is given: all its names, and what it takes.
fn tag(arg: &Arg, names: &[&str]) -> String {
    let short = arg.get_short().map(|short| bold(&format!("-{short}")));
    let long = arg.get_long_and_visible_aliases().unwrap_or_default();
    let long = long.iter().map(|long| bold(&format!("--{long}")));
    let typed = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value = names.iter().map(|name| italic(name)).collect::<Vec<_>>().join(" ");
    if !takes || names.is_empty() {
        return typed;
    }
    let is_optional = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
    match (arg.is_positional(), is_optional && arg.is_require_equals_set()) {
        (true, _) => value,
        (false, true) => format!("{typed}[={value}]"),
        (false, false) => format!("{typed} {value}"),
    }
}

fn exit_status(page: &mut Page, help: &[Block]) {
    page.section("Exit status");
    for entry in &usage::block(help, "Exit codes").entries {
        page.term(&bold(&entry.term), &[prose(&format!("{}.", capital(&entry.meaning)), &[])]);
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>())
        + letters.as_str()
}

/// FILES: all, or those of which the help of a command speaks.
fn files(page: &mut Page, command: Option<&Command>) {
    let help = command.map(|command| command.clone().render_long_help().to_string());
    let own = help.map(|help| help.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_named = |path: &str| own.as_deref().is_none_or(|help| help.contains(path));
    page.section("Files");
    for (path, what) in FILES.iter().filter(|(path, _)| is_named(path)) {
        page.term(&italic(path), &[prose(what, &[])]);
    }
}

/// Those that begin with these words.
fn examples(page: &mut Page, block: &Block, words: &str) {
    for entry in block.entries.iter().filter(|entry| entry.term.starts_with(words)) {
        let meaning = (!entry.meaning.is_empty()).then(|| plain(&entry.meaning));
        page.term(&bold(&entry.term), meaning.as_slice());
    }
}
