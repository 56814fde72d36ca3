//! `mig-cdi generate`.

use super::{
    Context, Done, exit,
    plan::{Document, Plan, destination, plan, removable, text_of},
};
use crate::{
    Exit, Failure,
    cli::{GenerateArgs, WriteArgs},
    engines::EVERYBODY,
    spec::{Built, Format},
    write::Target,
};
use mig_cdi_model::{
    HostNode, Major, Topology,
    cdi::{Kind, Spec, Version},
};
use mig_cdi_sys::{Machine, Outcome, text};

pub(super) fn run(context: &Context<'_>, args: &WriteArgs) -> Result<Done, Failure> {
    if args.remove {
        return remove(context, &args.generate);
    }
    let (stdout, plan) = apply(context, &args.generate, Yield::No, || ())?;
    Ok(Done { stdout, exit: exit(plan.complete) })
}

/// Takes the specs away, whatever the node is.
fn remove(context: &Context<'_>, args: &GenerateArgs) -> Result<Done, Failure> {
    for (kind, target) in removable(context, args)? {
        let _lock = target.lock()?;
        let path = target.path();
        context.console.status(&match target.clear(&kind)? {
            Outcome::Changed => format!("removed {}", path.display()),
            Outcome::Unchanged => format!("nothing to remove: {} is not there", path.display()),
        });
    }
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}

/// What comes of whole GPUs that a file of somebody else defines too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Yield {
    /// Nothing is written at all.
    No,
    /// They are left to that file, and slices are written.
    Gpus,
}

/// Discovers, and writes once `ready` is over. Gives what is for standard output.
pub(super) fn apply(
    context: &Context<'_>,
    args: &GenerateArgs,
    yields: Yield,
    ready: impl FnOnce(),
) -> Result<(String, Plan), Failure> {
    let (_, target) = destination(context, args, context.kind(&args.spec))?;
    // From before the driver is asked: of two runs the later one is to win.
    let _lock = target.map(|target| target.lock()).transpose()?;
    let mut plan = plan(context, args)?;
    if yields == Yield::Gpus {
        yield_gpus(&mut plan)?;
    }
    let Plan { topology, documents, format, complete, params, .. } = &plan;
    let (format, complete) = (*format, *complete);
    let warnings = documents.iter().any(|document| !document.built.warnings.is_empty());
    if args.strict && (!complete || warnings) {
        let message = "nothing is written: the node is incomplete and --strict was given";
        return Err(Failure::new(Exit::Incomplete, message));
    }
    warn_of_engines(context, args, documents)?;
    warn_of_host_nodes(context, topology);
    if documents.iter().any(|document| document.target.is_some()) {
        refuse_real_majors(context, topology)?;
    }
    for document in documents {
        if let (Some(target), Some(spec)) = (&document.target, &document.built.spec) {
            target.check(spec)?;
        }
    }
    ready();
    let mut stdout = String::new();
    for document in documents {
        // What a spec names must be there before it.
        if let (Some(target), Some(_), Some(text)) =
            (&document.target, &document.built.spec, params)
        {
            target.install_companion(text)?;
        }
        stdout += &put(context, document, (format, complete))?;
    }
    Ok((stdout, plan))
}

/// Our own file would disable that of the other: it goes.
fn yield_gpus(plan: &mut Plan) -> Result<(), Failure> {
    for Document { built, kind, target } in plan.documents.iter_mut().skip(1) {
        let (Some(target), Some(spec)) = (&*target, &built.spec) else { continue };
        if let Err(failure) = target.check(spec) {
            target.clear(kind)?;
            (built.spec, built.devices) = (None, Vec::new());
            plan.yielded.push(format!("whole gpus are left out: {}", failure.message));
        }
    }
    Ok(())
}

/// An engine that does not take a version says of each device that it cannot be resolved, and no more.
fn warn_of_engines(
    context: &Context<'_>,
    args: &GenerateArgs,
    documents: &[Document],
) -> Result<(), Failure> {
    let specs = documents.iter().filter_map(|document| document.built.spec.as_ref());
    let versions = specs.filter_map(|spec| spec.cdi_version.as_ref()?.parse::<Version>().ok());
    let Some(version) = versions.max().filter(|version| *version > EVERYBODY) else {
        return Ok(());
    };
    for engine in context.engines(&args.spec)? {
        let label = engine.label();
        match engine.takes {
            Some(takes) if takes < version => context.console.warn(&format!(
                "{label} takes cdi up to {takes}, and this is {version}: it will know none of these devices; \
                 update it, or generate with --max-cdi-version {takes}"
            )),
            None if engine.has_cdi => context
                .console
                .detail(&format!("whether {label} takes cdi {version} is not known")),
            _ => {}
        }
    }
    Ok(())
}

