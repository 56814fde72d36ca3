//! Client of the kubelet's pod-resources API: the devices that the kubelet has allocated to pods.
//!
//! A pod holds its devices from its admission on, long before it has a process that could be found in `/proc`.

use crate::{
    error::{Error, Result},
    uds_grpc::{connect, innermost_cause},
};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::timeout;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

/// Default path of the kubelet's pod-resources socket.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// Largest answer that is read: what the kubelet's own client takes (k8s.io/kubernetes,
/// `pkg/kubelet/apis/podresources`, `defaultPodResourcesMaxSize`). tonic's default of 4 MiB is less.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of the API, with the fields that are read; tags as in
/// `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`.
#[allow(missing_docs)]
pub mod messages {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListPodResourcesRequest {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListPodResourcesResponse {
        #[prost(message, repeated, tag = "1")]
        pub pod_resources: Vec<PodResources>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PodResources {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub namespace: String,
        #[prost(message, repeated, tag = "3")]
        pub containers: Vec<ContainerResources>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ContainerResources {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub devices: Vec<ContainerDevices>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ContainerDevices {
        #[prost(string, tag = "1")]
        pub resource_name: String,
        #[prost(string, repeated, tag = "2")]
        pub device_ids: Vec<String>,
    }
}

/// Pod that holds a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodHolder {
    /// Namespace and name of the pod, as `pod default/train`.
    pub pod: String,
    /// Name of the resource that the device was allocated from.
    pub resource: String,
}

/// Lists the devices of resources `nvidia.com/…` that pods hold, by id.
///
/// # Errors
/// [`Error::PodResources`] when the kubelet does not answer.
pub async fn held(socket: &Path) -> Result<BTreeMap<String, PodHolder>> {
    let answer = timeout(TIMEOUT, list(socket)).await;
    let timed_out = |_| failure(socket, format!("no answer within {} s", TIMEOUT.as_secs()), None);
    Ok(by_device(answer.map_err(timed_out)??))
}

fn failure(socket: &Path, cause: String, cure: Option<&str>) -> Error {
    Error::PodResources { socket: socket.to_owned(), cause, cure: cure.map(str::to_owned) }
}

fn by_device(answer: messages::ListPodResourcesResponse) -> BTreeMap<String, PodHolder> {
    let mut held = BTreeMap::new();
    for pod in answer.pod_resources {
        let pod_name = format!("pod {}/{}", pod.namespace, pod.name);
        let devices = pod.containers.into_iter().flat_map(|container| container.devices);
        // Ids are unique within a resource only: another vendor's may be equal to one of ours.
        for device in devices.filter(|device| device.resource_name.starts_with("nvidia.com/")) {
            let holder = PodHolder { pod: pod_name.clone(), resource: device.resource_name };
            held.extend(device.device_ids.into_iter().map(|id| (id, holder.clone())));
        }
    }
    held
}

async fn list(socket: &Path) -> Result<messages::ListPodResourcesResponse> {
    let codec = ProstCodec::<
        messages::ListPodResourcesRequest,
        messages::ListPodResourcesResponse,
    >::default();
    let channel = connect(socket).await.map_err(|error| {
        let cure = "check that the kubelet runs, and that --pod-resources names its socket";
        failure(socket, innermost_cause(&error), Some(cure))
    })?;
    let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    client.ready().await.map_err(|error| failure(socket, error.to_string(), None))?;
    let path = PathAndQuery::from_static("/v1.PodResourcesLister/List");
    let request = Request::new(messages::ListPodResourcesRequest {});
    let answer = client.unary(request, path, codec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        failure(socket, format!("{} ({:?})", status.message(), status.code()), None)
    })
}

#[cfg(test)]
mod tests {
    use super::{messages::*, *};

    #[test]
    fn only_devices_of_nvidia_resources_are_listed() {
        let device = |resource: &str, ids: &[&str]| ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let container = |devices| ContainerResources { name: "main".to_owned(), devices };
        let pod = PodResources {
            name: "train".to_owned(),
            namespace: "default".to_owned(),
            containers: vec![
                container(vec![device("nvidia.com/mig-1g.10gb", &["MIG-a", "MIG-b"])]),
                container(vec![
                    device("other.com/nic", &["eth1"]),
                    device("nvidia.com/gpu", &["GPU-c"]),
                ]),
            ],
        };
        let held = by_device(ListPodResourcesResponse { pod_resources: vec![pod] });
        let (gpu, slice) = ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
        let expected =
            [("GPU-c", gpu), ("MIG-a", slice), ("MIG-b", slice)].map(|(id, resource)| {
                let (pod, resource) = ("pod default/train".to_owned(), resource.to_owned());
                (id.to_owned(), PodHolder { pod, resource })
            });
        assert_eq!(held, expected.into());
    }
}
