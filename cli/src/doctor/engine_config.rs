//! Configuration of the installed engines, as far as CDI and hooks depend on it. Reads files; judges nothing.

use super::text_file::{TextFileError, read_value};
use crate::{
    cli::EngineArg,
    configure::{DaemonState, daemon_state, running_daemons},
    engine_files::{
        ConfigPlaces, ConfigReader, EngineSettings, GivenConfig, RejectedFile, is_cri_disabled,
        podman_has_spec_dirs, podman_spec_dirs, user_dir,
    },
};
use mig_cdi_gen::engines::InstalledEngine;
use mig_cdi_sys::{Root, is_root, user_id};
use serde_json::Value;
use std::{cell::RefCell, convert::Infallible, path::Path};

/// Settings of an engine that are in effect.
#[derive(Default)]
pub(crate) struct EngineConfig {
    /// Directories from which it reads specs; empty for an engine without specs.
    pub spec_dirs: Vec<String>,
    /// Directories from which it reads hooks; empty for an engine without hooks.
    pub hooks_dirs: Vec<String>,
    /// Set when CDI is disabled: the reason, as `features.cdi is not on`.
    pub cdi_off: Option<&'static str>,
    /// False when the directories of specs are compiled in.
    pub has_spec_dirs_setting: bool,
    /// True for an engine that the user who runs this runs as well, with files of their own.
    pub is_rootless: bool,
    /// Problems found on the way.
    pub problems: Vec<ConfigProblem>,
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
    /// A file with which containerd does not start.
    Rejected(RejectedFile),
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
        let places = places(host, kind);
        let files = Files { host, problems: RefCell::default() };
        let Ok(settings) = EngineSettings::load(kind, engine.assumed_version(), &places, &files);
        let mut config = EngineConfig {
            problems: files.problems.into_inner(),
            is_rootless: places.user_config.is_some(),
            ..of_settings(kind, engine, &settings)
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
        config.problems.extend(settings.rejected.map(ConfigProblem::Rejected));
        // The command line of a daemon counts alone.
        let GivenConfig { spec_dirs, hooks_dirs, .. } = places.given;
        if !spec_dirs.is_empty() {
            config.spec_dirs = spec_dirs;
        }
        if !hooks_dirs.is_empty() {
            config.hooks_dirs = hooks_dirs;
        }
        config
    }
}

/// Places of the files of an engine. A user's are those of the engine that they run: of podman, and of Docker where a rootless
/// daemon of theirs runs.
fn places(host: &Root, kind: EngineArg) -> ConfigPlaces {
    let is_rootless = !is_root()
        && match kind {
            EngineArg::Podman => true,
            EngineArg::Docker => daemon_state(host, "dockerd", true, 0) != DaemonState::NotRunning,
            EngineArg::Containerd | EngineArg::Crio => false,
        };
    let set = |name| std::env::var(name).ok().filter(|path| path.starts_with('/'));
    // Debian's name for a home that is not there (adduser(8)). podman would take that of the password file.
    let no_home = || "/nonexistent/.config".to_owned();
    let config = || user_dir("XDG_CONFIG_HOME", ".config").unwrap_or_else(no_home);
    // Variables of this process are about this machine. podman reads them, started from the same shell.
    let is_machine = host.display_path("") == Path::new("/");
    let of_podman = |name| set(name).filter(|_| is_machine && matches!(kind, EngineArg::Podman));
    // With several daemons that have different files, those of the default configuration.
    let running = kind.daemon().and_then(|daemon| running_daemons(host, daemon, is_rootless).ok());
    ConfigPlaces {
        user_config: is_rootless.then(config),
        uid: user_id(),
        user_runtime: set("XDG_RUNTIME_DIR").filter(|_| is_rootless),
        given: running.unwrap_or_default().given,
        containers_conf: of_podman("CONTAINERS_CONF"),
        containers_conf_override: of_podman("CONTAINERS_CONF_OVERRIDE"),
    }
}

fn of_settings(
    kind: EngineArg,
    engine: &InstalledEngine,
    settings: &EngineSettings,
) -> EngineConfig {
    let mut config = EngineConfig { has_spec_dirs_setting: true, ..EngineConfig::default() };
    let is_on = |keys: &[&str]| settings.value(keys).and_then(Value::as_bool).unwrap_or_default();
    match kind {
        EngineArg::Podman => {
            let version = engine.assumed_version();
            config.spec_dirs = podman_spec_dirs(version, settings);
            config.has_spec_dirs_setting = podman_has_spec_dirs(version);
            config.hooks_dirs = settings.strings(&["engine", "hooks_dir"]);
        }
        EngineArg::Containerd => {
            let plugin = settings.cri.name;
            config.spec_dirs = settings.strings(&["plugins", plugin, "cdi_spec_dirs"]);
            let is_on = is_on(&["plugins", plugin, "enable_cdi"]);
            config.cdi_off = (!is_on).then_some("enable_cdi is not true");
        }
        EngineArg::Docker => {
            config.spec_dirs = settings.strings(&["cdi-spec-dirs"]);
            config.cdi_off = (!is_on(&["features", "cdi"])).then_some("features.cdi is not on");
        }
        EngineArg::Crio => {
            config.spec_dirs = settings.strings(&["crio", "runtime", "cdi_spec_dirs"]);
            config.hooks_dirs = settings.strings(&["crio", "runtime", "hooks_dir"]);
        }
    }
    config
}
