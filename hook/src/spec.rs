//! The specs that `mig-cdi generate` wrote, which state what each device is. Reading is strict
//! ([`mig_cdi_model::cdi::StrictSpec`]): a field that is unknown here may change what a container gets.

use crate::error::{Error, Result};
use mig_cdi_config::Settings;
use mig_cdi_model::cdi::StrictSpec;
use mig_cdi_sys::TrustedDir;
use std::path::PathBuf;

/// Maximum size of a spec. That of a node of 32 GPUs with seven slices each has 300 kB.
const LIMIT: usize = 4 << 20;

/// A spec with its path.
#[derive(Debug)]
pub struct SpecFile {
    /// Path of the file, for messages.
    pub path: PathBuf,
    /// Content of the file.
    pub spec: StrictSpec,
}

/// Reads the specs of this host, the one that engines prefer first.
///
/// # Errors
/// When there is none, or when one is in a directory that others may write to, or is not of the form in which
/// `mig-cdi generate` writes it.
pub fn read(settings: &Settings) -> Result<Vec<SpecFile>> {
    let (kind, name) = (settings.kind.to_string(), settings.kind.file_stem() + ".json");
    let mut specs = Vec::new();
    // The later of two directories wins (container-device-interface, `pkg/cdi/cache.go:172-213`).
    for dir in settings.spec_dirs.iter().rev() {
        let Some(dir) = TrustedDir::open_to_read(dir)? else { continue };
        let path = dir.display_path(&name);
        let Some(bytes) = dir.read(&name, LIMIT)? else { continue };
        let spec = StrictSpec::parse(&bytes, &kind).map_err(|e| {
            Error::refused("read", path.display(), e).with_cure("run mig-cdi generate")
        })?;
        specs.push(SpecFile { path, spec });
    }
    match specs.is_empty() {
        false => Ok(specs),
        true => {
            let dirs = settings.spec_dirs.iter().map(|dir| dir.display().to_string());
            let dirs: Vec<_> = dirs.collect();
            let cause = format!("there is no {name} in {}", dirs.join(" or "));
            Err(Error::refused("read the spec of", kind, cause).with_cure("run mig-cdi generate"))
        }
    }
}
