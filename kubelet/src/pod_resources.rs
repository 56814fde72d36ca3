//! Which devices the kubelet has given to pods, by its pod-resources API. A pod has its devices from the
//! moment that it is admitted, long before a process of it could be seen.

use crate::channel::connect;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

/// Where the kubelet listens.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// The kubelet's own limit (`defaultPodResourcesMaxSize`).
const LIMIT: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// The messages, as far as they are read; numbers as in `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`.
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

/// Why it is not known what pods hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ask the kubelet at {} which devices pods hold: {why}", path.display())]
pub struct Unanswered {
    path: PathBuf,
    why: String,
}

/// Who holds a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// As `pod default/train`.
    pub pod: String,
    /// By the name of which resource.
    pub resource: String,
}

/// Devices of resources `nvidia.com/…` by id, each with who holds it.
///
/// # Errors
/// When the kubelet does not answer.
pub async fn held(socket: &Path) -> Result<BTreeMap<String, Holder>, Unanswered> {
    let fail = |why: String| Unanswered { path: socket.to_owned(), why };
    let answer = timeout(PATIENCE, list(socket)).await;
    let answer = answer.map_err(|_| fail(format!("no answer within {} s", PATIENCE.as_secs())))?;
    Ok(of_pods(answer.map_err(fail)?))
}

fn of_pods(answer: messages::ListPodResourcesResponse) -> BTreeMap<String, Holder> {
    let mut held = BTreeMap::new();
    for pod in answer.pod_resources {
        let pod_name = format!("pod {}/{}", pod.namespace, pod.name);
        let devices = pod.containers.into_iter().flat_map(|container| container.devices);
        for device in devices.filter(|device| device.resource_name.starts_with("nvidia.com/")) {
            let holder = Holder { pod: pod_name.clone(), resource: device.resource_name };
            held.extend(device.device_ids.into_iter().map(|id| (id, holder.clone())));
        }
    }
    held
}

async fn list(socket: &Path) -> Result<messages::ListPodResourcesResponse, String> {
    let codec = ProstCodec::<
        messages::ListPodResourcesRequest,
        messages::ListPodResourcesResponse,
    >::default();
    let mut client = Grpc::new(connect(socket).await?).max_decoding_message_size(LIMIT);
    client.ready().await.map_err(|e| e.to_string())?;
    let path = PathAndQuery::from_static("/v1.PodResourcesLister/List");
    let request = Request::new(messages::ListPodResourcesRequest {});
    let answer = client.unary(request, path, codec).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| format!("{} ({:?})", status.message(), status.code()))
}

#[cfg(test)]
mod tests {
    use super::{messages::*, *};

    #[test]
    fn only_our_devices_count() {
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
        let held = of_pods(ListPodResourcesResponse { pod_resources: vec![pod] });
        let (gpu, slice) = ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
        let expected =
            [("GPU-c", gpu), ("MIG-a", slice), ("MIG-b", slice)].map(|(id, resource)| {
                let (pod, resource) = ("pod default/train".to_owned(), resource.to_owned());
                (id.to_owned(), Holder { pod, resource })
            });
        assert_eq!(held, expected.into());
    }
}
