//! Kubernetes device plugin for MIG devices. It advertises the slices and whole GPUs of a node as extended resources,
//! answers the kubelet's Allocate with CDI device names, and keeps the CDI specs current as `mig-cdi watch` does.
//!
//! # Flow
//! The main thread runs the watch. Each of its events goes to the [`agent::Agent`] in a second thread:
//!
//! 1. [`strategy::node_resources`] maps the inventory to [`strategy::Resource`]s, and what fits none is withheld;
//! 2. [`health::Health`] decides which devices may be allocated;
//! 3. the agent makes [`advertised::AdvertisedDevices`] of both, with what pods hold ([`pods`], [`pod_resources`]);
//! 4. [`server::serve`] registers one [`plugin::ResourcePlugin`] for each resource, which streams them to the kubelet;
//! 5. [`labels::labels`] and Events go to the node through the [`reporter::Reporter`]: to the log, to Node Feature
//!    Discovery ([`feature_file`]) and to the API server ([`cluster::Cluster`]).
//!
//! [`repartition::Repartitioner`] applies the layout that a label of the node names. Steps that call NVML run in child
//! processes of the same program, so that a driver that hangs or crashes does not stop the plugin.
//!
//! # Example
//! The resources and labels of a node with one GPU that is not in MIG mode:
//!
//! ```
//! use mig_cdi_gen::inventory::{GpuEntry, Inventory};
//! use mig_cdi_kubelet::{
//!     labels::labels,
//!     strategy::{Resource, Strategy, node_resources},
//! };
//!
//! let gpu = GpuEntry {
//!     model: "NVIDIA A30".to_owned(),
//!     name: Some("nvidia.com/gpu=0".to_owned()),
//!     ..GpuEntry::default()
//! };
//! let inventory = Inventory { gpus: vec![gpu], ..Inventory::default() };
//! let resources = node_resources(&inventory, Strategy::Mixed);
//! assert_eq!(resources.devices[&Resource::gpu()][0].name, "nvidia.com/gpu=0");
//!
//! let labels = labels(&inventory, Strategy::Mixed, &resources);
//! assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-A30");
//! ```

pub mod advertised;
pub mod agent;
pub mod api;
mod cli;
pub mod cluster;
pub mod device_list_strategy;
pub mod error;
pub mod feature_file;
pub mod health;
pub mod labels;
pub mod log;
pub mod plugin;
pub mod pod_resources;
pub mod pods;
pub mod preferred_allocation;
pub mod repartition;
pub mod reporter;
pub mod server;
pub mod strategy;
mod uds_grpc;

pub use error::{Error, Result};

use advertised::AdvertisedDevices;
use agent::Agent;
use clap::{CommandFactory, Parser};
use cli::{ChildCommand, KubeletArgs};
use cluster::{Cluster, Timing};
use health::{Health, ParsedXidFilter, XidFilter};
use log::{OnceLog, PluginLog, log};
use mig_cdi_args::WatchCommandLine;
use mig_cdi_gen::{
    Exit,
    child::ChildOutput,
    listen, refresh,
    watch::{WatchEvent, WatchSetup, run_watch},
};
use mig_cdi_partition::ContainerSearch;
use mig_cdi_sys::device_access::{self, AccessKinds};
use pods::PodAllocations;
use repartition::{AllocationGate, RepartitionSettings, Repartitioner};
use reporter::Reporter;
use server::{ServeSettings, serve};
use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Returns the command line that [`run`] parses. The manual page and the completions are made from it.
#[must_use]
pub fn command() -> clap::Command {
    KubeletArgs::command()
}

/// Parses the command line and runs the plugin until SIGTERM or SIGINT, or one step in a child process.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match KubeletArgs::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let output = match &args.child {
        None => return run_plugin(&args),
        Some(ChildCommand::Refresh(child)) => refresh::run_child(&child.request),
        Some(ChildCommand::Listen(child)) => listen::run_child(&child.request),
        Some(ChildCommand::DeviceAccess(child)) => {
            ChildOutput::printed(device_access::run_child(&child.request))
        }
        Some(ChildCommand::CgroupAccess(child)) => {
            device_access::run_cgroup_child(&child.request);
            ChildOutput::printed(true)
        }
        Some(ChildCommand::Repartition(child)) => repartition::child::run_child(&child.request),
    };
    // Fails when the parent is gone, and then nobody reads it.
    let _ = std::io::stdout().write_all(output.stdout.as_bytes());
    output.exit.into()
}

/// Prints the help, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
    // Fails when the terminal is gone, and then nobody reads it.
    let _ = error.print();
    exit.into()
}

fn run_plugin(args: &KubeletArgs) -> ExitCode {
    let command_line = match WatchCommandLine::try_parse_from(&args.watch) {
        Ok(command_line) => command_line,
        Err(error) => return usage(&error),
    };
    match watch_and_serve(args, command_line) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            log(&format!("error: {failure}"));
            Exit::from(failure.kind).into()
        }
    }
}

