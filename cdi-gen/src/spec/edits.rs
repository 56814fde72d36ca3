//! What a container with one or more MIG devices gets.

use super::{Options, units::Unit};
use mig_cdi_model::{
    Destination, DeviceNode, DriverFile, Topology,
    cdi::{ContainerEdits, Device, DeviceName, Hook, Mount, Node},
};
use std::collections::{BTreeMap, BTreeSet};

/// Nobody in a container changes the driver's files, and no device node or setuid bit among them
/// would count.
const READ_ONLY: &[&str] = &["ro", "nosuid", "nodev", "rbind", "rprivate"];

/// Where 32-bit loaders look without a cache: Debian's and the others'.
const DIRS_32: [&str; 2] = ["/usr/lib/i386-linux-gnu", "/usr/lib"];

pub(super) struct Edits<'a> {
    pub options: &'a Options,
    pub files: &'a [DriverFile],
}

impl Edits<'_> {
    /// For every container: the nodes that all slices share, and `NVIDIA_VISIBLE_DEVICES=void`,
    /// which keeps an NVIDIA runtime hook that is installed too from adding devices of its own.
    pub fn common(&self, topology: &Topology) -> ContainerEdits {
        ContainerEdits {
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            device_nodes: topology.common.iter().map(node).collect(),
            mounts: self.params().into_iter().chain(self.mounts(|f| !f.graphics_only)).collect(),
            hooks: self.ldcache(|f| !f.graphics_only).into_iter().collect(),
        }
    }

    fn params(&self) -> Option<Mount> {
        let host_path = self.options.params_file.clone()?;
        let container_path = "/proc/driver/nvidia/params".to_owned();
        Some(Mount { host_path, container_path, options: READ_ONLY })
    }

    fn mounts(&self, wanted: impl Fn(&DriverFile) -> bool) -> Vec<Mount> {
        let dirs = &self.options.library_dirs;
        let dirs_32 = DIRS_32.map(str::to_owned);
        let in_each = |dirs: &[String], names: &[String]| {
            let paths =
                dirs.iter().flat_map(|dir| names.iter().map(move |name| format!("{dir}/{name}")));
            paths.collect::<Vec<_>>()
        };
        let mounts = self.files.iter().filter(|file| wanted(file)).flat_map(|file| {
            let paths = match &file.destination {
                Destination::Library(names) => in_each(dirs, names),
                Destination::Library32(names) => in_each(&dirs_32, names),
                Destination::At(path) => vec![path.clone()],
            };
            let mount = |container_path| Mount {
                host_path: file.host_path.clone(),
                container_path,
                options: READ_ONLY,
            };
            paths.into_iter().map(mount)
        });
        mounts.collect()
    }

    /// The entries of a unit, one for each name.
    pub fn entries(&self, unit: &Unit<'_>) -> Vec<Device> {
        let annotations = match self.options.annotations {
            true => unit.annotations.clone(),
            false => BTreeMap::new(),
        };
        let container_edits = self.of(&[unit]);
        let entry = |name: &DeviceName| Device {
            name: name.clone(),
            annotations: annotations.clone(),
            container_edits: container_edits.clone(),
        };
        unit.names.iter().map(entry).collect()
    }

    /// For a container with these units: their nodes, each once, and their variables.
    pub fn of(&self, units: &[&Unit<'_>]) -> ContainerEdits {
        let mut seen = BTreeSet::new();
        let nodes = units.iter().flat_map(|unit| unit.nodes.iter().copied());
        let nodes = nodes.filter(|node| seen.insert(node.path.as_str())).map(node).collect();
        let mut env: Vec<String> = units.iter().filter_map(|unit| unit.variable.clone()).collect();
        if self.options.cuda_env {
            env.extend(cuda_visible_devices(units));
        }
        let renders = units.iter().any(|unit| unit.renders);
        let drawing = |file: &DriverFile| renders && file.graphics_only;
        let mounts = self.mounts(drawing);
        let hooks = self.verify(units).into_iter().chain(self.ldcache(drawing)).collect();
        ContainerEdits { env, device_nodes: nodes, mounts, hooks }
    }

    /// `createRuntime` runs outside the container, before anything of it does.
    fn verify(&self, units: &[&Unit<'_>]) -> Option<Hook> {
        let verify = self.options.verify.as_ref()?;
        let claims: Vec<_> =
            units.iter().filter_map(|unit| unit.claim.as_ref()).map(ToString::to_string).collect();
        if claims.is_empty() {
            return None;
        }
        let own = ["mig-cdi-hook".to_owned(), "verify".to_owned()];
        Some(Hook {
            hook_name: "createRuntime",
            path: verify.path.clone(),
            args: own.into_iter().chain(verify.options.iter().cloned()).chain(claims).collect(),
            env: ["MIG_CDI_HOOK=verify"],
            timeout: verify.timeout,
        })
    }

    /// `createContainer` runs in the container's mount namespace, when its mounts are there and its root
    /// is still the machine's.
    fn ldcache(&self, wanted: impl Fn(&DriverFile) -> bool) -> Option<Hook> {
        let path = self.options.ldcache.clone()?;
        let dir = self.options.library_dirs.first()?;
        let names = self.files.iter().filter(|file| wanted(file)).flat_map(|file| {
            match &file.destination {
                Destination::Library(names) => names.as_slice(),
                Destination::Library32(_) | Destination::At(_) => &[],
            }
        });
        let own = ["mig-cdi-hook".to_owned(), "ldcache".to_owned(), format!("--dir={dir}")];
        let args: Vec<_> = own.iter().chain(names).cloned().collect();
        (args.len() > own.len()).then_some(Hook {
            hook_name: "createContainer",
            path,
            args,
            env: ["MIG_CDI_HOOK=ldcache"],
            timeout: 5,
        })
    }
}

fn node(node: &DeviceNode) -> Node {
    let unless_root = |id: u32| (id != 0).then_some(id);
    Node {
        path: node.path.clone(),
        kind: "c",
        major: node.major.0,
        minor: node.minor.0,
        file_mode: node.mode,
        permissions: "rw",
        uid: unless_root(node.uid),
        gid: unless_root(node.gid),
    }
}

/// One variable for the container: of several devices asked for one by one, the last wins.
fn cuda_visible_devices(units: &[&Unit<'_>]) -> Option<String> {
    let uuids: Vec<_> = units.iter().filter_map(|unit| unit.uuid.as_deref()).collect();
    (!uuids.is_empty()).then(|| format!("CUDA_VISIBLE_DEVICES={}", uuids.join(",")))
}
