//! One gRPC server for each resource, registered with the kubelet, and registered again when the kubelet restarts.

use crate::{
    advertised::AdvertisedDevices,
    api::{
        RegisterRequest, VERSION,
        service::{
            device_plugin::device_plugin_server::DevicePluginServer,
            registration::registration_client::RegistrationClient,
        },
    },
    device_list_strategy::DeviceListStrategy,
    error::{Error, Result},
    log::{OnceLog, log},
    plugin::{OPTIONS, ResourcePlugin},
    repartition::AllocationGate,
    strategy::Resource,
    uds_grpc::{connect, innermost_cause},
};
use mig_cdi_model::Backoff;
use mig_cdi_partition::ContainerSearch;
use mig_cdi_sys::{FileStamp, listen_at, remove_socket};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Status, transport::Server};

/// Name of the kubelet's socket in its directory of device plugins (`pluginapi.KubeletSocket`).
const KUBELET_SOCKET: &str = "kubelet.sock";
/// Interval at which the sockets in the directory are compared with those that are known.
const SOCKET_POLL: Duration = Duration::from_millis(500);
/// Longest time for one registration. The kubelet dials the plugin back before it answers, for up to 10 s
/// (k8s.io/kubernetes, `pkg/kubelet/cm/devicemanager/plugin/v1beta1/client.go`); on one machine that takes long only
/// when something hangs.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after a failed registration. It doubles after each one that follows, up to [`RETRY_LIMIT`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// Settings of the servers.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// Path of the kubelet's directory for device plugins.
    pub kubelet_dir: PathBuf,
    /// Ways to name devices to the engine.
    pub device_list_strategy: DeviceListStrategy,
    /// Gate that is closed while GPUs are being partitioned.
    pub allocation_gate: AllocationGate,
    /// Search for containers that may open a slice that is to be allocated; `None` where those of the node cannot be examined.
    pub container_search: Option<ContainerSearch>,
}

/// Serves every advertised resource until `stop`, then removes the sockets.
pub async fn serve(
    settings: ServeSettings,
    advertised: watch::Receiver<Arc<AdvertisedDevices>>,
    stop: oneshot::Receiver<()>,
) {
    let mut servers = Servers::new(settings, advertised);
    tokio::select! {
        () = servers.run() => {}
        _ = stop => {}
    }
    servers.close();
}

/// Identity of a socket file: it differs after the file was replaced.
type SocketStamp = Option<FileStamp>;

/// The server of one resource.
struct ResourceServer {
    socket: PathBuf,
    stamp: SocketStamp,
    /// Ends the server when it is dropped.
    _stop: oneshot::Sender<()>,
    is_registered: bool,
}

struct Servers {
    settings: ServeSettings,
    advertised: watch::Receiver<Arc<AdvertisedDevices>>,
    running: BTreeMap<Resource, ResourceServer>,
    /// Socket of the kubelet that the resources are registered with.
    kubelet: SocketStamp,
    /// Number of resources at the last update; resources are added, never removed.
    known: usize,
    backoff: Backoff,
    failures: OnceLog,
}

impl Servers {
    fn new(
        settings: ServeSettings,
        advertised: watch::Receiver<Arc<AdvertisedDevices>>,
    ) -> Servers {
        Servers {
            settings,
            advertised,
            running: BTreeMap::new(),
            kubelet: None,
            known: 0,
            backoff: Backoff::new(RETRY_FIRST, RETRY_LIMIT),
            failures: OnceLog::default(),
        }
    }

    async fn run(&mut self) {
        let mut retry: Option<Instant> = None;
        loop {
            if self.has_changed() || retry.is_some_and(|at| Instant::now() >= at) {
                retry = self.update().await;
            }
            tokio::select! {
                changed = self.advertised.changed() => if changed.is_err() { return },
                () = sleep(SOCKET_POLL) => {}
            }
        }
    }

    /// Returns true when the kubelet has restarted, a socket of ours was removed, or there is a new resource.
    fn has_changed(&self) -> bool {
        self.kubelet_now() != self.kubelet
            || self.running.values().any(|server| FileStamp::of(&server.socket) != server.stamp)
            || self.advertised.borrow().0.len() != self.known
    }

    fn kubelet_now(&self) -> SocketStamp {
        FileStamp::of(&self.settings.kubelet_dir.join(KUBELET_SOCKET))
    }