fn watch_and_serve(
    args: &KubeletArgs,
    mut command_line: WatchCommandLine,
) -> mig_cdi_gen::Result<()> {
    let variable = |name| std::env::var(name).ok();
    let (disable, enable) = ("DP_DISABLE_HEALTHCHECKS", "DP_ENABLE_HEALTHCHECKS");
    let ParsedXidFilter { filter: xids, warnings } =
        XidFilter::parse(variable(disable).as_deref(), variable(enable).as_deref());
    warnings.iter().for_each(|warning| log(warning));
    command_line.watch.generate.gpus |= !args.leave_gpus;
    command_line.watch.health |= xids.passes_any();
    let read_setup = || {
        let mut setup = command_line.setup()?;
        // Labels of the node name the CUDA version.
        setup.node.roots.reads_cuda_version = true;
        Ok(setup)
    };
    let mut options = command_line.watch.options();
    options.wants_inventory = true;
    let (sender, events) = mpsc::unbounded_channel();
    let plugin = plugin_thread(args, &options.state_dir, &read_setup()?, Health::new(xids));
    let mut plugin = Some((plugin, events));
    let mut thread: Option<JoinHandle<()>> = None;
    let messages = PluginLog { verbose: command_line.verbose };
    let ended = run_watch(&options, &read_setup, &messages, &mut |event| match event {
        WatchEvent::Started => {
            let start = |(plugin, events): (PluginThread, _)| {
                std::thread::spawn(move || plugin.block(events))
            };
            thread = plugin.take().map(start);
        }
        // Fails after the thread has ended, which has logged why.
        event => drop(sender.send(event)),
    });
    // The closed channel ends the agent, which removes the feature file, and after it the servers.
    drop(sender);
    if let Some(thread) = thread {
        let _ = thread.join();
    }
    ended
}

/// Tokio thread that runs agent, servers and cluster tasks.
struct PluginThread {
    agent: Agent,
    serve: ServeSettings,
    cluster: Option<ClusterOptions>,
    repartition: Option<RepartitionSettings>,
}

/// Name of the node in its cluster, and the way to the API server.
struct ClusterOptions {
    node: String,
    kubeconfig: Option<PathBuf>,
}

fn plugin_thread(
    args: &KubeletArgs,
    state_dir: &Path,
    setup: &WatchSetup,
    health: Health,
) -> PluginThread {
    let agent = Agent {
        strategy: args.mig_strategy,
        health,
        advertised: watch::Sender::new(Arc::new(AdvertisedDevices::default())),
        reporter: Reporter {
            feature_file: args.feature_file.clone(),
            cluster: None,
            writes_node_labels: args.node_labels,
            withheld: Vec::new(),
            failures: OnceLog::default(),
        },
        pods: PodAllocations::new(args.pod_resources.clone()),
    };
    let serve = ServeSettings {
        kubelet_dir: args.kubelet_dir.clone(),
        device_list_strategy: args.device_list_strategy.clone(),
        allocation_gate: AllocationGate::default(),
        container_search: container_search(args.layouts_file.is_some(), &setup.node.roots.dev),
    };
    let node = args.node_name.clone();
    let cluster = node.map(|node| ClusterOptions { node, kubeconfig: args.kubeconfig.clone() });
    let repartition = args.layouts_file.clone().map(|layouts| RepartitionSettings {
        journal_dir: args.journal_dir.clone(),
        pod_resources: args.pod_resources.clone(),
        ..RepartitionSettings::new(layouts, setup, state_dir)
    });
    PluginThread { agent, serve, cluster, repartition }
}

/// Returns the search for containers that may open a slice. A plugin that partitions is deployed with the privileges for all of it;
/// another one examines the cgroups, where it can.
fn container_search(partitions: bool, dev_root: &Path) -> Option<ContainerSearch> {
    let kinds = if partitions {
        if !device_access::sees_all_processes() {
            log(
                "warning: only the processes of a pid namespace can be seen: slices that containers outside of it have are not protected; in a pod, set hostPID: true",
            );
        }
        AccessKinds::Confined
    } else if let Some(reason) = device_access::obstacle() {
        log(&format!("slices are allocated also where a container may open them: {reason}"));
        return None;
    } else {
        AccessKinds::Cgroup
    };
    Some(ContainerSearch { host_root: "/".into(), dev_root: dev_root.to_owned(), kinds })
}

impl PluginThread {
    /// Runs until the channel of events is closed. One thread suffices: the kubelet sends a few calls for each pod.
    fn block(self, events: mpsc::UnboundedReceiver<WatchEvent>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run(events)),
            Err(error) => log(&format!("error: start the server: {error}")),
        }
    }

    async fn run(self, events: mpsc::UnboundedReceiver<WatchEvent>) {
        let PluginThread { mut agent, serve: settings, cluster, repartition } = self;
        let sink: cluster::LogSink = Arc::new(log);
        if let Some(ClusterOptions { node, kubeconfig }) = cluster {
            let cluster = Cluster::connect(&node, kubeconfig, Timing::default(), sink.clone());
            agent.reporter.cluster = Some(cluster.clone());
            if let Some(repartition) = repartition {
                let gate = settings.allocation_gate.clone();
                tokio::spawn(Repartitioner::new(cluster, repartition, gate, sink).run());
            }
        }
        let advertised = agent.advertised.subscribe();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(settings, advertised, stopped));
        agent.run(events).await;
        drop(stop);
        let _ = server.await;
    }
}
