//! State of the node: its description, which all processes share.
//!
//! A process that changes it takes the lock file beside it, reads the description again if another process has
//! written it, and replaces it, then the fake host's capability tree. The lock file has the number of changes and
//! whether one is in progress, so that the next process notices and completes what a killed one has left.

use crate::{
    c_abi::{Code, UNKNOWN, refused},
    capabilities,
};
use mig_cdi_sim::{NvmlFault, Refusal, SimulatedNode};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nvml_wrapper_sys::bindings::{
    nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED,
    nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH, nvmlReturn_enum_NVML_ERROR_UNINITIALIZED,
};
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// nvml.h: initialisations are counted.
struct Library {
    clients: u32,
    state: Option<State>,
}

struct State {
    path: PathBuf,
    stamp: Stamp,
    changes: u64,
    node: Arc<SimulatedNode>,
}

/// Identity of a file, which differs for one that has replaced it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 5]);

fn library() -> MutexGuard<'static, Library> {
    static LIBRARY: Mutex<Library> = Mutex::new(Library { clients: 0, state: None });
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn init() -> Result<(), Code> {
    let mut library = library();
    if library.clients == 0 {
        let before = library.state.take();
        let state = State::now(path().ok_or(UNKNOWN)?, before).map_err(|_| UNKNOWN)?;
        let fault = state.node.nvml_fault;
        library.state = Some(state);
        match fault {
            Some(NvmlFault::DriverNotLoaded) => {
                return Err(nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED);
            }
            Some(NvmlFault::VersionMismatch) => {
                return Err(nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH);
            }
            None => {}
        }
    }
    library.clients += 1;
    Ok(())
}

pub(crate) fn shutdown() -> Result<(), Code> {
    let mut library = library();
    let left = library.clients.checked_sub(1);
    library.clients = left.ok_or(nvmlReturn_enum_NVML_ERROR_UNINITIALIZED)?;
    Ok(())
}

/// Returns the node as this process read it last: at its start, or at its own last change.
pub(crate) fn node() -> Result<Arc<SimulatedNode>, Code> {
    let library = library();
    let state = library.state.as_ref().filter(|_| library.clients > 0);
    Ok(state.ok_or(nvmlReturn_enum_NVML_ERROR_UNINITIALIZED)?.node.clone())
}

/// Reads the node from its description.
pub(crate) fn fresh() -> Result<SimulatedNode, Code> {
    let text = fs::read_to_string(description()?).map_err(|_| UNKNOWN)?;
    let node = SimulatedNode::parse(&text).map_err(|_| UNKNOWN)?;
    if node.nvml_fault.is_some() { Err(UNKNOWN) } else { Ok(node) }
}

/// Returns the path of the description.
pub(crate) fn description() -> Result<PathBuf, Code> {
    path().ok_or(UNKNOWN)
}

/// Reads a value from the node.
pub(crate) fn read<T>(answer: impl FnOnce(&SimulatedNode) -> Result<T, Code>) -> Result<T, Code> {
    answer(&*node()?)
}

/// Changes the node for all processes.
pub(crate) fn change<T>(
    change: impl FnOnce(&mut SimulatedNode) -> Result<T, Refusal>,
) -> Result<T, Code> {
    node()?;
    let mut library = library();
    let state = library.state.as_mut().ok_or(UNKNOWN)?;
    let lock = Lock::take(&state.path).map_err(|_| UNKNOWN)?;
    state.refresh(&lock).map_err(|_| UNKNOWN)?;
    let mut node = (*state.node).clone();
    let answer = change(&mut node).map_err(refused)?;
    if node != *state.node {
        state.write(&lock, node).map_err(|_| UNKNOWN)?;
    }
    Ok(answer)
}

impl State {
    fn read(path: PathBuf, changes: u64) -> io::Result<State> {
        let stamp = Stamp::of(&fs::metadata(&path)?);
        let node = SimulatedNode::parse(&fs::read_to_string(&path)?).map_err(io::Error::other)?;
        Ok(State { path, stamp, changes, node: Arc::new(node) })
    }

