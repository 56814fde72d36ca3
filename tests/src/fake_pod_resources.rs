//! Fake of the kubelet's PodResources service, over gRPC on a socket.

use http_body_util::{BodyExt, Full};
use hyper::{
    Response,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mig_cdi_kubelet::pod_resources::messages::{
    ContainerDevices, ContainerResources, ListPodResourcesResponse, PodResources,
};
use prost::Message;
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::UnixListener, task::AbortHandle};

/// PodResources service of a kubelet; dropping it ends the service.
#[derive(Debug)]
pub struct FakePodResources {
    socket: PathBuf,
    pods: Arc<Mutex<Vec<(String, String)>>>,
    requests: Arc<Mutex<usize>>,
    task: AbortHandle,
}

impl Drop for FakePodResources {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakePodResources {
    /// Starts the service on the current tokio runtime.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(dir: &Path) -> FakePodResources {
        let socket = dir.join("kubelet.sock");
        let listener = UnixListener::bind(&socket).expect("listen");
        let (pods, requests) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<usize>>::default());
        let (own_pods, own_requests) = (pods.clone(), requests.clone());
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pods, requests) = (own_pods.clone(), own_requests.clone());
                let service = service_fn(move |request: hyper::Request<_>| {
                    assert_eq!(request.uri().path(), "/v1.PodResourcesLister/List");
                    *requests.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    let pods = pods.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    async move { Ok::<_, Infallible>(answer(&pods)) }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                // A client that disconnects is no fault of the service.
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.is_ok() });
            }
        };
        let task = tokio::spawn(serve).abort_handle();
        FakePodResources { socket, pods, requests, task }
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sets the pods of the namespace default, each with a device that it holds.
    pub fn set(&self, pods: &[(&str, &str)]) {
        let own = pods.iter().map(|(pod, id)| ((*pod).to_owned(), (*id).to_owned())).collect();
        *self.pods.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Returns the number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(
    pods: &[(String, String)],
) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<>> {
    let pod = |(name, id): &(String, String)| {
        let device = ContainerDevices {
            resource_name: "nvidia.com/mig-2g.20gb".to_owned(),
            device_ids: vec![id.clone()],
        };
        PodResources {
            name: name.clone(),
            namespace: "default".to_owned(),
            containers: vec![ContainerResources { name: "main".to_owned(), devices: vec![device] }],
        }
    };
    let message = ListPodResourcesResponse { pod_resources: pods.iter().map(pod).collect() };
    let message = message.encode_to_vec();
    // Frame of gRPC: not compressed, and the length.
    let length = u32::try_from(message.len()).expect("it is short").to_be_bytes();
    let frame = [&[0], length.as_slice(), &message].concat();
    let trailers =
        HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(0))]);
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
