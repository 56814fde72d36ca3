//! Slices that are in use because the command line says so.

use crate::holders::Holders;
use mig_cdi_gen::{Error, spec};
use mig_cdi_model::{Gpu, MigDevice, Topology};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// `SLICE=WHO`, by somebody who hands slices out and knows of those that nothing shows yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// A name of a slice or of a GPU.
    pub id: String,
    /// Its holder.
    pub who: String,
}

impl FromStr for InUse {
    type Err = String;

    fn from_str(text: &str) -> Result<InUse, String> {
        match text.split_once('=') {
            Some((id, who)) if !id.is_empty() && !who.is_empty() => {
                Ok(InUse { id: id.to_owned(), who: who.to_owned() })
            }
            _ => Err("write SLICE=WHO, as in 0:2g.20gb:4=pod default/train".to_owned()),
        }
    }
}

/// Whoever is said to hold a GPU as a whole.
pub fn of_gpu(told: &[InUse], uuid: &str, index: u32) -> Vec<String> {
    let of = told.iter().filter(|told| told.id == uuid || told.id == index.to_string());
    of.map(|told| told.who.clone()).collect()
}

impl Holders {
    /// Takes slices for used. One that is not there any more holds nothing up.
    ///
    /// # Errors
    /// When it cannot be told whether one is there: NVML does not name all slices.
    pub fn add_told(&mut self, told: &[InUse], topology: &Topology) -> mig_cdi_gen::Result<()> {
        for InUse { id, who } in told {
            let whole = |gpu: &&Gpu| {
                gpu.uuid.as_ref().is_some_and(|uuid| uuid.to_string() == *id)
                    || gpu.index.is_some_and(|index| index.to_string() == *id)
            };
            if let Some(gpu) = topology.gpus.iter().find(whole) {
                self.add_gpu(gpu.minor.0, who);
            }
            let mut devices = topology.mig_devices();
            match devices.find(|device| spec::has_name(device, id)) {
                Some(device) => {
                    let MigDevice { gpu, gi, ci } = device;
                    self.add_slice((gpu.minor.0, gi.id.0, Some(ci.id.0)), who);
                }
                None if topology.mig_devices().any(|device| device.ci.uuid.is_none()) => {
                    let cause = format!(
                        "which one is {id}, used by {who}, cannot be told, for nvml does not name them all"
                    );
                    return Err(Error::failed("look for who holds slices", "")
                        .because(cause)
                        .cure("see mig-cdi doctor"));
                }
                None => {}
            }
        }
        Ok(())
    }
}
