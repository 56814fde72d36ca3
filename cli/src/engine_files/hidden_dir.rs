//! Spec directories that an engine lists and does not look into, since there is a link in their place.

use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use mig_cdi_sys::Root;
use std::path::Path;

/// First release of Docker that resolves links to spec directories (moby commit a55f610e).
const DOCKER_RESOLVES_LINKS: EngineVersion = EngineVersion::new(29, 2, 0);

/// Link in the place of a directory. The CDI library does not follow one there, up to 1.1.0 (container-device-interface
/// `pkg/cdi/spec-dirs.go`, `scanSpecDirs`: `filepath.Walk`); measured with podman 4.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HidingLink {
    /// A link of the host.
    OfHost,
    /// A link in the mount namespace of a rootless dockerd.
    OfRootlesskit,
}

impl HidingLink {
    pub(crate) const ALL: [HidingLink; 2] = [HidingLink::OfHost, HidingLink::OfRootlesskit];

    /// Finds the link for which an engine does not look into a directory of its list.
    pub(crate) fn find(
        host: &Root,
        engine: EngineArg,
        version: EngineVersion,
        is_rootless: bool,
        dir: &str,
    ) -> Option<HidingLink> {
        let is_docker = engine == EngineArg::Docker;
        if is_docker && version >= DOCKER_RESOLVES_LINKS {
            return None;
        }
        let dir = dir.trim_end_matches('/');
        if is_docker && is_rootless && is_below_copied(dir) && !is_mounted(version, dir) {
            return Some(HidingLink::OfRootlesskit);
        }
        host.link(dir).is_ok().then_some(HidingLink::OfHost)
    }

    /// The reason, for one directory and for several.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            HidingLink::OfHost => "a link is there",
            HidingLink::OfRootlesskit => "rootlesskit puts links there",
        }
    }

    /// The cure, with the file of our settings.
    pub(crate) fn cure(self, settings: &Path) -> String {
        match self {
            HidingLink::OfHost => "put a directory there".to_owned(),
            HidingLink::OfRootlesskit => format!(
                "update docker to 29.2, or set spec-dirs in {} to a directory elsewhere and run mig-cdi configure docker --rootless",
                settings.display()
            ),
        }
    }
}

/// True for an entry of the directories that rootlesskit fills with links to what they had when the daemon was started (moby
/// `contrib/dockerd-rootless.sh`, `--copy-up`; rootlesskit `pkg/copyup/tmpfssymlink`).
pub(crate) fn is_below_copied(dir: &str) -> bool {
    let parent = dir.trim_end_matches('/').rsplit_once('/').map(|(parent, _)| parent);
    matches!(parent, Some("/etc" | "/run" | "/var/run"))
}

/// True for the directories that `dockerd-rootless.sh` mounts in the place of the links (moby pull requests 48541, 49027 and
/// 49029; 49028, for 26.1, is in no release).
fn is_mounted(version: EngineVersion, dir: &str) -> bool {
    let is_default = matches!(dir, "/etc/cdi" | "/var/run/cdi" | "/run/cdi");
    let v = EngineVersion::new;
    is_default && (version >= v(27, 4, 0) || (v(25, 0, 8)..v(26, 0, 0)).contains(&version))
}
