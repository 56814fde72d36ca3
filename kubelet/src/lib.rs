//! Offers MIG devices to Kubernetes: a device plugin of the kubelet, which keeps specs true as
//! `mig-cdi watch` does.
//!
//! The main thread is that watch. What it finds goes to the [`agent::Agent`], which makes a [`roster::Roster`] of it by
//! [`strategy`] and [`health`]; [`server`] serves that to the kubelet, in the same second thread.

pub mod agent;
pub mod api;
pub mod audience;
mod channel;
mod cli;
pub mod cluster;
pub mod feature_file;
pub mod health;
pub mod labels;
pub mod lists;
pub mod plugin;
pub mod pod_resources;
pub mod pods;
pub mod prefer;
pub mod repartition;
pub mod roster;
pub mod say;
pub mod server;
pub mod strategy;

use agent::Agent;
use audience::Audience;
use clap::{CommandFactory, Parser};
use cli::{Child, Cli};
use cluster::{Cluster, Timing};
use health::{Health, Xids};
use mig_cdi_args::WatchCommandLine;
use mig_cdi_gen::{
    Error, Exit, listen, refresh,
    watch::{WatchEvent, WatchSetup, run_watch},
};
use pods::Pods;
use repartition::{Dividing, Repartition, Settings};
use roster::Roster;
use say::{PluginLog, Teller, say};
use server::{Place, serve};
use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot, watch};

/// The command line that [`run`] takes: of it the manual page and the completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and does what it asks, until it is told to stop.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = match &cli.child {
        None => return follow(&cli),
        Some(Child::Refresh(args)) => refresh::run_child(&args.request),
        Some(Child::Listen(args)) => listen::run_child(&args.request),
        Some(Child::Repartition(args)) => repartition::child::run_child(&args.request),
    };
    // The parent is gone when this fails, and with it the reader.
    let _ = std::io::stdout().write_all(output.stdout.as_bytes());
    output.exit.into()
}

/// Prints the help, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
    // The terminal is gone when this fails, and with it the reader.
    let _ = error.print();
    exit.into()
}

fn follow(cli: &Cli) -> ExitCode {
    let command_line = match WatchCommandLine::try_parse_from(&cli.watch) {
        Ok(command_line) => command_line,
        Err(error) => return usage(&error),
    };
    match try_follow(cli, command_line) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            say(&format!("error: {failure}"));
            Exit::from(failure.kind).into()
        }
    }
}

fn try_follow(cli: &Cli, mut command_line: WatchCommandLine) -> Result<(), Error> {
    let variable = |name| std::env::var(name).ok();
    let (disable, enable) = ("DP_DISABLE_HEALTHCHECKS", "DP_ENABLE_HEALTHCHECKS");
    let (xids, complaints) = Xids::parse(variable(disable).as_deref(), variable(enable).as_deref());
    complaints.iter().for_each(|complaint| say(complaint));
    command_line.watch.generate.gpus |= !cli.leave_gpus;
    command_line.watch.health |= xids.any();
    let read_setup = || {
        let mut setup = command_line.setup()?;
        // Labels of the node name the CUDA version.
        setup.node.roots.cuda_version = true;
        Ok(setup)
    };
    let mut options = command_line.watch.options();
    options.inventory = true;
    let (looks, seen) = mpsc::unbounded_channel();
    let mut begin =
        Some((second(cli, &options.state_dir, &read_setup()?, Health::new(xids))?, seen));
    let mut thread: Option<JoinHandle<()>> = None;
    let messages = PluginLog { verbose: command_line.verbose };
    let ended = run_watch(&options, &read_setup, &messages, &mut |event| match event {
        WatchEvent::Started => {
            thread =
                begin.take().map(|(second, seen)| std::thread::spawn(move || second.block(seen)));
        }
        // The other end is gone when that thread is, which has said why.
        event => drop(looks.send(event)),
    });
    drop(looks);
    if let Some(thread) = thread {
        let _ = thread.join();
    }
    ended
}

/// Who runs beside the watch.
struct Second {
    agent: Agent,
    place: Place,
    cluster: Option<Wanted>,
    dividing: Option<Settings>,
}

/// What is to be known of the cluster.
struct Wanted {
    node: String,
    kubeconfig: Option<PathBuf>,
}

fn second(
    cli: &Cli,
    state_dir: &Path,
    setup: &WatchSetup,
    health: Health,
) -> Result<Second, Error> {
    let agent = Agent {
        strategy: cli.mig_strategy,
        health,
        roster: watch::Sender::new(Arc::new(Roster::default())),
        audience: Audience {
            feature_file: cli.feature_file.clone(),
            cluster: None,
            is_labelled: cli.node_labels,
            withheld: Vec::new(),
            teller: Teller::default(),
        },
        pods: Pods::new(cli.pod_resources.clone()),
    };
    let place = Place {
        dir: cli.kubelet_dir.clone(),
        lists: cli.device_list_strategy.clone(),
        dividing: Dividing::default(),
    };
    let node = cli.node_name.clone();
    let cluster = node.map(|node| Wanted { node, kubeconfig: cli.kubeconfig.clone() });
    let settings = |layouts: &PathBuf| -> Result<Settings, Error> {
        let mut settings =
            Settings::new(mig_cdi_sys::own_program()?, layouts.clone(), setup, state_dir);
        settings.journal_dir.clone_from(&cli.journal_dir);
        settings.pod_resources.clone_from(&cli.pod_resources);
        Ok(settings)
    };
    let dividing = cli.layouts_file.as_ref().map(settings).transpose()?;
    Ok(Second { agent, place, cluster, dividing })
}

impl Second {
    /// One thread does all: little is asked.
    fn block(self, looks: mpsc::UnboundedReceiver<WatchEvent>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run(looks)),
            Err(error) => say(&format!("error: start the server: {error}")),
        }
    }

    async fn run(self, looks: mpsc::UnboundedReceiver<WatchEvent>) {
        let Second { mut agent, place, cluster, dividing } = self;
        let told: cluster::Say = Arc::new(say);
        if let Some(Wanted { node, kubeconfig }) = cluster {
            let cluster = Cluster::connect(&node, kubeconfig, Timing::default(), told.clone());
            agent.audience.cluster = Some(cluster.clone());
            if let Some(settings) = dividing {
                let is_running = place.dividing.clone();
                tokio::spawn(Repartition::new(cluster, settings, is_running, told).run());
            }
        }
        let rosters = agent.roster.subscribe();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(place, rosters, stopped));
        agent.run(looks).await;
        drop(stop);
        let _ = server.await;
    }
}
