//! Configuration of the installed engines, as far as CDI and hooks depend on it. Reads files; judges nothing.

use super::text_file::{TextFileError, read_value};
use crate::engine_files::{
    CONTAINERD_2, CONTAINERD_CONFIG, CRIO_DROP_INS, DEFAULT_HOOKS_DIR, DEFAULT_SPEC_DIRS,
    DOCKER_ENABLES_CDI, ImportedFiles, PODMAN_DROP_INS, cri_plugin, effective_list,
    file_and_drop_ins, imported_files, is_cri_disabled, podman_default_spec_dirs,
    podman_has_spec_dirs, value_at,
};
use mig_cdi_gen::engines::{EngineVersion, InstalledEngine};
use mig_cdi_sys::Root;
use serde_json::Value;

/// Settings of an engine that are in effect.
#[derive(Default)]
pub(crate) struct EngineConfig {
    /// Directories from which it reads specs; empty for an engine without specs.
    pub spec_dirs: Vec<String>,
    /// Directories from which it reads hooks; empty for an engine without hooks.
    pub hooks_dirs: Vec<String>,
    /// Set when CDI is disabled.
    pub cdi_off: Option<CdiOff>,
    /// File and key that name the spec directories, in the imperative: `in FILE set KEY`. `None` when the
    /// directories are compiled in.
    pub spec_dirs_setting: Option<&'static str>,
    /// Problems found on the way.
    pub problems: Vec<ConfigProblem>,
}

/// Setting that disables CDI.
#[derive(Clone, Copy)]
pub(crate) struct CdiOff {
    /// `features.cdi is not on`.
    pub reason: &'static str,
    /// Change that enables CDI, in the imperative.
    pub cure: &'static str,
}

/// Problem in the configuration of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigProblem {
    /// A file cannot be read or does not parse.
    Unusable(TextFileError),
    /// containerd's CRI plugin is disabled.
    CriDisabled,
    /// `config.toml` of containerd imports files by a pattern that is not supported here.
    UnknownImports,
}

impl EngineConfig {
    /// Reads the configuration of an engine. An OCI runtime has none that matters here.
    pub(super) fn read(host: &Root, engine: &InstalledEngine) -> EngineConfig {
        let version = engine.assumed_version();
        match engine.name {
            "podman" => podman(host, version),
            "containerd" => containerd(host, version),
            "docker" => docker(host, version),
            "crio" => crio(host),
            _ => EngineConfig::default(),
        }
    }

    /// Parses a file. One that cannot be used is a problem and counts as absent.
    fn file(&mut self, host: &Root, path: &str) -> Option<Value> {
        match read_value(host, path)? {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(ConfigProblem::Unusable(error));
                None
            }
        }
    }

    /// Parses a file and those of its drop-in directory by name; a later one overrides an earlier one.
    fn file_and_drop_ins(&mut self, host: &Root, path: &str, suffix: &str) -> Vec<Value> {
        // Without the directory's list, the file itself still counts.
        let paths = file_and_drop_ins(host, path, suffix).unwrap_or_else(|_| vec![path.to_owned()]);
        paths.iter().filter_map(|path| self.file(host, path)).collect()
    }
}

fn podman(host: &Root, version: EngineVersion) -> EngineConfig {
    let mut config = EngineConfig::default();
    let mut files = Vec::new();
    for dir in ["/usr/share/containers", "/etc/containers"] {
        files.extend(config.file_and_drop_ins(
            host,
            &format!("{dir}/containers.conf"),
            PODMAN_DROP_INS,
        ));
    }
    // A release without the setting ignores the key.
    let has_setting = podman_has_spec_dirs(version);
    let default = podman_default_spec_dirs(version);
    let set = if has_setting { &files[..] } else { &[] };
    config.spec_dirs = effective_list(set, &["engine", "cdi_spec_dirs"], default);
    config.spec_dirs_setting = has_setting
        .then_some("in /etc/containers/containers.conf, below [engine], set cdi_spec_dirs");
    config.hooks_dirs = effective_list(&files, &["engine", "hooks_dir"], &[DEFAULT_HOOKS_DIR]);
    config
}

