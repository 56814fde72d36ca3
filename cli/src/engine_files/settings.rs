//! The settings of an engine that are in effect: its files, read and joined in the engine's own order and by its own rules.

use super::{
    CONTAINERD_CONFIG, DEFAULT_HOOKS_DIR, DEFAULT_SPEC_DIRS, DOCKER_ENABLES_CDI, containerd,
    containerd_versions::CriPlugin,
    key_case::{AmbiguousKey, KeyCase},
    merge::{MergeRules, Merged},
    podman, strings_at, value_at,
};
use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use mig_cdi_sys::user_id;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Reader of the files of an engine. Its errors end the reading; a reader that reports problems in another way returns `None` for a
/// file that it cannot use.
pub(crate) trait ConfigReader {
    /// Error of a file or directory.
    type Error;
    /// Names in a directory, sorted; `None` when it is not there, or is no directory.
    fn list(&self, dir: &str) -> Result<Option<Vec<String>>, Self::Error>;
    /// Parses a file; `None` when it is not there.
    fn value(&self, path: &str) -> Result<Option<Value>, Self::Error>;
}

/// Places of an engine's files on a machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigPlaces {
    /// Directory with the configuration of the user who runs the engine, as `/home/u/.config`; `None` for root.
    pub user_config: Option<String>,
    /// Id of that user.
    pub uid: u32,
    /// `$XDG_RUNTIME_DIR` of that user.
    pub user_runtime: Option<String>,
    /// Configuration that the running engine was given on its command line.
    pub given: GivenConfig,
    /// `$CONTAINERS_CONF`, which podman reads instead of its other files.
    pub containers_conf: Option<String>,
    /// `$CONTAINERS_CONF_OVERRIDE`, which podman reads last.
    pub containers_conf_override: Option<String>,
}

impl ConfigPlaces {
    /// Places of an engine that was started with `given`, of root, or of the user who has this configuration directory.
    /// Variables of this process are about this machine alone, which `is_machine` says that the host is.
    pub(crate) fn new(
        engine: EngineArg,
        user_config: Option<String>,
        given: GivenConfig,
        is_machine: bool,
    ) -> ConfigPlaces {
        let set = |name| std::env::var(name).ok().filter(|p| is_machine && p.starts_with('/'));
        let of_podman = |name| set(name).filter(|_| matches!(engine, EngineArg::Podman));
        ConfigPlaces {
            given,
            uid: user_id(),
            user_runtime: set("XDG_RUNTIME_DIR").filter(|_| user_config.is_some()),
            user_config,
            containers_conf: of_podman("CONTAINERS_CONF"),
            containers_conf_override: of_podman("CONTAINERS_CONF_OVERRIDE"),
        }
    }
}

/// Options of an engine's command line that name its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GivenConfig {
    /// `--config`, of Docker `--config-file`.
    pub file: Option<String>,
    /// CRI-O's `--config-dir`.
    pub dir: Option<String>,
    /// Directories of `--cdi-spec-dir` and `--cdi-spec-dirs`.
    pub spec_dirs: Vec<String>,
    /// Directories of CRI-O's `--hooks-dir`.
    pub hooks_dirs: Vec<String>,
    /// `--default-runtime`.
    pub default_runtime: Option<String>,
    /// Docker's `--feature`. dockerd does not start when its file has features too.
    pub features: BTreeMap<String, bool>,
}

/// A file with which an engine does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RejectedFile {
    pub path: String,
    pub cause: String,
    pub cure: String,
}

/// Settings of an engine that are in effect.
#[derive(Debug)]
pub(crate) struct EngineSettings {
    /// Files that exist, in the order in which the engine reads them: a later one overrides an earlier one. Their keys are spelled as
    /// the engine documents them.
    pub files: Vec<(String, Value)>,
    /// The files joined, with the built-in values that matter here.
    pub effective: Value,
    /// Version of containerd's main file, and the name of its CRI plugin in the joined files.
    pub cri: CriPlugin,
    /// containerd imports files by a pattern that is not understood here.
    pub has_unknown_imports: bool,
    /// A file with which the engine does not start.
    pub rejected: Option<RejectedFile>,
    /// A file with two values of a setting, of which the engine takes one that is not known here.
    pub ambiguous: Option<(String, AmbiguousKey)>,
}

impl EngineSettings {
    /// Reads the files of an engine and joins them.
    ///
    /// # Errors
    /// Those of the reader.
    pub(crate) fn load<R: ConfigReader>(
        engine: EngineArg,
        version: EngineVersion,
        places: &ConfigPlaces,
        reader: &R,
    ) -> Result<EngineSettings, R::Error> {
        match engine {
            EngineArg::Podman => {
                let files = podman::files(version, places, reader)?;
                let built_in = podman::built_in(version);
                let case = KeyCase::of(engine, version);
                let rejected = podman::missing_file(places, &files);
                let settings = join(MergeRules::Podman, case, built_in, files);
                Ok(EngineSettings { rejected, ..settings })
            }
            EngineArg::Crio => {
                let files = crio_files(places, reader)?;
                let case = KeyCase::of(engine, version);
                Ok(join(MergeRules::Crio, case, crio_built_in(version), files))
            }
            EngineArg::Docker => {
                let path = main_file(engine, places);
                let files = read_all(reader, [path])?;
                let built_in = docker_built_in(version, places);
                let case = KeyCase::of(engine, version);
                let mut settings = join(MergeRules::Docker, case, built_in, files);
                let features = &places.given.features;
                if !features.is_empty() {
                    let mut merged = Merged::new(MergeRules::Docker, settings.effective);
                    merged.add(&json!({ "features": features }));
                    settings.effective = merged.into_value();
                }
                Ok(settings)
            }
            EngineArg::Containerd => containerd::load(version, places, reader),
        }
    }

