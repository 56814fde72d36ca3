//! The command line: the one source of flags and help.

mod configure;
mod partition;
mod watch;

pub(crate) use configure::{ConfigureArgs, Engine};
pub(crate) use partition::{
    ApplyArgs, ChangeArgs, CheckpointArgs, ExportArgs, HoldersArgs, MapArgs, PlanArgs,
    ProfilesArgs, RestoreArgs, WishArgs,
};
pub(crate) use watch::{StateArgs, StatusArgs, WatchArgs};

use crate::{
    discover::Source,
    engines::Said,
    spec::{Admin, Format, NameStyle},
};
use clap::{Args, Parser, Subcommand, builder::styling};
use mig_cdi_model::{
    DriverCapabilities, ExpectedSlice,
    cdi::{Kind, Limit},
};
use std::path::PathBuf;

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  mig-cdi list                                  every MIG device of this node
  mig-cdi map                                   a picture of them: who holds what, what is free
  mig-cdi generate                              write /var/run/cdi/nvidia.com-mig.json
  podman run --rm --device nvidia.com/mig=0:2g.20gb:0 IMAGE nvidia-smi -L
  mig-cdi show 0:2g.20gb:0                      what such a container gets, and from which facts
  mig-cdi nodes                                 the device nodes that rootless engines take from the host
  mig-cdi doctor                                why does it not work, and what cures it
  mig-cdi configure docker --dry-run            how an engine would be told to read the specs
  mig-cdi profiles                              what GPUs can be divided into
  mig-cdi plan 0=3x2g.20gb,1g.10gb              what dividing GPU 0 so would change; apply does it

No GPU here? Simulate a node:
  mig-cdi list --node hgx-h100
  mig-cdi generate --node a100-80gb --output -

Exit codes:
  0  done
  1  an operation failed; the message names it. Of doctor: there is an error
  2  wrong command line, configuration or node description
  3  incomplete: something on the node could not be established and was left out
  4  no driver to ask, or not all of it
  5  refused: writing would be unsafe or would break an engine, or a slice that has to go is in use
  6  stale: a spec on disk does not say what the node is now; of assert: it is divided otherwise";

/// Gives slices of NVIDIA GPUs (MIG devices) to containers, through the Container Device Interface.
#[derive(Debug, Parser)]
#[command(name = "mig-cdi", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Say more of what is found and done, on standard error
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Read settings from FILE instead of /etc/mig-cdi/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the CDI spec of this node's MIG devices
    ///
    /// The file appears whole or not at all, and is not touched when it is true already. On a node
    /// without a MIG device it is removed: CDI knows no empty spec. A device that is not certain in
    /// every number is left out, and the exit code is then 3.
    Generate(WriteArgs),
    /// Say whether the spec on disk still tells the truth
    ///
    /// The spec is built anew in memory, with the flags that generate was given, and held against the
    /// file. Every difference is a line; the exit code is then 6.
    Check(GenerateArgs),
    /// Show what a spec of another tool gives a slice that ours does not, and the reverse
    ///
    /// Slices are matched by their capability nodes, files by where they are on the host.
    Compare(CompareArgs),
    /// Say why it does not work: a verdict on a line, what was seen, and what cures it
    ///
    /// Looks from the driver to the containers that run, and changes nothing. What cannot be looked at
    /// is said too; root sees most. Engines are asked for their version by `--version`. The exit code is
    /// 1 when there is an error, and 0 with warnings and notes alone.
    Doctor(DoctorArgs),
    /// Have an engine read the specs: change its configuration, and nothing else of it
    ///
    /// What is there stays as it is, with its order and its comments. What a file was before the first change
    /// is kept beside it, in FILE.mig-cdi-backup. No engine is started, stopped or asked; the message says
    /// which to restart.
    Configure(ConfigureArgs),
    /// Show every GPU and MIG device of this node
    List(ListArgs),
    /// Draw how each GPU is divided: its slices, who holds them, what is free, what still fits
    ///
    /// Nothing is changed. Where an instance lies NVML tells to root only; of a GPU that it does not tell,
    /// the devices are listed.
    Map(MapArgs),
    /// Show what a container gets with a device, and from which facts
    Show(ShowArgs),
    /// Keep the spec true while MIG changes, until it is told to stop
    ///
    /// Whatever changes MIG, the spec on disk is the new truth within a second, and typically in a tenth of
    /// one. A driver that cannot be asked leaves the spec as it is, but for devices that are gone or were
    /// made anew. SIGHUP has the settings read again. Under systemd it is a service of Type=notify.
    Watch(WatchArgs),
    /// Show what watch did last, and what it knows
    Status(StatusArgs),
    /// Make what is missing or wrong of the host's device nodes
    ///
    /// Engines that make nodes in containers need none on the host; rootless ones take the host's. Made
    /// are the driver's nodes and those of every slice, with the numbers, mode and owner that the driver
    /// says, and the links in /dev/char by which systemd finds them. Nodes of slices that are gone are
    /// removed. NVML is not asked, and no program is run.
    Nodes(NodesArgs),
    /// Show what each GPU can be divided into, what still fits now, and where
    Profiles(ProfilesArgs),
    /// Show what apply would do, in order and with the reasons, and what stays
    ///
    /// Nothing is touched. Slices in use stay, and so does every slice that the wish has a use for.
    Plan(PlanArgs),
    /// Divide GPUs as wished, without disturbing slices in use
    ///
    /// Each GPU ends as wished or stays as it was, and the spec follows at once. A slice that is in use, by
    /// a program, a container or a lease, is not destroyed: the message names who holds it. No GPU is
    /// touched that is not named.
    Apply(ApplyArgs),
    /// Say whether GPUs are divided as wished; the exit code is 6 when one is not
    Assert(PlanArgs),
    /// Print how the GPUs are divided, as a file of layouts
    Export(ExportArgs),
    /// Write down how the GPUs are divided, with every placement, for restore
    Checkpoint(CheckpointArgs),
    /// Divide the GPUs as a checkpoint says: no instance outlives a restart of the machine
    Restore(RestoreArgs),
    /// Say whether slices still are what a spec claims of them: run by mig-cdi-hook
    #[command(hide = true)]
    Verify(VerifyArgs),
}

