//! The journal of an apply: `apply.json`, written before the first step and removed after the last.
//!
//! It holds the layout that each GPU had and the layout that it is to have, and no steps: a run that was interrupted is completed
//! by planning again from the instances that exist then.

use crate::gpu_change::gpu_label;
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{Error, Result};
use mig_cdi_sys::{Lock, Root, TrustedDir, is_root, nvml::GpuPartitioning};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

/// Name of the journal in its directory.
pub(crate) const FILE_NAME: &str = "apply.json";
/// Id of the boot, the same for every reader (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the UUIDs of the GPUs in whose change an apply was interrupted, by the journal at a path below `host`.
///
/// # Errors
/// When the journal cannot be read.
pub fn interrupted_gpus(host: &Root, path: &str) -> Result<Vec<String>> {
    let Some(bytes) = host.read(path, LIMIT)? else { return Ok(Vec::new()) };
    let journal = serde_json::from_slice::<Journal>(&bytes)
        .map_err(|e| Error::failed("read", path).because(format!("not a journal: {e}")))?;
    match journal.boot == boot_id(host) {
        true => Ok(journal.gpus.into_iter().map(|entry| entry.gpu).collect()),
        false => Ok(Vec::new()),
    }
}

fn boot_id(host: &Root) -> String {
    let id = host.read(BOOT_ID, LIMIT).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&id).trim().to_owned()
}
/// Largest journal that is read, far above that of any node.
const LIMIT: usize = 1 << 20;
/// Longest wait for the lock: another process may be in the middle of a whole apply.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    /// Boot id of the machine.
    boot: String,
    /// GPUs that are still to be changed, in order.
    pub gpus: Vec<JournalEntry>,
}

/// The change of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalEntry {
    /// UUID of the GPU: `GPU-…`. Index and minor number can change with the MIG mode (nvml.h, `nvmlDeviceSetMigMode`).
    pub gpu: String,
    /// Layout before the change, with every placement.
    before: String,
    /// Desired layout.
    after: String,
    /// MIG mode that was to take effect at the next reset, where it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_mode: Option<bool>,
}

impl JournalEntry {
    /// Makes the entry of a change.
    pub(crate) fn new(
        gpu: &GpuPartitioning,
        before: &GpuLayoutSetting,
        after: &GpuLayoutSetting,
    ) -> JournalEntry {
        let (before, after) = (before.to_string(), after.to_string());
        let pending_mode = gpu.pending_mode.map(|pending| pending.is_on);
        JournalEntry { gpu: gpu.uuid.clone(), before, after, pending_mode }
    }

    /// Returns the layout before the change.
    ///
    /// # Errors
    /// When the journal does not hold a layout.
    pub(crate) fn before(&self, dir: &JournalDir) -> Result<GpuLayoutSetting> {
        self.layout(&self.before, dir)
    }

    /// Returns the desired layout.
    ///
    /// # Errors
    /// When the journal does not hold a layout.
    pub(crate) fn after(&self, dir: &JournalDir) -> Result<GpuLayoutSetting> {
        self.layout(&self.after, dir)
    }

    fn layout(&self, text: &str, dir: &JournalDir) -> Result<GpuLayoutSetting> {
        text.parse().map_err(|e| dir.unusable(format!("the layout of {}: {e}", self.gpu)))
    }
}

/// The directory of the journal, locked: every process that changes GPUs takes the lock first.
#[derive(Debug)]
pub(crate) struct JournalDir {
    dir: TrustedDir,
    boot: String,
    /// GPUs of an earlier run that was interrupted, which stay in the journal.
    earlier: Vec<JournalEntry>,
    _lock: Lock,
}

impl JournalDir {
    /// Opens the directory, or creates it, and waits for the lock up to `limit`. `host` is the root of the machine's `/proc`.
    ///
    /// # Errors
    /// When this process does not run as root, the directory is unsafe, or the lock is not free in time.
    pub(crate) fn open(dir: &Path, host: &Root, limit: Duration) -> Result<JournalDir> {
        expect_root()?;
        let boot = boot_id(host);
        let dir = TrustedDir::open_or_make(dir)?;
        let lock = dir.lock(limit)?;
        Ok(JournalDir { dir, boot, earlier: Vec::new(), _lock: lock })
    }

    /// Reads the journal of a run that was interrupted since the machine was started; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a journal.
    pub(crate) fn read(&self) -> Result<Option<Journal>> {
        let Some(bytes) = self.dir.read(FILE_NAME, LIMIT)? else { return Ok(None) };
        let journal: Journal = serde_json::from_slice(&bytes)
            .map_err(|e| self.unusable(format!("not a journal: {e}")))?;
        // No instance outlives a reboot (NVIDIA's MIG user guide), so an older journal describes GPUs that are gone.
        Ok(Some(journal).filter(|journal| journal.boot == self.boot))
    }

    /// Keeps the GPUs of a run that was interrupted in the journal, whatever is written.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) fn keep_interrupted(self) -> Result<JournalDir> {
        let earlier = self.read()?.map_or_else(Vec::new, |journal| journal.gpus);
        Ok(JournalDir { earlier, ..self })
    }

    /// Checks that no earlier run was interrupted in the change of these GPUs. Others are not concerned: one that fell off the bus in the
    /// middle of its change would keep all of them from being partitioned.
    ///
    /// # Errors
    /// When one was.
    pub(crate) fn expect_complete<'a>(
        &self,
        gpus: impl IntoIterator<Item = &'a GpuPartitioning>,
    ) -> Result<()> {
        let is_left = |gpu: &&GpuPartitioning| self.earlier.iter().any(|left| left.gpu == gpu.uuid);
        let Some(gpu) = gpus.into_iter().find(is_left) else { return Ok(()) };
        let path = self.dir.display_path(FILE_NAME);
        let cause = format!("an earlier apply was interrupted, as {} records", path.display());
        Err(Error::failed("partition", gpu_label(gpu))
            .because(cause)
            .with_cure("run mig-cdi apply --resume"))
    }

    fn unusable(&self, cause: String) -> Error {
        let path = self.dir.display_path(FILE_NAME);
        let path = path.display();
        let cure = format!("remove {path}; the gpus then keep their present layouts");
        Error::failed("read", path).because(cause).with_cure(cure)
    }

    /// Replaces the journal by one with these GPUs; without any, removes the file.
    ///
    /// # Errors
    /// When the file cannot be written or removed.
    pub(crate) fn write(&self, gpus: &[JournalEntry]) -> Result<()> {
        let gpus = [self.earlier.as_slice(), gpus].concat();
        if gpus.is_empty() {
            self.dir.remove(FILE_NAME)?;
            return Ok(());
        }
        let journal = Journal { boot: self.boot.clone(), gpus };
        let fail = |e| Error::failed("write", FILE_NAME).because(e);
        let text = serde_json::to_vec_pretty(&journal).map_err(fail)?;
        self.dir.replace(FILE_NAME, &text)?;
        Ok(())
    }
}

/// Checks that this process may partition GPUs, so that no run ends for lack of privilege after half of its steps. Instances take
/// the capability `mig/config` or `CAP_SYS_ADMIN` (`client.c:876-966`), and the mode takes `CAP_SYS_ADMIN` (NVIDIA's MIG user guide).
///
/// # Errors
/// When it does not run as root.
pub(crate) fn expect_root() -> Result<()> {
    match is_root() {
        true => Ok(()),
        false => {
            let error = Error::failed("partition", "gpus").because("not permitted");
            Err(error.with_cure("run it as root"))
        }
    }
}
