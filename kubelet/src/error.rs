//! The one error of this crate: which operation failed, on what, why, and what cures it.
//!
//! Every variant prints as one lower-case line. Nothing parses that line again: callers match on the variant and
//! its fields.

mod api_error;

pub use api_error::ApiError;
pub(crate) use api_error::chain;

use crate::strategy::Resource;
use std::path::PathBuf;
use tonic::Status;

/// Result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file, directory or socket of the machine cannot be used.
    #[error(transparent)]
    Machine(#[from] mig_cdi_sys::Error),
    /// The plugin cannot serve a resource at its socket.
    #[error("listen at {}: {cause}", socket.display())]
    Listen {
        /// Path of the plugin's socket.
        socket: PathBuf,
        /// Answer of the kernel.
        cause: String,
    },
    /// The kubelet did not register a resource.
    #[error("register {resource} at {}: {cause}{}", socket.display(), suffix(cure.as_deref()))]
    Register {
        /// Resource that was to be registered.
        resource: Resource,
        /// Path of the kubelet's socket.
        socket: PathBuf,
        /// Answer of the kubelet, or why there was none.
        cause: String,
        /// Cure, where one is known.
        cure: Option<String>,
    },
    /// The kubelet's pod-resources API did not list the devices of pods.
    #[error("list the devices of pods at {}: {cause}{}", socket.display(), suffix(cure.as_deref()))]
    PodResources {
        /// Path of the kubelet's pod-resources socket.
        socket: PathBuf,
        /// Answer of the kubelet, or why there was none.
        cause: String,
        /// Cure, where one is known.
        cure: Option<String>,
    },
    /// Allocate names a device that no longer exists.
    #[error(
        "allocate {device} of {resource}: there is no such device any more; create the pod again"
    )]
    UnknownDevice {
        /// Id of the device, as the kubelet wrote it.
        device: String,
        /// Resource that the pod requests.
        resource: Resource,
    },
    /// Allocate names a device that is unhealthy.
    #[error("allocate {device} of {resource}: {cause}")]
    UnhealthyDevice {
        /// Id of the device.
        device: String,
        /// Resource that the pod requests.
        resource: Resource,
        /// Reason why the device is unhealthy, with its cure.
        cause: String,
    },
    /// Allocate names a slice that the device cgroup of a running container allows.
    #[error(
        "allocate {device} of {resource}: in use by {}; stop what runs there, and create the pod again", holders.join(", ")
    )]
    DeviceInUse {
        /// Id of the device.
        device: String,
        /// Resource that the pod requests.
        resource: Resource,
        /// Containers and processes, without their command lines.
        holders: Vec<String>,
    },
    /// The containers that may open a slice could not be found.
    #[error("allocate {resource}: {cause}")]
    Holders {
        /// Resource that the pod requests.
        resource: Resource,
        /// Error of the search.
        #[source]
        cause: Box<mig_cdi_gen::Error>,
    },
    /// Allocate was called while GPUs are being partitioned.
    #[error(
        "allocate {resource}: gpus are being partitioned to layout {layout:?}, and no slice is allocated until \
         that is done; create the pod again in a moment"
    )]
    AllocationPaused {
        /// Resource that the pod requests.
        resource: Resource,
        /// Name of the layout that is being applied.
        layout: String,
    },
    /// A path that Node Feature Discovery would ignore.
    #[error(
        "write labels to {}: not the name of a feature file; name one such as \
         /etc/kubernetes/node-feature-discovery/features.d/mig-cdi", .0.display()
    )]
    FeatureFileName(PathBuf),
    /// A feature file that cannot be written or removed.
    #[error(
        "{0}; mount the host's directory of feature files there, from which node feature discovery reads them"
    )]
    FeatureFile(#[source] mig_cdi_sys::Error),
    /// A way to name devices that the plugin does not have.
    #[error("{name:?} is not cdi-cri, cdi-annotations or envvar")]
    DeviceListMode {
        /// Name, as the user wrote it.
        name: String,
    },
    /// A label whose key Kubernetes does not accept.
    #[error("set label {key:?}: kubernetes does not accept this key, so the label is omitted")]
    LabelKey {
        /// Key of the label.
        key: String,
    },
    /// A label whose value Kubernetes does not accept.
    #[error(
        "set label {key}: kubernetes does not accept the value {value:?}, so the label is omitted"
    )]
    LabelValue {
        /// Key of the label.
        key: String,
        /// Value of the label.
        value: String,
    },
    /// The API server did not do what was requested.
    #[error("{operation} {node}: {cause}")]
    Api {
        /// Request that failed, as `watch node`.
        operation: &'static str,
        /// Name of the node.
        node: String,
        /// Answer of the API server, or why there was none.
        #[source]
        cause: ApiError,
    },
}

fn suffix(cure: Option<&str>) -> String {
    cure.map(|cure| format!("; {cure}")).unwrap_or_default()
}

impl From<Error> for Status {
    /// Makes the status whose message the kubelet shows in the status of the pod that it refuses, as
    /// `Allocate failed due to …` (k8s.io/kubernetes, `pkg/kubelet/cm/admission/errors.go`).
    fn from(error: Error) -> Status {
        let message = error.to_string();
        match error {
            Error::UnknownDevice { .. } => Status::not_found(message),
            Error::UnhealthyDevice { .. } | Error::DeviceInUse { .. } => {
                Status::failed_precondition(message)
            }
            Error::AllocationPaused { .. } => Status::unavailable(message),
            _ => Status::internal(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_cure_follows_the_cause() {
        let register = |cure: Option<&str>| Error::Register {
            resource: Resource::gpu(),
            socket: "/run/kubelet.sock".into(),
            cause: "refused: no".to_owned(),
            cure: cure.map(str::to_owned),
        };
        let bare = "register nvidia.com/gpu at /run/kubelet.sock: refused: no";
        assert_eq!(register(None).to_string(), bare);
        assert_eq!(register(Some("update it")).to_string(), format!("{bare}; update it"));
    }

    #[test]
    fn a_failed_allocation_has_the_status_code_of_its_kind() {
        let (device, resource) = ("MIG-a".to_owned(), Resource::gpu());
        let code = |error: Error| Status::from(error).code();
        let unknown = Error::UnknownDevice { device: device.clone(), resource: resource.clone() };
        assert_eq!(code(unknown), Code::NotFound);
        let cause = "its gpu is lost".to_owned();
        let unhealthy = Error::UnhealthyDevice { device, resource: resource.clone(), cause };
        assert_eq!(code(unhealthy), Code::FailedPrecondition);
        let paused = Error::AllocationPaused { resource, layout: "balanced".to_owned() };
        assert_eq!(code(paused), Code::Unavailable);
        assert_eq!(code(Error::LabelKey { key: "x".to_owned() }), Code::Internal);
    }
}
