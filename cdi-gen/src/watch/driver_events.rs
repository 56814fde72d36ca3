//! What the driver itself says of changes, where it can be had without harm, and of errors, where they are
//! asked for: from a process of ours that keeps NVML open and does nothing else, so that watch itself holds
//! nothing and survives it.

use crate::{Result, child, listen::ListenRequest, node_source::NodeRoots};
use mig_cdi_sys::{
    ChildLines,
    nvml::{DriverEvent, EventCoverage, Xid},
    own_image,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// After an end of the listener, and twice as long after each one that follows.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Whose changes are heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hearing {
    /// Nobody's.
    Nobody,
    /// Those of some GPUs that are divided.
    Some,
    /// Those of all GPUs that can be divided.
    All,
}

impl From<EventCoverage> for Hearing {
    fn from(share: EventCoverage) -> Hearing {
        match share {
            EventCoverage::None => Hearing::Nobody,
            EventCoverage::Some => Hearing::Some,
            EventCoverage::All => Hearing::All,
        }
    }
}

/// What came of listening.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// How many changes the driver told of.
    pub changes: u64,
    /// Errors.
    pub xids: Vec<Xid>,
    /// What listened has failed: a GPU may be lost.
    pub failed: bool,
    /// Who is heard is another matter now, or why nobody is.
    pub line: Option<String>,
}

/// What to listen to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Changes of instances, where that does no harm.
    pub changes: bool,
    /// Errors of every GPU, and with them changes.
    pub errors: bool,
}

impl Wanted {
    fn any(self) -> bool {
        self.changes || self.errors
    }
}

/// Starts the process that listens, again when it ends, and hears it.
pub(crate) struct Ear {
    wanted: Wanted,
    /// Roots of the machine whose NVML is listened to.
    roots: Option<NodeRoots>,
    /// The GPUs that may be listened to, and how they are: with others there is something else to listen to.
    gpus: BTreeSet<String>,
    listener: Option<ChildLines>,
    hearing: Hearing,
    /// Of which GPUs errors are heard.
    errors: Hearing,
    /// Some GPUs are left alone for now.
    skips_gpus: bool,
    /// When to try again; never, when there is nothing to listen to.
    retry: Option<Instant>,
    failures: u32,
    /// What the process said of its end, which comes later.
    nothing: bool,
    pending: bool,
    why: String,
}

/// A line of the process that listens.
#[must_use]
pub(crate) fn line(heard: &DriverEvent) -> String {
    match heard {
        DriverEvent::NoEvents { skips_gpus } => format!("nothing{}", sparing(*skips_gpus)),
        DriverEvent::Listening { changes, errors, skips_gpus } => {
            format!("listening {} {}{}", word(*changes), word(*errors), sparing(*skips_gpus))
        }
        DriverEvent::MigConfigChange => "change".to_owned(),
        DriverEvent::Xid(Xid { gpu, gi, ci, xid }) => {
            let id = |id: &Option<u32>| id.map_or("-".to_owned(), |id| id.to_string());
            format!("xid {xid} {gpu} {} {}", id(gi), id(ci))
        }
        DriverEvent::MigModePending => "pending".to_owned(),
    }
}

fn sparing(skips_gpus: bool) -> &'static str {
    if skips_gpus { " sparing" } else { "" }
}

fn word(share: EventCoverage) -> &'static str {
    match share {
        EventCoverage::None => "nobody",
        EventCoverage::Some => "some",
        EventCoverage::All => "all",
    }
}

/// The other way. `None` for what no such process says.
fn parse(line: &str) -> Option<DriverEvent> {
    let words: Vec<&str> = line.split(' ').collect();
    let share = |word: &str| {
        [EventCoverage::None, EventCoverage::Some, EventCoverage::All]
            .into_iter()
            .find(|s| self::word(*s) == word)
    };
    let id = |word: &str| match word {
        "-" => Some(None),
        id => id.parse().ok().map(Some),
    };
    Some(match *words.as_slice() {
        ["nothing", ref rest @ ..] => DriverEvent::NoEvents { skips_gpus: *rest == ["sparing"] },
        ["change"] => DriverEvent::MigConfigChange,
        ["pending"] => DriverEvent::MigModePending,
        ["listening", changes, errors, ref rest @ ..] => DriverEvent::Listening {
            changes: share(changes)?,
            errors: share(errors)?,
            skips_gpus: *rest == ["sparing"],
        },
        ["xid", xid, gpu, gi, ci] => DriverEvent::Xid(Xid {
            gpu: gpu.to_owned(),
            gi: id(gi)?,
            ci: id(ci)?,
            xid: xid.parse().ok()?,
        }),
        _ => return None,
    })
}

/// The start of its line when it fails.
pub(crate) const FAILED: &str = "failed: ";

impl Ear {
    pub(crate) fn new() -> Ear {
        Ear {
            wanted: Wanted::default(),
            roots: None,
            gpus: BTreeSet::new(),
            listener: None,
            hearing: Hearing::Nobody,
            errors: Hearing::Nobody,
            skips_gpus: false,
            retry: None,
            failures: 0,
            nothing: false,
            pending: false,
            why: String::new(),
        }
    }

    /// Whose changes are heard of; `None` when that is not asked for.
    pub(crate) fn hearing(&self) -> Option<Hearing> {
        self.wanted.any().then_some(self.hearing)
    }

    /// Of which GPUs errors are heard; `None` when that is not asked for.
    pub(crate) fn errors(&self) -> Option<Hearing> {
        self.wanted.errors.then_some(self.errors)
    }

