//! The installed engines, and their configuration as far as CDI and hooks depend on it: as `configure` finds and reads them. Judges
//! nothing.

use super::text_file::{TextFileError, read_text};
use crate::{
    cli::EngineArg,
    configure::{
        ConfigFormat, EditError, UnclearDaemon, find_engine, is_running, parse, running_daemons,
    },
    engine_files::{
        AmbiguousKey, ConfigPlaces, ConfigReader, EngineSettings, GivenConfig, HidingLink,
        RejectedFile, is_cri_disabled, main_file, podman_has_spec_dirs, podman_spec_dirs, user_dir,
    },
};
use mig_cdi_gen::engines::{self, InstalledEngine};
use mig_cdi_sys::{Root, is_root};
use serde_json::Value;
use std::{cell::RefCell, convert::Infallible, path::Path};

/// Settings of an engine that are in effect.
#[derive(Default)]
pub(crate) struct EngineConfig {
    /// Directories from which it reads specs; empty for an engine without specs.
    pub spec_dirs: Vec<String>,
    /// Directories in its list that it does not look into.
    pub hidden_dirs: Vec<(String, HidingLink)>,
    /// Directories from which it reads hooks; empty for an engine without hooks.
    pub hooks_dirs: Vec<String>,
    /// Set when CDI is disabled: the reason, as `features.cdi is not on`.
    pub cdi_off: Option<&'static str>,
    /// False when the directories of specs are compiled in.
    pub has_spec_dirs_setting: bool,
    /// True for an engine that the user who runs this runs as well, with files of their own.
    pub is_rootless: bool,
    /// Set when it is not clear which daemon counts, and so which files: the other fields are then those of the default files.
    pub unclear: Option<UnclearDaemon>,
    /// Problems found on the way.
    pub problems: Vec<ConfigProblem>,
}

/// Problem in the configuration of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigProblem {
    /// A file cannot be read or does not parse.
    Unusable(TextFileError),
    /// A file has two values of a setting, of which the engine takes one that is not known here.
    Ambiguous { path: String, keys: AmbiguousKey },
    /// containerd's CRI plugin is disabled.
    CriDisabled,
    /// The main file of containerd imports files by a pattern that is not supported here.
    UnknownImports { main: String },
    /// A file with which the engine does not start.
    Rejected(RejectedFile),
}

/// Reads the files of an engine. A file that cannot be used is a problem, and counts as absent.
struct Files<'a> {
    host: &'a Root,
    format: ConfigFormat,
    problems: RefCell<Vec<ConfigProblem>>,
}

impl ConfigReader for Files<'_> {
    type Error = Infallible;

    fn list(&self, dir: &str) -> Result<Option<Vec<String>>, Infallible> {
        // Without the list of a directory, the other files still count.
        Ok(self.host.list(dir).ok().flatten())
    }

    fn value(&self, path: &str) -> Result<Option<Value>, Infallible> {
        let parse = |text: String| {
            let invalid =
                |e: EditError| TextFileError::Parse { path: path.to_owned(), cause: e.to_string() };
            parse(&text, self.format).map_err(invalid)
        };
        match read_text(self.host, path).map(|text| text.and_then(parse)) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => {
                self.problems.borrow_mut().push(ConfigProblem::Unusable(error));
                Ok(None)
            }
        }
    }
}

/// Finds the installed engines, each with its configuration, and the OCI runtimes.
pub(super) fn find_engines(host: &Root) -> Vec<(InstalledEngine, EngineConfig)> {
    let engines = [EngineArg::Podman, EngineArg::Containerd, EngineArg::Docker, EngineArg::Crio];
    let engines = engines.into_iter().filter_map(|kind| {
        let user_config = user_config(host, kind);
        let running = running_daemons(host, kind, user_config.is_some());
        let engine = find_engine(host, kind, &running)?;
        let is_machine = host.display_path("") == Path::new("/");
        let places = ConfigPlaces::new(kind, user_config, running.given, is_machine);
        let config = EngineConfig {
            unclear: running.unclear,
            ..EngineConfig::read(host, kind, &engine, places)
        };
        Some((engine, config))
    });
    // An OCI runtime has no configuration that matters here.
    let runtimes = ["runc", "crun"].into_iter().filter_map(|name| engines::find_engine(host, name));
    engines.chain(runtimes.map(|runtime| (runtime, EngineConfig::default()))).collect()
}

