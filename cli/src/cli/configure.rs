//! The command line of `configure`.

use clap::Args;
use mig_cdi_gen::engines::{self, EngineVersion};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // Flags are.
pub(crate) struct ConfigureArgs {
    /// Engine to configure
    #[arg(value_enum)]
    pub engine: Engine,

    /// Show the changes as a unified diff, and make none
    #[arg(long)]
    pub dry_run: bool,

    /// Undo all that configure wrote for this engine. Refused when a file has been changed since
    #[arg(long, conflicts_with_all = ["runtime", "hook", "quadlet"])]
    pub undo: bool,

    /// Configure the engine of the user who runs this instead of root's: podman, docker
    #[arg(long)]
    pub rootless: bool,

    /// Register mig-cdi-runtime too, as a runtime named mig-cdi
    #[arg(long)]
    pub runtime: bool,

    /// Register mig-cdi-hook for each container too: podman's precreate, CRI-O's create-runtime
    #[arg(long)]
    pub hook: bool,

    /// Print a systemd unit of a container with a slice, for podman's Quadlet, and change nothing
    #[arg(long, conflicts_with_all = ["runtime", "hook", "dry_run"])]
    pub quadlet: bool,

    /// Configure for this version, without running the engine to ask for it
    #[arg(long, value_name = "VERSION", value_parser = release)]
    pub engine_version: Option<EngineVersion>,

    /// Change files below DIR, and find the engine there
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
}

/// An engine that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    Podman,
    Containerd,
    Crio,
    Docker,
}

fn release(text: &str) -> Result<EngineVersion, String> {
    engines::parse_version(text)
        .ok_or_else(|| "a release is two or three numbers, as 5.4.2".to_owned())
}
