//! The tool that wrote a spec file, and the cures that it knows. A cure of one tool is of no use with the file of another.

use super::{
    facts::{EngineFacts, LocatedSpec, NodeFacts},
    verdict::{path_text, quoted},
};
use mig_cdi_gen::engines::PROGRAM_DIRS;
use mig_cdi_model::{
    DeviceVariable,
    cdi::{Spec, Version},
};
use std::{collections::BTreeSet, path::Path};

const GENERATE: &str = "run mig-cdi generate";
/// Settings of the service that writes [`REFRESHED_FILES`] (nvidia-container-toolkit, `deployments/systemd/nvidia-cdi-refresh.service`).
const REFRESH_SETTINGS: &str = "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env";
const REFRESH_UNITS: [&str; 3] = [
    "/usr/lib/systemd/system/nvidia-cdi-refresh.service",
    "/lib/systemd/system/nvidia-cdi-refresh.service",
    "/etc/systemd/system/nvidia-cdi-refresh.service",
];
const REFRESHED_FILES: [&str; 2] = ["/var/run/cdi/nvidia.yaml", "/run/cdi/nvidia.yaml"];
/// Without it nvidia-ctk writes `additionalGids`, a field of CDI 0.7.0 (nvidia-container-toolkit, `pkg/nvcdi/lib.go`).
const NO_GIDS: &str = "no-additional-gids-for-device-nodes";

/// A tool that writes spec files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    MigCdi,
    /// `nvidia-ctk cdi generate`, run by an administrator.
    NvidiaCtk,
    /// The service of nvidia-container-toolkit that runs nvidia-ctk after every change of the driver.
    NvidiaCdiRefresh,
    /// A pod that writes its files when it starts: NVIDIA's device plugin, DRA driver, or container toolkit.
    NvidiaPod(&'static str),
    Unknown,
}

/// Vendors in the kinds of specs that NVIDIA's pods write (k8s-device-plugin `cmd/nvidia-device-plugin/plugin-manager.go`,
/// k8s-dra-driver-gpu `cmd/gpu-kubelet-plugin/cdi.go`, nvidia-container-toolkit `cmd/nvidia-ctk-installer`).
const PODS: [(&str, &str); 4] = [
    ("k8s.device-plugin.nvidia.com", "nvidia's device plugin"),
    ("k8s.gpu.nvidia.com", "nvidia's dra driver"),
    ("k8s.compute-domain.nvidia.com", "nvidia's dra driver"),
    ("management.nvidia.com", "nvidia's container toolkit of the gpu operator"),
];

impl Writer {
    /// Recognises the writer by the vendor in the kind, by our variable, by hooks, and by the place of the file.
    pub(super) fn of(facts: &NodeFacts<'_>, located: &LocatedSpec<'_>) -> Writer {
        let LocatedSpec { path, spec, .. } = located;
        let vendor = spec.kind.split('/').next().unwrap_or_default();
        if let Some((_, pod)) = PODS.iter().find(|(pod, _)| *pod == vendor) {
            return Writer::NvidiaPod(pod);
        }
        if has_our_variable(spec) {
            return Writer::MigCdi;
        }
        // Only nvidia-ctk writes nvidia.com/gpu in a file of another name than ours.
        let is_ours = is_our_file(facts, path, &spec.kind);
        if runs_hook_of_nvidia(spec)
            || (vendor == "nvidia.com" && has_additional_gids(spec))
            || (spec.kind == "nvidia.com/gpu" && !is_ours)
        {
            return match is_refreshed(facts, path) {
                true => Writer::NvidiaCdiRefresh,
                false => Writer::NvidiaCtk,
            };
        }
        if is_ours { Writer::MigCdi } else { Writer::Unknown }
    }

    /// The command that writes the file again.
    pub(super) fn regenerate(facts: &NodeFacts<'_>, located: &LocatedSpec<'_>) -> String {
        match Writer::of(facts, located) {
            Writer::MigCdi => regenerate_ours(facts, located, ""),
            Writer::NvidiaCtk => run_nvidia_ctk(facts, located, ""),
            Writer::NvidiaCdiRefresh => "run systemctl restart nvidia-cdi-refresh".to_owned(),
            Writer::NvidiaPod(pod) => format!("restart the pod of {pod}, which writes it"),
            Writer::Unknown => {
                "generate it again with the tool that wrote it, or remove it".to_owned()
            }
        }
    }

    /// Cure for an engine that accepts no version above `highest`.
    pub(super) fn lower_version(
        facts: &NodeFacts<'_>,
        located: &LocatedSpec<'_>,
        engine: &EngineFacts,
        highest: Version,
    ) -> String {
        let update = format!("update {}", engine.name);
        // nvidia-ctk writes the lowest version that the content needs, and has no option for a lower one: without these
        // ids it is 0.5.0.
        let is_for_gids = has_additional_gids(located.spec) && highest >= Version::V0_5_0;
        match Writer::of(facts, located) {
            Writer::MigCdi => {
                let flag = format!(" --max-cdi-version={highest}");
                format!("{update}, or {}", regenerate_ours(facts, located, &flag))
            }
            Writer::NvidiaCtk if is_for_gids => {
                let flag = format!(" --feature-flag={NO_GIDS}");
                format!("{update}, or {}", run_nvidia_ctk(facts, located, &flag))
            }
            Writer::NvidiaCdiRefresh if is_for_gids => format!(
                "{update}, or add NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS={NO_GIDS} to {REFRESH_SETTINGS} and run \
                 systemctl restart nvidia-cdi-refresh"
            ),
            _ => format!(
                "{update}, or have the tool that wrote the spec write cdi {highest} or lower"
            ),
        }
    }
}

