//! Every call passes here: it is counted, and fails, is written down or kills the process as the
//! environment asks.
//!
//! | variable | what it does |
//! |---|---|
//! | `FAKE_NVML_FAIL=N:CODE` | the Nth call of the process fails with a number of nvml.h and does nothing |
//! | `FAKE_NVML_FAIL=NAME:CODE[:K]` | so does the Kth call of that function; the first without K |
//! | `FAKE_NVML_DIE=N` | SIGKILL instead of the Nth call |
//! | `FAKE_NVML_DIE=N+` | SIGKILL after the Nth call has done its work |
//! | `FAKE_NVML_TRACE=FILE` | a line for each call is appended: the name and the code |
//!
//! Calls count from 1, `nvmlInit_v2` included. Several failures are separated by commas.

use super::{Code, OK};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    sync::{Mutex, OnceLock, PoisonError},
};

#[derive(Default)]
struct Plan {
    failures: Vec<Failure>,
    /// Which call, and whether it does its work.
    die: Option<(u64, bool)>,
    trace: Option<File>,
    counts: Mutex<(u64, HashMap<&'static str, u64>)>,
}

struct Failure {
    /// Any function when `None`.
    name: Option<String>,
    count: u64,
    code: Code,
}

/// What an exported function does. None is exported without it.
pub(crate) fn call(name: &'static str, work: impl FnOnce() -> Result<(), Code>) -> Code {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let work = || work().err().unwrap_or(OK);
    let Some(plan) = PLAN.get_or_init(Plan::from_environment) else { return work() };
    let (all, own) = plan.count(name);
    if plan.die == Some((all, false)) {
        die();
    }
    let failure = plan.failures.iter().find(|failure| match &failure.name {
        Some(only) => only == name && failure.count == own,
        None => failure.count == all,
    });
    let code = failure.map_or_else(work, |failure| failure.code);
    if let Some(mut file) = plan.trace.as_ref() {
        // In one piece: threads and processes append to the same file.
        let _ = file.write_all(format!("{name} {code}\n").as_bytes());
    }
    if plan.die == Some((all, true)) {
        die();
    }
    code
}

fn die() {
    let _ = kill(Pid::this(), Signal::SIGKILL);
}

impl Plan {
    /// # Panics
    /// When a variable says nothing that could happen: a test would pass for want of its fault.
    fn from_environment() -> Option<Plan> {
        let [fail, die, trace] = ["FAKE_NVML_FAIL", "FAKE_NVML_DIE", "FAKE_NVML_TRACE"]
            .map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        if fail.is_none() && die.is_none() && trace.is_none() {
            return None;
        }
        let failures = fail.iter().flat_map(|list| list.split(','));
        let failure = |text| failure(text).unwrap_or_else(|| panic!("FAKE_NVML_FAIL: {text:?}"));
        let death = |text: String| {
            let (number, after) = text.strip_suffix('+').map_or((&*text, false), |n| (n, true));
            (number.parse().unwrap_or_else(|e| panic!("FAKE_NVML_DIE: {text:?}: {e}")), after)
        };
        let open = |path| {
            let file = File::options().append(true).create(true).open(&path);
            file.unwrap_or_else(|e| panic!("FAKE_NVML_TRACE: {path:?}: {e}"))
        };
        Some(Plan {
            failures: failures.map(failure).collect(),
            die: die.map(death),
            trace: trace.map(open),
            counts: Mutex::default(),
        })
    }

    /// Which call of the process this is, and which of its function.
    fn count(&self, name: &'static str) -> (u64, u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_name) = &mut *counts;
        let own = by_name.entry(name).or_default();
        (*all, *own) = (*all + 1, *own + 1);
        (*all, *own)
    }
}

/// `7:999` or `nvmlGpuInstanceDestroy:19:2`.
fn failure(text: &str) -> Option<Failure> {
    let mut words = text.split(':');
    let (which, code) = (words.next()?, words.next()?.parse().ok()?);
    let count = words.next().map_or(Some(1), |count| count.parse().ok())?;
    match which.parse() {
        Ok(count) => Some(Failure { name: None, count, code }),
        Err(_) => Some(Failure { name: Some(which.to_owned()), count, code }),
    }
}
