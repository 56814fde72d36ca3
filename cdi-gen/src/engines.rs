//! Container engines of a machine: which are installed, their versions, and the highest CDI version that each
//! accepts. Runs `--version` of the installed programs and nothing else. Reads no engine's configuration.

mod known_engines;

use known_engines::{CdiLibrary, KNOWN_ENGINES, KnownEngine};
use mig_cdi_model::cdi::Version;
use mig_cdi_sys::{Root, exchangeable_by_others, run};
use serde::{Deserialize, Serialize};
use std::{fmt, path::Path, str::FromStr, time::Duration};

/// Directories in which packages install programs. No program outside them is run.
pub const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
/// Longest time for `--version` of one engine. A program on a network file system that hangs must not stop the rest.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Version of an engine: major, minor and patch, ordered in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl EngineVersion {
    /// Stands for a version that is not known: the newest of all.
    const NEWEST: EngineVersion = EngineVersion::new(u32::MAX, 0, 0);

    /// Version `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> EngineVersion {
        EngineVersion { major, minor, patch }
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Reason why the version of an engine is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Someone other than root and the user who runs this could have replaced the program.
    #[error("not run: {0}")]
    Untrusted(String),
    /// `--version` did not start or did not end in time.
    #[error(transparent)]
    Run(#[from] mig_cdi_sys::Error),
    /// `--version` printed no version.
    #[error("run {program} --version: its output contains no version")]
    NoVersion {
        /// Path of the program.
        program: String,
    },
    /// The engine was named on the command line without a version.
    #[error("no version was given")]
    NotGiven,
}

/// An engine that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledEngine {
    /// `podman`, `containerd`, `docker`, `crio`, `runc` or `crun`.
    pub name: &'static str,
    /// Path of the program; empty for an engine that the command line names.
    pub path: String,
    /// Version that the program reports.
    pub version: Result<EngineVersion, VersionError>,
    /// Its CDI library, if known.
    library: Option<CdiLibrary>,
    /// True when this version of the engine reads CDI specs.
    pub has_cdi: bool,
}

/// CDI version that every supported engine accepts; only podman 4.1 and 4.2 and CRI-O 1.24, of 2022, accept less. A spec that
/// needs no more is written without running any `--version`, which would take longer than everything else.
pub const BASELINE_CDI: Version = Version::V0_5_0;

/// Highest CDI version that a set of engines accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLimit {
    /// The version.
    pub version: Version,
    /// Engine that accepts no higher one, for messages: `podman 4.3.1`.
    pub engine: String,
}

/// Returns the highest CDI version that all of these engines accept. An engine whose limit is not known counts as
/// [`BASELINE_CDI`], and so does a machine without engines.
#[must_use]
pub fn common_cdi_version(engines: &[InstalledEngine]) -> EngineLimit {
    let readers = engines.iter().filter(|engine| engine.has_cdi);
    let limits = readers.map(|engine| EngineLimit {
        version: engine.max_cdi().unwrap_or(BASELINE_CDI),
        engine: engine.label(),
    });
    limits.min_by_key(|limit| limit.version).unwrap_or_else(|| EngineLimit {
        version: BASELINE_CDI,
        engine: "an engine that is not known".to_owned(),
    })
}

/// Runs `--version` of every installed engine.
#[must_use]
pub fn find_engines(host: &Root) -> Vec<InstalledEngine> {
    KNOWN_ENGINES.iter().filter_map(|known| find(host, known)).collect()
}

/// Runs `--version` of one engine; `None` when it is not installed.
#[must_use]
pub fn find_engine(host: &Root, name: &str) -> Option<InstalledEngine> {
    KNOWN_ENGINES.iter().filter(|known| known.name == name).find_map(|known| find(host, known))
}

/// Paths at which programs of engines that read specs may be. An engine was installed, updated or removed when
/// one of these files changes.
pub fn program_paths() -> impl Iterator<Item = String> {
    KNOWN_ENGINES.iter().filter(|known| !known.libraries.is_empty()).flat_map(KnownEngine::paths)
}

