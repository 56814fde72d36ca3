//! One server for each resource, made known to the kubelet, and again whenever that has restarted.

use crate::{
    api::{
        RegisterRequest, VERSION,
        service::{
            device_plugin::device_plugin_server::DevicePluginServer,
            registration::registration_client::RegistrationClient,
        },
    },
    channel::connect,
    lists::Lists,
    plugin::{OPTIONS, Plugin},
    repartition::Dividing,
    roster::Roster,
    say::{Teller, say},
    strategy::Resource,
};
use mig_cdi_model::Backoff;
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

/// The kubelet's socket in its directory.
const KUBELET: &str = "kubelet.sock";
/// So often its directory is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// It answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure, and twice as long after each one that follows.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// How resources are served.
#[derive(Debug, Clone)]
pub struct Place {
    /// The kubelet's directory for plugins.
    pub dir: PathBuf,
    /// How devices are named to the engine.
    pub lists: Lists,
    /// Whether GPUs are being divided.
    pub dividing: Dividing,
}

/// Serves every resource of the roster until `stop`.
pub async fn serve(
    place: Place,
    roster: watch::Receiver<Arc<Roster>>,
    stop: oneshot::Receiver<()>,
) {
    let mut servers = Servers::new(place, roster);
    tokio::select! {
        () = servers.follow() => {}
        _ = stop => {}
    }
    servers.end();
}

/// A resource that is served.
struct Running {
    socket: PathBuf,
    mark: Option<FileStamp>,
    /// Dropped, it ends the server.
    _end: oneshot::Sender<()>,
    registered: bool,
}

struct Servers {
    place: Place,
    roster: watch::Receiver<Arc<Roster>>,
    running: BTreeMap<Resource, Running>,
    /// Which kubelet they are known to.
    kubelet: Option<FileStamp>,
    /// How many resources there were at the last look; they never get fewer.
    known: usize,
    backoff: Backoff,
    teller: Teller,
}

impl Servers {
    fn new(place: Place, roster: watch::Receiver<Arc<Roster>>) -> Servers {
        let teller = Teller::default();
        Servers {
            place,
            roster,
            running: BTreeMap::new(),
            kubelet: None,
            known: 0,
            backoff: Backoff::new(RETRY, RETRY_MOST),
            teller,
        }
    }

    async fn follow(&mut self) {
        let mut retry: Option<Instant> = None;
        loop {
            if self.has_news() || retry.is_some_and(|at| Instant::now() >= at) {
                retry = self.tend().await;
            }
            tokio::select! {
                changed = self.roster.changed() => if changed.is_err() { return },
                () = sleep(LOOK) => {}
            }
        }
    }

    /// True when the kubelet is another one, a socket of ours has gone, or there is a resource more.
    fn has_news(&self) -> bool {
        self.kubelet_now() != self.kubelet
            || self.running.values().any(|server| FileStamp::of(&server.socket) != server.mark)
            || self.roster.borrow().0.len() != self.known
    }

    fn kubelet_now(&self) -> Option<FileStamp> {
        FileStamp::of(&self.place.dir.join(KUBELET))
    }

    /// Gives when to try again, after a failure.
    async fn tend(&mut self) -> Option<Instant> {
        let kubelet = self.kubelet_now();
        if kubelet != self.kubelet {
            // It forgets all plugins when it starts, and empties its directory.
            self.running.values_mut().for_each(|server| server.registered = false);
            self.kubelet = kubelet;
            self.backoff.reset();
        }
        self.running.retain(|_, server| FileStamp::of(&server.socket) == server.mark);
        let resources: BTreeSet<_> = self.roster.borrow_and_update().0.keys().cloned().collect();
        self.known = resources.len();
        let mut failed = false;
        for resource in resources {
            if let Err(why) = self.tend_one(&resource).await {
                self.teller.once(&why);
                failed = true;
            }
        }
        if !failed {
            self.backoff.reset();
            return None;
        }
        Some(Instant::now() + self.backoff.next_wait())
    }

    async fn tend_one(&mut self, resource: &Resource) -> Result<(), String> {
        if !self.running.contains_key(resource) {
            let server = self.start(resource)?;
            self.running.insert(resource.clone(), server);
        }
        let Some(server) = self.running.get_mut(resource) else { return Ok(()) };
        if server.registered || self.kubelet.is_none() {
            return Ok(());
        }
        register(&self.place.dir, &server.socket, resource).await?;
        server.registered = true;
        self.teller.forget();
        say(&format!("registered {resource} with the kubelet"));
        Ok(())
    }

    fn start(&self, resource: &Resource) -> Result<Running, String> {
        let socket = self.place.dir.join(format!("mig-cdi-{}.sock", resource.short()));
        let listener = listen_at(&socket).map_err(|e| e.to_string())?;
        let listener = UnixListener::from_std(listener)
            .map_err(|e| format!("listen at {}: {e}", socket.display()))?;
        let plugin = Plugin {
            resource: resource.clone(),
            lists: self.place.lists.clone(),
            dividing: self.place.dividing.clone(),
            roster: self.roster.clone(),
        };
        let (end, ended) = oneshot::channel::<()>();
        let server = Server::builder()
            .add_service(DevicePluginServer::new(plugin))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(async move {
            // At its end every connection is closed: the kubelet sees at once that nobody answers there.
            tokio::select! {
                served = server => if let Err(error) = served { say(&format!("serve a resource: {error}")) },
                _ = ended => {}
            }
        });
        let mark = FileStamp::of(&socket);
        Ok(Running { socket, mark, _end: end, registered: false })
    }

    fn end(&mut self) {
        for (_, server) in std::mem::take(&mut self.running) {
            // The kubelet sees that nobody is there.
            if FileStamp::of(&server.socket) == server.mark {
                let _ = remove_socket(&server.socket);
            }
        }
    }
}

/// Says to the kubelet that a resource is served.
async fn register(dir: &Path, socket: &Path, resource: &Resource) -> Result<(), String> {
    let kubelet = dir.join(KUBELET);
    let fail = |why: String| format!("register {resource} at {}: {why}", kubelet.display());
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: socket.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        resource_name: resource.to_string(),
        options: Some(OPTIONS),
    };
    let asked = async {
        let channel = connect(&kubelet).await?;
        let answer = RegistrationClient::new(channel).register(request).await;
        answer.map_err(|status| refusal(&status))
    };
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map(drop).map_err(fail),
        Err(_) => Err(fail(format!("no answer in {} s", PATIENCE.as_secs()))),
    }
}

/// A kubelet of another version answers in words of its own, or does not know the service.
fn refusal(status: &Status) -> String {
    let said = status.message();
    match status.code() == Code::Unimplemented || said.contains("API version") {
        true => format!(
            "refused: {said}; it wants another version of the device plugin interface than {VERSION}: take the \
             mig-cdi-kubelet that is made for it"
        ),
        false => format!("refused: {said}"),
    }
}
