//! The engines of a machine: which are installed, of what version, and which CDI each takes. They are asked
//! for `--version` and for nothing else.

use mig_cdi_model::cdi::Version::{
    self, V0_3_0, V0_4_0, V0_5_0, V0_6_0, V0_7_0, V0_8_0, V1_0_0, V1_1_0,
};
use mig_cdi_sys::{Root, exchangeable, run};
use serde_json::Value;
use std::{path::Path, str::FromStr, time::Duration};

/// Where packages put programs; nothing else is run.
pub const BIN: [&str; 3] = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
const LIMIT: Duration = Duration::from_secs(5);
/// The directories of specs that engines read unless told otherwise.
pub const BOTH: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Where podman and CRI-O look for hooks unless told otherwise.
pub const HOOKS: &str = "/usr/share/containers/oci/hooks.d";
/// The configuration of containerd.
pub const CONTAINERD: &str = "/etc/containerd/config.toml";

/// Major, minor, patch.
pub type Release = (u32, u32, u32);

/// An engine that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub name: &'static str,
    pub path: String,
    /// Why it is not known, otherwise.
    pub release: Result<Release, String>,
    /// The highest CDI that it is known to take.
    pub takes: Option<Version>,
    /// It has CDI at all, and reads specs by itself.
    pub has_cdi: bool,
}

struct Known {
    name: &'static str,
    /// The first that is there is asked.
    programs: &'static [&'static str],
    /// From which release on which CDI is taken; `None` is not known. Empty for a runtime, which sees
    /// no spec.
    takes: &'static [(Release, Option<Version>)],
    /// The newest major version that anything here is known of.
    newest: u32,
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
        newest: 5,
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
        newest: 2,
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
        newest: 29,
    },
    Known {
        name: "crio",
        programs: &["crio"],
        takes: &[((1, 24, 0), None), ((1, 36, 0), Some(V1_1_0))],
        newest: 1,
    },
    Known { name: "runc", programs: &["runc"], takes: &[], newest: 1 },
    Known { name: "crun", programs: &["crun"], takes: &[], newest: 1 },
];

/// What every engine in support takes; only podman 4.1 and 4.2, of 2022, take less. A spec that needs no more
/// is worth no look at the engines, which would take longer than all the rest.
pub const EVERYBODY: Version = V0_5_0;

/// The highest CDI that all of these take, and which of them takes no more. One of which it is not known is
/// given what everybody takes, and so are machines without any.
pub fn limit(engines: &[Installed]) -> (Version, Option<String>) {
    let reading = engines.iter().filter(|engine| engine.has_cdi);
    let takes = reading.map(|engine| (engine.takes.unwrap_or(EVERYBODY), Some(engine.label())));
    let least = takes.min_by_key(|(version, _)| *version);
    least.unwrap_or((EVERYBODY, Some("an engine that is not known".to_owned())))
}

/// Asks every engine for its version.
pub fn installed(host: &Root) -> Vec<Installed> {
    KNOWN.iter().filter_map(|known| find(host, known)).collect()
}

/// Asks one engine.
pub fn one(host: &Root, name: &str) -> Option<Installed> {
    KNOWN.iter().filter(|known| known.name == name).find_map(|known| find(host, known))
}

/// The programs that tell which engines are there: they are others when an engine was installed or updated.
pub fn programs() -> impl Iterator<Item = String> {
    let programs = KNOWN.iter().filter(|known| !known.takes.is_empty());
    let names = programs.flat_map(|known| known.programs.iter());
    names.flat_map(|name| BIN.map(|dir| format!("{dir}/{name}")))
}

fn find(host: &Root, known: &Known) -> Option<Installed> {
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
    Some(Installed::new(known, path, release))
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
pub fn release(word: &str) -> Option<Release> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let mut numbers = word.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    });
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some((major, minor, numbers.next().flatten().unwrap_or(0)))
}

impl Installed {
    fn new(known: &Known, path: String, release: Result<Release, String>) -> Installed {
        let of = *release.as_ref().unwrap_or(&NEWEST);
        let taken = known.takes.iter().rev().find(|(since, _)| *since <= of);
        let takes = taken.and_then(|(_, version)| *version).filter(|_| release.is_ok());
        Installed { name: known.name, path, release, takes, has_cdi: taken.is_some() }
    }

    /// An engine of which somebody says that it is there; `None` for one that is not known.
    pub fn said(name: &str, release: Option<Release>) -> Option<Installed> {
        let known = KNOWN.iter().find(|known| known.name == name)?;
        let release = release.ok_or_else(|| "not said".to_owned());
        Some(Installed::new(known, String::new(), release))
    }

    /// One of unknown version is taken for a new one.
    pub fn assumed(&self) -> Release {
        *self.release.as_ref().unwrap_or(&NEWEST)
    }