fn containerd(host: &Root, version: EngineVersion) -> EngineConfig {
    let mut config = EngineConfig::default();
    let mut files: Vec<_> = config.file(host, CONTAINERD_CONFIG).into_iter().collect();
    // A file without a version is of version 1. Without any file the plugin has its name of version 2.
    let format = files
        .first()
        .map_or(2, |file| value_at(file, &["version"]).and_then(Value::as_i64).unwrap_or(1));
    let plugin = cri_plugin(format);
    let imported: ImportedFiles =
        files.first().map(|file| imported_files(host, file)).unwrap_or_default();
    for path in &imported.paths {
        let Some(value) = config.file(host, path) else { continue };
        let replaces = version < CONTAINERD_2;
        if replaces && value_at(&value, &["plugins", plugin]).is_some() {
            files.truncate(1);
            let plugins = files[0].get_mut("plugins").and_then(Value::as_object_mut);
            plugins.map(|plugins| plugins.remove(plugin));
        }
        files.push(value);
    }
    config.spec_dirs =
        effective_list(&files, &["plugins", plugin, "cdi_spec_dirs"], &DEFAULT_SPEC_DIRS);
    config.spec_dirs_setting =
        Some("in /etc/containerd/config.toml, beside enable_cdi, set cdi_spec_dirs");
    let enabled = |file: &Value| value_at(file, &["plugins", plugin, "enable_cdi"])?.as_bool();
    let set = files.iter().rev().find_map(enabled);
    let is_on = set.unwrap_or(version >= CONTAINERD_2);
    config.cdi_off = (!is_on)
        .then_some(CdiOff { reason: "enable_cdi is not true", cure: enable_cdi_cure(format) });
    if files.first().is_some_and(|file| is_cri_disabled(file, plugin)) {
        config.problems.push(ConfigProblem::CriDisabled);
        // The setting of a plugin that is disabled has no effect: it needs no cure.
        config.cdi_off = None;
    }
    if imported.has_unknown {
        config.problems.push(ConfigProblem::UnknownImports);
    }
    config
}

fn enable_cdi_cure(format: i64) -> &'static str {
    match format {
        3.. => {
            "set enable_cdi = true below [plugins.\"io.containerd.cri.v1.runtime\"] in /etc/containerd/config.toml"
        }
        2 => {
            "set enable_cdi = true below [plugins.\"io.containerd.grpc.v1.cri\"] in /etc/containerd/config.toml"
        }
        _ => "set enable_cdi = true below [plugins.cri] in /etc/containerd/config.toml",
    }
}

fn docker(host: &Root, version: EngineVersion) -> EngineConfig {
    let mut config = EngineConfig::default();
    let file = config.file(host, "/etc/docker/daemon.json");
    let files: Vec<_> = file.into_iter().collect();
    config.spec_dirs = effective_list(&files, &["cdi-spec-dirs"], &DEFAULT_SPEC_DIRS);
    config.spec_dirs_setting = Some("in /etc/docker/daemon.json set \"cdi-spec-dirs\"");
    let set = files.first().and_then(|file| value_at(file, &["features", "cdi"])?.as_bool());
    let is_on = set.unwrap_or(version >= DOCKER_ENABLES_CDI);
    config.cdi_off = (!is_on).then_some(CdiOff {
        reason: "features.cdi is not on",
        cure: "put {\"features\": {\"cdi\": true}} into /etc/docker/daemon.json and restart docker",
    });
    config
}

fn crio(host: &Root) -> EngineConfig {
    let mut config = EngineConfig::default();
    let files = config.file_and_drop_ins(host, "/etc/crio/crio.conf", CRIO_DROP_INS);
    let keys = ["crio", "runtime", "cdi_spec_dirs"];
    config.spec_dirs = effective_list(&files, &keys, &DEFAULT_SPEC_DIRS);
    config.spec_dirs_setting =
        Some("in a file of /etc/crio/crio.conf.d/, below [crio.runtime], set cdi_spec_dirs");
    let keys = ["crio", "runtime", "hooks_dir"];
    config.hooks_dirs = effective_list(&files, &keys, &[DEFAULT_HOOKS_DIR]);
    config
}
