//! What watch runs for each refresh, in a process of its own: what `nodes` and `generate` do, with a report
//! for watch on standard output.

use super::{
    Context, Done, exit,
    generate::{Yield, apply},
    nodes::{self, Change},
    plan::{Document, Plan, text_of},
};
use crate::{
    Exit, Failure,
    cli::WatchArgs,
    engines::Said,
    inventory::inventory,
    spec::{Format, preferred_name},
    watch::{
        foreign::below,
        status::{Mark, Report, Slice},
    },
};
use mig_cdi_model::{Gpu, MigMode};
use mig_cdi_sys::{file_mark, is_root};
use std::{collections::BTreeSet, path::Path};

/// One refresh.
pub(super) fn run(context: &Context<'_>, args: &WatchArgs) -> Result<Done, Failure> {
    // While NVML is asked. The nodes that a spec names are there before it is.
    let (nodes, applied) = std::thread::scope(|scope| {
        let is_wanted = is_root() && !args.leave_nodes;
        let nodes = is_wanted.then(|| scope.spawn(|| nodes::apply(context, false, false)));
        let mut made = None;
        // Who hands slices out goes on with slices.
        let yields = if args.inventory { Yield::Gpus } else { Yield::No };
        let ready = || made = nodes.and_then(|nodes| nodes.join().ok());
        let applied = apply(context, &args.generate, yields, ready);
        (made, applied)
    });
    let (_, plan) = applied?;
    let mut report = report(context, args, &plan)?;
    match nodes {
        Some(Ok(changes)) => {
            report.nodes = changes.changes.iter().map(ToString::to_string).collect();
            let dev = context.roots().dev;
            let left = |change: &Change| {
                let path = below(&dev, change.path());
                // One that is made and has gone since then is not as it was left.
                let mark = file_mark(&path).or((!change.removes()).then_some(NO_FILE_S));
                (path, mark)
            };
            report.node_marks = changes.changes.iter().map(left).collect();
            report.complaints = changes.problems;
        }
        Some(Err(failure)) => report.complaints.push(failure.message),
        None => {}
    }
    report.complaints.extend(plan.yielded);
    let stdout = serde_json::to_string(&report)
        .map_err(|e| Failure::new(Exit::Failed, format!("write the report: {e}")))?;
    Ok(Done { stdout, exit: exit(plan.complete) })
}

fn report(context: &Context<'_>, args: &WatchArgs, plan: &Plan) -> Result<Report, Failure> {
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    let slice = |device: &mig_cdi_model::MigDevice<'_>| Slice {
        name: text(preferred_name(device, context.node.source).as_ref().map(|name| name as _)),
        uuid: text(device.ci.uuid.as_ref().map(|uuid| uuid as _)),
        profile: text(device.ci.profile.as_ref().map(|profile| profile as _)),
    };
    let specs = plan.documents.iter().filter_map(|document| document.built.spec.as_ref());
    let mounts = specs.flat_map(|spec| &spec.container_edits.mounts);
    let dirs: BTreeSet<_> =
        mounts.filter_map(|mount| Some(Path::new(&mount.host_path).parent()?.to_owned())).collect();
    let divided = plan.topology.gpus.iter().filter(|gpu| gpu.mig == MigMode::Enabled);
    let with_mode = |gpu: &Gpu| {
        let uuid = gpu.uuid.as_ref()?;
        Some(format!("{uuid}{}", if gpu.mig == MigMode::Enabled { " mig" } else { "" }))
    };
    let gpus = plan.topology.gpus.iter().filter(|_| args.health);
    let inventory = match args.inventory {
        true => {
            let built = plan.documents.iter().map(|document| (&document.kind, &document.built));
            let machine = context.machine()?;
            Some(inventory(&plan.topology, built, plan.left_out.clone(), &*machine))
        }
        false => None,
    };
    Ok(Report {
        gpus: gpus.filter_map(with_mode).collect(),
        divided: divided.filter_map(|gpu| Some(gpu.uuid.as_ref()?.to_string())).collect(),
        devices: plan.topology.mig_devices().map(|device| slice(&device)).collect(),
        left_out: plan.left_out.len(),
        inventory,
        file_dirs: dirs.into_iter().collect(),
        marks: plan.documents.iter().map(|document| mark(document, plan.format)).collect(),
        engines: context.engines.get().map(|engines| Said::text(engines)),
        ..Report::default()
    })
}

/// The mark that no file has.
const NO_FILE_S: [u64; 4] = [0; 4];

/// What tells the file that we have written. When another has taken its place since then, it is the mark of
/// no file: the mark is taken first, and the content is read after it.
fn mark(document: &Document, format: Format) -> Mark {
    let target = document.target.as_ref()?;
    let mark = file_mark(&target.path());
    let Some(spec) = &document.built.spec else { return mark };
    match (target.read(), text_of(spec, format)) {
        (Ok(Some(found)), Ok(text)) if found == text.as_bytes() => mark,
        _ => Some(NO_FILE_S),
    }
}
