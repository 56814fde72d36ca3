//! `mig-cdi generate`.

use super::{Context, Done, exit};
use crate::{
    Exit, Failure,
    cli::GenerateArgs,
    spec::{self, Built, Format, Options, to_text},
    write::Target,
};
use mig_cdi_model::{HostNode, Major, Topology, cdi::Spec};
use mig_cdi_sys::{Machine, Outcome, text};
use std::path::{Path, PathBuf};

pub(super) fn run(context: &Context<'_>, args: &GenerateArgs) -> Result<Done, Failure> {
    let options = context.options(&args.spec)?;
    let (format, target) = destination(context, args, &options)?;
    let machine = context.machine()?;
    let discovery = context.discover(machine.as_ref())?;
    let files = context.driver_files(machine.as_ref(), &discovery.topology, &args.spec)?;
    let built = spec::build(&discovery.topology, &files, &options)?;
    context.report(&built);
    let complete = discovery.problems.is_empty() && built.problems.is_empty();
    if args.strict && !(complete && built.warnings.is_empty()) {
        let message = "nothing is written: the node is incomplete and --strict was given";
        return Err(Failure::new(Exit::Incomplete, message));
    }
    warn_of_host_nodes(context, &discovery.topology);
    if target.is_some() {
        refuse_real_majors(context, &discovery.topology)?;
    }
    let stdout = match (&built.spec, &target) {
        (Some(spec), None) => text_of(spec, format)?,
        (Some(spec), Some(target)) => {
            let outcome = target.install(spec, &text_of(spec, format)?)?;
            say_written(context, target, spec, &built, outcome);
            String::new()
        }
        (None, _) if !complete => {
            let message =
                "no device is certain; nothing was written and an older spec stays as it is";
            context.console.status(message);
            String::new()
        }
        (None, target) => clear(context, target.as_ref(), &options)?,
    };
    Ok(Done { stdout, exit: exit(complete) })
}

fn text_of(spec: &Spec, format: Format) -> Result<String, Failure> {
    to_text(spec, format).map_err(|e| Failure::new(Exit::Failed, format!("write the spec: {e}")))
}

/// Where to write, and how. `None` is standard output.
fn destination(
    context: &Context<'_>,
    args: &GenerateArgs,
    options: &Options,
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
        let file = format!("{}.{}", options.kind.file_stem(), format.suffix());
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
    let (path, version) = (target.path(), spec.cdi_version);
    let message =
        format!("{done} {}: {} mig devices, cdi {version}", path.display(), built.devices);
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
fn clear(
    context: &Context<'_>,
    target: Option<&Target>,
    options: &Options,
) -> Result<String, Failure> {
    let nothing = "no mig device on this node";
    let Some(target) = target else {
        context.console.status(&format!("{nothing}: nothing to print, cdi knows no empty spec"));
        return Ok(String::new());
    };
    let path = target.path();
    let message = match target.clear(&options.kind)? {
        Outcome::Changed => format!("{nothing}: removed {}", path.display()),
        Outcome::Unchanged => {
            format!("{nothing}: {} is not written, cdi knows no empty spec", path.display())
        }
    };
    context.console.status(&message);
    Ok(String::new())
}
