//! `mig-cdi status`: what watch did last, and what it knows.

use super::Done;
use crate::{cli::StatusArgs, console::Console};
use mig_cdi_gen::{
    Error, Exit, MessageSink,
    watch::{
        EventCoverage,
        status::{Status, WatchState, now},
    },
};
use mig_cdi_sys::is_running;
use std::fmt::Write;

pub(super) fn run(args: &StatusArgs, console: &Console) -> Result<Done, Error> {
    let dir = &args.state.state_dir;
    let Some(status) = Status::read(dir)? else {
        return Err(Error::failed("read", dir.join("status.json").display())
            .because("watch has not run")
            .cure("start mig-cdi.service, or run mig-cdi watch"));
    };
    let runs = status.state != WatchState::Stopped && is_running(status.pid);
    let stdout = match args.json {
        true => json(&status, runs)?,
        false => text(&status, runs),
    };
    let exit = match (runs, status.state) {
        (true, WatchState::Ok | WatchState::Starting) => Exit::Success,
        (true, WatchState::Incomplete) => Exit::Incomplete,
        _ => Exit::Failed,
    };
    if !runs {
        console.warn("watch does not run: the spec does not follow MIG");
    }
    Ok(Done { stdout, exit })
}

fn json(status: &Status, runs: bool) -> Result<String, Error> {
    let fail = |e| Error::failed("write", "json").because(e);
    let mut value = serde_json::to_value(status).map_err(fail)?;
    value["running"] = runs.into();
    let text = serde_json::to_string_pretty(&value).map_err(fail)?;
    Ok(text + "\n")
}

fn text(status: &Status, runs: bool) -> String {
    let ago =
        |time: Option<f64>| time.map_or("never".to_owned(), |time| age(now() - time) + " ago");
    let state = match (runs, status.state) {
        (false, _) => "not running".to_owned(),
        (true, WatchState::Starting) => "starting".to_owned(),
        (true, WatchState::Ok) => "ok".to_owned(),
        (true, WatchState::Incomplete) => format!("incomplete: {} left out", status.node.omitted),
        (true, WatchState::Failing | WatchState::Stopped) => "failing".to_owned(),
    };
    let slices: Vec<_> = status
        .profiles()
        .into_iter()
        .map(|(profile, count)| format!("{count} of {profile}"))
        .collect();
    let slices = if slices.is_empty() { "none".to_owned() } else { slices.join(", ") };
    let error = match &status.error {
        Some(error) => format!("{}, {}", ago(Some(error.time)), error.message),
        None => "none".to_owned(),
    };
    let Status { refreshes, changes, failures, .. } = status;
    let mut text = String::new();
    for (key, value) in [
        ("state", state),
        (
            "watch",
            format!(
                "mig-cdi {}, pid {}, since {}",
                status.version,
                status.pid,
                age(now() - status.started)
            ),
        ),
        ("spec", status.spec.display().to_string()),
        ("slices", slices),
        ("refreshed", format!("{}, in {:.0} ms", ago(status.refreshed), status.seconds * 1e3)),
        ("changed", ago(status.changed)),
        ("count", format!("{refreshes} refreshes, {changes} changes, {failures} failures")),
        ("told by", told_by(status)),
        ("last error", error),
    ] {
        // Writing into a text does not fail.
        let _ = writeln!(text, "{key:<11}{value}");
    }
    for slice in &status.node.devices {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(text, "{:<11}{:<20} {}", "slice", word(&slice.name), word(&slice.uuid));
    }
    text
}

/// How watch comes to know of a change.
fn told_by(status: &Status) -> String {
    let changes = status.change_events;
    let told = match status.driver_events {
        None => "nobody: it looks".to_owned(),
        Some(EventCoverage::None) => "nobody: the driver tells of no gpu here".to_owned(),
        Some(EventCoverage::Some) => format!("the driver, of some gpus, {changes} times"),
        Some(EventCoverage::All) => format!("the driver, of all gpus, {changes} times"),
    };
    match status.driver_errors {
        None => told,
        Some(EventCoverage::None) => told + "; errors are told of no gpu",
        Some(EventCoverage::Some) => told + "; errors of some gpus",
        Some(EventCoverage::All) => told + "; errors of all gpus",
    }
}

/// `12 s`, `3 min`, `5 h`, `2 d`.
fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{:.0} {name}", (seconds / unit).floor()),
        None => format!("{seconds:.0} s"),
    }
}