    /// The process that listens.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.listener.as_ref().map(ChildLines::pid)
    }

    /// Listens to these GPUs from now on, when that is wanted. Those that were left alone may be ready.
    pub(crate) fn tend(&mut self, wanted: Wanted, gpus: &BTreeSet<String>, roots: &NodeRoots) {
        if (wanted, gpus, self.skips_gpus) == (self.wanted, &self.gpus, false) {
            return;
        }
        self.stop();
        (self.wanted, self.gpus) = (wanted, gpus.clone());
        self.roots = Some(roots.clone());
        self.retry = (wanted.any() && !self.gpus.is_empty()).then(Instant::now);
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
        let roots = self.roots.clone()?;
        match start(ListenRequest { roots, errors: self.wanted.errors }) {
            Ok(listener) => {
                self.listener = Some(listener);
                None
            }
            Err(error) => self.lost(error.to_string(), now),
        }
    }

    /// What to wait for.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(ChildLines::fd)
    }

    /// What has been said since the last time.
    pub(crate) fn hear(&mut self, now: Instant) -> News {
        let mut news = News::default();
        let Some(listener) = &mut self.listener else { return news };
        let (lines, lives) = listener.read_lines();
        for said in lines {
            match parse(&said) {
                Some(DriverEvent::MigConfigChange) => news.changes += 1,
                Some(DriverEvent::Xid(xid)) => news.xids.push(xid),
                Some(DriverEvent::NoEvents { skips_gpus }) => {
                    (self.nothing, self.skips_gpus) = (true, skips_gpus);
                }
                Some(DriverEvent::MigModePending) => self.pending = true,
                Some(DriverEvent::Listening { changes, errors, skips_gpus }) => {
                    self.skips_gpus = skips_gpus;
                    self.listens(changes, errors, &mut news);
                }
                None => said.strip_prefix(FAILED).unwrap_or_default().clone_into(&mut self.why),
            }
        }
        if lives {
            return news;
        }
        self.listener = None;
        let nothing = std::mem::take(&mut self.nothing);
        if std::mem::take(&mut self.pending) {
            (self.hearing, self.errors) = (Hearing::Nobody, Hearing::Nobody);
            self.retry = Some(now);
            let line = "a gpu is to be reset for another mig mode: it is listened to no more";
            news.line = Some(line.to_owned());
        } else if nothing && self.failures == 0 {
            // Another set of GPUs in MIG mode is the next chance.
            let line = "the driver can be listened to on no gpu without keeping it busy";
            news.line = Some(line.to_owned());
        } else {
            let why = match std::mem::take(&mut self.why) {
                why if why.is_empty() && nothing => "no gpu can be listened to".to_owned(),
                why if why.is_empty() => "the process that listens has ended".to_owned(),
                why => why,
            };
            news.failed = true;
            news.line = self.lost(why, now);
        }
        news
    }

    fn listens(&mut self, changes: EventCoverage, errors: EventCoverage, news: &mut News) {
        (self.hearing, self.errors, self.failures) = (changes.into(), errors.into(), 0);
        let of = |what, hearing| match hearing {
            Hearing::Nobody => None,
            Hearing::Some => Some(format!("{what} of some gpus")),
            Hearing::All => Some(format!("{what} of all gpus")),
        };
        let what = [of("events", self.hearing), of("errors", self.errors)];
        let what: Vec<String> = what.into_iter().flatten().collect();
        news.line = Some(format!("listening to the driver's {}", what.join(", ")));
    }

    fn lost(&mut self, why: String, now: Instant) -> Option<String> {
        (self.hearing, self.errors) = (Hearing::Nobody, Hearing::Nobody);
        let wait = RETRY.saturating_mul(1 << self.failures.min(6)).min(RETRY_MOST);
        self.retry = Some(now + wait);
        self.failures = self.failures.saturating_add(1);
        Some(format!("listen to the driver's events: {why}; next try in {} s", wait.as_secs()))
    }
}

/// Starts this program once more, to listen.
fn start(request: ListenRequest) -> Result<ChildLines> {
    let args = child::args(child::LISTEN, &request)?;
    Ok(ChildLines::start(&own_image()?, &args)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        let shares = [EventCoverage::None, EventCoverage::Some, EventCoverage::All];
        let listening = shares.into_iter().flat_map(|changes| {
            shares.into_iter().flat_map(move |errors| {
                [false, true].map(|skips_gpus| DriverEvent::Listening {
                    changes,
                    errors,
                    skips_gpus,
                })
            })
        });
        let xid = |gi, ci, xid| DriverEvent::Xid(Xid { gpu: "GPU-0a-1".to_owned(), gi, ci, xid });
        let nothing = [false, true].map(|skips_gpus| DriverEvent::NoEvents { skips_gpus });
        let others =
            nothing.into_iter().chain([DriverEvent::MigConfigChange, DriverEvent::MigModePending]);
        let xids = [xid(None, None, 79), xid(Some(0), None, 48), xid(Some(13), Some(7), u64::MAX)];
        for heard in listening.chain(others).chain(xids) {
            assert_eq!(parse(&line(&heard)), Some(heard));
        }
        let broken = ["", "xid", "xid 48 GPU-0 1", "xid x GPU-0 1 1", "xid 48 GPU-0 -1 0"];
        for line in broken.into_iter().chain(["failed: xid 48", "listening", "listening all"]) {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
