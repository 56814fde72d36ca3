//! What discovery may ask of a machine, and the real machine's answers.

use crate::{DriverRoot, Result, Root, nvml};
use mig_cdi_model::{Major, Minor};
use nix::sys::stat::{FileStat, SFlag, major, minor};
use std::path::{Path, PathBuf};

/// A device node as it stands in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStat {
    /// False for anything but a character device.
    pub is_char: bool,
    /// Major number.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl NodeStat {
    pub(crate) fn of(stat: &FileStat) -> NodeStat {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        NodeStat {
            is_char: kind == SFlag::S_IFCHR,
            major: Major(u32::try_from(major(stat.st_rdev)).unwrap_or(u32::MAX)),
            minor: Minor(u32::try_from(minor(stat.st_rdev)).unwrap_or(u32::MAX)),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}

/// The narrow interface to a driver: text files, directories, device nodes, and NVML. The real
/// machine and a simulated one answer it.
pub trait Machine {
    /// The whole of a file below `/proc` or `/sys`, or `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is larger than `limit` bytes.
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;

    /// The sorted names in a directory below `/proc`, or `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, path: &str) -> Result<Option<Vec<String>>>;

    /// What is at a path below `/dev`, links followed.
    ///
    /// # Errors
    /// When it cannot be told.
    fn node(&self, path: &str) -> Result<Option<NodeStat>>;

    /// What NVML says of every GPU and MIG device, asked once and closed again.
    ///
    /// # Errors
    /// When NVML cannot be loaded or refuses to start.
    fn nvml(&self) -> std::result::Result<nvml::Report, nvml::Failure>;

    /// The tree with the driver's files; a simulated node has none.
    fn driver(&self) -> Option<&DriverRoot>;
}

/// Where the parts of a machine are found. Each is a directory that stands for `/`.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Holds the driver's libraries.
    pub driver: PathBuf,
    /// Directories below it to look into before all others.
    pub library_search_path: Vec<PathBuf>,
    /// Holds `dev`.
    pub dev: PathBuf,
    /// Holds `proc`, and `sys`.
    pub proc: PathBuf,
    /// Ask NVML for the version of CUDA too, for which it opens libcuda.
    pub cuda: bool,
}

/// The machine itself.
#[derive(Debug)]
pub struct Host {
    driver: DriverRoot,
    dev: Root,
    proc: Root,
    cuda: bool,
}

impl Host {
    /// Opens the three roots.
    ///
    /// # Errors
    /// When one is no directory.
    pub fn open(roots: &Roots) -> Result<Host> {
        let open = |path: &Path| Root::open(path);
        let driver = DriverRoot::open(&roots.driver, &roots.library_search_path)?;
        Ok(Host { driver, dev: open(&roots.dev)?, proc: open(&roots.proc)?, cuda: roots.cuda })
    }

    /// NVML, open to divide GPUs.
    ///
    /// # Errors
    /// As [`Machine::nvml`].
    pub fn divider(&self) -> std::result::Result<Box<dyn nvml::Divider>, nvml::Failure> {
        nvml::divider(&self.driver)
    }
}

impl Machine for Host {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.proc.read(path, limit)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.proc.list(path)
    }

    fn node(&self, path: &str) -> Result<Option<NodeStat>> {
        self.dev.node(path)
    }

    fn nvml(&self) -> std::result::Result<nvml::Report, nvml::Failure> {
        nvml::report(&self.driver, self.cuda)
    }

    fn driver(&self) -> Option<&DriverRoot> {
        Some(&self.driver)
    }
}
