//! Debian releases of the engines. Engines that the machine does not have are unpacked below `target/test-deps`.

use crate::project;
use std::{path::PathBuf, process::Command};

/// Debian release whose engines a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebianRelease {
    /// Debian 12, the machine's own.
    Machine,
    /// Debian 13, unpacked by `tests/setup.sh`.
    Trixie,
    /// Debian sid, unpacked by `tests/engines/matrix --root sid`.
    Sid,
}

impl DebianRelease {
    /// Returns the release that `tests/engines/matrix` selects.
    ///
    /// # Panics
    /// When the variable names no release.
    #[must_use]
    pub fn requested() -> DebianRelease {
        match std::env::var("MIG_CDI_TEST_ROOT").as_deref() {
            Err(_) | Ok("trixie") => DebianRelease::Trixie,
            Ok("sid") => DebianRelease::Sid,
            Ok(other) => panic!("MIG_CDI_TEST_ROOT={other}: trixie or sid"),
        }
    }

    /// Returns its name in the name of a test.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DebianRelease::Machine => "debian12",
            DebianRelease::Trixie => "debian13",
            DebianRelease::Sid => "sid",
        }
    }

    /// Returns the directory to mount over /usr for podman and its OCI runtimes.
    #[must_use]
    pub fn overlay(self) -> Option<PathBuf> {
        match self {
            DebianRelease::Machine => None,
            DebianRelease::Trixie => Some(unpacked("podman")),
            DebianRelease::Sid => Some(unpacked("sid")),
        }
    }

    /// Returns the release whose OCI runtimes its daemons use. Those of 13 run on the machine as it is, but crun
    /// 1.8.1 of 12 does not know the OCI version that they write.
    #[must_use]
    pub fn for_daemons(self, runtime: &str) -> DebianRelease {
        match self {
            DebianRelease::Trixie if runtime == "runc" => DebianRelease::Machine,
            other => other,
        }
    }

    /// Returns the `PATH` for a daemon and its clients, with programs of this release first.
    #[must_use]
    pub fn path(self) -> String {
        let own = unpacked(if self == DebianRelease::Sid { "sid" } else { "engines" }).join("usr");
        let own = own.display();
        format!("{own}/bin:{own}/sbin:/usr/bin:/usr/sbin:/bin:/sbin")
    }

    /// Returns a command that runs a daemon or a client.
    #[must_use]
    pub fn command(self, program: &str) -> Command {
        // `Command` looks the program up in this `PATH` too.
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.path()).env("HOME", "/");
        command
    }
}

fn unpacked(name: &str) -> PathBuf {
    let dir = project().join("target/test-deps").join(name);
    let with = if name == "sid" { "tests/engines/matrix --root sid" } else { "tests/setup.sh" };
    assert!(dir.is_dir(), "{} is not there; run {with}", dir.display());
    dir
}

/// Returns the version in the output of an engine or an OCI runtime: always the first word that begins with a digit.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn version(output: &str) -> String {
    let mut words = output.split_whitespace().map(|word| word.trim_end_matches(','));
    let found = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    found.unwrap_or_else(|| panic!("no version: {output}")).to_owned()
}
