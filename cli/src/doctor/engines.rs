//! The engines of this machine: their versions, the CDI that each takes, and what their configuration
//! makes of it.

use super::{Facts, Verdict, facts::read_text, note, ok, some, warning};
use mig_cdi_config::Settings;
use mig_cdi_gen::engines::{
    self, BIN, BOTH, CONTAINERD, HOOKS, Installed, Release, at, cri_plugin, imported, last, list,
};
use mig_cdi_sys::Root;
use serde_json::Value;
use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

/// An engine that is installed, and its configuration.
pub(crate) struct Engine {
    found: Installed,
    pub config: Config,
}

impl Deref for Engine {
    type Target = Installed;

    fn deref(&self) -> &Installed {
        &self.found
    }
}

/// What its configuration makes of it.
#[derive(Default)]
pub(crate) struct Config {
    pub dirs: Vec<String>,
    pub hooks: Vec<String>,
    /// Why CDI is off, and how it is switched on.
    off: Option<(&'static str, &'static str)>,
    /// How directories are named.
    cure: &'static str,
    problems: Vec<Verdict>,
}

/// Asks every engine for its version, and reads its configuration.
pub(super) fn find(host: &Root) -> Vec<Engine> {
    let config = |found: &Installed| match found.name {
        "podman" => podman(host, found.assumed()),
        "containerd" => containerd(host, found.assumed()),
        "docker" => docker(host, found.assumed()),
        "crio" => crio(host),
        _ => Config::default(),
    };
    let found = engines::installed(host).into_iter();
    found.map(|found| Engine { config: config(&found), found }).collect()
}

impl Engine {
    /// It reads the specs of this directory.
    pub(super) fn reads(&self, dir: &Path, root: &Root) -> bool {
        let plain = |path: &Path| match path.strip_prefix("/var/run") {
            Ok(below) => Path::new("/run").join(below),
            Err(_) => path.components().collect(),
        };
        let id = |path: &Path| root.identity(path.to_str()?).ok().flatten();
        let same = |read: &String| {
            let read = Path::new(read);
            plain(read) == plain(dir) || id(read).is_some_and(|one| id(dir) == Some(one))
        };
        self.config.dirs.iter().any(same)
    }

    /// Why it takes no spec at all.
    pub(super) fn blind(&self) -> Option<(String, String)> {
        if !self.has_cdi {
            return Some((
                format!("{} knows no cdi", self.label()),
                "update it, or use mig-cdi-hook".to_owned(),
            ));
        }
        let (why, cure) = self.config.off?;
        Some((format!("{}: {why}", self.label()), cure.to_owned()))
    }
}

/// What is installed.
pub(super) fn engines(facts: &Facts<'_>) -> Vec<Verdict> {
    let verdict = |engine: &Engine| {
        let at = format!("{} at {}", engine.label(), engine.path);
        let runtime = matches!(engine.name, "runc" | "crun");
        match (&engine.release, engine.takes) {
            (Err(reason), _) => {
                let cure = format!("run {} --version yourself", engine.path);
                warning(engine.name, format!("its version is not known: {reason}"), cure)
            }
            _ if runtime => ok(engine.name, format!("{at}, which sees no spec")),
            _ if !engine.has_cdi => {
                let cure = "update it, or use mig-cdi-hook";
                warning(engine.name, format!("{at} knows no cdi"), cure)
            }
            (_, Some(version)) => ok(engine.name, format!("{at}, takes cdi up to {version}")),
            (_, None) => note(engine.name, format!("{at}; which cdi it takes is not known")),
        }
    };
    let verdicts: Vec<_> = facts.engines.iter().map(verdict).collect();
    if verdicts.is_empty() {
        vec![note("", format!("none in {}", BIN.join(", ")))]
    } else {
        verdicts
    }
}

