//! One file per public command, and the dispatcher, which passes each command the options and settings that it needs.

mod apply;
mod assert;
mod check;
mod checkpoint;
mod compare;
mod configure;
mod doctor;
mod export;
mod generate;
mod list;
mod map;
mod nodes;
mod plan;
mod profiles;
mod restore;
mod show;
mod status;
mod unknown_device;
mod verify;
mod watch;

use crate::{
    cli::{AnyCommand, Cli, Command},
    command_output::CommandOutput,
    console::Console,
    stage_options::Resolver,
};
use mig_cdi_args::read_settings;
use mig_cdi_config::Settings;
use mig_cdi_gen::{Error, child::ChildOutput, discover::LOAD_DRIVER, listen, refresh};
use mig_cdi_partition::NodePartitioner;
use mig_cdi_sys::device_access;
use std::path::Path;

/// Runs the command that a command line names.
///
/// # Errors
/// When the command fails. A command that ran, and found something wrong, returns an exit code instead.
pub(crate) fn run(cli: &Cli, console: &Console) -> Result<CommandOutput, Error> {
    match &cli.command {
        AnyCommand::Refresh(args) => Ok(refresh::run_child(&args.request).into()),
        AnyCommand::Listen(args) => Ok(listen::run_child(&args.request).into()),
        AnyCommand::DeviceAccess(args) => {
            Ok(ChildOutput::printed(device_access::run_child(&args.request)).into())
        }
        AnyCommand::CgroupAccess(args) => {
            device_access::run_cgroup_child(&args.request);
            Ok(ChildOutput::printed(true).into())
        }
        AnyCommand::Public(command) => {
            run_public(cli, command, console).map_err(|error| offer_simulation(error, command))
        }
    }
}

fn run_public(cli: &Cli, command: &Command, console: &Console) -> Result<CommandOutput, Error> {
    let config = cli.config.as_deref();
    let is_doctor = matches!(command, Command::Doctor(_));
    let (settings, broken_settings) = match read_settings(config, is_doctor) {
        // A node with a broken configuration needs the doctor most: it reports the error and uses the defaults.
        Err(error) if is_doctor => (default_settings(config)?, Some(error)),
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
        Command::Configure(args) => configure::run(args, &settings, console)
            .map_err(|error| if args.rootless { rootless_cure(error) } else { error }),
        Command::List(args) => list::run(&resolver, args, console),
        Command::Map(args) => map::run(&partitioning, &settings, args, console),
        Command::Show(args) => {
            show::run(&resolver, &resolver.devices(&args.spec)?, &args.name, console)
        }
        Command::Watch(args) => watch::run(&cli.node, args, config, console),
        Command::Status(args) => status::run(args, console),
        Command::Nodes(args) => nodes::run(&node, args, console),
        Command::Profiles(args) => profiles::run(&node, args, console),
        Command::Plan(args) => plan::run(&partitioning, args),
        Command::Apply(args) => apply::run(&partitioning, &resolver, args),
        Command::Assert(args) => assert::run(&node, args, console),
        Command::Export(args) => export::run(&node, args, console),
        Command::Checkpoint(args) => checkpoint::run(&node, args, console),
        Command::Restore(args) => restore::run(&partitioning, &resolver, args),
        Command::Verify(args) => verify::run(&node, args, console),
    }
}

/// Adds a simulated node to the cure of a driver that is not loaded, for the commands that only print.
// The others refuse such a node (`watch`, `nodes`), or would write for it.
fn offer_simulation(error: Error, command: &Command) -> Error {
    use Command::{Compare, Export, List, Map, Plan, Profiles, Show};
    let only_prints = matches!(
        command,
        List(_) | Map(_) | Show(_) | Compare(_) | Profiles(_) | Plan(_) | Export(_)
    );
    match only_prints && error.cure.as_deref() == Some(LOAD_DRIVER) {
        true => error.with_cure(format!("{LOAD_DRIVER}, or simulate a node with --node a100-80gb")),
        false => error,
    }
}

/// Replaces a cure that a rootless engine's user cannot follow.
fn rootless_cure(error: Error) -> Error {
    match error.cure.as_deref() {
        Some("run it as root") => error.with_cure(
            "name directories that you can write with HOME, XDG_CONFIG_HOME and XDG_STATE_HOME",
        ),
        _ => error,
    }
}

/// The settings that apply in the place of those of a file.
fn default_settings(file: Option<&Path>) -> Result<Settings, Error> {
    let settings =
        Settings::parse("").map_err(|e| Error::usage("read", "the default settings").because(e))?;
    Ok(Settings { file: file.map_or(settings.file, Path::to_owned), ..settings })
}