impl EngineConfig {
    /// Reads the configuration of an engine.
    fn read(
        host: &Root,
        kind: EngineArg,
        engine: &InstalledEngine,
        places: ConfigPlaces,
    ) -> EngineConfig {
        let format = ConfigFormat::of(kind, engine.version.clone().ok());
        let files = Files { host, format, problems: RefCell::default() };
        let Ok(settings) = EngineSettings::load(kind, engine.assumed_version(), &places, &files);
        let mut config = EngineConfig {
            problems: files.problems.into_inner(),
            is_rootless: places.user_config.is_some(),
            ..of_settings(kind, engine, &settings)
        };
        // Where containerd does not start, that is said alone.
        let is_disabled = kind == EngineArg::Containerd
            && settings.rejected.is_none()
            && is_cri_disabled(&settings.effective, settings.cri.name);
        if is_disabled {
            config.problems.push(ConfigProblem::CriDisabled);
            // The setting of a plugin that is disabled has no effect: it needs no cure.
            config.cdi_off = None;
        }
        let ambiguous = settings.ambiguous.into_iter();
        let ambiguous = ambiguous.map(|(path, keys)| ConfigProblem::Ambiguous { path, keys });
        config.problems.extend(ambiguous);
        if settings.has_unknown_imports {
            let main = main_file(kind, &places);
            config.problems.push(ConfigProblem::UnknownImports { main });
        }
        // A file that cannot be used counts as absent, and is named already.
        let is_named = config.problems.iter().any(|p| matches!(p, ConfigProblem::Unusable(_)));
        let rejected = settings.rejected.filter(|_| !is_named);
        config.problems.extend(rejected.map(ConfigProblem::Rejected));
        // The command line of a daemon counts alone.
        let GivenConfig { spec_dirs, hooks_dirs, .. } = places.given;
        if !spec_dirs.is_empty() {
            config.spec_dirs = spec_dirs;
        }
        if !hooks_dirs.is_empty() {
            config.hooks_dirs = hooks_dirs;
        }
        let (version, is_rootless) = (engine.assumed_version(), config.is_rootless);
        let link = |dir: &str| HidingLink::find(host, kind, version, is_rootless, dir);
        let hidden = config.spec_dirs.iter().filter_map(|dir| Some((dir.clone(), link(dir)?)));
        config.hidden_dirs = hidden.collect();
        config.spec_dirs.retain(|dir| link(dir).is_none());
        config
    }
}

/// Configuration directory of the user who runs this, where the engine that they use is their own: podman, and Docker where a
/// rootless daemon of theirs runs.
fn user_config(host: &Root, kind: EngineArg) -> Option<String> {
    let is_rootless = !is_root()
        && match kind {
            EngineArg::Podman => true,
            EngineArg::Docker => is_running(host, "dockerd", true),
            EngineArg::Containerd | EngineArg::Crio => false,
        };
    // Debian's name for a home that is not there (adduser(8)). podman would take that of the password file.
    let no_home = || "/nonexistent/.config".to_owned();
    is_rootless.then(|| user_dir("XDG_CONFIG_HOME", ".config").unwrap_or_else(no_home))
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
            // One empty path switches CDI off (moby `daemon/command/daemon.go`, `loadDaemonCliConfig`).
            let is_empty = config.spec_dirs == [""];
            config.cdi_off = match is_on(&["features", "cdi"]) {
                false => Some("features.cdi is not on"),
                true => is_empty.then_some("cdi-spec-dirs is one empty path"),
            };
        }
        EngineArg::Crio => {
            config.spec_dirs = settings.strings(&["crio", "runtime", "cdi_spec_dirs"]);
            config.hooks_dirs = settings.strings(&["crio", "runtime", "hooks_dir"]);
        }
    }
    config
}
