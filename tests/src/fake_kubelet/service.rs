//! Registration of plugins, and reading of their lists.

use hyper_util::rt::TokioIo;
use mig_cdi_kubelet::api::{
    Empty, ListAndWatchResponse, RegisterRequest,
    service::{
        device_plugin::device_plugin_client::DevicePluginClient,
        registration::registration_server::Registration,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    net::UnixStream,
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

/// Answer to the registration of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationAnswer {
    /// Accept, if the registration is correct.
    Accept,
    /// Refuse with this message.
    Refuse(String),
    /// Refuse another version, with the message of the real one (k8s.io/kubernetes,
    /// pkg/kubelet/cm/devicemanager/plugin/v1beta1: `errUnsupportedVersion`).
    OtherVersion,
    /// Accept after this time.
    Late(Duration),
}

/// Speed at which the kubelet reads lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListReading {
    /// Every list at once.
    AtOnce,
    /// One list per duration.
    Slowly(Duration),
    /// No list.
    Not,
}

/// Received list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    /// Time of arrival.
    pub at: Instant,
    /// Id and health of each device.
    pub devices: BTreeMap<String, String>,
    /// NUMA nodes of the devices that have one.
    pub numa: BTreeMap<String, i64>,
}

/// Known plugins.
#[derive(Default)]
pub(super) struct Known {
    pub(super) registrations: Vec<RegisterRequest>,
    pub(super) clients: BTreeMap<String, DevicePluginClient<Channel>>,
    pub(super) streams: BTreeMap<String, AbortHandle>,
    pub(super) lists: BTreeMap<String, Vec<DeviceList>>,
    /// Resources whose stream of lists has ended.
    pub(super) ended: BTreeSet<String>,
    pub(super) faults: Vec<String>,
}

/// State that its tasks and the test share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) answer: Mutex<RegistrationAnswer>,
    pub(super) reading: watch::Sender<ListReading>,
    pub(super) known: Mutex<Known>,
}

impl Shared {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answer(&self) -> MutexGuard<'_, RegistrationAnswer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_fault(&self, what: String) -> Status {
        self.known().faults.push(what.clone());
        Status::unknown(what)
    }

    /// Accepts a registration as the real one does: it first connects to the plugin and requests the options.
    async fn accept(self: Arc<Self>, request: RegisterRequest) -> Result<(), Status> {
        let RegisterRequest { endpoint, resource_name, options, .. } = request;
        let socket = self.dir.join(&endpoint);
        if socket.file_name() != Some(endpoint.as_ref()) {
            return Err(
                self.record_fault(format!("the endpoint {endpoint:?} is no bare name of a file"))
            );
        }
        match fs::symlink_metadata(&socket) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(self.record_fault(format!("{endpoint} is no socket")));
            }
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                return Err(self.record_fault(format!("{endpoint} is open to others than root")));
            }
            Ok(_) => {}
            Err(error) => return Err(self.record_fault(format!("{endpoint}: {error}"))),
        }
        if !is_extended_resource(&resource_name) {
            return Err(self.record_fault(format!("{resource_name:?} is no extended resource")));
        }
        // kubelet dials with the same limit (k8s.io/kubernetes, pkg/kubelet/cm/devicemanager/plugin/v1beta1/client.go,
        // dial).
        let dialled = timeout(Duration::from_secs(10), dial(socket)).await;
        let mut client = match dialled.map_err(|e| e.to_string()).and_then(|dialled| dialled) {
            Ok(client) => client,
            Err(error) => return Err(self.record_fault(format!("dial {endpoint}: {error}"))),
        };
        let reported = client.get_device_plugin_options(Empty {}).await?.into_inner();
        if Some(reported) != options {
            return Err(self.record_fault(format!(
                "options {options:?} at registration, {reported:?} on request"
            )));
        }
        self.listen(&resource_name, client);
        Ok(())
    }

    /// Starts to read the lists of a resource.
    pub(super) fn listen(self: &Arc<Self>, resource: &str, client: DevicePluginClient<Channel>) {
        let reads = tokio::spawn(self.clone().read(resource.to_owned(), client.clone()));
        let mut known = self.known();
        known.ended.remove(resource);
        known.clients.insert(resource.to_owned(), client);
        if let Some(old) = known.streams.insert(resource.to_owned(), reads.abort_handle()) {
            old.abort();
        }
    }

    async fn read(self: Arc<Self>, resource: String, mut client: DevicePluginClient<Channel>) {
        let mut reading = self.reading.subscribe();
        let mut last = None;
        if let Ok(stream) = client.list_and_watch(Empty {}).await {
            let mut stream = stream.into_inner();
            loop {
                let how = reading.wait_for(|how| *how != ListReading::Not).await.map(|how| *how);
                match how {
                    Ok(ListReading::Slowly(pause)) => sleep(pause).await,
                    Ok(_) => {}
                    Err(_) => return,
                }
                let Ok(Some(list)) = stream.message().await else { break };
                self.take(&resource, &list, last.as_ref());
                last = Some(list);
            }
        }
        self.known().ended.insert(resource);
    }

    fn take(
        &self,
        resource: &str,
        list: &ListAndWatchResponse,
        last: Option<&ListAndWatchResponse>,
    ) {
        let mut known = self.known();
        let (mut devices, mut numa) = (BTreeMap::new(), BTreeMap::new());
        for device in &list.devices {
            if device.id.is_empty() || !["Healthy", "Unhealthy"].contains(&device.health.as_str()) {
                known.faults.push(format!("a device of {resource} is {device:?}"));
            }
            if devices.insert(device.id.clone(), device.health.clone()).is_some() {
                known.faults.push(format!("{} is twice in {resource}", device.id));
            }
            let domain = device.topology.as_ref().and_then(|topology| topology.nodes.first());
            numa.extend(domain.map(|domain| (device.id.clone(), domain.id)));
        }
        if last == Some(list) {
            known.faults.push(format!("a list of {resource} was sent twice"));
        }
        let list = DeviceList { at: Instant::now(), devices, numa };
        known.lists.entry(resource.to_owned()).or_default().push(list);
    }
}