/// What their configuration makes of it.
pub(super) fn config(facts: &Facts<'_>) -> Vec<Verdict> {
    let kind = facts.settings.kind.to_string();
    let ours = facts.specs().filter(|(_, _, spec)| spec.kind == kind);
    let mut wanted: Vec<_> = ours.filter_map(|(_, path, _)| path.parent()).collect();
    wanted.dedup();
    if wanted.is_empty() {
        wanted.extend(facts.settings.spec_dirs.last().map(PathBuf::as_path));
    }
    let mut verdicts = Vec::new();
    for engine in &facts.engines {
        let before = verdicts.len();
        for problem in &engine.config.problems {
            verdicts.push(Verdict { subject: engine.name.to_owned(), ..problem.clone() });
        }
        if !engine.has_cdi {
            continue;
        }
        if let Some((why, cure)) = engine.config.off {
            verdicts.push(warning(engine.name, why, configured(engine, cure)));
            continue;
        }
        let dirs = engine.config.dirs.join(", ");
        let unread = wanted.iter().filter(|dir| !engine.reads(dir, &facts.real));
        let unread: Vec<_> = unread.map(|dir| dir.display()).collect();
        if !unread.is_empty() {
            let evidence = format!("it reads {dirs}, and not {}", some(&unread));
            let cure = match engine.config.cure {
                "" => format!("write the spec with --output into one of {dirs}"),
                how => configured(engine, &format!("{how} = [{}]", quoted(facts.settings))),
            };
            verdicts.push(warning(engine.name, evidence, cure));
        }
        if verdicts.len() == before {
            verdicts.push(ok(engine.name, format!("it reads {dirs}")));
        }
    }
    if verdicts.is_empty() {
        vec![note("", "no engine with cdi, no configuration")]
    } else {
        verdicts
    }
}

/// The cure by our own hand, and by the reader's.
fn configured(engine: &Engine, by_hand: &str) -> String {
    format!("run mig-cdi configure {}, or {by_hand}", engine.name)
}

fn quoted(settings: &Settings) -> String {
    let dirs = settings.spec_dirs.iter().map(|dir| format!("{:?}", dir.display().to_string()));
    dirs.collect::<Vec<_>>().join(", ")
}

/// The directories that we write to and check.
pub(super) fn dirs(settings: &Settings) -> String {
    let dirs: Vec<_> = settings.spec_dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(", ")
}

/// A configuration in TOML or JSON, as one kind of value. One that cannot be read is a problem.
fn read(host: &Root, path: &str, config: &mut Config) -> Option<Value> {
    let parsed = read_text(host, path)?.and_then(|text| match path.ends_with(".json") {
        true => serde_json::from_str(&text).map_err(|e| format!("parse {path}: {e}")),
        false => toml::from_str(&text)
            .map_err(|e| format!("parse {path}: {}", e.message().replace('\n', " "))),
    });
    let bad = |reason: &String| warning("", reason, "correct the file; the engine may not start");
    config.problems.extend(parsed.as_ref().err().map(bad));
    parsed.ok()
}

/// A file, then those of its directory in order: the later wins.
fn read_all(host: &Root, path: &str, config: &mut Config) -> Vec<Value> {
    let dir = format!("{path}.d");
    let names = host.list(&dir).ok().flatten().unwrap_or_default();
    let paths = std::iter::once(path.to_owned())
        .chain(names.into_iter().map(|name| format!("{dir}/{name}")));
    paths.filter_map(|path| read(host, &path, config)).collect()
}

/// Before 5.5 the directories are fixed; 5.5 reads `/etc/cdi` alone unless told (podman issue 26569).
fn podman(host: &Root, release: Release) -> Config {
    let mut config = Config::default();
    let mut values = Vec::new();
    for dir in ["/usr/share/containers", "/etc/containers"] {
        values.extend(read_all(host, &format!("{dir}/containers.conf"), &mut config));
    }
    let known = release >= (5, 5, 0);
    let default = if known && release < (5, 6, 0) { &BOTH[..1] } else { &BOTH[..] };
    let set = if known { &values[..] } else { &[] };
    config.dirs = last(set, &["engine", "cdi_spec_dirs"], default);
    if known {
        config.cure = "in /etc/containers/containers.conf, below [engine], set cdi_spec_dirs";
    }
    config.hooks = last(&values, &["engine", "hooks_dir"], &[HOOKS, "/etc/containers/oci/hooks.d"]);
    config
}

