//! Capability tree of the fake host, `root/proc/driver/nvidia/capabilities` beside the node description. As in the
//! real `/proc`, the directory of an instance appears and disappears atomically. Nothing here touches `/dev`: the
//! driver makes no device nodes.

use mig_cdi_sim::{ProcTree, SimulatedGpu, SimulatedNode};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Directories with their `access` files.
type Dirs = BTreeMap<String, Option<Vec<u8>>>;

/// Changes the tree from one node to the next.
pub(crate) fn update(
    description: &Path,
    from: &SimulatedNode,
    to: &SimulatedNode,
) -> io::Result<()> {
    let Some(host) = Host::of(description) else { return Ok(()) };
    for (before, after) in from.gpus.iter().zip(&to.gpus) {
        if before.instances != after.instances {
            let dirs = (ProcTree::capabilities(from, before), ProcTree::capabilities(to, after));
            host.change(&dirs.0, &dirs.1)?;
        }
    }
    Ok(())
}

/// Rebuilds the tree of the node from any state.
pub(crate) fn rebuild(description: &Path, node: &SimulatedNode) -> io::Result<()> {
    let Some(host) = Host::of(description) else { return Ok(()) };
    // Leftover of a killed process: a file or a directory.
    if fs::remove_file(&host.scratch).is_err() && host.scratch.exists() {
        fs::remove_dir_all(&host.scratch)?;
    }
    for gpu in &node.gpus {
        host.change(&host.found(gpu)?, &ProcTree::capabilities(node, gpu))?;
    }
    Ok(())
}

struct Host {
    root: PathBuf,
    /// Path for a directory that is being made or removed: on the same file system, where no reader looks.
    scratch: PathBuf,
}

impl Host {
    fn of(description: &Path) -> Option<Host> {
        let dir = description.parent()?;
        let (root, scratch) = (dir.join("root"), dir.join("capabilities.new"));
        root.is_dir().then_some(Host { root, scratch })
    }

    /// Returns the existing directories of a GPU.
    fn found(&self, gpu: &SimulatedGpu) -> io::Result<Dirs> {
        let mut found = Dirs::new();
        let mut todo = vec![format!("/proc/driver/nvidia/capabilities/gpu{}/mig", gpu.minor)];
        while let Some(dir) = todo.pop() {
            let entries = match fs::read_dir(self.path(&dir)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
                    found.insert(path.clone(), fs::read(entry.path().join("access")).ok());
                    todo.push(path);
                }
            }
        }
        Ok(found)
    }

    fn change(&self, from: &Dirs, to: &Dirs) -> io::Result<()> {
        // Children are removed before their parents, and parents added before their children.
        for dir in from.keys().rev().filter(|dir| !to.contains_key(*dir)) {
            self.remove(dir)?;
        }
        for (dir, access) in to {
            match (from.get(dir), access) {
                (None, _) => self.add(dir, access.as_deref())?,
                (Some(before), _) if before == access => {}
                (_, Some(access)) => self.write(dir, access)?,
                (_, None) => fs::remove_file(self.path(dir).join("access"))?,
            }
        }
        Ok(())
    }

    fn add(&self, dir: &str, access: Option<&[u8]>) -> io::Result<()> {
        let (new, place) = (&self.scratch, self.path(dir));
        fs::create_dir(new)?;
        access.map_or(Ok(()), |access| fs::write(new.join("access"), access))?;
        match fs::rename(new, &place) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(place.parent().unwrap_or(&place))?;
                fs::rename(new, &place)
            }
            renamed => renamed,
        }
    }

    fn write(&self, dir: &str, access: &[u8]) -> io::Result<()> {
        fs::write(&self.scratch, access)?;
        fs::rename(&self.scratch, self.path(dir).join("access"))
    }

    fn remove(&self, dir: &str) -> io::Result<()> {
        match fs::rename(self.path(dir), &self.scratch) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| fs::remove_dir_all(&self.scratch)),
        }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}
