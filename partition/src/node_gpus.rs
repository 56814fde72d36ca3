//! The GPUs of a node as NVML or a simulated node describes them.

use crate::gpu_change::gpu_label;
use mig_cdi_config::layouts::GpuIdentity;
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NodeSource, Result,
    discover::{self, Source},
};
use mig_cdi_model::GpuIndex;
use mig_cdi_sys::nvml::{GpuPartitioning, Partitioner};

/// The GPUs of a node, and the interface that partitions them. NVML stays open until this is dropped.
pub struct NodeGpus {
    /// NVML, or a simulated node.
    pub partitioner: Box<dyn Partitioner>,
    /// GPUs that NVML can describe, by index.
    pub all: Vec<GpuPartitioning>,
    /// GPUs that it cannot describe, an error for each; one for all that it describes to root only.
    pub unreadable: Vec<Error>,
    /// Error of the GPUs that NVML describes to root only.
    denied: Option<Error>,
}

impl NodeGpus {
    /// Reads the GPUs of a node. Reports each GPU that NVML cannot describe.
    ///
    /// # Errors
    /// When NVML does not answer, can describe none of the GPUs, or describes one to root only.
    pub fn read(node: &NodeSource, messages: &dyn MessageSink) -> Result<NodeGpus> {
        NodeGpus::open(node, messages, "it is omitted")?.expect_some()
    }

    /// Reads the GPUs again, with the same NVML.
    ///
    /// # Errors
    /// As [`NodeGpus::read`].
    pub(crate) fn read_again(self, messages: &dyn MessageSink) -> Result<NodeGpus> {
        NodeGpus::through(self.partitioner, messages, "it is omitted")?.expect_some()
    }

    fn expect_some(mut self) -> Result<NodeGpus> {
        if let Some(denied) = self.denied.take() {
            return Err(denied);
        }
        match self.all.is_empty() && !self.unreadable.is_empty() {
            true => Err(Error::of(ErrorKind::Incomplete, "read", "gpus")
                .because("nvml describes none of them")
                .with_cure("see dmesg for the driver's own messages")),
            false => Ok(self),
        }
    }

    /// Reads the GPUs of a node, even when NVML can describe none of them. Reports each that it cannot describe; `consequence`
    /// ends the message, as in `it is omitted`.
    ///
    /// # Errors
    /// When NVML does not answer.
    pub fn read_available(
        node: &NodeSource,
        messages: &dyn MessageSink,
        consequence: &str,
    ) -> Result<NodeGpus> {
        let gpus = NodeGpus::open(node, messages, consequence)?;
        if let Some(denied) = &gpus.denied {
            let cause = format!("{}; {consequence}", denied.cause);
            messages.error(&Error { cause, ..denied.clone() }.to_string());
        }
        Ok(gpus)
    }

    fn open(node: &NodeSource, messages: &dyn MessageSink, consequence: &str) -> Result<NodeGpus> {
        if node.source == Source::Proc {
            // /proc shows the ids of instances, and neither profiles nor placements.
            return Err(Error::usage("accept", "--source proc")
                .because("only nvml partitions gpus and reports their layouts")
                .with_cure("omit --source proc"));
        }
        let partitioner = node.partitioner()?.map_err(discover::required_nvml_error)?;
        NodeGpus::through(partitioner, messages, consequence)
    }

    fn through(
        partitioner: Box<dyn Partitioner>,
        messages: &dyn MessageSink,
        consequence: &str,
    ) -> Result<NodeGpus> {
        let (mut all, mut unreadable, mut denied) = (Vec::new(), Vec::new(), None);
        let answers = partitioner.gpus().map_err(discover::required_nvml_error)?;
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(gpu) => all.push(gpu),
                Err(error) if error.is_not_permitted() => {
                    let cause = "nvml reports them only to a caller with privileges";
                    let error = Error::failed("read", "the layouts of the gpus")
                        .because_of(cause, error.cure);
                    denied.get_or_insert(error);
                }
                Err(error) => {
                    let cause = format!("{}; {consequence}", error.without_cure());
                    let gpu = format!("gpu {index}");
                    let error = Error::of(ErrorKind::Incomplete, "query nvml about", gpu)
                        .because_of(cause, error.cure);
                    messages.error(&error.to_string());
                    unreadable.push(error);
                }
            }
        }
        unreadable.extend(denied.clone());
        Ok(NodeGpus { partitioner, all, unreadable, denied })
    }

    /// Returns the GPUs with one of them as it was read last.
    pub(crate) fn with(&self, latest: &GpuPartitioning) -> Vec<GpuPartitioning> {
        let others = self.all.iter().filter(|gpu| gpu.uuid != latest.uuid);
        others.chain([latest]).cloned().collect()
    }

    /// Returns the names by which layouts can select the GPUs, in the order of [`NodeGpus::all`].
    ///
    /// # Errors
    /// When NVML reports a UUID or PCI address that is not one.
    pub fn candidates(&self) -> Result<Vec<GpuIdentity>> {
        let candidate = |gpu: &GpuPartitioning| {
            let bad = |e| Error::failed("query nvml about", gpu_label(gpu)).because(e);
            Ok(GpuIdentity {
                index: GpuIndex(gpu.index),
                uuid: gpu.uuid.parse().map_err(bad)?,
                pci: gpu.pci.parse().map_err(bad)?,
                device_id: gpu.device_id,
                subsystem_id: gpu.subsystem_id,
            })
        };
        self.all.iter().map(candidate).collect()
    }
}
