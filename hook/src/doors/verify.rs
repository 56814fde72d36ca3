//! Refuses a container whose slices are not what its spec says.

use super::json;
use crate::{Failure, cli::Verify, driver::Driver, state::State, verify};
use mig_cdi_sys::{KeepCaps, Log, LogLevel, run as run_program};
use serde::Serialize;
use std::{io, path::Path, time::Duration};

const CURE: &str = "run mig-cdi generate and start the container again";

/// Below the time limit that `generate` gives the engine, so that it is we who say what happened.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn run(options: &Verify) -> Result<String, Failure> {
    mig_cdi_sys::isolate(if options.full.is_some() { KeepCaps::AskNvml } else { KeepCaps::None })?;
    if options.dry_run {
        return printed(options);
    }
    let mut id = String::new();
    let done = State::read(io::stdin().lock()).and_then(|state| {
        id = state.id;
        check(options)
    });
    if let Err(failure) = &done {
        let line = format!("verify: container {id:?} is refused: {failure}");
        Log::open(None).line(LogLevel::Error, &line);
    }
    done.map(|()| String::new())
}

fn check(options: &Verify) -> Result<(), Failure> {
    let driver = Driver::open(&options.proc_root, Path::new("/"))?;
    for claim in &options.claims {
        verify::claim(&driver, claim)
            .map_err(|why| Failure::refused(format!("verify a slice: {why}; {CURE}")))?;
    }
    match &options.full {
        Some(program) => ask(program, options),
        None => Ok(()),
    }
}

/// A static program cannot load NVML: `mig-cdi` asks it.
fn ask(program: &Path, options: &Verify) -> Result<(), Failure> {
    let claims = options.claims.iter().map(ToString::to_string);
    let args: Vec<String> = ["verify".to_owned()]
        .into_iter()
        .chain(options.pass.iter().cloned())
        .chain(claims)
        .collect();
    if !program.is_absolute() {
        return Err(Failure::usage(format!("--full {}: no absolute path", program.display())));
    }
    let ran = run_program(program, &args, LIMIT)?;
    if ran.code == Some(0) {
        return Ok(());
    }
    let last = ran
        .stderr
        .lines()
        .rfind(|line| line.starts_with("error: "))
        .unwrap_or("it does not say why");
    let why = last.trim_start_matches("error: ");
    Err(Failure::refused(format!("verify a slice: {}: {why}", program.display())))
}

fn printed(options: &Verify) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Print<'p> {
        door: &'static str,
        slices: Vec<String>,
        full: Option<&'p Path>,
    }
    let slices = options.claims.iter().map(ToString::to_string).collect();
    json(&Print { door: "verify", slices, full: options.full.as_deref() })
}