/// Runs `--version` of one engine, of which a link may be one of several names; `None` when nothing is there.
#[must_use]
pub fn engine_at(host: &Root, name: &str, path: &str) -> Option<InstalledEngine> {
    let known = KNOWN_ENGINES.iter().find(|known| known.name == name)?;
    host.identity(path).ok().flatten()?;
    of_program(known, path.to_owned(), &host.display_path(path))
}

fn find(host: &Root, known: &KnownEngine) -> Option<InstalledEngine> {
    // A link such as /usr/bin/docker -> /etc/alternatives/docker is resolved below the root of the host, so that the
    // program of an image is found there and not on this machine.
    let mut resolved =
        known.paths().filter_map(|path| host.resolve(&path).ok().map(|program| (path, program)));
    let (path, program) = resolved.next()?;
    of_program(known, path, &program)
}

fn of_program(known: &KnownEngine, path: String, program: &Path) -> Option<InstalledEngine> {
    let output = run_version(program);
    // The package podman-docker installs a `docker` that runs podman.
    if known.name == "docker" && output.as_ref().is_ok_and(|output| output.contains("podman")) {
        return None;
    }
    let version = output.and_then(|output| {
        let version = output.split_whitespace().find_map(parse_version);
        version.ok_or_else(|| VersionError::NoVersion { program: path.clone() })
    });
    Some(InstalledEngine::new(known, path, version))
}

fn run_version(program: &Path) -> Result<String, VersionError> {
    // This process may be root: it runs no program that another user could have put in place. A user's own may be theirs.
    if let Some(reason) = exchangeable_by_others(program) {
        return Err(VersionError::Untrusted(reason));
    }
    Ok(run(program, &["--version".to_owned()], VERSION_TIMEOUT)?.stdout)
}

/// Parses a version such as `1.7.24~ds1`, `v2.1.9` or `5.8.6,`; a missing patch number is 0.
#[must_use]
pub fn parse_version(text: &str) -> Option<EngineVersion> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut numbers = text.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    });
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some(EngineVersion::new(major, minor, numbers.next().flatten().unwrap_or(0)))
}

impl KnownEngine {
    fn paths(&self) -> impl Iterator<Item = String> + use<> {
        let programs = self.programs.iter();
        programs.flat_map(|program| PROGRAM_DIRS.map(|dir| format!("{dir}/{program}")))
    }
}

impl InstalledEngine {
    fn new(
        known: &KnownEngine,
        path: String,
        version: Result<EngineVersion, VersionError>,
    ) -> InstalledEngine {
        let assumed = *version.as_ref().unwrap_or(&EngineVersion::NEWEST);
        // An unknown version counts as the newest, so that a new engine is configured and not refused. The CDI
        // version that it accepts stays unknown.
        let row = known.libraries.iter().rev().find(|(since, _)| *since <= assumed);
        let library = row.map(|(_, library)| *library);
        InstalledEngine {
            name: known.name,
            path,
            library: library.filter(|_| version.is_ok()),
            version,
            has_cdi: library.is_some(),
        }
    }

    /// An engine that the command line names; `None` for a name that is not supported.
    #[must_use]
    pub fn named(name: &str, version: Option<EngineVersion>) -> Option<InstalledEngine> {
        let known = KNOWN_ENGINES.iter().find(|known| known.name == name)?;
        let version = version.ok_or(VersionError::NotGiven);
        Some(InstalledEngine::new(known, String::new(), version))
    }

    /// The version, or the newest one where it is not known.
    #[must_use]
    pub fn assumed_version(&self) -> EngineVersion {
        *self.version.as_ref().unwrap_or(&EngineVersion::NEWEST)
    }

    /// Highest CDI version that the engine accepts, if known.
    #[must_use]
    pub fn max_cdi(&self) -> Option<Version> {
        self.library.map(|library| library.max_cdi)
    }

    /// True for a CDI library before 0.5.4, which does not compare `cdiVersion` with the content of a spec.
    #[must_use]
    pub fn has_old_cdi_library(&self) -> bool {
        self.library.is_some_and(|library| !library.compares_content)
    }