/// Writes one document, prints it, or takes an old one away.
fn put(
    context: &Context<'_>,
    document: &Document,
    (format, complete): (Format, bool),
) -> Result<String, Failure> {
    let Document { built, kind, target } = document;
    match (&built.spec, target) {
        (Some(spec), None) => text_of(spec, format),
        (Some(spec), Some(target)) => {
            let outcome = target.install(spec, &text_of(spec, format)?)?;
            say_written(context, target, spec, built, outcome);
            Ok(String::new())
        }
        (None, _) if !complete => {
            context.console.status(&format!(
                "no {kind} device is certain; nothing was written and an older spec stays as it is"
            ));
            Ok(String::new())
        }
        (None, target) => clear(context, target.as_ref(), kind),
    }
}

/// The spec carries the numbers, so engines that make nodes need none on the host. Rootless ones
/// bind the host's: a missing node fails there, and a stale one is another device.
fn warn_of_host_nodes(context: &Context<'_>, topology: &Topology) {
    let gpus = topology.gpus.iter().filter(|gpu| !gpu.gpu_instances.is_empty());
    let devices = topology.mig_devices().flat_map(|d| [&d.gi.cap, &d.ci.cap]);
    let nodes = topology.common.iter().chain(gpus.map(|gpu| &gpu.node)).chain(devices);
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for node in nodes {
        let list = match node.host {
            HostNode::Ok => continue,
            HostNode::Missing => &mut missing,
            HostNode::Wrong => &mut wrong,
        };
        if !list.contains(&node.path.as_str()) {
            list.push(node.path.as_str());
        }
    }
    warn_of(context, "missing on the host", &missing);
    warn_of(context, "on the host with other numbers", &wrong);
}

fn warn_of(context: &Context<'_>, what: &str, paths: &[&str]) {
    let Some((first, others)) = paths.split_first() else {
        return;
    };
    let more =
        if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    context.console.warn(&format!(
        "{what}: {first}{more}; engines that make nodes do not mind, rootless ones take the host's: run \
         mig-cdi nodes as root"
    ));
    others.iter().for_each(|path| context.console.detail(&format!("{what}: {path}")));
}

/// A simulated node has made-up numbers. Where a driver of this machine answers to one of them, a
/// container would be given that driver's device.
fn refuse_real_majors(context: &Context<'_>, topology: &Topology) -> Result<(), Failure> {
    const PATH: &str = "/proc/devices";
    if context.node.node.is_none() {
        return Ok(());
    }
    let fail = |message: String| Failure::new(Exit::Refused, message);
    let bytes = context.host()?.read(PATH, 1 << 20)?;
    let bytes = bytes.ok_or_else(|| fail(format!("read {PATH}: not there; mount /proc")))?;
    let devices = text::char_devices(&bytes).map_err(|e| fail(format!("parse {PATH}: {e}")))?;
    let mut majors: Vec<Major> = Vec::new();
    topology.clone().for_each_node(|node| majors.push(node.major));
    for major in majors {
        if let Some(driver) = devices.names(major).next() {
            return Err(fail(format!(
                "write a simulated spec: its major {major} is {driver:?} on this machine, and a container \
                 would get that device; give the node other [majors], or use --output -"
            )));
        }
    }
    Ok(())
}

fn say_written(
    context: &Context<'_>,
    target: &Target,
    spec: &Spec,
    built: &Built,
    outcome: Outcome,
) {
    let done = match outcome {
        Outcome::Changed => "wrote",
        Outcome::Unchanged => "unchanged",
    };
    let simulated = if context.node.node.is_some() { " of a simulated node" } else { "" };
    let (path, kind, version) = (target.path(), &spec.kind, spec.cdi_version.as_deref());
    let message = format!(
        "{done} {}: {} {kind} devices{simulated}, cdi {}",
        path.display(),
        built.devices.len(),
        version.unwrap_or_default()
    );
    context.console.status(&message);
    // Slices alone have a variable of their own.
    let slices = spec.devices.iter().filter(|device| !device.container_edits.env.is_empty());
    let names = slices.map(|device| device.name.as_str()).filter(|name| *name != "all");
    if let Some(name) = names.min_by_key(|name| name.len()) {
        context.console.hint(&format!(
            "try: podman run --rm --device {kind}={name} IMAGE ls /dev/nvidia-caps"
        ));
    }
}

/// No slice is a state of the node and no failure: the spec goes.
fn clear(context: &Context<'_>, target: Option<&Target>, kind: &Kind) -> Result<String, Failure> {
    let nothing = format!("no {kind} device on this node");
    let Some(target) = target else {
        context.console.status(&format!("{nothing}: nothing to print, cdi knows no empty spec"));
        return Ok(String::new());
    };
    let path = target.path();
    let message = match target.clear(kind)? {
        Outcome::Changed => format!("{nothing}: removed {}", path.display()),
        Outcome::Unchanged => {
            format!("{nothing}: {} is not written, cdi knows no empty spec", path.display())
        }
    };
    context.console.status(&message);
    Ok(String::new())
}
