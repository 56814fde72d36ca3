//! One file per command, and the dispatcher, which gives each command the settings and options that it needs.

mod check;
mod compare;
mod configure;
mod doctor;
mod generate;
mod list;
mod nodes;
mod partition;
mod show;
mod status;
mod verify;
mod watch;

use crate::{
    cli::{AnyCommand, Cli, Command},
    console::Console,
};
use mig_cdi_args::{GenerateArgs, SpecArgs, read_settings};
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    Error, Exit, NodeSource,
    child::ChildOutput,
    generate::{DeviceOptions, GenerateOptions},
    listen, refresh,
};
use mig_cdi_partition::NodePartitioner;
use std::path::Path;

/// Output of a command that did not fail.
pub(crate) struct CommandOutput {
    /// Text for standard output.
    pub stdout: String,
    /// Exit code.
    pub exit: Exit,
}

impl From<ChildOutput> for CommandOutput {
    fn from(output: ChildOutput) -> CommandOutput {
        CommandOutput { stdout: output.stdout, exit: output.exit }
    }
}

/// Runs the command that a command line names.
///
/// # Errors
/// When the command fails. A command that ran, and found something wrong, returns an exit code instead.
pub(crate) fn run(cli: &Cli, console: &Console) -> Result<CommandOutput, Error> {
    match &cli.command {
        AnyCommand::Refresh(args) => Ok(refresh::run_child(&args.request).into()),
        AnyCommand::Listen(args) => Ok(listen::run_child(&args.request).into()),
        AnyCommand::Public(command) => run_public(cli, command, console),
    }
}

fn run_public(cli: &Cli, command: &Command, console: &Console) -> Result<CommandOutput, Error> {
    let config = cli.config.as_deref();
    let is_doctor = matches!(command, Command::Doctor(_));
    let (settings, broken_settings) = match read_settings(config, is_doctor) {
        // A node with a broken configuration needs the doctor most: it reports the error and uses the defaults.
        Err(error) if is_doctor => {
            (Settings::parse("").map_err(|e| Error::usage("", "").because(e))?, Some(error))
        }
        settings => (settings?, None),
    };
    let node = cli.node.resolve(&settings)?;
    let resolver = Resolver { node: &node, settings: &settings, config };
    let partitioning = NodePartitioner { node: &node, messages: console };
    match command {
        Command::Generate(args) => {
            generate::run(&node, &resolver.generate(&args.generate)?, args.remove, console)
        }
        Command::Check(args) => check::run(&node, &resolver.generate(args)?, console),
        Command::Compare(args) => {
            compare::run(&node, &resolver.devices(&args.spec)?, args, console)
        }
        Command::Doctor(args) => doctor::run(&resolver, args, broken_settings, console),
        Command::Configure(args) => configure::run(args, &settings, console),
        Command::List(args) => list::run(&node, args, console),
        Command::Map(args) => partition::map(&partitioning, &settings.kind, args, console),
        Command::Show(args) => {
            show::run(&node, &resolver.devices(&args.spec)?, &args.name, console)
        }
        Command::Watch(args) => watch::run(&cli.node, args, config, console),
        Command::Status(args) => status::run(args, console),
        Command::Nodes(args) => nodes::run(&node, args, console),
        Command::Profiles(args) => partition::profiles(&partitioning, args),
        Command::Plan(args) => partition::plan(&partitioning, args),
        Command::Apply(args) => partition::apply(&partitioning, &resolver, args),
        Command::Assert(args) => partition::assert(&partitioning, args),
        Command::Export(args) => partition::export(&partitioning, args),
        Command::Checkpoint(args) => partition::checkpoint(&partitioning, args, console),
        Command::Restore(args) => partition::restore(&partitioning, &resolver, args),
        Command::Verify(args) => verify::run(&node, args, console),
    }
}

/// Flags of a command merged with the settings, where the flags take precedence.
struct Resolver<'a> {
    node: &'a NodeSource,
    settings: &'a Settings,
    /// Configuration file that the command line names.
    config: Option<&'a Path>,
}

impl Resolver<'_> {
    fn devices(&self, args: &SpecArgs) -> Result<DeviceOptions, Error> {
        args.resolve(self.node, self.settings, self.config)
    }

    fn generate(&self, args: &GenerateArgs) -> Result<GenerateOptions, Error> {
        args.resolve(self.node, self.settings, self.config)
    }
}

/// Returns the exit code of a command: success, or incomplete when something was omitted that could not be confirmed.
fn exit(is_complete: bool) -> Exit {
    if is_complete { Exit::Success } else { Exit::Incomplete }
}

/// Formats a value as indented JSON.
fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::failed("write", "json").because(e))
}
