//! Completions of bash, zsh and fish, made by `clap_complete` from the commands of the programs.

use crate::Files;
use clap::Command;
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};

/// Returns the completions of each program for each shell, as `SHELL/FILE`. A shell loads the file of this name.
#[must_use]
pub fn completions() -> Files {
    let mut files = Files::new();
    for command in [mig_cdi::command, mig_cdi_kubelet::command] {
        let name = command().get_name().to_owned();
        // clap_complete 4.6 joins the words of a command's path with "__subcmd__", and in one of the two places that have
        // to agree it takes a hyphen in the program's name for such a joint too. Options of subcommands are then not
        // completed in bash. `tests/tests/manual.rs` completes some.
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
    let text = String::from_utf8_lossy(&out);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

/// Returns the command without hidden arguments and subcommands, which `clap_complete` would offer to users.
fn visible(command: Command) -> Command {
    // Built anew, since clap has no call that removes an argument. A name has to be `'static`.
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
