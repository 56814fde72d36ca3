//! `mig-cdi generate`.

use super::{Context, Done, exit};
use crate::{
    Exit, Failure,
    cli::GenerateArgs,
    spec::{self, Built, Content, Format, Options, to_text},
    write::Target,
};
use mig_cdi_model::{
    HostNode, Major, Topology,
    cdi::{Kind, Spec},
};
use mig_cdi_sys::{Machine, Outcome, text};
use std::path::{Path, PathBuf};

pub(super) fn run(context: &Context<'_>, args: &GenerateArgs) -> Result<Done, Failure> {
    let Plan { topology, documents, format, complete, params } = plan(context, args)?;
    let warnings = documents.iter().any(|document| !document.built.warnings.is_empty());
    if args.strict && (!complete || warnings) {
        let message = "nothing is written: the node is incomplete and --strict was given";
        return Err(Failure::new(Exit::Incomplete, message));
    }
    warn_of_host_nodes(context, &topology);
    if documents.iter().any(|document| document.target.is_some()) {
        refuse_real_majors(context, &topology)?;
    }
    let mut stdout = String::new();
    for document in &documents {
        // What a spec names must be there before it.
        if let (Some(target), Some(_), Some(text)) =
            (&document.target, &document.built.spec, &params)
        {
            target.install_companion(text)?;
        }
        stdout += &put(context, document, (format, complete))?;
    }
    Ok(Done { stdout, exit: exit(complete) })
}

/// All that is to be written, before anything is.
pub(super) struct Plan {
    topology: Topology,
    pub documents: Vec<Document>,
    pub format: Format,
    /// Nothing was left out.
    pub complete: bool,
    /// A file that the documents bind into containers, to be written beside each.
    params: Option<String>,
}

/// One document and its place; `None` is standard output.
pub(super) struct Document {
    pub built: Built,
    pub kind: Kind,
    pub target: Option<Target>,
}

/// Discovers and builds.
pub(super) fn plan(context: &Context<'_>, args: &GenerateArgs) -> Result<Plan, Failure> {
    let options = context.options(&args.spec)?;
    let (format, target) = destination(context, args, &options.kind)?;
    let gpus = gpus_destination(args, &options, target.as_ref())?;
    let machine = context.machine()?;
    let discovery = context.discover(machine.as_ref())?;
    let topology = discovery.topology;
    let wanted =
        args.gpus || !args.spec.admin.is_empty() || topology.mig_devices().next().is_some();
    let files = match wanted {
        true => context.driver_files(machine.as_ref(), &topology, &args.spec)?,
        false => Vec::new(),
    };
    let params = masked_params(args, discovery.masked_params)?;
    let document =
        |content, options: &Options, target: Option<Target>| -> Result<Document, Failure> {
            let mut options = options.clone();
            if let (Some(target), Some(_)) = (&target, &params) {
                options.params_file = Some(target.companion()?);
            }
            let built = spec::build(&topology, &files, content, &options)?;
            context.report(&built);
            Ok(Document { built, kind: options.kind.clone(), target })
        };
    let mut documents = vec![document(Content::Mig, &options, target)?];
    if let Some((options, target)) = gpus {
        documents.push(document(Content::Gpus, &options, Some(target))?);
    }
    let problems = documents.iter().any(|document| !document.built.problems.is_empty());
    let complete = discovery.problems.is_empty() && !problems;
    Ok(Plan { topology, documents, format, complete, params })
}

/// The text to bind over `/proc/driver/nvidia/params`, when that is asked for.
fn masked_params(args: &GenerateArgs, masked: Option<String>) -> Result<Option<String>, Failure> {
    if !args.mask_params {
        return Ok(None);
    }
    if args.output.as_deref() == Some(Path::new("-")) {
        let message = "--mask-params writes a second file: it does not go with --output -";
        return Err(Failure::new(Exit::Usage, message));
    }
    let missing = "read /proc/driver/nvidia/params: no line ModifyDeviceFiles to switch off; leave \
                   --mask-params out";
    masked.map(Some).ok_or_else(|| Failure::new(Exit::Failed, missing))
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

/// Whole GPUs have a kind, and so a file, of their own, beside the other.
fn gpus_destination(
    args: &GenerateArgs,
    options: &Options,
    target: Option<&Target>,
) -> Result<Option<(Options, Target)>, Failure> {
    if !args.gpus {
        return Ok(None);
    }
    let target = target.ok_or_else(|| {
        let message = "--gpus writes a second file: it does not go with --output -";
        Failure::new(Exit::Usage, message)
    })?;
    let kind = options.gpu_kind();
    let target = target.beside(&kind)?;
    Ok(Some((Options { kind, ..options.clone() }, target)))
}

pub(super) fn text_of(spec: &Spec, format: Format) -> Result<String, Failure> {
    to_text(spec, format).map_err(|e| Failure::new(Exit::Failed, format!("write the spec: {e}")))
}

/// Where to write, and how. `None` is standard output.
fn destination(
    context: &Context<'_>,
    args: &GenerateArgs,
    kind: &Kind,
) -> Result<(Format, Option<Target>), Failure> {
    let by_suffix = || match args.output.as_ref()?.extension()?.to_str()? {
        "yaml" => Some(Format::Yaml),
        _ => None,
    };
    let format = args.format.or_else(by_suffix).unwrap_or(Format::Json);
    if args.output.as_deref() == Some(Path::new("-")) {
        return Ok((format, None));
    }
    let spec_dirs = &context.settings.spec_dirs;
    let default = || {
        let file = format!("{}.{}", kind.file_stem(), format.suffix());
        spec_dirs.last().map_or_else(PathBuf::new, |dir| dir.join(file))
    };
    let path = args.output.clone().unwrap_or_else(default);
    Target::new(&path, format.suffix(), spec_dirs).map(|target| (format, Some(target)))
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
         nvidia-smi as root"
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
    let (path, kind, version) = (target.path(), &spec.kind, spec.cdi_version);
    let message = format!(
        "{done} {}: {} {kind} devices{simulated}, cdi {version}",
        path.display(),
        built.devices
    );
    context.console.status(&message);
    let names = spec.devices.iter().map(|device| device.name.as_str());
    let shortest = names.filter(|name| *name != "all").min_by_key(|name| name.len());
    if let Some(name) = shortest {
        let kind = &spec.kind;
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