    /// The strings of a list that is in effect; none where it is not set.
    pub(crate) fn strings(&self, keys: &[&str]) -> Vec<String> {
        strings_at(&self.effective, keys).unwrap_or_default()
    }

    /// The name by which containerd's main file has the table of the CRI plugin.
    pub(crate) fn name_in_main_file(&self) -> &'static str {
        self.files.first().map_or(self.cri.name, |(_, file)| self.cri.name_in_form(file))
    }

    /// A value that is in effect.
    pub(crate) fn value(&self, keys: &[&str]) -> Option<&Value> {
        value_at(&self.effective, keys)
    }
}

/// Path of the file that an engine reads first or, for podman, of the administrator's or user's file.
pub(crate) fn main_file(engine: EngineArg, places: &ConfigPlaces) -> String {
    let default = match engine {
        EngineArg::Podman => {
            let dir = places.user_config.as_deref().unwrap_or("/etc");
            return match &places.containers_conf {
                Some(path) => path.clone(),
                None => format!("{dir}/containers/containers.conf"),
            };
        }
        EngineArg::Containerd => CONTAINERD_CONFIG.to_owned(),
        EngineArg::Crio => "/etc/crio/crio.conf".to_owned(),
        // Rootless dockerd reads daemon.json in the configuration directory of its user.
        EngineArg::Docker => {
            let dir = places.user_config.as_deref().unwrap_or("/etc");
            format!("{dir}/docker/daemon.json")
        }
    };
    places.given.file.clone().unwrap_or(default)
}

/// CRI-O's directory of drop-ins.
pub(crate) fn crio_drop_in_dir(places: &ConfigPlaces) -> String {
    places.given.dir.clone().unwrap_or_else(|| "/etc/crio/crio.conf.d".to_owned())
}

fn join(
    rules: MergeRules,
    case: KeyCase,
    built_in: Value,
    mut files: Vec<(String, Value)>,
) -> EngineSettings {
    let mut merged = Merged::new(rules, built_in);
    let mut ambiguous = None;
    for (path, value) in &mut files {
        if let Err(keys) = case.normalize(value) {
            ambiguous.get_or_insert_with(|| (path.clone(), keys));
        }
        merged.add(value);
    }
    EngineSettings {
        files,
        effective: merged.into_value(),
        cri: CriPlugin { version: 0, name: "" },
        has_unknown_imports: false,
        rejected: None,
        ambiguous,
    }
}

pub(super) fn read_all<R: ConfigReader>(
    reader: &R,
    paths: impl IntoIterator<Item = String>,
) -> Result<Vec<(String, Value)>, R::Error> {
    let mut files = Vec::new();
    for path in paths {
        if let Some(value) = reader.value(&path)? {
            files.push((path, value));
        }
    }
    Ok(files)
}

/// The main file, and every file below the drop-in directory in the order of its path (`pkg/config/config.go`,
/// `UpdateFromPath`).
fn crio_files<R: ConfigReader>(
    places: &ConfigPlaces,
    reader: &R,
) -> Result<Vec<(String, Value)>, R::Error> {
    /// Deepest directory that is read; none of a real machine has a second level.
    const DEPTH: usize = 8;
    let mut paths = vec![main_file(EngineArg::Crio, places)];
    let mut pending = VecDeque::from([(crio_drop_in_dir(places), 0)]);
    while let Some((path, depth)) = pending.pop_front() {
        match reader.list(&path)? {
            Some(names) if depth < DEPTH => {
                for name in names.into_iter().rev() {
                    pending.push_front((format!("{path}/{name}"), depth + 1));
                }
            }
            _ if depth > 0 => paths.push(path),
            _ => {}
        }
    }
    read_all(reader, paths)
}

/// The default runtime has an entry that no file needs to name (`defaultRuntimeHandler` in `pkg/config/config.go`, 1.24 to 1.36). Its
/// annotations are left out: they differ by release, and CRI-O does not start with one that it does not know.
fn crio_built_in(version: EngineVersion) -> Value {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    json!({ "crio": { "runtime": {
        "cdi_spec_dirs": DEFAULT_SPEC_DIRS,
        "hooks_dir": [DEFAULT_HOOKS_DIR],
        "runtimes": { crio_default_runtime(version): { "monitor_env": [path] } },
    } } })
}

/// Name of the runtime that CRI-O runs by default: crun since 1.31.0 (its release notes).
pub(crate) fn crio_default_runtime(version: EngineVersion) -> &'static str {
    if version >= EngineVersion::new(1, 31, 0) { "crun" } else { "runc" }
}

/// First release of Docker whose rootless daemon reads two directories of its user besides (moby commit cd4397b4).
const DOCKER_READS_USER_DIRS: EngineVersion = EngineVersion::new(29, 2, 0);

/// Spec directories of its user that a rootless dockerd reads by default from 29.2 on.
pub(crate) fn docker_user_dirs(places: &ConfigPlaces) -> Vec<String> {
    let own = [&places.user_config, &places.user_runtime];
    own.into_iter().flatten().map(|dir| format!("{dir}/cdi")).collect()
}

fn docker_built_in(version: EngineVersion, places: &ConfigPlaces) -> Value {
    let mut dirs = DEFAULT_SPEC_DIRS.map(str::to_owned).to_vec();
    if version >= DOCKER_READS_USER_DIRS {
        dirs.extend(docker_user_dirs(places));
    }
    json!({ "features": { "cdi": version >= DOCKER_ENABLES_CDI }, "cdi-spec-dirs": dirs })
}
