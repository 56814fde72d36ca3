//! Leases: files in which a program that allocates slices records its holds on them.

use crate::holders::{Holders, SliceKey};
use mig_cdi_gen::{Error, Result};
use mig_cdi_model::{Gpu, Topology};
use mig_cdi_sys::{list_named, nvml::GpuPartitioning, read_regular};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Largest lease that is read, far above any.
const LIMIT: usize = 1 << 16;

/// The content of a file `/run/mig-cdi/leases/NAME`: a hold on a slice, whether or not anything runs there now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Lease {
    /// UUID of the GPU: `GPU-…`.
    gpu: String,
    /// GPU instance id.
    gi: u32,
    /// Compute instance id; absent for the GPU instance as a whole.
    ci: Option<u32>,
    /// Name of the holder, for people.
    holder: String,
    /// The file.
    #[serde(skip)]
    path: PathBuf,
}

impl Lease {
    /// Cure for a lease that names nothing.
    pub const CURE: &str = "correct or remove it";

    /// Reads the leases in a directory, which need not exist.
    ///
    /// # Errors
    /// When a lease cannot be read: any slice might be the one that it holds.
    pub fn read_all(dir: &Path) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
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
                Error::failed("read lease", path.display()).because(e).with_cure(Lease::CURE)
            })?;
            leases.push(Lease { path, ..lease });
        }
        Ok(leases)
    }

    /// Returns what is wrong with a lease of a slice that the node does not have. `topology` is that of `/proc`, which lists every
    /// instance.
    #[must_use]
    pub fn mismatch(&self, topology: &Topology) -> Option<String> {
        let Lease { gpu: uuid, gi, ci, holder, path } = self;
        let is_gpu = |gpu: &&Gpu| gpu.uuid.as_ref().is_some_and(|own| own.to_string() == *uuid);
        let lease = format!("lease {} of {holder}", path.display());
        let Some(gpu) = topology.gpus.iter().find(is_gpu) else {
            return Some(format!("{lease} holds nothing: this node has no gpu {uuid}"));
        };
        let has_slice = gpu.gpu_instances.iter().any(|instance| {
            let compute = &mut instance.compute_instances.iter();
            instance.id.0 == *gi && ci.is_none_or(|ci| compute.any(|own| own.id.0 == ci))
        });
        let ci = ci.map(|ci| format!(" ci {ci}")).unwrap_or_default();
        (!has_slice).then(|| format!("{lease} holds nothing: gpu {uuid} has no gi {gi}{ci}"))
    }
}

impl Holders {
    /// Adds the holders of the leases in a directory. Leases of GPUs that the node does not have are dropped.
    ///
    /// # Errors
    /// As [`Lease::read_all`].
    pub(crate) fn add_leases(&mut self, dir: &Path, gpus: &[GpuPartitioning]) -> Result<()> {
        for lease in Lease::read_all(dir)? {
            if let Some(gpu) = gpus.iter().find(|gpu| gpu.uuid == lease.gpu) {
                let key = SliceKey { gpu: gpu.minor, gi: lease.gi, ci: lease.ci };
                let name = lease.path.file_name().unwrap_or_default().display();
                self.add_to_slice(key, &format!("{} (lease {name})", lease.holder));
            }
        }
        Ok(())
    }
}
