//! The GPU instances and compute instances that exist on a GPU, with their holders.

use mig_cdi_model::{CiId, GiId, Placement};

/// An existing compute instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentComputeInstance {
    /// Compute instance id.
    pub id: CiId,
    /// Compute slices of its GPU instance.
    pub placement: Placement,
    /// Names of its holders; empty when it is not in use.
    pub holders: Vec<String>,
}

/// An existing GPU instance. It is in use when it or one of its compute instances has a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentInstance {
    /// GPU instance id.
    pub id: GiId,
    /// Profile id, as `nvidia-smi mig -lgip` prints it.
    pub profile: u32,
    /// Memory slices of the GPU.
    pub placement: Placement,
    /// Names of the holders of the whole GPU instance. With one, all of its compute instances count as
    /// used.
    pub holders: Vec<String>,
    /// Compute instances, by id.
    pub compute: Vec<CurrentComputeInstance>,
}

impl CurrentInstance {
    /// Reports whether the GPU instance or one of its compute instances has a holder.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.compute.iter().any(|compute| self.uses(compute)) || !self.holders.is_empty()
    }

    /// Reports whether one of its compute instances is in use, by itself or with the whole.
    pub(crate) fn uses(&self, compute: &CurrentComputeInstance) -> bool {
        !self.holders.is_empty() || !compute.holders.is_empty()
    }

    /// Returns the holders of the GPU instance and its compute instances, each once, in order.
    pub(crate) fn all_holders(&self) -> Vec<String> {
        let compute = self.compute.iter().flat_map(|compute| &compute.holders);
        let mut holders: Vec<_> = self.holders.iter().chain(compute).cloned().collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }
}