    /// Starts and registers what is not yet served. Returns when to try again, after a failure.
    async fn update(&mut self) -> Option<Instant> {
        let kubelet = self.kubelet_now();
        if kubelet != self.kubelet {
            // At its start the kubelet forgets all plugins and removes every file of the directory, our sockets
            // included (`pkg/kubelet/cm/devicemanager/manager.go`, `removeContents`).
            self.running.values_mut().for_each(|server| server.is_registered = false);
            self.kubelet = kubelet;
            self.backoff.reset();
        }
        // A server whose socket was removed cannot be reached. It ends here, and is started again below.
        self.running.retain(|_, server| FileStamp::of(&server.socket) == server.stamp);
        let resources: BTreeSet<_> =
            self.advertised.borrow_and_update().0.keys().cloned().collect();
        self.known = resources.len();
        let mut has_failed = false;
        for resource in resources {
            // One resource that fails keeps no other from being registered.
            if let Err(error) = self.update_resource(&resource).await {
                self.failures.error(&error);
                has_failed = true;
            }
        }
        if !has_failed {
            self.backoff.reset();
            return None;
        }
        Some(Instant::now() + self.backoff.next_wait())
    }

    async fn update_resource(&mut self, resource: &Resource) -> Result<()> {
        if !self.running.contains_key(resource) {
            let server = self.start(resource)?;
            self.running.insert(resource.clone(), server);
        }
        let Some(server) = self.running.get_mut(resource) else { return Ok(()) };
        // Without a kubelet the server waits: the kubelet's socket is a change that leads here again.
        if server.is_registered || self.kubelet.is_none() {
            return Ok(());
        }
        register(&self.settings.kubelet_dir, &server.socket, resource).await?;
        server.is_registered = true;
        self.failures.reset();
        log(&format!("registered {resource} with the kubelet"));
        Ok(())
    }

    fn start(&self, resource: &Resource) -> Result<ResourceServer> {
        let socket = self.settings.kubelet_dir.join(format!("mig-cdi-{}.sock", resource.short()));
        let listener = listen_at(&socket)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|e| Error::Listen { socket: socket.clone(), cause: e.to_string() })?;
        let plugin = ResourcePlugin {
            resource: resource.clone(),
            device_list_strategy: self.settings.device_list_strategy.clone(),
            allocation_gate: self.settings.allocation_gate.clone(),
            container_search: self.settings.container_search.clone(),
            advertised: self.advertised.clone(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::builder()
            .add_service(DevicePluginServer::new(plugin))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let resource = resource.clone();
        tokio::spawn(async move {
            // The end of either closes every connection. The kubelet then marks all devices of the resource as
            // unhealthy at once (`pkg/kubelet/cm/devicemanager/manager.go`, `markResourceUnhealthy`).
            tokio::select! {
                served = server => if let Err(error) = served { log(&format!("serve {resource}: {error}")) },
                _ = stopped => {}
            }
        });
        // Read after `listen_at`, which replaces a stale socket.
        let stamp = FileStamp::of(&socket);
        Ok(ResourceServer { socket, stamp, _stop: stop, is_registered: false })
    }

    fn close(&mut self) {
        for (_, server) in std::mem::take(&mut self.running) {
            // Another plugin may have put its own socket there since.
            if FileStamp::of(&server.socket) == server.stamp {
                let _ = remove_socket(&server.socket);
            }
        }
    }
}

/// Registers a resource, which is served at `socket`, with the kubelet.
async fn register(kubelet_dir: &Path, socket: &Path, resource: &Resource) -> Result<()> {
    let kubelet = kubelet_dir.join(KUBELET_SOCKET);
    let fail = |cause: String, cure: Option<String>| {
        let (resource, socket) = (resource.clone(), kubelet.clone());
        Error::Register { resource, socket, cause, cure }
    };
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        // The kubelet joins the name to its own directory (`plugin/v1beta1/server.go`, `Register`).
        endpoint: socket.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        resource_name: resource.to_string(),
        options: Some(OPTIONS),
    };
    let registration = async {
        let channel = connect(&kubelet).await;
        let channel = channel.map_err(|error| fail(innermost_cause(&error), None))?;
        let answer = RegistrationClient::new(channel).register(request).await;
        answer
            .map(drop)
            .map_err(|status| fail(format!("refused: {}", status.message()), refusal_cure(&status)))
    };
    let timed_out = || fail(format!("no answer in {} s", REGISTER_TIMEOUT.as_secs()), None);
    timeout(REGISTER_TIMEOUT, registration).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Cure for a refused registration: a kubelet of another version of the API does not know the service, or answers
/// with `errUnsupportedVersion` (`pkg/kubelet/cm/devicemanager/plugin/v1beta1/types.go`), which has no code of its own.
fn refusal_cure(status: &Status) -> Option<String> {
    let is_other_version =
        status.code() == Code::Unimplemented || status.message().contains("API version");
    is_other_version.then(|| {
        format!(
            "the kubelet requires another version of the device plugin api than {VERSION}; install a \
             mig-cdi-kubelet that supports it"
        )
    })
}
