//! The interface through which discovery reads a machine, and the real machine behind it.

use crate::{DriverRoot, NodeStat, Result, Root, nvml};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the kernel shows of a driver: text files, directories and device nodes.
pub trait KernelFiles {
    /// Reads a whole file below `/proc` or `/sys`, or returns `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is larger than `limit` bytes.
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;

    /// Lists the sorted names in a directory below `/proc` or `/sys`, or returns `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, path: &str) -> Result<Option<Vec<String>>>;

    /// Device node at a path below `/dev`; symbolic links are followed. `None` when nothing is there.
    ///
    /// # Errors
    /// When the path cannot be looked up.
    fn node(&self, path: &str) -> Result<Option<NodeStat>>;

    /// Refuses a `/sys` that is not the kernel's.
    ///
    /// # Errors
    /// As [`Root::check_sys`].
    fn check_sys(&self) -> Result<()> {
        Ok(())
    }
}

/// The narrow interface to a driver: the kernel's files, and NVML. The real machine and a simulated one implement it.
pub trait Machine: KernelFiles {
    /// Report of NVML on every GPU and MIG device. NVML is opened for it and closed again.
    ///
    /// # Errors
    /// When NVML cannot be loaded or refuses to start.
    fn nvml(&self) -> std::result::Result<nvml::NvmlSnapshot, nvml::NvmlError>;

    /// Tree with the driver's files; a simulated node has none.
    fn driver(&self) -> Option<&DriverRoot>;
}

/// Directories that stand for `/` when parts of a machine are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRoots {
    /// Root of the driver's libraries and programs, which may be those of a driver container.
    pub driver: PathBuf,
    /// Directories below the driver root that are searched for libraries before all others.
    pub library_search_path: Vec<PathBuf>,
    /// Directories below the driver root that are searched for programs before all others.
    pub program_search_path: Vec<PathBuf>,
    /// Directory that holds `dev`.
    pub dev: PathBuf,
    /// Directory that holds `proc` and `sys`.
    pub proc: PathBuf,
    /// Whether NVML reports the CUDA version, for which it opens libcuda. Labels of a Kubernetes node need it.
    pub reads_cuda_version: bool,
}

impl Default for NodeRoots {
    /// Roots of a machine whose driver is installed on the host itself: `/` for all.
    fn default() -> NodeRoots {
        let root = || PathBuf::from("/");
        NodeRoots {
            driver: root(),
            library_search_path: Vec::new(),
            program_search_path: Vec::new(),
            dev: root(),
            proc: root(),
            reads_cuda_version: false,
        }
    }
}

impl NodeRoots {
    /// Path on this host of a device node: `/dev/nvidia0` below the root that holds `dev`.
    #[must_use]
    pub fn dev_path(&self, path: &str) -> PathBuf {
        self.dev.join(path.trim_start_matches('/'))
    }
}

/// This machine, read through `/proc`, `/dev` and NVML.
#[derive(Debug)]
pub struct Host {
    driver: DriverRoot,
    dev: Root,
    proc: Root,
    reads_cuda_version: bool,
}

impl Host {
    /// Opens the three roots.
    ///
    /// # Errors
    /// When one is not a directory.
    pub fn open(roots: &NodeRoots) -> Result<Host> {
        let open = |path: &Path| Root::open(path);
        let driver = DriverRoot::open(roots)?;
        Ok(Host {
            driver,
            dev: open(&roots.dev)?,
            proc: open(&roots.proc)?,
            reads_cuda_version: roots.reads_cuda_version,
        })
    }

    /// Opens NVML to partition GPUs. It stays open until the value is dropped.
    ///
    /// # Errors
    /// As [`Machine::nvml`].
    pub fn partitioner(&self) -> std::result::Result<Box<dyn nvml::Partitioner>, nvml::NvmlError> {
        nvml::partitioner(&self.driver)
    }
}

impl KernelFiles for Host {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.proc.read(path, limit)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.proc.list(path)
    }

    fn node(&self, path: &str) -> Result<Option<NodeStat>> {
        self.dev.node(path)
    }

    fn check_sys(&self) -> Result<()> {
        self.proc.check_sys()
    }
}

impl Machine for Host {
    fn nvml(&self) -> std::result::Result<nvml::NvmlSnapshot, nvml::NvmlError> {
        nvml::snapshot(&self.driver, self.reads_cuda_version)
    }

    fn driver(&self) -> Option<&DriverRoot> {
        Some(&self.driver)
    }
}
