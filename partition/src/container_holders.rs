//! Holders among containers, for a slice that is to be given to another one.

use mig_cdi_gen::{Error, Result};
use mig_cdi_model::{Major, Minor, counted};
use mig_cdi_sys::{
    device_access::{AccessKinds, AccessQuery, AccessReport},
    in_user_namespace, is_root,
};
use std::path::PathBuf;

/// A search for containers that can use capability nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSearch {
    /// Directory that stands for `/` when `/proc` is read.
    pub host_root: PathBuf,
    /// Directory that stands for `/` when the host's `/dev` is read.
    pub dev_root: PathBuf,
    /// Kinds of access that count: the open files of others take privileges of their own.
    pub kinds: AccessKinds,
}

/// Names the containers that can use each of these capability nodes, without their command lines. `config` is the node with which a
/// container may partition GPUs.
///
/// # Errors
/// Those of [`AccessQuery::run`].
pub fn holders_in_containers(
    search: &ContainerSearch,
    capabilities: &[(Major, Minor)],
    config: Option<(Major, Minor)>,
) -> Result<Vec<Vec<String>>> {
    let devices: Vec<_> = capabilities.iter().copied().chain(config).collect();
    let node = |(_, minor): &(Major, Minor)| format!("nvidia-caps/nvidia-cap{minor}");
    let query = AccessQuery {
        host_root: search.host_root.clone(),
        nodes: devices.iter().map(node).collect(),
        devices,
        dev_root: search.dev_root.clone(),
        config: config.map(|_| capabilities.len()),
        kinds: search.kinds,
        describe: Vec::new(),
        has_hints: false,
        own: None,
        is_for_machine: false,
    };
    let AccessReport { accessors, forbidden, .. } = query.run()?;
    if forbidden > 0 {
        return Err(not_examined(forbidden));
    }
    let of = |device| {
        let allowed = accessors.iter().filter(move |accessor| accessor.devices.contains(&device));
        allowed.map(|accessor| accessor.name(false)).collect()
    };
    Ok((0..capabilities.len()).map(of).collect())
}

/// Error for processes of which it is not known what they hold.
pub(crate) fn not_examined(count: usize) -> Error {
    let cure = match () {
        () if in_user_namespace() => "run it outside of this user namespace",
        () if is_root() => {
            "run it with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, confined by no security module"
        }
        () => "run it as root",
    };
    Error::failed("find", "the holders of slices")
        .because(format!("{} cannot be examined", counted(count, "process")))
        .with_cure(cure)
}
