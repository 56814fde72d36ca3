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
use cli::Cli;
use cluster::{Cluster, Timing};
use health::{Health, Xids};
use mig_cdi::{Exit, Look};
use pods::Pods;
use repartition::{Dividing, Repartition, Settings};
use roster::Roster;
use say::{Teller, say};
use server::{Place, serve};
use std::{
    ffi::OsString,
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
    let is_command = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    if args.get(1).is_some_and(is_command) {
        return mig_cdi::run(args);
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => follow(&cli),
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // Nothing is left to tell when the terminal is gone.
            let _ = error.print();
            exit.into()
        }
    }
}

fn follow(cli: &Cli) -> ExitCode {
    let variable = |name| std::env::var(name).ok();
    let (disable, enable) = ("DP_DISABLE_HEALTHCHECKS", "DP_ENABLE_HEALTHCHECKS");
    let (xids, complaints) = Xids::parse(variable(disable).as_deref(), variable(enable).as_deref());
    complaints.iter().for_each(|complaint| say(complaint));
    let words = words(cli, xids.any());
    let (looks, seen) = mpsc::unbounded_channel();
    let mut begin = match second(cli, Health::new(xids)) {
        Ok(second) => Some((second, seen)),
        Err(why) => {
            say(&format!("error: {why}"));
            return Exit::Usage.into();
        }
    };
    let mut thread: Option<JoinHandle<()>> = None;
    let exit = mig_cdi::follow(words, &mut |look| match look {
        Look::Begins => {
            thread =
                begin.take().map(|(second, seen)| std::thread::spawn(move || second.block(seen)));
        }
        // The other end is gone when that thread is, which has said why.
        look => drop(looks.send(look)),
    });
    drop(looks);
    if let Some(thread) = thread {
        let _ = thread.join();
    }
    exit
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

fn second(cli: &Cli, health: Health) -> Result<Second, String> {
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
    let dividing = cli.layouts_file.as_ref().map(|layouts| settings(cli, layouts)).transpose()?;
    Ok(Second { agent, place, cluster, dividing })
}

/// How GPUs are divided: by this program, with what the watch was told of the node.
fn settings(cli: &Cli, layouts: &Path) -> Result<Settings, String> {
    let program = mig_cdi_sys::own_program().map_err(|error| error.to_string())?;
    let mut settings = Settings::new(program, layouts.to_owned());
    settings.words = mig_cdi::node_words(&words(cli, false))?;
    settings.change_words = vec![option("--journal-dir", &cli.journal_dir)];
    settings.pod_resources.clone_from(&cli.pod_resources);
    Ok(settings)
}

fn option(name: &str, value: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push("=");
    word.push(value);
    word
}

/// The command line of the watch.
fn words(cli: &Cli, health: bool) -> Vec<OsString> {
    let own = ["mig-cdi", "watch", "--inventory"].into_iter();
    let own = own.chain((!cli.leave_gpus).then_some("--gpus")).chain(health.then_some("--health"));
    own.map(OsString::from).chain(cli.watch.iter().cloned()).collect()
}

impl Second {
    /// One thread does all: little is asked.
    fn block(self, looks: mpsc::UnboundedReceiver<Look>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run(looks)),
            Err(error) => say(&format!("error: start the server: {error}")),
        }
    }

    async fn run(self, looks: mpsc::UnboundedReceiver<Look>) {
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
