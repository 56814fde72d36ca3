//! The engines of this machine: their versions, the CDI that each takes, and what their configuration
//! makes of it.

use super::{Facts, Verdict, facts::read_text, note, ok, some, warning};
use mig_cdi_config::Settings;
use mig_cdi_model::cdi::Version::{
    self, V0_3_0, V0_4_0, V0_5_0, V0_6_0, V0_7_0, V0_8_0, V1_0_0, V1_1_0,
};
use mig_cdi_sys::{Root, exchangeable, run};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Where packages put programs; nothing else is run.
const BIN: [&str; 3] = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
const LIMIT: Duration = Duration::from_secs(5);
const BOTH: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Where podman and CRI-O look for hooks unless told otherwise.
const HOOKS: &str = "/usr/share/containers/oci/hooks.d";

/// Major, minor, patch.
type Release = (u32, u32, u32);

/// An engine that is installed.
pub(crate) struct Engine {
    pub name: &'static str,
    pub path: String,
    /// Why it is not known, otherwise.
    pub release: Result<Release, String>,
    /// The highest CDI that it is known to take.
    pub takes: Option<Version>,
    /// It has CDI at all, and reads specs by itself.
    pub has_cdi: bool,
    pub config: Config,
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

struct Known {
    name: &'static str,
    /// The first that is there is asked.
    programs: &'static [&'static str],
    /// From which release on which CDI is taken; `None` is not known. Empty for a runtime, which sees
    /// no spec.
    takes: &'static [(Release, Option<Version>)],
    config: fn(&Root, Release) -> Config,
}

/// Measured: podman 4.3.1 (to 0.5.0), 5.4.2 (0.8.0), 5.8.6 (1.0.0); containerd 1.7.24 (0.8.0), 2.1.9
/// (1.0.0); Docker 26.1.5 (0.7.0), 28.5.2 (1.0.0); CRI-O main (1.1.0). The others are from the change of
/// the library in the engine's history: podman 4.2 (nvidia-container-toolkit issue 38), 4.9
/// (issue 1860), containerd (pull requests 9685, 12664), Docker (moby 47706, 49738).
const KNOWN: [Known; 6] = [
    Known {
        name: "podman",
        programs: &["podman"],
        takes: &[
            ((4, 1, 0), Some(V0_3_0)),
            ((4, 2, 0), Some(V0_4_0)),
            ((4, 3, 0), Some(V0_5_0)),
            ((4, 9, 0), Some(V0_6_0)),
            ((5, 0, 0), Some(V0_7_0)),
            ((5, 4, 2), Some(V0_8_0)),
            ((5, 8, 6), Some(V1_0_0)),
        ],
        config: podman,
    },
    Known {
        name: "containerd",
        programs: &["containerd"],
        takes: &[
            ((1, 7, 0), Some(V0_5_0)),
            ((1, 7, 13), Some(V0_6_0)),
            ((1, 7, 24), Some(V0_8_0)),
            ((2, 0, 0), Some(V0_7_0)),
            ((2, 1, 9), Some(V1_0_0)),
            ((2, 2, 0), Some(V1_1_0)),
        ],
        config: containerd,
    },
    Known {
        name: "docker",
        programs: &["dockerd", "docker"],
        takes: &[
            ((25, 0, 0), Some(V0_6_0)),
            ((26, 1, 0), Some(V0_7_0)),
            ((28, 2, 0), Some(V1_0_0)),
            ((29, 0, 0), Some(V1_1_0)),
        ],
        config: docker,
    },
    Known {
        name: "crio",
        programs: &["crio"],
        takes: &[((1, 24, 0), None), ((1, 36, 0), Some(V1_1_0))],
        config: crio,
    },
    Known { name: "runc", programs: &["runc"], takes: &[], config: |_, _| Config::default() },
    Known { name: "crun", programs: &["crun"], takes: &[], config: |_, _| Config::default() },
];

/// Asks every engine for its version, and reads its configuration.
pub(super) fn find(host: &Root) -> Vec<Engine> {
    KNOWN.iter().filter_map(|known| engine(host, known)).collect()
}

fn engine(host: &Root, known: &Known) -> Option<Engine> {
    let names = known.programs.iter();
    let paths = names.flat_map(|name| BIN.map(|dir| format!("{dir}/{name}")));
    let mut found = paths.filter_map(|path| host.resolve(&path).ok().map(|real| (path, real)));
    let (path, real) = found.next()?;
    let said = ask(&real);
    // The package podman-docker: a docker that is podman.
    if known.name == "docker" && said.as_ref().is_ok_and(|said| said.contains("podman")) {
        return None;
    }
    let release = said.and_then(|said| {
        let release = said.split_whitespace().find_map(release);
        release.ok_or_else(|| format!("run {path} --version: it names no version"))
    });
    // An engine of unknown version is taken for a new one.
    let of = *release.as_ref().unwrap_or(&(u32::MAX, 0, 0));
    let taken = known.takes.iter().rev().find(|(since, _)| *since <= of);
    let takes = taken.and_then(|(_, version)| *version).filter(|_| release.is_ok());
    let config = (known.config)(host, of);
    Some(Engine { name: known.name, path, release, takes, has_cdi: taken.is_some(), config })
}