/// The table of the CRI plugin has a name for each version of the file. CDI is on since 2.0.
fn containerd(host: &Root, release: Release) -> Config {
    let mut config = Config::default();
    let mut values: Vec<_> = read(host, CONTAINERD, &mut config).into_iter().collect();
    // A file without a version is of the first; without a file the table is that of 1.7.
    let version = values
        .first()
        .map_or(2, |file| at(file, &["version"]).and_then(Value::as_i64).unwrap_or(1));
    let plugin = cri_plugin(version);
    let imported = values.first().map(|root| imported(host, root)).unwrap_or_default();
    for path in &imported.files {
        let Some(value) = read(host, path, &mut config) else { continue };
        // Before 2.0 the table of a plugin takes the place of the whole table before.
        if release < (2, 0, 0) && at(&value, &["plugins", plugin]).is_some() {
            values.truncate(1);
            let plugins = values[0].get_mut("plugins").and_then(Value::as_object_mut);
            plugins.map(|plugins| plugins.remove(plugin));
        }
        values.push(value);
    }
    let cure = match version {
        3.. => {
            "set enable_cdi = true below [plugins.\"io.containerd.cri.v1.runtime\"] in /etc/containerd/config.toml"
        }
        2 => {
            "set enable_cdi = true below [plugins.\"io.containerd.grpc.v1.cri\"] in /etc/containerd/config.toml"
        }
        _ => "set enable_cdi = true below [plugins.cri] in /etc/containerd/config.toml",
    };
    config.dirs = last(&values, &["plugins", plugin, "cdi_spec_dirs"], &BOTH);
    let enabled = |value: &Value| at(value, &["plugins", plugin, "enable_cdi"])?.as_bool();
    let set = values.iter().rev().find_map(enabled);
    let on = set.unwrap_or(release >= (2, 0, 0));
    config.off = (!on).then_some(("enable_cdi is not true", cure));
    config.cure = "in /etc/containerd/config.toml, beside enable_cdi, set cdi_spec_dirs";
    let disabled = values.first().and_then(|value| list(value, &["disabled_plugins"]));
    if disabled.is_some_and(|list| list.iter().any(|name| name == "cri" || name == plugin)) {
        config.problems.push(note("", "its cri plugin is disabled: kubernetes cannot use it"));
        config.off = None;
    }
    if imported.unknown {
        config
            .problems
            .push(note("", format!("{CONTAINERD} imports files, which are not looked at")));
    }
    config
}

/// CDI is on since 28.2 (moby pull request 49963).
fn docker(host: &Root, release: Release) -> Config {
    let mut config = Config::default();
    let values: Vec<_> = read(host, "/etc/docker/daemon.json", &mut config).into_iter().collect();
    config.dirs = last(&values, &["cdi-spec-dirs"], &BOTH);
    let set = values.first().and_then(|value| at(value, &["features", "cdi"])?.as_bool());
    let on = set.unwrap_or(release >= (28, 2, 0));
    config.off = (!on).then_some((
        "features.cdi is not on",
        "put {\"features\": {\"cdi\": true}} into /etc/docker/daemon.json and restart docker",
    ));
    config.cure = "in /etc/docker/daemon.json set \"cdi-spec-dirs\"";
    config
}

fn crio(host: &Root) -> Config {
    let mut config = Config::default();
    let values = read_all(host, "/etc/crio/crio.conf", &mut config);
    config.dirs = last(&values, &["crio", "runtime", "cdi_spec_dirs"], &BOTH);
    config.hooks = last(&values, &["crio", "runtime", "hooks_dir"], &[HOOKS]);
    config.cure = "in /etc/crio/crio.conf.d/, below [crio.runtime], set cdi_spec_dirs";
    config
}
