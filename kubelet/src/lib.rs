//! Offers MIG devices to Kubernetes: a device plugin of the kubelet, which keeps specs true as
//! `mig-cdi watch` does.
//!
//! The main thread is that watch. What it finds goes to the [`agent::Agent`], which makes a [`roster::Roster`] of it by
//! [`strategy`] and [`health`]; [`server`] serves that to the kubelet, in the same second thread.

pub mod agent;
pub mod api;
mod channel;
mod cli;
pub mod feature_file;
pub mod health;
pub mod labels;
pub mod lists;
pub mod plugin;
pub mod pod_resources;
pub mod prefer;
pub mod roster;
pub mod say;
pub mod server;
pub mod strategy;

use agent::Agent;
use clap::Parser;
use cli::Cli;
use health::{Health, Xids};
use mig_cdi::{Exit, Look};
use roster::Roster;
use say::{Teller, say};
use server::{Place, serve};
use std::{ffi::OsString, process::ExitCode, sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot, watch};

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
    let mut begin = Some((agent(cli, Health::new(xids)), seen));
    let mut second: Option<JoinHandle<()>> = None;
    let exit = mig_cdi::follow(words, &mut |look| match look {
        Look::Begins => {
            let place =
                Place { dir: cli.kubelet_dir.clone(), lists: cli.device_list_strategy.clone() };
            second = begin
                .take()
                .map(|(agent, seen)| std::thread::spawn(move || block(agent, seen, place)));
        }
        // The other end is gone when that thread is, which has said why.
        look => drop(looks.send(look)),
    });
    drop(looks);
    if let Some(second) = second {
        let _ = second.join();
    }
    exit
}

fn agent(cli: &Cli, health: Health) -> Agent {
    Agent {
        strategy: cli.mig_strategy,
        health,
        roster: watch::Sender::new(Arc::new(Roster::default())),
        pod_resources: cli.pod_resources.clone(),
        feature_file: cli.feature_file.clone(),
        held: None,
        withheld: Vec::new(),
        teller: Teller::default(),
    }
}

/// The command line of the watch.
fn words(cli: &Cli, health: bool) -> Vec<OsString> {
    let own = ["mig-cdi", "watch", "--inventory"].into_iter();
    let own = own.chain((!cli.leave_gpus).then_some("--gpus")).chain(health.then_some("--health"));
    own.map(OsString::from).chain(cli.watch.iter().cloned()).collect()
}

/// One thread does all: little is asked.
fn block(agent: Agent, looks: mpsc::UnboundedReceiver<Look>, place: Place) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&format!("error: start the server: {error}")),
    };
    let rosters = agent.roster.subscribe();
    let (stop, stopped) = oneshot::channel();
    runtime.block_on(async {
        let server = tokio::spawn(serve(place, rosters, stopped));
        agent.run(looks).await;
        drop(stop);
        let _ = server.await;
    });
}
