//! Slices that a caller declares in use, although nothing on the node shows it yet.

use crate::holders::{Holders, SliceKey};
use mig_cdi_gen::{Error, Result, discover::Discovery, spec};
use mig_cdi_model::{Gpu, MigDevice, cdi::Kind};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A declaration `SLICE=HOLDER`, also with the kind of the slice before it, by the program that allocates slices: a pod that was given one may not have started yet, and then
/// neither a process nor a container shows that it is taken.
///
/// ```
/// use mig_cdi_partition::InUse;
///
/// let declared: InUse = "0:2g.20gb:4=pod default/train".parse()?;
/// assert_eq!(declared.slice, "0:2g.20gb:4");
/// assert_eq!(declared.holder, "pod default/train");
/// assert_eq!("nvidia.com/mig=0:2g.20gb:4=pod default/train".parse(), Ok(declared));
/// assert!("0:2g.20gb:4".parse::<InUse>().is_err());
/// assert!("nvidia.com/mig=0:2g.20gb:4".parse::<InUse>().is_err());
/// # Ok::<(), mig_cdi_partition::InUseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// Any name of a slice, or the UUID or index of a GPU.
    pub slice: String,
    /// Name of the holder, for people.
    pub holder: String,
}

/// A text that is not `SLICE=HOLDER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write SLICE=HOLDER, as in 0:2g.20gb:4=pod default/train")]
pub struct InUseError;

impl FromStr for InUse {
    type Err = InUseError;

    fn from_str(text: &str) -> Result<InUse, InUseError> {
        // A full name, as list prints it, begins with its kind. Neither names of slices nor those of GPUs are kinds: these have a
        // slash.
        let name = match text.split_once('=') {
            Some((kind, name)) if kind.parse::<Kind>().is_ok() => name,
            _ => text,
        };
        match name.split_once('=') {
            Some((slice, holder)) if !slice.is_empty() && !holder.is_empty() => {
                Ok(InUse { slice: slice.to_owned(), holder: holder.to_owned() })
            }
            _ => Err(InUseError),
        }
    }
}

impl InUse {
    /// True when no slice and no GPU of the node has the name. False also while some slices or names are not known.
    #[must_use]
    pub fn names_nothing(&self, found: &Discovery) -> bool {
        let is_known = |device: &MigDevice<'_>| {
            device.ci.uuid.is_some() && device.gi.placement.is_some() && device.ci.index.is_some()
        };
        let mut devices = found.topology.mig_devices();
        found.problems.is_empty()
            && found.topology.mig_devices().all(|device| is_known(&device))
            && !found.topology.gpus.iter().any(|gpu| self.is_gpu(gpu))
            && !devices.any(|device| spec::has_name(&device, &self.slice))
    }

    /// True for the GPU that is named as a whole.
    fn is_gpu(&self, gpu: &Gpu) -> bool {
        gpu.has_name(&self.slice)
    }
}

/// Returns the declared holders of a GPU as a whole.
pub(crate) fn declared_holders_of_gpu(declared: &[InUse], uuid: &str, index: u32) -> Vec<String> {
    let is_gpu = |declared: &&InUse| declared.slice == uuid || declared.slice == index.to_string();
    declared.iter().filter(is_gpu).map(|declared| declared.holder.clone()).collect()
}

impl Holders {
    /// Adds declared holders. One whose slice no longer exists is dropped: it keeps nothing from being destroyed.
    ///
    /// # Errors
    /// When it cannot be confirmed that a slice is gone: discovery has left out some, or NVML does not report every UUID, and the name
    /// may be one of those.
    pub(crate) fn add_declared(&mut self, declared: &[InUse], found: &Discovery) -> Result<()> {
        let Discovery { topology, problems, .. } = found;
        let doubt = match problems.first() {
            Some(problem) => {
                Some(format!("not every slice could be read, so it may exist: {problem}"))
            }
            None if topology.mig_devices().any(|device| device.ci.uuid.is_none()) => {
                Some("nvml does not report the uuids of all slices, so it may exist".to_owned())
            }
            None => None,
        };
        for in_use in declared {
            let InUse { slice, holder } = in_use;
            if let Some(gpu) = topology.gpus.iter().find(|gpu| in_use.is_gpu(gpu)) {
                self.add_to_gpu(gpu.minor.0, holder);
            }
            let mut devices = topology.mig_devices();
            match devices.find(|device| spec::has_name(device, slice)) {
                Some(MigDevice { gpu, gi, ci }) => {
                    let key = SliceKey { gpu: gpu.minor.0, gi: gi.id.0, ci: Some(ci.id.0) };
                    self.add_to_slice(key, holder);
                }
                None => {
                    if let Some(cause) = &doubt {
                        let subject = format!("{slice}, in use by {holder}");
                        return Err(Error::failed("find slice", subject)
                            .because(cause)
                            .with_cure("run mig-cdi doctor"));
                    }
                }
            }
        }
        Ok(())
    }
}