    /// Reads the changes of other processes, and completes those that a killed one has left, if that is permitted.
    fn now(path: PathBuf, before: Option<State>) -> io::Result<State> {
        let (changes, under_way) = Lock::peek(&path);
        let same = |state: &State| state.path == path && state.is_of(changes).unwrap_or(false);
        let mut state = match before.filter(same) {
            Some(state) => state,
            None => State::read(path, changes)?,
        };
        if under_way && let Ok(lock) = Lock::take(&state.path) {
            state.refresh(&lock)?;
        }
        Ok(state)
    }

    /// Returns whether no process has written the description since.
    fn is_of(&self, changes: u64) -> io::Result<bool> {
        Ok(changes == self.changes && Stamp::of(&fs::metadata(&self.path)?) == self.stamp)
    }

    fn refresh(&mut self, lock: &Lock) -> io::Result<()> {
        let (changes, half_done) = lock.read();
        if !self.is_of(changes)? {
            *self = State::read(self.path.clone(), changes)?;
        }
        if half_done {
            let _ = fs::remove_file(beside(&self.path, ".new"));
            capabilities::rebuild(&self.path, &self.node)?;
            lock.write(changes, false)?;
        }
        Ok(())
    }

    fn write(&mut self, lock: &Lock, node: SimulatedNode) -> io::Result<()> {
        lock.write(self.changes + 1, true)?;
        let new = beside(&self.path, ".new");
        fs::write(&new, node.to_toml())?;
        exchange(&new, &self.path)?;
        let before = std::mem::replace(&mut self.node, Arc::new(node));
        self.changes += 1;
        self.stamp = Stamp::of(&fs::metadata(&self.path)?);
        capabilities::update(&self.path, &before, &self.node)?;
        lock.write(self.changes, false)
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        let (inode, size) = (file.ino() as i64, file.size() as i64);
        Stamp([inode, size, file.mtime(), file.mtime_nsec(), file.ctime_nsec()])
    }
}

/// Lock file, locked until the process closes it or dies.
struct Lock(File);

impl Lock {
    fn take(path: &Path) -> io::Result<Lock> {
        let lock = beside(path, ".lock");
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
        file.lock()?;
        Ok(Lock(file))
    }

    /// Returns the number of changes, and whether one is in progress or was left by a killed process.
    fn read(&self) -> (u64, bool) {
        let mut bytes = [0; 9];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        let [count @ .., under_way] = bytes;
        if read == bytes.len() { (u64::from_le_bytes(count), under_way == 1) } else { (0, false) }
    }

    fn peek(path: &Path) -> (u64, bool) {
        File::open(beside(path, ".lock")).map_or((0, false), |file| Lock(file).read())
    }

    fn write(&self, changes: u64, under_way: bool) -> io::Result<()> {
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&changes.to_le_bytes());
        bytes[8] = under_way.into();
        self.0.write_all_at(&bytes, 0)
    }
}

/// Replaces the old file by the new one. A rename onto a file makes ext4 write the new one to the disk (its mount
/// option `auto_da_alloc`), which takes milliseconds; an exchange does not.
fn exchange(new: &Path, place: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => fs::remove_file(new),
        Err(_) => fs::rename(new, place),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Returns the path of the description with symlinks resolved, since the other files are beside the file itself and
/// not beside a link to it.
fn path() -> Option<PathBuf> {
    let named = std::env::var_os("FAKE_NVML_NODE").map(PathBuf::from);
    let mut path = named.or_else(beside_library)?;
    for _ in 0..8 {
        let Ok(target) = fs::read_link(&path) else { return Some(path) };
        path = path.parent()?.join(target);
    }
    None
}

/// Returns the owner of the description.
pub(crate) fn owner() -> Option<u32> {
    Some(fs::metadata(path()?).ok()?.uid())
}

/// Returns the path beside the library, for a program that runs with an empty environment.
fn beside_library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.split_ascii_whitespace().find(|word| word.contains("/libnvidia-ml.so"))?;
    Some(format!("{library}.toml").into())
}
