//! The command line: the only source of flags and help, for the program, the manual pages and the completions.

mod configure;
mod partition;
mod status;

pub(crate) use configure::{ConfigureArgs, EngineArg};
pub(crate) use partition::{
    ApplyArgs, CHECKPOINT_FILE, ChangeArgs, CheckpointArgs, ExportArgs, HoldersArgs, LayoutArgs,
    MapArgs, PlanArgs, ProfilesArgs, RestoreArgs,
};
pub(crate) use status::StatusArgs;

use clap::{Args, Parser, Subcommand, builder::styling};
use mig_cdi_args::{GenerateArgs, NodeArgs, SpecArgs, WatchArgs};
use mig_cdi_model::ExpectedSlice;
use std::path::PathBuf;

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  mig-cdi list                                  list the MIG devices of this node
  mig-cdi map                                   draw them: holders, free slices
  mig-cdi generate                              write /var/run/cdi/nvidia.com-mig.json
  podman run --rm --device nvidia.com/mig=0:2g.20gb:0 IMAGE nvidia-smi -L
  mig-cdi show 0:2g.20gb:0                      show what such a container gets
  mig-cdi nodes                                 create the device nodes that rootless engines use
  mig-cdi doctor                                find out why a slice does not work
  mig-cdi configure docker --dry-run            show how an engine is configured for CDI
  mig-cdi profiles                              list the profiles that fit
  mig-cdi plan 0=3x2g.20gb,1g.10gb              show what apply would change on GPU 0

No GPU here? Simulate a node:
  mig-cdi list --node hgx-h100
  mig-cdi generate --node a100-80gb --output -

Exit codes:
  0  done
  1  an operation failed; the message names it. With doctor: there is an error
  2  wrong command line, configuration or node description
  3  incomplete: something on the node could not be confirmed and is omitted
  4  no driver, or a required driver file is missing
  5  refused: it is unsafe or breaks an engine, or a slice that must be destroyed is in use
  6  stale: a spec on disk does not match the node. With assert: a GPU does not have the layout";

/// Expose slices of NVIDIA GPUs (MIG devices) to containers through the Container Device Interface (CDI)
#[derive(Debug, Parser)]
#[command(name = "mig-cdi", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: AnyCommand,

    /// Print details on standard error
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Read settings from FILE instead of /etc/mig-cdi/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub node: NodeArgs,
}

/// A command of [`Command`], or one that this program runs itself as a child process.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // There is one value in a run.
pub(crate) enum AnyCommand {
    #[command(flatten)]
    Public(Command),
    /// Make device nodes and specs current once: run by watch
    #[command(hide = true)]
    Refresh(ChildArgs),
    /// Report the driver's events: run by watch
    #[command(hide = true)]
    Listen(ChildArgs),
    /// Find the processes that can use devices: run by plan, apply and doctor
    #[command(hide = true)]
    DeviceAccess(ChildArgs),
    /// Find the devices that a cgroup allows, from within: run by device-access
    #[command(hide = true)]
    CgroupAccess(ChildArgs),
}

