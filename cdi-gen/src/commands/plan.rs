//! What `generate` writes and `check` compares with: the documents and their places.

use super::Context;
use crate::{
    Exit, Failure,
    cli::GenerateArgs,
    spec::{self, Built, Content, Format, SpecOptions, to_text},
    write::Target,
};
use mig_cdi_model::{
    Topology,
    cdi::{Kind, Spec},
};
use std::path::{Path, PathBuf};

/// All that is to be written, before anything is.
pub(super) struct Plan {
    /// What was found.
    pub topology: Topology,
    /// What is to be written of it.
    pub documents: Vec<Document>,
    /// How.
    pub format: Format,
    /// Nothing was left out.
    pub complete: bool,
    /// What was, a line each.
    pub left_out: Vec<String>,
    /// What is left to files of others, a line each.
    pub yielded: Vec<String>,
    /// A file that the documents bind into containers, to be written beside each.
    pub params: Option<String>,
}

/// One document and its place; `None` is standard output.
pub(super) struct Document {
    /// The document, if there is anything for one.
    pub built: Built,
    /// What its devices are.
    pub kind: Kind,
    /// Where it goes.
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
        |content, options: &SpecOptions, target: Option<Target>| -> Result<Document, Failure> {
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
    let problems = documents.iter().flat_map(|document| &document.built.problems);
    let left_out: Vec<_> =
        discovery.problems.iter().chain(problems).map(ToString::to_string).collect();
    let (complete, yielded) = (left_out.is_empty(), Vec::new());
    Ok(Plan { topology, documents, format, complete, left_out, yielded, params })
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

/// Whole GPUs have a kind, and so a file, of their own, beside the other.
fn gpus_destination(
    args: &GenerateArgs,
    options: &SpecOptions,
    target: Option<&Target>,
) -> Result<Option<(SpecOptions, Target)>, Failure> {
    if !args.gpus {
        return Ok(None);
    }
    let target = target.ok_or_else(|| {
        let message = "--gpus writes a second file: it does not go with --output -";
        Failure::new(Exit::Usage, message)
    })?;
    let kind = options.gpu_kind();
    if kind == options.kind {
        let message =
            format!("--gpus: {kind} is the kind of the slices too; choose another --kind");
        return Err(Failure::new(Exit::Usage, message));
    }
    let target = target.beside(&kind)?;
    Ok(Some((SpecOptions { kind, ..options.clone() }, target)))
}

/// The files that watch writes, that of MIG devices first.
pub(super) fn targets(
    context: &Context<'_>,
    args: &GenerateArgs,
) -> Result<Vec<(Kind, Target)>, Failure> {
    files(context, args, "watch writes a file")
}

/// The files that `generate --remove` takes away, that of MIG devices first.
pub(super) fn removable(
    context: &Context<'_>,
    args: &GenerateArgs,
) -> Result<Vec<(Kind, Target)>, Failure> {
    files(context, args, "--remove takes a file away")
}

fn files(
    context: &Context<'_>,
    args: &GenerateArgs,
    what: &str,
) -> Result<Vec<(Kind, Target)>, Failure> {
    let options = context.options(&args.spec)?;
    let (_, target) = destination(context, args, &options.kind)?;
    let target = target.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{what}: it does not go with --output -"))
    })?;
    let mut targets = vec![(options.kind.clone(), target)];
    if args.gpus {
        let kind = options.gpu_kind();
        targets.push((kind.clone(), targets[0].1.beside(&kind)?));
    }
    Ok(targets)
}

/// Where to write, and how. `None` is standard output.
pub(super) fn destination(
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

/// A document as text.
pub(super) fn text_of(spec: &Spec, format: Format) -> Result<String, Failure> {
    to_text(spec, format).map_err(|e| Failure::new(Exit::Failed, format!("write the spec: {e}")))
}
