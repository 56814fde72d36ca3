//! Configuration of the installed engines, as far as CDI and hooks depend on it. Reads files; judges nothing.

use super::text_file::{TextFileError, read_value};
use crate::{
    cli::EngineArg,
    configure::running_daemons,
    engine_files::{
        ConfigPlaces, ConfigReader, CriPlugin, EngineSettings, GivenConfig, is_cri_disabled,
        main_file, podman_has_spec_dirs, podman_spec_dirs,
    },
};
use mig_cdi_gen::engines::InstalledEngine;
use mig_cdi_sys::Root;
use serde_json::Value;
use std::{cell::RefCell, convert::Infallible};

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
    pub spec_dirs_setting: Option<String>,
    /// Problems found on the way.
    pub problems: Vec<ConfigProblem>,
}

/// Setting that disables CDI.
#[derive(Clone)]
pub(crate) struct CdiOff {
    /// `features.cdi is not on`.
    pub reason: &'static str,
    /// Change that enables CDI, in the imperative.
    pub cure: String,
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
    /// A file that containerd imports is not there.
    MissingImport(String),
}

/// Reads the files of an engine. A file that cannot be used is a problem, and counts as absent.
struct Files<'a> {
    host: &'a Root,
    problems: RefCell<Vec<ConfigProblem>>,
}

impl ConfigReader for Files<'_> {
    type Error = Infallible;

    fn list(&self, dir: &str) -> Result<Option<Vec<String>>, Infallible> {
        // Without the list of a directory, the other files still count.
        Ok(self.host.list(dir).ok().flatten())
    }

    fn value(&self, path: &str) -> Result<Option<Value>, Infallible> {
        match read_value(self.host, path) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => {
                self.problems.borrow_mut().push(ConfigProblem::Unusable(error));
                Ok(None)
            }
        }
    }
}

impl EngineConfig {
    /// Reads the configuration of an engine. An OCI runtime has none that matters here.
    pub(super) fn read(host: &Root, engine: &InstalledEngine) -> EngineConfig {
        let kind = match engine.name {
            "podman" => EngineArg::Podman,
            "containerd" => EngineArg::Containerd,
            "docker" => EngineArg::Docker,
            "crio" => EngineArg::Crio,
            _ => return EngineConfig::default(),
        };
        // With several daemons that have different files, those of the default configuration.
        let running = kind.daemon().and_then(|daemon| running_daemons(host, daemon, false).ok());
        let given = running.unwrap_or_default().given;
        let places = ConfigPlaces { given, ..ConfigPlaces::default() };
        let files = Files { host, problems: RefCell::default() };
        let Ok(settings) = EngineSettings::load(kind, engine.assumed_version(), &places, &files);
        let mut config = EngineConfig {
            problems: files.problems.into_inner(),
            ..of_settings(kind, engine, &places, &settings)
        };
        if kind == EngineArg::Containerd && is_cri_disabled(&settings.effective, settings.cri.name)
        {
            config.problems.push(ConfigProblem::CriDisabled);
            // The setting of a plugin that is disabled has no effect: it needs no cure.
            config.cdi_off = None;
        }
        if settings.has_unknown_imports {
            config.problems.push(ConfigProblem::UnknownImports);
        }
        config.problems.extend(settings.missing_import.map(ConfigProblem::MissingImport));
        let GivenConfig { spec_dirs, .. } = places.given;
        if !spec_dirs.is_empty() {
            config.spec_dirs = spec_dirs;
        }
        config
    }
}

fn of_settings(
    kind: EngineArg,
    engine: &InstalledEngine,
    places: &ConfigPlaces,
    settings: &EngineSettings,
) -> EngineConfig {
    let mut config = EngineConfig::default();
    let is_on = |keys: &[&str]| settings.value(keys).and_then(Value::as_bool).unwrap_or_default();
    let main = main_file(kind, places);
    match kind {
        EngineArg::Podman => {
            let version = engine.assumed_version();
            config.spec_dirs = podman_spec_dirs(version, settings);
            config.spec_dirs_setting = podman_has_spec_dirs(version)
                .then(|| format!("in {main}, below [engine], set cdi_spec_dirs"));
            config.hooks_dirs = settings.strings(&["engine", "hooks_dir"]);
        }
        EngineArg::Containerd => {
            let plugin = settings.cri.name;
            config.spec_dirs = settings.strings(&["plugins", plugin, "cdi_spec_dirs"]);
            config.spec_dirs_setting =
                Some(format!("in {main}, beside enable_cdi, set cdi_spec_dirs"));
            let is_on = is_on(&["plugins", plugin, "enable_cdi"]);
            config.cdi_off = (!is_on).then(|| CdiOff {
                reason: "enable_cdi is not true",
                cure: enable_cdi_cure(settings.cri, &main),
            });
        }
        EngineArg::Docker => {
            config.spec_dirs = settings.strings(&["cdi-spec-dirs"]);
            config.spec_dirs_setting = Some(format!("in {main} set \"cdi-spec-dirs\""));
            config.cdi_off = (!is_on(&["features", "cdi"])).then(|| CdiOff {
                reason: "features.cdi is not on",
                cure: format!(
                    "put {{\"features\": {{\"cdi\": true}}}} into {main} and restart docker"
                ),
            });
        }
        EngineArg::Crio => {
            config.spec_dirs = settings.strings(&["crio", "runtime", "cdi_spec_dirs"]);
            config.spec_dirs_setting = Some(
                "in a file of /etc/crio/crio.conf.d/, below [crio.runtime], set cdi_spec_dirs"
                    .to_owned(),
            );
            config.hooks_dirs = settings.strings(&["crio", "runtime", "hooks_dir"]);
        }
    }
    config
}

fn enable_cdi_cure(cri: CriPlugin, main: &str) -> String {
    // A name with dots is quoted (TOML 1.0, "Keys").
    match cri.version {
        0 | 1 => format!("set enable_cdi = true below [plugins.{}] in {main}", cri.name),
        _ => format!("set enable_cdi = true below [plugins.\"{}\"] in {main}", cri.name),
    }
}
