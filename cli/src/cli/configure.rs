//! The command line of `configure`.

use clap::Args;
use mig_cdi_gen::engines::{self, EngineVersion};
use std::path::PathBuf;

/// Arguments of `configure`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // Each one is a flag of its own.
pub(crate) struct ConfigureArgs {
    /// Engine to configure
    #[arg(value_enum)]
    pub engine: EngineArg,

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

    /// Configure for this version, without running the engine to find out its own
    #[arg(long, value_name = "VERSION", value_parser = engine_version)]
    pub engine_version: Option<EngineVersion>,

    /// Change files below DIR, and find the engine there
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
}

/// An engine that can be configured. The lower-case names of the variants are the values on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EngineArg {
    Podman,
    Containerd,
    Crio,
    Docker,
}

impl EngineArg {
    /// Name of the engine, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            EngineArg::Podman => "podman",
            EngineArg::Containerd => "containerd",
            EngineArg::Crio => "crio",
            EngineArg::Docker => "docker",
        }
    }

    /// Name of the process of its daemon; `None` for podman, which has none.
    pub(crate) fn daemon(self) -> Option<&'static str> {
        match self {
            EngineArg::Podman => None,
            EngineArg::Containerd => Some("containerd"),
            EngineArg::Crio => Some("crio"),
            EngineArg::Docker => Some("dockerd"),
        }
    }
}

/// A value of `--engine-version` that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is two or three numbers, such as 5.4.2")]
struct EngineVersionError;

fn engine_version(text: &str) -> Result<EngineVersion, EngineVersionError> {
    engines::parse_version(text).ok_or(EngineVersionError)
}
