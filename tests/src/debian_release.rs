//! Whose engines are run. Those that the machine does not have are unpacked below `target/test-deps`.

use crate::project;
use std::{path::PathBuf, process::Command};

/// A Debian that engines are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The machine's: 12.
    Machine,
    /// 13, by `tests/setup.sh`.
    Trixie,
    /// The one to come, by `tests/engines/matrix --root sid`.
    Sid,
}

impl Root {
    /// The one that `tests/engines/matrix` was asked for.
    ///
    /// # Panics
    /// When there is no such root.
    #[must_use]
    pub fn asked() -> Root {
        match std::env::var("MIG_CDI_TEST_ROOT").as_deref() {
            Err(_) | Ok("trixie") => Root::Trixie,
            Ok("sid") => Root::Sid,
            Ok(other) => panic!("MIG_CDI_TEST_ROOT={other}: trixie or sid"),
        }
    }

    /// What lies over /usr where podman and the OCI runtimes of it run.
    #[must_use]
    pub fn over(self) -> Option<PathBuf> {
        match self {
            Root::Machine => None,
            Root::Trixie => Some(unpacked("podman")),
            Root::Sid => Some(unpacked("sid")),
        }
    }

    /// The root that daemons of this one run on, and whose OCI runtimes they use. Those of 13 run on the machine as it is,
    /// but crun 1.8.1 of 12 does not know the version of OCI that they write.
    #[must_use]
    pub fn of_daemons(self, runtime: &str) -> Root {
        match self {
            Root::Trixie if runtime == "runc" => Root::Machine,
            other => other,
        }
    }

    /// The directories of programs for a daemon and its clients, with those of this root first.
    #[must_use]
    pub fn path(self) -> String {
        let own = unpacked(if self == Root::Sid { "sid" } else { "engines" }).join("usr");
        let own = own.display();
        format!("{own}/bin:{own}/sbin:/usr/bin:/usr/sbin:/bin:/sbin")
    }

    /// A program of a daemon or of a client.
    #[must_use]
    pub fn command(self, program: &str) -> Command {
        // The path also says where the program itself is looked for.
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

/// The version in what an engine or an OCI runtime prints of itself: in all of them the first word that begins with
/// a digit.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn version(said: &str) -> String {
    let mut words = said.split_whitespace().map(|word| word.trim_end_matches(','));
    let found = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    found.unwrap_or_else(|| panic!("no version: {said}")).to_owned()
}
