//! containerd. From 2.0 on a drop-in is merged key by key (pull request 9982), so that ours holds the settings.
//! 1.7 replaces the whole table of a plugin by that of a drop-in (issue 5837, measured with 1.7.24): there
//! `config.toml` itself is edited.

use super::{
    config_edit::Edit,
    config_format::ConfigFormat,
    draft::{ConfigPlan, Draft, EngineDaemon},
    request::ConfigureRequest,
};
use crate::engine_files::{
    CONTAINERD_2, CONTAINERD_CONFIG, cri_plugin, import_patterns, imported_files, is_cri_disabled,
    matches_import, strings_at, value_at,
};
use mig_cdi_gen::Error;
use serde_json::{Map, Value};

const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/50-mig-cdi.toml";

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    request.require_cdi()?;
    let config = request.value(CONTAINERD_CONFIG, ConfigFormat::Toml)?;
    let config = config.unwrap_or_else(|| Value::Object(Map::new()));
    let is_empty = config.as_object().is_some_and(Map::is_empty);
    let merges = request.version() >= CONTAINERD_2;
    // A file without a version is of version 1. A new file gets the newest version that the release reads.
    let version = match config.get("version").and_then(Value::as_i64) {
        Some(version) => version,
        None if is_empty && merges => 3,
        None if is_empty => 2,
        None => 1,
    };
    check_version(request, version, merges)?;
    let plugin = cri_plugin(version);
    let mut plan = ConfigPlan::default();
    if merges {
        plan.drafts = draft_drop_in(request, &config, version, plugin)?;
    } else {
        refuse_overridden(request, &config, plugin)?;
        let mut edits = Vec::new();
        if is_empty {
            edits.push(Edit::set(&["version"], version));
        }
        edits.extend(cri_edits(request, &config, plugin));
        plan.drafts.push(request.draft(CONTAINERD_CONFIG, ConfigFormat::Toml, &edits)?);
    }
    if is_cri_disabled(&config, plugin) {
        plan.warnings.push(format!(
            "disabled_plugins in {CONTAINERD_CONFIG} contains cri, so that kubernetes cannot use this \
             containerd; remove it from the list if kubernetes is to use it"
        ));
    }
    let restart = "systemctl restart containerd";
    plan.daemon = Some(EngineDaemon { process: "containerd", restart });
    Ok(plan)
}

/// Drafts our drop-in and, where `config.toml` does not import it yet, the import.
fn draft_drop_in(
    request: &ConfigureRequest<'_>,
    config: &Value,
    version: i64,
    plugin: &str,
) -> Result<Vec<Draft>, Error> {
    let mut drop_in = vec![Edit::set(&["version"], version)];
    drop_in.extend(cri_edits(request, config, plugin));
    let drop_in = request.draft(DROP_IN, ConfigFormat::Toml, &drop_in)?;
    let mut main = vec![Edit::set_default(&["version"], version)];
    if !import_patterns(config).iter().any(|pattern| matches_import(pattern, DROP_IN)) {
        main.push(Edit::contains(&["imports"], vec![DROP_INS.to_owned()], Vec::new()));
    }
    Ok(vec![drop_in, request.draft(CONTAINERD_CONFIG, ConfigFormat::Toml, &main)?])
}

/// Refuses a file whose version the release does not read as it is. A drop-in may not be of a later version than
/// the file that imports it, and each version has its own name for the plugin.
fn check_version(request: &ConfigureRequest<'_>, version: i64, merges: bool) -> Result<(), Error> {
    let label = request.engine.label();
    let refuse = |cause: String, cure: &str| {
        let path = request.host.display_path(CONTAINERD_CONFIG);
        Err(Error::refused("edit", path.display()).because(cause).with_cure(cure))
    };
    match version {
        1 if merges => refuse(
            format!("its version is 1, which {label} converts at each start"),
            "replace it by the output of containerd config migrate, and configure again",
        ),
        3.. if !merges => refuse(
            format!("its version is {version}, and {label} reads only 1 and 2"),
            "set version = 2 and rename its plugin tables to match",
        ),
        _ => Ok(()),
    }
}

/// Edits of the table of the CRI plugin.
fn cri_edits(request: &ConfigureRequest<'_>, config: &Value, plugin: &str) -> Vec<Edit> {
    let keys = ["plugins", plugin, "cdi_spec_dirs"];
    let initial = strings_at(config, &keys).unwrap_or_default();
    let mut edits = vec![
        Edit::set(&["plugins", plugin, "enable_cdi"], true),
        request.spec_dirs_edit(&keys, initial),
    ];
    if let Some(program) = &request.runtime {
        edits.extend(runtime_edits(program, config, plugin));
    }
    edits
}

/// Edits that register `mig-cdi-runtime` as the runtime `mig-cdi`.
fn runtime_edits(program: &str, config: &Value, plugin: &str) -> Vec<Edit> {
    let runtimes = ["plugins", plugin, "containerd", "runtimes"];
    let below = |more: &[&'static str]| [&runtimes[..], more].concat();
    let mut edits = Vec::new();
    // A table of runtimes in the file replaces the built-in one, which has runc (measured with 1.7.24).
    if value_at(config, &below(&["runc"])).is_none() {
        edits.push(Edit::set_default(&below(&["runc", "runtime_type"]), "io.containerd.runc.v2"));
    }
    edits.push(Edit::set(&below(&["mig-cdi", "runtime_type"]), "io.containerd.runc.v2"));
    // The CRI plugin passes only listed annotations to the OCI configuration, where the runtime reads them.
    let annotations = vec!["mig-cdi/*".to_owned()];
    let keys = below(&["mig-cdi", "container_annotations"]);
    edits.push(Edit::contains(&keys, annotations, Vec::new()));
    edits.push(Edit::set(&below(&["mig-cdi", "options", "BinaryName"]), program.to_owned()));
    // The kubelet and every runtime on a node have to use the same cgroup driver.
    if let Some(systemd) = value_at(config, &below(&["runc", "options", "SystemdCgroup"])) {
        let keys = below(&["mig-cdi", "options", "SystemdCgroup"]);
        edits.push(Edit::set(&keys, systemd.clone()));
    }
    edits
}

/// Refuses a `config.toml` of 1.7 that imports a file with the table of the plugin: that table would replace the
/// one in `config.toml`, with our keys.
fn refuse_overridden(
    request: &ConfigureRequest<'_>,
    config: &Value,
    plugin: &str,
) -> Result<(), Error> {
    for path in imported_files(request.host, config).paths {
        let value = request.value(&path, ConfigFormat::Toml)?;
        if value.is_some_and(|value| value_at(&value, &["plugins", plugin]).is_some()) {
            let cause = format!(
                "it imports {path}, whose table of the cri plugin replaces the one in config.toml in {}",
                request.engine.label()
            );
            let cure =
                format!("move the table into config.toml, or set enable_cdi = true in {path}");
            let config = request.host.display_path(CONTAINERD_CONFIG);
            return Err(Error::refused("edit", config.display()).because(cause).with_cure(cure));
        }
    }
    Ok(())
}
