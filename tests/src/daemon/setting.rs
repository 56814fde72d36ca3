//! Choice of an engine for a test.

use crate::{
    debian_release::{DebianRelease, version},
    podman::Variant,
    run,
};
use std::path::PathBuf;

/// Engine, its Debian release, and the OCI runtime and cgroup version of its containers.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// `containerd`, `docker` or `crio`.
    pub engine: &'a str,
    /// Debian release of the engine and of the programs that it runs.
    pub release: DebianRelease,
    /// OCI runtime of containers that request none, and the cgroup version.
    pub variant: Variant,
}

impl Setting<'_> {
    /// Returns the version that the engine prints.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn version(&self) -> String {
        let program = match self.engine {
            "docker" => "dockerd".into(),
            "crio" => self.crio().display().to_string(),
            other => other.to_owned(),
        };
        version(&run(self.release.command(&program).arg("--version")).stdout)
    }

    /// Returns the path of CRI-O from the environment: no Debian release has one.
    pub(super) fn crio(&self) -> PathBuf {
        PathBuf::from(std::env::var_os("CRIO").expect("CRIO names a CRI-O"))
    }
}