/// Which machine is looked at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which node")]
pub(crate) struct NodeArgs {
    /// Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in
    /// FILE (- for standard input)
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub node: Option<PathBuf>,

    /// Whom to ask
    #[arg(long, global = true, value_enum, default_value = "nvml")]
    pub source: Source,

    /// Root of the driver's libraries, for a driver that lives in a container [default: /]
    #[arg(long, global = true, value_name = "DIR")]
    pub driver_root: Option<PathBuf>,

    /// Look for the driver's libraries in DIR, below the driver root, before all other places
    #[arg(long, global = true, value_name = "DIR")]
    pub library_search_path: Vec<PathBuf>,

    /// Directory that holds dev [default: /]
    #[arg(long, global = true, value_name = "DIR")]
    pub dev_root: Option<PathBuf>,

    /// Directory that holds proc [default: /]
    #[arg(long, global = true, value_name = "DIR")]
    pub proc_root: Option<PathBuf>,
}

/// What the devices are called and what they bring along.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What is in the spec")]
#[allow(clippy::doc_markdown)] // These are help texts.
pub(crate) struct SpecArgs {
    /// How devices are named; each gets all of these names [default: uuid,slot]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STYLE,…")]
    pub names: Vec<NameStyle>,

    /// CDI kind of the devices [default: nvidia.com/mig]
    #[arg(long, value_name = "VENDOR/CLASS")]
    pub kind: Option<Kind>,

    /// Files of the driver in the container, by what programs need: compute, utility, video, graphics,
    /// display, ngx, compat32 (a list), all, or none [default: compute,utility]
    #[arg(long, value_name = "CLASS,…")]
    pub capabilities: Option<DriverCapabilities>,

    /// Directories of the container for the driver's libraries: those that its loader searches
    /// without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]
    #[arg(long, value_name = "DIR,…", value_delimiter = ',')]
    pub library_dirs: Vec<String>,

    /// Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node:
    /// for containers that partition or watch GPUs
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CAPABILITY,…")]
    pub admin: Vec<Admin>,

    /// Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one's value wins, so
    /// this is for containers with one slice, or with all
    #[arg(long)]
    pub cuda_env: bool,

    /// Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec
    /// (needs CDI 0.6.0)
    #[arg(long)]
    pub annotations: bool,

    /// Look again when a container starts, by a hook outside it: are the slices still there with these
    /// numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and
    /// UUID? If not, the container does not start
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "proc")]
    pub verify: Option<Verify>,

    /// Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of
    /// its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of
    /// these is what it is told
    #[arg(long)]
    pub ldcache_hook: bool,

    /// Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed
    /// take [default: 0.5.0]
    #[arg(long, value_name = "VERSION|auto")]
    pub max_cdi_version: Option<Limit>,

    /// The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed.
    /// They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto
    #[arg(long, value_name = "ENGINE=VERSION,…")]
    pub engines: Option<Said>,

    /// Look for engines below DIR
    #[arg(long = "engines-root", value_name = "DIR", hide = true)]
    pub engines_root: Option<PathBuf>,
}

/// How much is looked at when a container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verify {
    /// What /proc tells, in less than a millisecond.
    Proc,
    /// What NVML tells too, which takes as long as a run of mig-cdi.
    Full,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// What the spec says of each slice
    #[arg(required = true)]
    pub claims: Vec<ExpectedSlice>,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub generate: GenerateArgs,

    /// Take the spec away instead, and with --gpus that of the GPUs: nobody keeps it true from now on.
    /// The driver is not asked
    #[arg(long, conflicts_with_all = ["strict", "mask_params"])]
    pub remove: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct GenerateArgs {
    /// The file to write or to check; with - generate prints to standard output [default:
    /// /var/run/cdi/nvidia.com-mig.json]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// json or yaml [default: by the suffix of PATH, else json]
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Write the GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a file of
    /// their own in the same directory
    #[arg(long)]
    pub gpus: bool,

    /// Bind a copy of the driver's parameters that forbids its libraries to make device nodes over
    /// /proc/driver/nvidia/params. For engines with crun alone: runc starts no container with a mount
    /// in /proc
    #[arg(long)]
    pub mask_params: bool,

    /// Write nothing unless every device is complete and has every name
    #[arg(long)]
    pub strict: bool,

    #[command(flatten)]
    pub spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The other spec, JSON or YAML
    pub file: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Explain one name of a device, with or without its kind: who defines it, who sees it
    pub name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Look for engines, their configuration and the processes below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print a tree: each GPU, its GPU instances, their compute instances
    #[arg(long, conflicts_with = "json")]
    pub tree: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Print what is to be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Make none: remove those that are another device's now, and nothing else
    #[arg(long)]
    pub prune: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A name of a MIG device, with or without nvidia.com/mig=
    pub name: String,

    #[command(flatten)]
    pub spec: SpecArgs,
}