    /// Its major version, when that is newer than all that is known here.
    pub fn untested(&self) -> Option<u32> {
        let newest = KNOWN.iter().find(|known| known.name == self.name)?.newest;
        self.release.as_ref().ok().map(|release| release.0).filter(|major| *major > newest)
    }

    /// `podman 5.8.6`.
    pub fn label(&self) -> String {
        match self.release {
            Ok((major, minor, patch)) => format!("{} {major}.{minor}.{patch}", self.name),
            Err(_) => self.name.to_owned(),
        }
    }
}

const NEWEST: Release = (u32::MAX, 0, 0);

/// Engines as a command line says them: `podman=4.3.1,docker=26.1`, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(pub Vec<Installed>);

impl FromStr for Said {
    type Err = String;

    fn from_str(text: &str) -> Result<Said, String> {
        if text == "none" {
            return Ok(Said(Vec::new()));
        }
        let one = |word: &str| {
            let (name, version) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            let bad = || format!("{word:?} is not ENGINE=VERSION, as podman=4.3.1; or none");
            let release = version.map(|version| release(version).ok_or_else(bad)).transpose()?;
            Installed::said(name, release)
                .filter(|engine| engine.has_cdi || release.is_some())
                .ok_or_else(bad)
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Said)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Said::text(&self.0))
    }
}

impl Said {
    /// As a command line says it.
    pub fn text(engines: &[Installed]) -> String {
        let one = |engine: &Installed| match engine.release {
            Ok((major, minor, patch)) => format!("{}={major}.{minor}.{patch}", engine.name),
            Err(_) => engine.name.to_owned(),
        };
        let engines: Vec<_> = engines.iter().filter(|engine| engine.has_cdi).map(one).collect();
        if engines.is_empty() { "none".to_owned() } else { engines.join(",") }
    }
}

/// The table of containerd's plugin for Kubernetes has a name for each version of the file.
pub fn cri_plugin(version: i64) -> &'static str {
    match version {
        3.. => "io.containerd.cri.v1.runtime",
        2 => "io.containerd.grpc.v1.cri",
        _ => "cri",
    }
}

/// The patterns of files that containerd's `config.toml` imports.
pub fn imports(root: &Value) -> Vec<String> {
    let imports = list(root, &["imports"]).unwrap_or_default().into_iter();
    // containerd takes one that is not absolute from the directory of the file.
    let below = |path: String| format!("/etc/containerd/{path}");
    imports.map(|path| if path.starts_with('/') { path } else { below(path) }).collect()
}

/// A pattern with one `*` in its last part, as patterns here are; others match nothing.
pub fn is_import(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, end)) => path
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|between| !between.contains('/')),
    }
}

/// The files that containerd's `config.toml` imports, in their order.
#[derive(Debug, Default)]
pub struct Imported {
    pub files: Vec<String>,
    /// A pattern names files that cannot be found here.
    pub unknown: bool,
}

/// Looks for them.
pub fn imported(host: &Root, root: &Value) -> Imported {
    let mut imported = Imported::default();
    for pattern in imports(root) {
        let dir = pattern.rsplit_once('/').map_or("/", |(dir, _)| dir);
        let names = host.list(dir).ok().flatten().unwrap_or_default().into_iter();
        let before = imported.files.len();
        let paths = names.map(|name| format!("{dir}/{name}"));
        imported.files.extend(paths.filter(|path| is_import(&pattern, path)));
        let is_simple = pattern.matches('*').count() == 1 && !dir.contains('*');
        imported.unknown |= imported.files.len() == before && !is_simple;
    }
    imported
}

/// What is below keys.
pub fn at<'v>(value: &'v Value, keys: &[&str]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

/// A list of texts; what else is in it is passed over.
pub fn list(value: &Value, keys: &[&str]) -> Option<Vec<String>> {
    let list = at(value, keys)?.as_array()?.iter();
    Some(list.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}

/// A list of an engine: the last of the files that has it, or its default.
pub fn last(values: &[Value], keys: &[&str], default: &[&str]) -> Vec<String> {
    let set = values.iter().rev().find_map(|value| list(value, keys));
    set.unwrap_or_else(|| default.iter().map(|dir| (*dir).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Said, release};

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

    #[test]
    fn engines_are_said_as_they_are_printed() {
        for text in ["none", "podman=4.3.1,docker=26.1.0", "crio", "containerd=1.7.24,crio=1.36.0"]
        {
            let said: Said = text.parse().unwrap();
            assert_eq!(Said::text(&said.0), text);
        }
        for text in
            ["", "podman=", "podman=x", "rkt=1.2.3", "podman=4.3.1,", "none,podman=4.3.1", "runc"]
        {
            assert!(text.parse::<Said>().is_err(), "{text}");
        }
    }
}
