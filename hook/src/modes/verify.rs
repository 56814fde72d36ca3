//! `verify`: an OCI hook that refuses a container whose slices do not match its spec. Reads no settings: everything
//! is in the arguments that the spec holds.

use super::output::{dry_run, log_refusal};
use crate::{
    cli::VerifyOptions,
    driver::Driver,
    error::{Error, ROOT_ONLY, Result},
    state::ContainerState,
    verify,
};
use mig_cdi_sys::{KeepCaps, Log, ProgramOutput, Root, isolate, run as run_program};
use serde::{Deserialize, Serialize};
use std::{io, path::Path, time::Duration};

const MODE: &str = "verify";

/// Time limit of `mig-cdi`, below the one that `generate` sets for the hook: the engine would kill the hook without a
/// reason.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn run(options: &VerifyOptions) -> Result<String> {
    isolate(if options.full.is_some() { KeepCaps::ReadNvml } else { KeepCaps::None })?;
    if options.dry_run {
        return dry_run_output(options);
    }
    let mut id = String::new();
    let done = ContainerState::read(io::stdin().lock()).and_then(|state| {
        id = state.id;
        verify_slices(options)
    });
    match done {
        Ok(()) => Ok(String::new()),
        Err(error) => {
            log_refusal(&Log::open(None), MODE, &id, &error);
            Err(error)
        }
    }
}

fn verify_slices(options: &VerifyOptions) -> Result<()> {
    // No path in /dev is read here: the spec describes a slice by numbers.
    let driver = Driver::open(&options.proc_root, Path::new("/"))?;
    for slice in &options.slices {
        verify::slice(&driver, slice)?;
    }
    // Last: NVML takes tens of milliseconds, /proc half of one.
    match &options.full {
        Some(program) => verify_with_nvml(program, options),
        None => Ok(()),
    }
}

/// Runs `mig-cdi verify`: a static program cannot load NVML, which is a shared library of glibc's.
fn verify_with_nvml(program: &Path, options: &VerifyOptions) -> Result<()> {
    if !program.is_absolute() {
        return Err(Error::usage("run", program.display(), "the path is not absolute")
            .with_cure("set --full to an absolute path"));
    }
    // generate has checked it too, and files can change.
    if let Some(reason) = Root::open(Path::new("/"))?.untrusted_program(program) {
        return Err(Error::refused("run", program.display(), reason).with_cure(ROOT_ONLY));
    }
    let slices = options.slices.iter().map(ToString::to_string);
    let args = [MODE.to_owned()].into_iter().chain(options.mig_cdi_options.iter().cloned());
    let args: Vec<String> = args.chain(slices).collect();
    let ran = run_program(program, &args, LIMIT)?;
    match ran.code == Some(0) {
        true => Ok(()),
        false => Err(child_error(program, &ran)),
    }
}

/// A failure as `mig-cdi verify` prints it: the last line of its standard output, its `mig_cdi_gen::Error` as JSON. The
/// two programs may be of different versions: fields that are not used here are ignored.
#[derive(Deserialize)]
struct ChildFailure {
    operation: String,
    subject: String,
    cause: String,
    #[serde(default)]
    cure: Option<String>,
}

/// The error of `mig-cdi verify`, or that it printed none: it was killed, or is another program.
fn child_error(program: &Path, ran: &ProgramOutput) -> Error {
    let printed = ran.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let Some(ChildFailure { operation, subject, cause, cure }) = printed else {
        let cause = match ran.code {
            Some(code) => format!("it failed with exit code {code} and printed no reason"),
            None => "a signal ended it".to_owned(),
        };
        return Error::refused("run", program.display(), cause)
            .with_cure("run mig-cdi check to see the reason");
    };
    let error = Error::refused(operation, subject, cause);
    cure.into_iter().fold(error, Error::with_cure)
}

fn dry_run_output(options: &VerifyOptions) -> Result<String> {
    #[derive(Serialize)]
    struct Content<'p> {
        slices: Vec<String>,
        full: Option<&'p Path>,
    }
    let slices = options.slices.iter().map(ToString::to_string).collect();
    dry_run(MODE, Content { slices, full: options.full.as_deref() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HookExit;

    fn error(code: Option<i32>, stdout: &str) -> Error {
        let ran = ProgramOutput {
            code,
            stdout: stdout.to_owned(),
            stderr: "error: of no interest".to_owned(),
        };
        child_error(Path::new("/usr/bin/mig-cdi"), &ran)
    }

    #[test]
    fn the_failure_of_mig_cdi_is_taken_over() {
        let line = r#"{"operation":"verify slice","subject":"gpu minor 0 gi 3 ci 0","cause":"profile is 1g.10gb, the spec has 2g.20gb","cure":"run mig-cdi generate","kind":"stale"}"#;
        let error = error(Some(6), &format!("{line}\n"));
        assert_eq!(error.exit, HookExit::Refused);
        assert_eq!(
            error.to_string(),
            "verify slice gpu minor 0 gi 3 ci 0: profile is 1g.10gb, the spec has 2g.20gb; run mig-cdi generate"
        );
    }

    #[test]
    fn a_child_that_fails_always_has_a_message() {
        for (code, stdout, cause) in [
            (None, "", "/usr/bin/mig-cdi: a signal ended it"),
            (None, "{\"operation\":\"ver", "a signal ended it"),
            (Some(1), "", "exit code 1"),
            (Some(0x7f), "not json\n", "exit code 127"),
            (Some(1), "{}\n", "exit code 1"),
        ] {
            let text = error(code, stdout).to_string();
            assert!(text.contains(cause), "{text}");
        }
    }
}