/// Nobody but root may be able to put another program in its place: this may be root.
fn ask(program: &Path) -> Result<String, String> {
    if let Some(why) = exchangeable(program) {
        return Err(format!("not run: {why}"));
    }
    let ran = run(program, &["--version".to_owned()], LIMIT).map_err(|error| error.to_string())?;
    Ok(ran.stdout)
}

/// `1.7.24~ds1` and `v2.1.9` and `5.8.6,`.
fn release(word: &str) -> Option<Release> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let mut numbers = word.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    });
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some((major, minor, numbers.next().flatten().unwrap_or(0)))
}

impl Engine {
    /// `podman 5.8.6`.
    pub(super) fn label(&self) -> String {
        match self.release {
            Ok((major, minor, patch)) => format!("{} {major}.{minor}.{patch}", self.name),
            Err(_) => self.name.to_owned(),
        }
    }

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
            verdicts.push(warning(engine.name, why, cure));
            continue;
        }
        let dirs = engine.config.dirs.join(", ");
        let unread = wanted.iter().filter(|dir| !engine.reads(dir, &facts.real));
        let unread: Vec<_> = unread.map(|dir| dir.display()).collect();
        if !unread.is_empty() {
            let evidence = format!("it reads {dirs}, and not {}", some(&unread));
            let cure = match engine.config.cure {
                "" => format!("write the spec with --output into one of {dirs}"),
                how => format!("{how} = [{}]", quoted(facts.settings)),
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

fn at<'v>(value: &'v Value, keys: &[&str]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

/// A list of texts; what else is in it is passed over.
fn list(value: &Value, keys: &[&str]) -> Option<Vec<String>> {
    let list = at(value, keys)?.as_array()?.iter();
    Some(list.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}

/// A list of an engine: the last of the files that has it, or its default.
fn last(values: &[Value], keys: &[&str], default: &[&str]) -> Vec<String> {
    let set = values.iter().rev().find_map(|value| list(value, keys));
    set.unwrap_or_else(|| default.iter().map(|dir| (*dir).to_owned()).collect())
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
    const FILE: &str = "/etc/containerd/config.toml";
    let mut config = Config::default();
    let values: Vec<_> = read(host, FILE, &mut config).into_iter().collect();
    // A file without a version is of the first; without a file the table is that of 1.7.
    let version = values
        .first()
        .map_or(2, |file| at(file, &["version"]).and_then(Value::as_i64).unwrap_or(1));
    let (plugin, cure) = match version {
        3.. => (
            "io.containerd.cri.v1.runtime",
            "set enable_cdi = true below [plugins.\"io.containerd.cri.v1.runtime\"] in /etc/containerd/config.toml",
        ),
        2 => (
            "io.containerd.grpc.v1.cri",
            "set enable_cdi = true below [plugins.\"io.containerd.grpc.v1.cri\"] in /etc/containerd/config.toml",
        ),
        _ => ("cri", "set enable_cdi = true below [plugins.cri] in /etc/containerd/config.toml"),
    };
    config.dirs = last(&values, &["plugins", plugin, "cdi_spec_dirs"], &BOTH);
    let set =
        values.first().and_then(|value| at(value, &["plugins", plugin, "enable_cdi"])?.as_bool());
    let on = set.unwrap_or(release >= (2, 0, 0));
    config.off = (!on).then_some(("enable_cdi is not true", cure));
    config.cure = "in /etc/containerd/config.toml, beside enable_cdi, set cdi_spec_dirs";
    let disabled = values.first().and_then(|value| list(value, &["disabled_plugins"]));
    if disabled.is_some_and(|list| list.iter().any(|name| name == "cri" || name == plugin)) {
        config.problems.push(note("", "its cri plugin is disabled: kubernetes cannot use it"));
        config.off = None;
    }
    if values.first().is_some_and(|value| value.get("imports").is_some()) {
        config.problems.push(note("", format!("{FILE} imports files, which are not looked at")));
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

fn crio(host: &Root, _: Release) -> Config {
    let mut config = Config::default();
    let values = read_all(host, "/etc/crio/crio.conf", &mut config);
    config.dirs = last(&values, &["crio", "runtime", "cdi_spec_dirs"], &BOTH);
    config.hooks = last(&values, &["crio", "runtime", "hooks_dir"], &[HOOKS]);
    config.cure = "in /etc/crio/crio.conf.d/, below [crio.runtime], set cdi_spec_dirs";
    config
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn versions_of_every_engine_are_read() {
        for (said, wanted) in [
            ("podman version 5.8.6", (5, 8, 6)),
            ("containerd github.com/containerd/containerd v2.1.9 0123abc", (2, 1, 9)),
            ("containerd containerd.io 1.7.24~ds1 1.7.24~ds1-6+b4", (1, 7, 24)),
            ("Docker version 28.5.2, build ecc6942", (28, 5, 2)),
            ("crio version 1.36.0-dev\nVersion: 1.36.0", (1, 36, 0)),
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+b1", (1, 1, 5)),
            ("crun version 1.28\ncommit: x", (1, 28, 0)),
        ] {
            assert_eq!(said.split_whitespace().find_map(release), Some(wanted), "{said}");
        }
        for said in ["", "v", "1", "one.two", "..", "99999999999.1", "1.x"] {
            assert_eq!(release(said), None, "{said}");
        }
    }
}