/// True when the spec has the variable that names a slice, which no other tool writes.
fn has_our_variable(spec: &Spec) -> bool {
    let mut variables = spec.all_edits().flat_map(|(_, edits)| &edits.env);
    variables.any(|variable| DeviceVariable::parse(variable).is_some())
}

/// True for a field that is part of no spec of ours.
fn has_additional_gids(spec: &Spec) -> bool {
    spec.all_edits().any(|(_, edits)| !edits.additional_gids.is_empty())
}

fn runs_hook_of_nvidia(spec: &Spec) -> bool {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut hooks = spec.all_edits().flat_map(|(_, edits)| &edits.hooks);
    // Before release 1.17 the hooks were subcommands of nvidia-ctk itself.
    hooks.any(|hook| matches!(&*name(&hook.path), "nvidia-cdi-hook" | "nvidia-ctk"))
}

/// True for the files that `mig-cdi generate` writes without options, and with `--gpus`.
fn is_our_file(facts: &NodeFacts<'_>, path: &Path, kind: &str) -> bool {
    let ours = &facts.settings.kind;
    [ours.clone(), ours.with_class_gpu()].iter().any(|known| {
        let dir = facts.settings.spec_dirs.last();
        let file = dir.map(|dir| dir.join(format!("{}.json", known.file_stem())));
        known.to_string() == kind && file.is_some_and(|file| file == path)
    })
}

fn is_refreshed(facts: &NodeFacts<'_>, path: &Path) -> bool {
    let is_place = REFRESHED_FILES.iter().any(|file| facts.host.display_path(file) == path);
    is_place && REFRESH_UNITS.iter().any(|unit| exists(facts, unit))
}

fn exists(facts: &NodeFacts<'_>, path: &str) -> bool {
    facts.host.identity(path).is_ok_and(|identity| identity.is_some())
}

/// The command that writes a file of ours again, with more flags, or what has to be done before generate writes beside another file.
fn regenerate_ours(facts: &NodeFacts<'_>, located: &LocatedSpec<'_>, flags: &str) -> String {
    let command = generate(facts, located) + flags;
    let Some(other) = facts.specs().find(|other| conflicts(facts, located, other)) else {
        return command;
    };
    match is_our_file(facts, located.path, &located.spec.kind) {
        true => format!(
            "remove {0}, which defines its devices too: rm {0}; then {command}",
            quoted(other.path)
        ),
        false => {
            let (path, other) = (quoted(located.path), path_text(other.path));
            format!("remove it, since {other} defines its devices too: rm {path}")
        }
    }
}

/// True when generate would refuse to write a file because another one defines a device that the file has, or will have
/// (`SpecPath::check` of mig-cdi-gen).
fn conflicts(facts: &NodeFacts<'_>, file: &LocatedSpec<'_>, other: &LocatedSpec<'_>) -> bool {
    let is_read = |file: &LocatedSpec<'_>| {
        facts.settings.spec_dirs.iter().any(|dir| file.path.parent() == Some(dir))
    };
    if file.path == other.path
        || file.spec.kind != other.spec.kind
        || (file.dir != other.dir && !(is_read(file) && is_read(other)))
    {
        return false;
    }
    let expected = facts.expected_spec.as_ref().ok().and_then(Option::as_ref);
    let specs = expected.into_iter().filter(|spec| spec.kind == file.spec.kind).chain([file.spec]);
    let names: BTreeSet<_> = specs.flat_map(|spec| &spec.devices).map(|d| &d.name).collect();
    other.spec.devices.iter().any(|device| names.contains(&device.name))
}

/// The command that writes a file of ours again in its place.
fn generate(facts: &NodeFacts<'_>, located: &LocatedSpec<'_>) -> String {
    let LocatedSpec { path, spec, .. } = located;
    let ours = &facts.settings.kind;
    let mut command = GENERATE.to_owned();
    if spec.kind == ours.with_class_gpu().to_string() && is_our_file(facts, path, &spec.kind) {
        return command + " --gpus";
    }
    if spec.kind != ours.to_string() {
        command += &format!(" --kind={}", spec.kind);
    }
    if !is_our_file(facts, path, &spec.kind) {
        command += &format!(" --output={}", quoted(path));
    }
    command
}

fn run_nvidia_ctk(facts: &NodeFacts<'_>, located: &LocatedSpec<'_>, flags: &str) -> String {
    let kind = match located.spec.kind.split_once('/') {
        Some((vendor, class)) if (vendor, class) != ("nvidia.com", "gpu") => {
            format!(" --vendor={vendor} --class={class}")
        }
        _ => String::new(),
    };
    let path = quoted(located.path);
    let is_installed = PROGRAM_DIRS.iter().any(|dir| exists(facts, &format!("{dir}/nvidia-ctk")));
    let install = if is_installed { "" } else { "install nvidia-container-toolkit and " };
    format!("{install}run nvidia-ctk cdi generate{kind}{flags} --output={path}")
}
