//! Leases: files in which a program that allocates slices records its holds on them.

use crate::holders::{Holders, SliceKey};
use mig_cdi_gen::{Error, Result};
use mig_cdi_sys::{list_named, nvml::GpuPartitioning, read_regular};
use serde::Deserialize;
use std::path::Path;

/// Largest lease that is read, far above any.
const LIMIT: usize = 1 << 16;

/// The content of a file `/run/mig-cdi/leases/NAME`: a hold on a slice, whether or not anything runs there now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Lease {
    /// UUID of the GPU: `GPU-…`.
    gpu: String,
    /// GPU instance id.
    gi: u32,
    /// Compute instance id; absent for the GPU instance as a whole.
    ci: Option<u32>,
    /// Name of the holder, for people.
    holder: String,
}

impl Holders {
    /// Adds the holders of the leases in a directory. Leases of GPUs that the node does not have are dropped.
    ///
    /// # Errors
    /// When a lease cannot be read: any slice might be the one that it holds.
    pub(crate) fn add_leases(&mut self, dir: &Path, gpus: &[GpuPartitioning]) -> Result<()> {
        for name in list_named(dir)?.unwrap_or_default() {
            // A lease that is being written has a hidden name until it is complete.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = dir.join(&name);
            let text = match read_regular(&path, LIMIT) {
                // It was released since the directory was listed.
                Err(error) if error.is_absent() => continue,
                read => read?,
            };
            let lease: Lease = serde_json::from_slice(&text).map_err(|e| {
                Error::failed("read lease", path.display())
                    .because(e)
                    .with_cure("correct or remove it")
            })?;
            if let Some(gpu) = gpus.iter().find(|gpu| gpu.uuid == lease.gpu) {
                let key = SliceKey { gpu: gpu.minor, gi: lease.gi, ci: lease.ci };
                self.add_to_slice(key, &format!("{} (lease {})", lease.holder, name.display()));
            }
        }
        Ok(())
    }
}
