//! `mig-cdi doctor`: prints the verdicts of the checks.

use crate::{
    cli::DoctorArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    doctor::{NodeFacts, Severity, Verdict, examine, explain},
    first_layout::FirstLayout,
    impossible_name,
    stage_options::Resolver,
};
use mig_cdi_args::SpecArgs;
use mig_cdi_gen::{Error, Exit, MessageSink, generate::DeviceBuilder};
use mig_cdi_model::{counted, one_line};
use mig_cdi_sys::Root;

pub(super) fn run(
    resolver: &Resolver<'_>,
    args: &DoctorArgs,
    broken_settings: Option<Error>,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let machine = resolver.node.machine()?;
    let host = Root::open(&args.host_root)?;
    // A spec does not record the flags that it was written with: it is compared with what the settings alone give.
    let devices = resolver.devices(&SpecArgs::default())?;
    let options = DeviceBuilder::new(resolver.node, &devices, console).options()?;
    let mut facts = NodeFacts::gather(machine.as_ref(), &host, resolver.settings, &options)?;
    facts.settings_error = broken_settings;
    facts.gpus = impossible_name::gpus(resolver.node);
    facts.first_layouts = FirstLayout::all(&facts.gpus);
    let verdicts = match &args.name {
        None => examine(&facts),
        Some(name) => explain(&facts, name),
    };
    let stdout = match args.json {
        true => to_json(&verdicts)?,
        false => text(&verdicts),
    };
    let count = |severity| verdicts.iter().filter(|v| v.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let notes = count(Severity::Note);
    let counts = [(errors, "error"), (warnings, "warning"), (notes, "note")];
    console.status(&counts.map(|(count, what)| counted(count, what)).join(", "));
    let exit = if errors == 0 { Exit::Success } else { Exit::Failed };
    Ok(CommandOutput { stdout, exit })
}

/// Formats a verdict as a line, with its cure on a line below. Verdicts contain names of files and output of programs, which
/// may have line ends.
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
        text += &one_line(&format!("{severity:<7}  {check:<wide$}  {subject}{evidence}"));
        text += "\n";
        if let Some(cure) = cure {
            text += &one_line(&format!("         cure: {cure}"));
            text += "\n";
        }
    }
    text
}
