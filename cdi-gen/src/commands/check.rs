//! `mig-cdi check`: the files on disk against the node as it is now.

use super::{
    Context, Done,
    plan::{Document, plan},
};
use crate::{Exit, Failure, cli::GenerateArgs, spec_file};

pub(super) fn run(context: &Context<'_>, args: &GenerateArgs) -> Result<Done, Failure> {
    let plan = plan(context, args)?;
    let mut differences = Vec::new();
    for document in &plan.documents {
        differences.extend(check(document)?);
    }
    let exit = match (differences.is_empty(), plan.complete) {
        (false, _) => Exit::Stale,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Success,
    };
    Ok(Done { stdout: differences.into_iter().map(|line| line + "\n").collect(), exit })
}

/// Every difference of one file, as a line.
fn check(document: &Document) -> Result<Vec<String>, Failure> {
    let target = document
        .target
        .as_ref()
        .ok_or_else(|| Failure::new(Exit::Usage, "check reads a file: --output - names none"))?;
    let path = target.path();
    let path = path.display();
    let stale = |line: String| Ok(vec![format!("{path}: {line}; run mig-cdi generate")]);
    let (bytes, expected) = match (target.read()?, &document.built.spec) {
        (None, None) => return Ok(Vec::new()),
        (None, Some(_)) => return stale("not there, and the node has devices".to_owned()),
        (Some(_), None) => {
            return stale(format!("it is there, and the node has no {} device", document.kind));
        }
        (Some(bytes), Some(expected)) => (bytes, expected),
    };
    let Some(file) = spec_file::parse(&bytes) else {
        return stale("it is no spec that an engine can read".to_owned());
    };
    if file.kind != expected.kind {
        return stale(format!("its kind is {}, not {}", file.kind, expected.kind));
    }
    let lines = spec_file::differences(&file, expected);
    Ok(lines.into_iter().map(|line| format!("{path}: {line}")).collect())
}
