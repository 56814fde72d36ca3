//! Command line of the plugin: the one source of flags, help, manual page and completions.

use crate::{device_list_strategy::DeviceListStrategy, strategy::Strategy};
use clap::{Args, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

const AFTER: &str = "Exit codes are those of mig-cdi; see mig-cdi --help.";

/// Advertise slices of NVIDIA GPUs (MIG devices) to Kubernetes, and keep their CDI specs current
#[derive(Debug, Parser)]
#[command(name = "mig-cdi-kubelet", version, after_help = AFTER, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct KubeletArgs {
    /// Step that the plugin runs in a child process.
    #[command(subcommand)]
    pub child: Option<ChildCommand>,

    /// Set the MIG strategy, as in NVIDIA's device plugin
    #[arg(
        long,
        env = "MIG_STRATEGY",
        value_enum,
        default_value = "mixed",
        value_name = "STRATEGY"
    )]
    pub mig_strategy: Strategy,

    /// Pass devices to the engine in these ways: one or more of cdi-cri, cdi-annotations, envvar
    #[arg(
        long,
        env = "DEVICE_LIST_STRATEGY",
        default_value = "cdi-cri,cdi-annotations",
        value_name = "LIST"
    )]
    pub device_list_strategy: DeviceListStrategy,

    /// Leave GPUs that are not in MIG mode to another plugin: neither advertise them nor write a spec for them
    #[arg(long)]
    pub leave_gpus: bool,

    /// Register in DIR, the kubelet's directory for device plugins
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/device-plugins")]
    pub kubelet_dir: PathBuf,

    /// Read the devices that pods hold from SOCKET, the kubelet's pod-resources API
    #[arg(long, value_name = "SOCKET", default_value = crate::pod_resources::SOCKET)]
    pub pod_resources: PathBuf,

    /// Write the labels of the node to FILE, for Node Feature Discovery; see docs/kubernetes.md
    #[arg(long, env = "MIG_CDI_FEATURE_FILE", value_name = "FILE")]
    pub feature_file: Option<PathBuf>,

    /// Set the name of this node in the cluster, and write Events about withheld and unhealthy devices
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Write the labels of the node through the API server
    #[arg(long, requires = "node_name")]
    pub node_labels: bool,

    /// Partition GPUs to the layout in FILE that the node's label nvidia.com/mig.config names; slices that
    /// pods hold stay
    #[arg(long, env = "MIG_CDI_LAYOUTS", value_name = "FILE", requires = "node_name")]
    pub layouts_file: Option<PathBuf>,

    /// Connect to the API server as the kubeconfig FILE configures, outside a pod
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Keep the journal of a change in progress in DIR
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mig-cdi")]
    pub journal_dir: PathBuf,

    /// Options of mig-cdi watch, after --
    #[arg(last = true, value_name = "OPTION OF WATCH")]
    pub watch: Vec<OsString>,
}

/// Step that runs in a process of its own, so that a driver that hangs or crashes there does not stop the plugin.
#[derive(Debug, Subcommand)]
pub enum ChildCommand {
    /// Make device nodes and specs current once
    #[command(hide = true)]
    Refresh(StepArgs),
    /// Report the driver's events
    #[command(hide = true)]
    Listen(StepArgs),
    /// Find the processes that can use devices
    #[command(hide = true)]
    DeviceAccess(StepArgs),
    /// Find the devices that a cgroup allows, from within
    #[command(hide = true)]
    CgroupAccess(StepArgs),
    /// Partition GPUs
    #[command(hide = true)]
    Repartition(StepArgs),
}

/// Arguments of a step.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// Request of the parent process, in JSON
    pub request: String,
}