#[tonic::async_trait]
impl Registration for Served {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let (shared, request) = (self.0.clone(), request.into_inner());
        shared.known().registrations.push(request.clone());
        let answer = shared.answer().clone();
        match answer {
            RegistrationAnswer::Accept => {}
            RegistrationAnswer::Refuse(words) => return Err(Status::unknown(words)),
            RegistrationAnswer::Late(late) => sleep(late).await,
            RegistrationAnswer::OtherVersion => {
                return Err(Status::unknown(format!(
                    "requested API version {:?} is not supported by kubelet. Supported version is \
                     [\"v1\"]",
                    request.version
                )));
            }
        }
        if request.version != "v1beta1" {
            return Err(shared.record_fault(format!("version {:?}", request.version)));
        }
        shared.accept(request).await.map(|()| Response::new(Empty {}))
    }
}

/// Registration service of a kubelet.
pub(super) struct Served(pub(super) Arc<Shared>);

/// Returns whether a name of a resource or key of an annotation is valid, with a prefix (k8s.io/apimachinery,
/// `validation.IsQualifiedName`).
#[must_use]
pub fn is_qualified(name: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    let is_fit = |c: char| is_edge(c) || "-_.".contains(c);
    name.split_once('/').is_some_and(|(domain, name)| {
        domain.contains('.')
            && (1..=63).contains(&name.len())
            && name.chars().all(is_fit)
            && name.starts_with(is_edge)
            && name.ends_with(is_edge)
    })
}

/// Returns whether a name is one of an extended resource (k8s.io/kubernetes, pkg/apis/core/v1/helper:
/// `IsExtendedResourceName`).
fn is_extended_resource(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    is_qualified(name) && !domain.ends_with("kubernetes.io") && !domain.starts_with("requests.")
}

/// Connects with a small receive window, so that an unread list blocks the next one.
async fn dial(socket: PathBuf) -> Result<DevicePluginClient<Channel>, String> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://plugin").initial_stream_window_size(1024);
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map(DevicePluginClient::new).map_err(|error| format!("{error:?}"))
}
