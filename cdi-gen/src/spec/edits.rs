//! Container edits for one or more devices of a spec.

use super::{options::SpecOptions, spec_device::SpecDevice};
use mig_cdi_model::{
    Destination, DeviceNode, DriverFile, Topology,
    cdi::{ContainerEdits, Device, DeviceName, Hook, Mount, SpecNode},
};
use std::collections::{BTreeMap, BTreeSet};

// Read-only: nobody in a container changes the driver's files. A device node or a setuid bit among them has no effect.
const READ_ONLY: [&str; 5] = ["ro", "nosuid", "nodev", "rbind", "rprivate"];

/// Directories that 32-bit loaders search without a cache: that of Debian and that of the others.
const DIRS_32: [&str; 2] = ["/usr/lib/i386-linux-gnu", "/usr/lib"];

pub(super) struct EditBuilder<'a> {
    pub options: &'a SpecOptions,
    pub files: &'a [DriverFile],
}

impl EditBuilder<'_> {
    /// Edits for every container: the nodes and files that all devices share.
    pub fn common(&self, topology: &Topology) -> ContainerEdits {
        let is_common = |file: &DriverFile| !file.graphics_only;
        ContainerEdits {
            // An NVIDIA runtime hook that is installed too adds devices of its own, unless it finds "void".
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            device_nodes: topology.common.iter().map(spec_node).collect(),
            mounts: self.params_mount().into_iter().chain(self.file_mounts(is_common)).collect(),
            hooks: self.ldcache_hook(is_common).into_iter().collect(),
            ..ContainerEdits::default()
        }
    }

    /// A copy of the driver's parameters with `ModifyDeviceFiles: 0`.
    // With it a driver library in the container does not run nvidia-modprobe, which creates nodes that the container did
    // not request. NVIDIA's toolkit has a hook for the same (nvidia-container-toolkit,
    // `disable-device-node-modification.go:128-133`).
    fn params_mount(&self) -> Option<Mount> {
        let host_path = self.options.params_file.clone()?;
        Some(mount(&host_path, "/proc/driver/nvidia/params".to_owned()))
    }

    /// Mounts of these files.
    // A library in every directory that a loader searches, under every name that programs open, spares the container a
    // hook that creates links or runs ldconfig. Such a hook runs as root on files of the image.
    fn file_mounts(&self, is_wanted: impl Fn(&DriverFile) -> bool) -> Vec<Mount> {
        let dirs = &self.options.library_dirs;
        let dirs_32 = DIRS_32.map(str::to_owned);
        let in_each = |dirs: &[String], names: &[String]| {
            let paths =
                dirs.iter().flat_map(|dir| names.iter().map(move |name| format!("{dir}/{name}")));
            paths.collect::<Vec<_>>()
        };
        let mounts = self.files.iter().filter(|file| is_wanted(file)).flat_map(|file| {
            let paths = match &file.destination {
                Destination::Library(names) => in_each(dirs, names),
                Destination::Library32(names) => in_each(&dirs_32, names),
                Destination::At(path) => vec![path.clone()],
            };
            paths.into_iter().map(|container_path| mount(&file.host_path, container_path))
        });
        mounts.collect()
    }

    /// The entries of a device, one for each name.
    pub fn entries(&self, device: &SpecDevice<'_>) -> Vec<Device> {
        let annotations = match self.options.wants_annotations {
            true => device.annotations.clone(),
            false => BTreeMap::new(),
        };
        let container_edits = self.device_edits(&[device]);
        let entry = |name: &DeviceName| Device {
            name: name.to_string(),
            annotations: annotations.clone(),
            container_edits: container_edits.clone(),
        };
        device.names.iter().map(entry).collect()
    }

    /// Edits for a container with these devices: their nodes, each once, and their variables.
    pub fn device_edits(&self, devices: &[&SpecDevice<'_>]) -> ContainerEdits {
        let mut paths = BTreeSet::new();
        let nodes =
            devices.iter().flat_map(|device| device.nodes.iter().chain(&device.dri_links).copied());
        let nodes = nodes.filter(|node| paths.insert(node.path.as_str()));
        let mut env: Vec<_> = devices.iter().filter_map(|device| device.variable.clone()).collect();
        if self.options.sets_cuda_env {
            env.extend(cuda_visible_devices(devices));
        }
        let has_graphics = devices.iter().any(|device| device.has_graphics);
        let is_wanted = |file: &DriverFile| has_graphics && file.graphics_only;
        ContainerEdits {
            env,
            device_nodes: nodes.map(spec_node).collect(),
            mounts: self.file_mounts(is_wanted),
            hooks: self
                .verify_hook(devices)
                .into_iter()
                .chain(self.ldcache_hook(is_wanted))
                .collect(),
            ..ContainerEdits::default()
        }
    }

    /// The hook that compares the slices with the driver's state.
    // createRuntime runs in the runtime's namespaces, before any program of the container does, and its failure stops the
    // start (OCI runtime specification, "POSIX-platform Hooks").
    fn verify_hook(&self, devices: &[&SpecDevice<'_>]) -> Option<Hook> {
        let verify = self.options.verify.as_ref()?;
        let slices: Vec<_> = devices
            .iter()
            .filter_map(|device| Some(device.expected.as_ref()?.to_string()))
            .collect();
        if slices.is_empty() {
            return None;
        }
        let command = ["mig-cdi-hook".to_owned(), "verify".to_owned()];
        let options = verify.options.iter().cloned();
        Some(Hook {
            hook_name: "createRuntime".to_owned(),
            path: verify.path.clone(),
            args: command.into_iter().chain(options).chain(slices).collect(),
            env: vec!["MIG_CDI_HOOK=verify".to_owned()],
            timeout: verify.timeout,
        })
    }

    /// The hook that makes the loader's cache know the libraries.
    // createContainer runs in the container's mount namespace, when its mounts are there and its root is still that of
    // the host.
    fn ldcache_hook(&self, is_wanted: impl Fn(&DriverFile) -> bool) -> Option<Hook> {
        let path = self.options.ldcache.clone()?;
        let dir = self.options.library_dirs.first()?;
        let names = self.files.iter().filter(|file| is_wanted(file)).flat_map(|file| {
            match &file.destination {
                Destination::Library(names) => names.as_slice(),
                Destination::Library32(_) | Destination::At(_) => &[],
            }
        });
        // The loader finds nothing in a subdirectory: who opens such a library names its path.
        let names = names.filter(|name| !name.contains('/'));
        let command = ["mig-cdi-hook".to_owned(), "ldcache".to_owned(), format!("--dir={dir}")];
        let args: Vec<_> = command.iter().chain(names).cloned().collect();
        (args.len() > command.len()).then_some(Hook {
            hook_name: "createContainer".to_owned(),
            path,
            args,
            env: vec!["MIG_CDI_HOOK=ldcache".to_owned()],
            timeout: 5,
        })
    }
}

fn mount(host_path: &str, container_path: String) -> Mount {
    let options = READ_ONLY.map(str::to_owned).to_vec();
    Mount { host_path: host_path.to_owned(), container_path, options, kind: None }
}

/// The entry of a node of the driver.
// Type and numbers keep the engine from reading the node on the host, where a capability node may be missing or stale:
// the kernel creates none of them (`nv-caps.c` has no `device_create`), and nvidia-modprobe removes none. Engines
// in a user namespace cannot create nodes and bind-mount the host's all the same.
fn spec_node(node: &DeviceNode) -> SpecNode {
    let unless_root = |id: u32| (id != 0).then_some(id);
    SpecNode {
        path: node.path.clone(),
        host_path: None,
        kind: Some("c".to_owned()),
        major: node.major.0,
        minor: node.minor.0,
        file_mode: Some(node.mode),
        // No "m" (mknod): the engine creates the node.
        permissions: Some("rw".to_owned()),
        uid: unless_root(node.uid),
        gid: unless_root(node.gid),
    }
}

/// One variable for all devices.
// It is right for one device, or for `all`: of several devices requested one by one, the variable of the last wins.
fn cuda_visible_devices(devices: &[&SpecDevice<'_>]) -> Option<String> {
    let uuids: Vec<_> = devices.iter().filter_map(|device| device.uuid.as_deref()).collect();
    (!uuids.is_empty()).then(|| format!("CUDA_VISIBLE_DEVICES={}", uuids.join(",")))
}
