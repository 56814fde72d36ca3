//! `mig-cdi doctor`: why does it not work?

use super::{Done, Resolver, json};
use crate::{
    cli::DoctorArgs,
    console::Console,
    doctor::{NodeFacts, Severity, Verdict, examine, explain},
};
use mig_cdi_args::SpecArgs;
use mig_cdi_gen::{Error, Exit, MessageSink, generate::DeviceBuilder};
use mig_cdi_sys::Root;

pub(super) fn run(
    resolver: &Resolver<'_>,
    args: &DoctorArgs,
    broken_settings: Option<Error>,
    console: &Console,
) -> Result<Done, Error> {
    let machine = resolver.node.machine()?;
    let host = Root::open(&args.host_root)?;
    let devices = resolver.devices(&SpecArgs::default())?;
    let options = DeviceBuilder::new(resolver.node, &devices, console).options()?;
    let mut facts = NodeFacts::gather(machine.as_ref(), &host, resolver.settings, &options)?;
    facts.settings_error = broken_settings;
    let verdicts = match &args.name {
        None => examine(&facts),
        Some(name) => explain(&facts, name),
    };
    let stdout = match args.json {
        true => json(&verdicts)?,
        false => text(&verdicts),
    };
    let count = |severity| verdicts.iter().filter(|v| v.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let notes = count(Severity::Note);
    console.status(&format!("{errors} errors, {warnings} warnings, {notes} notes"));
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