    /// The major version, when it is newer than every version known here.
    #[must_use]
    pub fn untested_major(&self) -> Option<u32> {
        let newest = KNOWN_ENGINES.iter().find(|known| known.name == self.name)?.newest_major;
        self.version.as_ref().ok().map(|version| version.major).filter(|major| *major > newest)
    }

    /// Name and version, for messages: `podman 5.8.6`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.version {
            Ok(version) => format!("{} {version}", self.name),
            Err(_) => self.name.to_owned(),
        }
    }
}

/// Engines as the command line names them: `podman=4.3.1,docker=26.1`, or `none`. In JSON it is that text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EngineList(pub Vec<InstalledEngine>);

/// An item of [`EngineList`] that is neither an engine nor an engine with its version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{item:?} is not ENGINE=VERSION, as podman=4.3.1; or none")]
pub struct EngineListError {
    item: String,
}

impl FromStr for EngineList {
    type Err = EngineListError;

    fn from_str(text: &str) -> Result<EngineList, EngineListError> {
        if text == "none" {
            return Ok(EngineList(Vec::new()));
        }
        let parse = |item: &str| {
            let (name, version) = item.split_once('=').map_or((item, None), |(n, v)| (n, Some(v)));
            let bad = || EngineListError { item: item.to_owned() };
            let version =
                version.map(|version| parse_version(version).ok_or_else(bad)).transpose()?;
            InstalledEngine::named(name, version)
                .filter(|engine| engine.has_cdi || version.is_some())
                .ok_or_else(bad)
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(EngineList)
    }
}

impl TryFrom<String> for EngineList {
    type Error = EngineListError;

    fn try_from(text: String) -> Result<EngineList, EngineListError> {
        text.parse()
    }
}

impl From<EngineList> for String {
    fn from(list: EngineList) -> String {
        list.to_string()
    }
}

impl fmt::Display for EngineList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&EngineList::to_argument(&self.0))
    }
}

impl EngineList {
    /// Formats engines as [`EngineList::from_str`] reads them. Engines without CDI are omitted.
    #[must_use]
    pub fn to_argument(engines: &[InstalledEngine]) -> String {
        let item = |engine: &InstalledEngine| match &engine.version {
            Ok(version) => format!("{}={version}", engine.name),
            Err(_) => engine.name.to_owned(),
        };
        let items: Vec<_> = engines.iter().filter(|engine| engine.has_cdi).map(item).collect();
        if items.is_empty() { "none".to_owned() } else { items.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::{EngineList, EngineVersion, parse_version};

    #[test]
    fn the_version_of_every_engine_is_parsed() {
        for (output, expected) in [
            ("podman version 5.8.6", (5, 8, 6)),
            ("containerd github.com/containerd/containerd v2.1.9 0123abc", (2, 1, 9)),
            ("containerd containerd.io 1.7.24~ds1 1.7.24~ds1-6+b4", (1, 7, 24)),
            ("Docker version 28.5.2, build ecc6942", (28, 5, 2)),
            ("crio version 1.36.0-dev\nVersion: 1.36.0", (1, 36, 0)),
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+b1", (1, 1, 5)),
            ("crun version 1.28\ncommit: x", (1, 28, 0)),
        ] {
            let (major, minor, patch) = expected;
            let expected = EngineVersion::new(major, minor, patch);
            let found = output.split_whitespace().find_map(parse_version);
            assert_eq!(found, Some(expected), "{output}");
        }
        for text in ["", "v", "1", "one.two", "..", "99999999999.1", "1.x"] {
            assert_eq!(parse_version(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_of_engines_is_printed_as_it_is_parsed() {
        for text in ["none", "podman=4.3.1,docker=26.1.0", "crio", "containerd=1.7.24,crio=1.36.0"]
        {
            let list: EngineList = text.parse().unwrap();
            assert_eq!(EngineList::to_argument(&list.0), text);
        }
        for text in
            ["", "podman=", "podman=x", "rkt=1.2.3", "podman=4.3.1,", "none,podman=4.3.1", "runc"]
        {
            assert!(text.parse::<EngineList>().is_err(), "{text}");
        }
    }
}
