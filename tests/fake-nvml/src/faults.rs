//! Injected faults. Every call passes here: it is counted, and fails, is traced or kills the process as the
//! environment demands.
//!
//! | variable | effect |
//! |---|---|
//! | `FAKE_NVML_FAIL=N:CODE` | the Nth call of the process fails with this code of nvml.h and does nothing |
//! | `FAKE_NVML_FAIL=NAME:CODE[:K]` | the Kth call of that function fails; the first without K; every one with `*` |
//! | `FAKE_NVML_FAIL=NAME=N:CODE` | every call of that function for number N fails: that of a profile |
//! | `FAKE_NVML_FAIL=activationStatus:CODE` | a new MIG mode is pending, for this reason |
//! | `FAKE_NVML_DIE=N` | SIGKILL instead of the Nth call |
//! | `FAKE_NVML_DIE=N+` | SIGKILL after the Nth call has done its work |
//! | `FAKE_NVML_STOP=NAME[:K]` | SIGSTOP before the Kth call of that function: a test looks around, and lets it go on |
//! | `FAKE_NVML_TRACE=FILE` | a line for each call is appended: name and code |
//!
//! Calls count from 1, `nvmlInit_v2` included, from when the library was loaded. Several failures are separated by commas. They are read
//! from a file for `FAKE_NVML_FAIL=@FILE`, while there is one.

use crate::c_abi::{Code, OK};
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
    /// Call that kills the process, and whether before or after its work.
    die: Option<(u64, bool)>,
    /// Function and number of the call before which the process stops.
    stop: Option<(String, u64)>,
    trace: Option<File>,
    counts: Mutex<(u64, HashMap<&'static str, u64>)>,
}

struct Failure {
    /// Name of the function; any function when `None`.
    name: Option<String>,
    which: Which,
    code: Code,
}

/// Calls that fail, of one function or of all.
enum Which {
    Nth(u64),
    For(u32),
    All,
}

impl Which {
    fn has(&self, count: u64, number: Option<u32>) -> bool {
        match self {
            Which::Nth(nth) => *nth == count,
            Which::For(only) => number == Some(*only),
            Which::All => true,
        }
    }
}

/// Returns the code that an answer holds by an injected fault.
pub(crate) fn injected(answer: &str) -> Option<Code> {
    let failures = Plan::get().into_iter().flat_map(|plan| &plan.failures);
    let mut failures = failures.filter(|failure| failure.name.as_deref() == Some(answer));
    failures.next().map(|failure| failure.code)
}

/// Body of an exported function. None is exported without it.
pub(crate) fn call(name: &'static str, work: impl FnOnce() -> Result<(), Code>) -> Code {
    call_for(name, None, work)
}

/// Body of an exported function that is called for a number, as that of a profile.
pub(crate) fn call_for(
    name: &'static str,
    number: Option<u32>,
    work: impl FnOnce() -> Result<(), Code>,
) -> Code {
    let work = || work().err().unwrap_or(OK);
    let Some(plan) = Plan::get() else { return work() };
    let (all, own) = plan.count(name);
    if plan.die == Some((all, false)) {
        send(Signal::SIGKILL);
    }
    if plan.stop.as_ref().is_some_and(|(stop, count)| stop == name && *count == own) {
        send(Signal::SIGSTOP);
    }
    let failure = plan.failures.iter().find(|failure| match &failure.name {
        Some(only) => only == name && failure.which.has(own, number),
        None => failure.which.has(all, number),
    });
    let code = failure.map_or_else(work, |failure| failure.code);
    if let Some(mut file) = plan.trace.as_ref() {
        // One write: threads and processes append to the same file.
        let _ = file.write_all(format!("{name} {code}\n").as_bytes());
    }
    if plan.die == Some((all, true)) {
        send(Signal::SIGKILL);
    }
    code
}

fn send(signal: Signal) {
    let _ = kill(Pid::this(), signal);
}

impl Plan {
    fn get() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(Plan::from_environment).as_ref()
    }

    /// # Panics
    /// When a variable cannot be parsed: the test would pass without its fault.
    fn from_environment() -> Option<Plan> {
        let names = ["FAKE_NVML_FAIL", "FAKE_NVML_DIE", "FAKE_NVML_STOP", "FAKE_NVML_TRACE"];
        let set = names.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        if set.iter().all(Option::is_none) {
            return None;
        }
        let [fail, die, stop, trace] = set;
        let fail = fail.map(|list| match list.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).unwrap_or_default(),
            None => list,
        });
        let failures = fail.iter().flat_map(|list| list.split(','));
        let failures = failures.filter(|text| !text.is_empty());
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
            stop: stop.map(stop_before),
            trace: trace.map(open),
            counts: Mutex::default(),
        })
    }

    /// Number of this call in the process, and among those of its function.
    fn count(&self, name: &'static str) -> (u64, u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_name) = &mut *counts;
        let own = by_name.entry(name).or_default();
        (*all, *own) = (*all + 1, *own + 1);
        (*all, *own)
    }
}

/// `nvmlGpuInstanceDestroy` or `nvmlGpuInstanceDestroy:2`.
///
/// # Panics
/// When the number cannot be parsed.
fn stop_before(text: String) -> (String, u64) {
    match text.split_once(':') {
        None => (text, 1),
        Some((name, count)) => (
            name.to_owned(),
            count.parse().unwrap_or_else(|e| panic!("FAKE_NVML_STOP: {text:?}: {e}")),
        ),
    }
}

/// `7:999`, `nvmlGpuInstanceDestroy:19:2`, or `nvmlDeviceGetGpuInstanceProfileInfo=9:3`.
fn failure(text: &str) -> Option<Failure> {
    let mut words = text.split(':');
    let (what, code) = (words.next()?, words.next()?.parse().ok()?);
    if let Ok(nth) = what.parse() {
        return Some(Failure { name: None, which: Which::Nth(nth), code });
    }
    let (name, which) = match (what.split_once('='), words.next()) {
        (Some((name, number)), _) => (name, Which::For(number.parse().ok()?)),
        (None, None) => (what, Which::Nth(1)),
        (None, Some("*")) => (what, Which::All),
        (None, Some(nth)) => (what, Which::Nth(nth.parse().ok()?)),
    };
    Some(Failure { name: Some(name.to_owned()), which, code })
}
