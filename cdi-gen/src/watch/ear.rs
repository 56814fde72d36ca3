//! What the driver itself says of changes, where it can be had without harm: from a process of ours that
//! keeps NVML open and does nothing else, so that watch itself holds nothing and survives it.

use mig_cdi_sys::{Listener, Result, nvml::Heard};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// After an end of the listener, and twice as long after each one that follows.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Whose changes are heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hearing {
    /// Nobody's.
    Nobody,
    /// Those of some GPUs that are divided.
    Some,
    /// Those of all GPUs that can be divided.
    All,
}

/// What came of listening.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// How many changes the driver told of.
    pub changes: u64,
    /// Who is heard is another matter now, or why nobody is.
    pub line: Option<String>,
}

/// Starts the process that listens, again when it ends, and hears it.
pub(crate) struct Ear {
    wanted: bool,
    /// The command line of watch.
    words: Vec<OsString>,
    /// The GPUs in MIG mode: with others there is something else to listen to.
    gpus: BTreeSet<String>,
    listener: Option<Listener>,
    hearing: Hearing,
    /// When to try again; never, when there is nothing to listen to.
    retry: Option<Instant>,
    failures: u32,
    /// What the process said of its end, which comes later.
    nothing: bool,
    why: String,
}

/// A line of the process that listens.
#[must_use]
pub(crate) fn line(heard: Heard) -> &'static str {
    match heard {
        Heard::Nothing => "nothing",
        Heard::Listening { all: true } => "listening to all",
        Heard::Listening { all: false } => "listening to some",
        Heard::Change => "change",
    }
}

/// The start of its line when it fails.
pub(crate) const FAILED: &str = "failed: ";

impl Ear {
    pub(crate) fn new() -> Ear {
        Ear {
            wanted: false,
            words: Vec::new(),
            gpus: BTreeSet::new(),
            listener: None,
            hearing: Hearing::Nobody,
            retry: None,
            failures: 0,
            nothing: false,
            why: String::new(),
        }
    }

    /// Whose changes are heard of; `None` when that is not asked for.
    pub(crate) fn hearing(&self) -> Option<Hearing> {
        self.wanted.then_some(self.hearing)
    }

    /// The process that listens.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.listener.as_ref().map(Listener::pid)
    }

    /// Listens to these GPUs from now on, when that is wanted.
    pub(crate) fn tend(&mut self, wanted: bool, gpus: &BTreeSet<String>, words: &[OsString]) {
        if (wanted, gpus) == (self.wanted, &self.gpus) {
            return;
        }
        self.stop();
        (self.wanted, self.gpus, self.words) = (wanted, gpus.clone(), words.to_vec());
        self.retry = (self.wanted && !self.gpus.is_empty()).then(Instant::now);
    }

    /// Gives the driver up, until the next [`Ear::tend`].
    pub(crate) fn stop(&mut self) {
        *self = Ear::new();
    }

    /// Starts the process when that is due. Gives why it could not be.
    pub(crate) fn revive(&mut self, now: Instant) -> Option<String> {
        if self.retry.is_none_or(|at| now < at) {
            return None;
        }
        self.retry = None;
        match start(&self.words) {
            Ok(listener) => {
                self.listener = Some(listener);
                None
            }
            Err(error) => self.lost(error.to_string(), now),
        }
    }

    /// What to wait for.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(Listener::fd)
    }

    /// What has been said since the last time.
    pub(crate) fn hear(&mut self, now: Instant) -> News {
        let mut news = News::default();
        let Some(listener) = &mut self.listener else { return news };
        let (lines, lives) = listener.hear();
        for said in lines {
            match said.as_str() {
                "change" => news.changes += 1,
                "nothing" => self.nothing = true,
                "listening to all" => self.listens(Hearing::All, &mut news),
                "listening to some" => self.listens(Hearing::Some, &mut news),
                other => other.strip_prefix(FAILED).unwrap_or_default().clone_into(&mut self.why),
            }
        }
        if lives {
            return news;
        }
        self.listener = None;
        let nothing = std::mem::take(&mut self.nothing);
        if nothing && self.failures == 0 {
            // Another set of GPUs in MIG mode is the next chance.
            let line = "the driver can be listened to on no gpu without keeping it busy";
            news.line = Some(line.to_owned());
        } else {
            let why = match std::mem::take(&mut self.why) {
                why if why.is_empty() && nothing => "no gpu can be listened to".to_owned(),
                why if why.is_empty() => "the process that listens has ended".to_owned(),
                why => why,
            };
            news.line = self.lost(why, now);
        }
        news
    }

    fn listens(&mut self, hearing: Hearing, news: &mut News) {
        (self.hearing, self.failures) = (hearing, 0);
        let whom = if hearing == Hearing::All { "all gpus" } else { "some gpus" };
        news.line = Some(format!("listening to the driver's events of {whom}"));
    }

    fn lost(&mut self, why: String, now: Instant) -> Option<String> {
        self.hearing = Hearing::Nobody;
        let wait = RETRY.saturating_mul(1 << self.failures.min(6)).min(RETRY_MOST);
        self.retry = Some(now + wait);
        self.failures = self.failures.saturating_add(1);
        Some(format!("listen to the driver's events: {why}; next try in {} s", wait.as_secs()))
    }
}

/// The program itself, with the words that it was given.
fn start(words: &[OsString]) -> Result<Listener> {
    let args: Vec<OsString> = words.iter().cloned().chain(["--listen".into()]).collect();
    Listener::start(&mig_cdi_sys::own_program()?, &args)
}