/// A command for users, and `verify` for the hook.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the CDI spec of this node's MIG devices
    ///
    /// The file is replaced whole or not at all, and is not touched while it is current. On a node
    /// without a MIG device it is removed: CDI has no empty spec. A device is omitted when any of its
    /// numbers cannot be confirmed, and the exit code is then 3.
    Generate(WriteArgs),
    /// Check whether the spec on disk is current
    ///
    /// The spec is built in memory, with the same flags that generate takes, and compared with the
    /// file. Every difference is a line; the exit code is then 6.
    Check(GenerateArgs),
    /// Compare another tool's CDI spec with ours
    ///
    /// Devices are matched by their capability nodes, files by what their path on the host leads to. Numbers of
    /// device nodes that are not those of the driver are differences too.
    Compare(CompareArgs),
    /// Find out why a slice does not work: a verdict on each line, with evidence and cure
    ///
    /// Checks everything from the driver to the running containers, and changes nothing. What cannot be
    /// checked is reported too; run it as root to check everything. Engines are run with `--version`. The
    /// exit code is 1 when there is an error, and 0 with only warnings and notes.
    Doctor(DoctorArgs),
    /// Configure an engine to read CDI specs
    ///
    /// Nothing else in its configuration changes, and order and comments stay. The file as it was before the
    /// first change is kept beside it, in FILE.mig-cdi-backup. No engine is started or stopped; the message
    /// names the one to restart.
    Configure(ConfigureArgs),
    /// Show every GPU and MIG device of this node
    List(ListArgs),
    /// Draw the layout of each GPU: its slices, their holders, free space, profiles that still fit
    ///
    /// Nothing is changed. NVML reports placements to root only; GPUs without placements are shown as a
    /// list.
    Map(MapArgs),
    /// Show what a container gets with a device, and where each fact comes from
    Show(ShowArgs),
    /// Keep the spec current while MIG changes, until SIGTERM
    ///
    /// The spec on disk follows every change of MIG within a second, typically in a tenth of one. While the
    /// driver cannot be queried the spec stays, without devices that are gone or were recreated. SIGHUP
    /// reloads the settings. Under systemd it is a service of Type=notify.
    Watch(WatchArgs),
    /// Show the state of watch
    Status(StatusArgs),
    /// Create or repair device nodes on the host
    ///
    /// Rootful engines create nodes in containers and need none on the host; rootless ones bind the host's.
    /// It creates the driver's nodes and those of every slice, with the numbers, mode and owner that the
    /// driver reports, and the links in /dev/char by which systemd finds them. It removes the nodes of
    /// slices that are gone. It does not use NVML, and runs no program.
    Nodes(NodesArgs),
    /// List the profiles of each GPU, how many more fit now, and where
    Profiles(ProfilesArgs),
    /// Show what apply would do: the steps in order, with reasons, and what stays
    ///
    /// Nothing is changed. Slices in use stay, and so does every slice that the layout has room for.
    Plan(PlanArgs),
    /// Partition GPUs to a layout without disturbing slices in use
    ///
    /// Each GPU reaches the layout or stays as it was, and the spec follows at once. A slice that is in use,
    /// by a program, a container or a lease, is not destroyed: the message names its holder. Only the GPUs
    /// that are named are changed.
    Apply(ApplyArgs),
    /// Check whether GPUs have a layout; the exit code is 6 when one differs
    Assert(PlanArgs),
    /// Print the layouts of the GPUs, as a file for apply
    Export(ExportArgs),
    /// Save the layouts of the GPUs, with every placement, for restore
    Checkpoint(CheckpointArgs),
    /// Restore a checkpoint, for example after a reboot, which destroys all instances
    Restore(RestoreArgs),
    /// Check slices against the facts in a spec: run by mig-cdi-hook
    #[command(hide = true)]
    Verify(VerifyArgs),
}

/// Arguments of the commands that this program runs as child processes.
///
/// NVML is called in a child process so that a driver that hangs or crashes does not take `watch` with it.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// Request of the parent process, in JSON
    pub request: String,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Expected facts of each slice, from the spec
    #[arg(required = true)]
    pub slices: Vec<ExpectedSlice>,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub generate: GenerateArgs,

    /// Remove the spec instead, and with --gpus that of the GPUs. The driver is not queried
    #[arg(long, conflicts_with_all = ["strict", "mask_params"])]
    pub remove: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Spec of the other tool, JSON or YAML
    pub file: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub spec: SpecArgs,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Explain one device name, with or without its kind: which file defines it, which engine sees it
    pub name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Look for engines, their configuration and the processes below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print a tree: each GPU, its GPU instances, their compute instances
    #[arg(long, conflicts_with = "json")]
    pub tree: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `nodes`.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Print the changes, and make none
    #[arg(long)]
    pub dry_run: bool,

    /// Only remove device nodes whose numbers now belong to another device
    #[arg(long)]
    pub prune: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of a MIG device, with or without nvidia.com/mig=
    pub name: String,

    #[command(flatten)]
    pub spec: SpecArgs,
}
