//! `mig-cdi status`: the state of `watch`, from the file that it writes. Queries no driver.

use crate::{
    cli::StatusArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    table::or_dash,
};
use mig_cdi_gen::{
    Error, Exit, MessageSink,
    watch::{
        EventCoverage,
        status::{Status, WatchState, now},
    },
};

pub(super) fn run(args: &StatusArgs, console: &Console) -> Result<CommandOutput, Error> {
    let dir = &args.state.state_dir;
    let Some(status) = Status::read(dir)? else {
        return Err(Error::failed("read", dir.join("status.json").display())
            .because("watch has not run")
            .with_cure("start mig-cdi.service, or run mig-cdi watch"));
    };
    let runs = status.is_running(dir);
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
        console.warn("watch is not running: the spec does not follow MIG changes");
    }
    Ok(CommandOutput { stdout, exit })
}

fn json(status: &Status, runs: bool) -> Result<String, Error> {
    let value = serde_json::to_value(status);
    let mut value = value.map_err(|e| Error::failed("write", "json").because(e))?;
    value["running"] = runs.into();
    to_json(&value)
}

/// Formats the state as lines of a name and a value, with a line for each slice.
fn text(status: &Status, runs: bool) -> String {
    let Status { version, pid, refreshes, changes, failures, .. } = status;
    let refreshed = format!("{}, in {:.0} ms", ago(status.refreshed), status.seconds * 1e3);
    let watch = format!("mig-cdi {version}, pid {pid}, since {}", age(now() - status.started));
    let mut lines = vec![
        ("state", state(status, runs)),
        ("watch", watch),
        ("spec", status.spec.display().to_string()),
        ("slices", slices(status)),
        ("refreshed", refreshed),
        ("changed", ago(status.changed)),
        ("count", format!("{refreshes} refreshes, {changes} changes, {failures} failures")),
        ("events", events(status)),
        ("last error", last_error(status)),
    ];
    for slice in &status.node.devices {
        let (name, uuid) = (or_dash(slice.name.as_ref()), or_dash(slice.uuid.as_ref()));
        lines.push(("slice", format!("{name:<20} {uuid}")));
    }
    lines.iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

fn state(status: &Status, runs: bool) -> String {
    match (runs, status.state) {
        (false, _) => "not running".to_owned(),
        (true, WatchState::Starting) => "starting".to_owned(),
        (true, WatchState::Ok) => "ok".to_owned(),
        (true, WatchState::Incomplete) => format!("incomplete: {} omitted", status.node.omitted),
        (true, WatchState::Failing | WatchState::Stopped) => "failing".to_owned(),
    }
}

/// Number of slices of each profile.
fn slices(status: &Status) -> String {
    let counts = status.profiles().into_iter();
    let counts: Vec<_> = counts.map(|(profile, count)| format!("{count} of {profile}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn last_error(status: &Status) -> String {
    match &status.error {
        Some(error) => format!("{}, {}", ago(Some(error.time)), error.message),
        None => "none".to_owned(),
    }
}

/// Describes the driver's events that watch is subscribed to. Without events it polls.
fn events(status: &Status) -> String {
    let count = status.change_events;
    let changes = match status.driver_events {
        None => "off: watch polls".to_owned(),
        Some(EventCoverage::None) => "none: no gpu reports mig changes".to_owned(),
        Some(EventCoverage::Some) => format!("changes of some gpus, {count} so far"),
        Some(EventCoverage::All) => format!("changes of all gpus, {count} so far"),
    };
    match status.driver_errors {
        None => changes,
        Some(EventCoverage::None) => changes + "; critical errors of no gpu",
        Some(EventCoverage::Some) => changes + "; critical errors of some gpus",
        Some(EventCoverage::All) => changes + "; critical errors of all gpus",
    }
}

/// Formats the age of a time in seconds since 1970.
fn ago(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |time| age(now() - time) + " ago")
}

/// Formats a duration in seconds in its largest whole unit: `12 s`, `3 min`, `5 h`, `2 d`.
fn age(seconds: f64) -> String {
    // The clock may have been set back since the time was written.
    let seconds = seconds.max(0.0);
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{:.0} {name}", (seconds / unit).floor()),
        None => format!("{seconds:.0} s"),
    }
}
