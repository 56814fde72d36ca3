//! Offers MIG devices to Kubernetes: a device plugin of the kubelet, which keeps specs true as
//! `mig-cdi watch` does.
//!
//! The main thread is that watch. What it finds goes through [`strategy`] into a [`roster::Roster`], which the
//! second thread serves to the kubelet.

pub mod api;
mod cli;
pub mod lists;
pub mod plugin;
pub mod prefer;
pub mod roster;
pub mod say;
pub mod server;
pub mod health;
pub mod feature_file;
pub mod labels;
pub mod strategy;

use clap::Parser;
use cli::Cli;
use mig_cdi::{Exit, Look};
use roster::{Entry, Roster};
use say::say;
use server::{Place, serve};
use std::{ffi::OsString, process::ExitCode, sync::Arc, thread::JoinHandle};
use strategy::{Offers, offers};
use tokio::sync::{oneshot, watch};

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
    let (roster, rosters) = watch::channel(Arc::new(Roster::default()));
    let place = Place { dir: cli.kubelet_dir.clone(), lists: cli.device_list_strategy.clone() };
    let (stop, stopped) = oneshot::channel();
    let mut begin = Some((place, rosters, stopped));
    let mut server: Option<JoinHandle<()>> = None;
    let mut withheld = Vec::new();
    let exit = mig_cdi::follow(words(cli), &mut |look| match look {
        Look::Begins => {
            server = begin.take().map(|(place, rosters, stopped)| {
                std::thread::spawn(move || block(place, rosters, stopped))
            });
        }
        Look::Found(inventory) => {
            let Offers { resources, withheld: now } = offers(&inventory, cli.mig_strategy);
            now.iter().filter(|line| !withheld.contains(*line)).for_each(|line| say(line));
            withheld = now;
            let mut next = Roster::default();
            for resource in roster.borrow().0.keys() {
                next.0.insert(resource.clone(), Vec::new());
            }
            for (resource, offers) in resources {
                let entries = offers.into_iter().map(|offer| Entry { offer, sick: None });
                next.0.insert(resource, entries.collect());
            }
            roster.send_replace(Arc::new(next));
        }
        Look::Failed { why, standing } => {
            let mut next = Roster::clone(&roster.borrow());
            for entry in next.0.values_mut().flatten() {
                entry.sick = (!standing.contains(&entry.offer.name)).then(|| why.clone());
            }
            roster.send_replace(Arc::new(next));
        }
    });
    drop(stop);
    if let Some(server) = server {
        let _ = server.join();
    }
    exit
}

/// The command line of the watch.
fn words(cli: &Cli) -> Vec<OsString> {
    let own = ["mig-cdi", "watch", "--inventory"].into_iter();
    let gpus = (!cli.leave_gpus).then_some("--gpus");
    own.chain(gpus).map(OsString::from).chain(cli.watch.iter().cloned()).collect()
}

/// One thread serves all: little is asked.
fn block(place: Place, rosters: watch::Receiver<Arc<Roster>>, stop: oneshot::Receiver<()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(place, rosters, stop)),
        Err(error) => say(&format!("error: start the server: {error}")),
    }
}
