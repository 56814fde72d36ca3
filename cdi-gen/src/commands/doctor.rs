//! `mig-cdi doctor`: why does it not work?

use super::{Context, Done};
use crate::{
    Exit, Failure,
    cli::{DoctorArgs, SpecArgs},
    doctor::{NodeFacts, Severity, Verdict, examine, explain},
};
use mig_cdi_sys::Root;

pub(super) fn run(
    context: &Context<'_>,
    args: &DoctorArgs,
    broken: Option<Failure>,
) -> Result<Done, Failure> {
    let machine = context.machine()?;
    let host = Root::open(&args.host_root)?;
    let options = context.options(&SpecArgs::default())?;
    let mut facts = NodeFacts::gather(machine.as_ref(), &host, context.settings, &options)?;
    facts.settings_error = broken;
    let verdicts = match &args.name {
        None => examine(&facts),
        Some(name) => explain(&facts, name),
    };
    let stdout = match args.json {
        true => {
            let text = serde_json::to_string_pretty(&verdicts);
            text.map_err(|e| Failure::new(Exit::Failed, format!("write json: {e}")))? + "\n"
        }
        false => text(&verdicts),
    };
    let count = |severity| verdicts.iter().filter(|v| v.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let notes = count(Severity::Note);
    context.console.status(&format!("{errors} errors, {warnings} warnings, {notes} notes"));
    let exit = if errors == 0 { Exit::Success } else { Exit::Failed };
    Ok(Done { stdout, exit })
}

/// A verdict on each line, and below it what to do.
fn text(verdicts: &[Verdict]) -> String {
    let wide = verdicts.iter().map(|verdict| verdict.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Verdict { check, severity, subject, evidence, cure } in verdicts {
        let severity = match severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        text += &plain(&format!("{severity:<7}  {check:<wide$}  {subject}{evidence}"));
        text += "\n";
        if let Some(cure) = cure {
            text += &plain(&format!("         cure: {cure}"));
            text += "\n";
        }
    }
    text
}

/// Names of files and texts of programs end up here: no control character reaches a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
