//! What an apply is about to do, written down before it begins: `/var/lib/mig-cdi/apply.json`. It says of
//! each GPU how it was divided and how it shall be. That is enough to end a run that was cut off: the steps
//! are planned anew from what is there then.

use mig_cdi_config::layouts::Layout;
use mig_cdi_gen::{Error, Result};
use mig_cdi_sys::{Lock, Root, TrustedDir, is_root};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

const NAME: &str = "apply.json";
const LIMIT: usize = 1 << 20;
/// A whole apply of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Which start of the machine: no instance outlives it.
    boot: String,
    /// What is left to be done, in order.
    pub gpus: Vec<Entry>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `GPU-…`.
    pub gpu: String,
    /// As it was, every placement pinned.
    before: String,
    /// As it shall be.
    after: String,
}

impl Entry {
    pub fn new(gpu: &str, before: &Layout, after: &Layout) -> Entry {
        Entry { gpu: gpu.to_owned(), before: before.to_string(), after: after.to_string() }
    }

    pub fn before(&self) -> Result<Layout> {
        self.layout(&self.before)
    }

    pub fn after(&self) -> Result<Layout> {
        self.layout(&self.after)
    }

    fn layout(&self, text: &str) -> Result<Layout> {
        text.parse().map_err(|e| {
            Error::failed("read", format!("{NAME}: {}", self.gpu)).because(e).cure("remove it")
        })
    }
}

/// The directory of the journal, and the lock that every process takes that changes GPUs.
#[derive(Debug)]
pub struct Desk {
    dir: TrustedDir,
    boot: String,
    _lock: Lock,
}

impl Desk {
    /// Waits for its turn.
    pub fn open(dir: &Path, host: &Root) -> Result<Desk> {
        if !is_root() {
            return Err(Error::failed("divide gpus", "")
                .because("not permitted")
                .cure("run it as root"));
        }
        let boot = host.read("/proc/sys/kernel/random/boot_id", LIMIT).ok().flatten();
        let boot = String::from_utf8(boot.unwrap_or_default()).unwrap_or_default();
        let dir = TrustedDir::open_or_make(dir)?;
        let lock = dir.lock(PATIENCE)?;
        Ok(Desk { dir, boot: boot.trim().to_owned(), _lock: lock })
    }

    /// The journal of a run that did not end, since the machine was started.
    pub fn read(&self) -> Result<Option<Journal>> {
        let Some(bytes) = self.dir.read(NAME, LIMIT)? else { return Ok(None) };
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|e| {
            Error::failed("read", self.dir.show(NAME).display()).because(e).cure("remove it")
        })?;
        Ok(Some(journal).filter(|journal| journal.boot == self.boot))
    }

    /// Writes down what is left; nothing left, no file.
    pub fn write(&self, gpus: &[Entry]) -> Result<()> {
        if gpus.is_empty() {
            self.dir.remove(NAME)?;
            return Ok(());
        }
        let journal = Journal { boot: self.boot.clone(), gpus: gpus.to_vec() };
        let fail = |e| Error::failed("write", NAME).because(e);
        let text = serde_json::to_vec_pretty(&journal).map_err(fail)?;
        self.dir.replace(NAME, &text)?;
        Ok(())
    }
}
