//! Fake kubelet with the device plugin interface and nothing else: as strict as the real one, and able to do what the
//! real one can hardly be made to do. Mistakes of a plugin are recorded as faults.

mod service;

pub use service::{DeviceList, ListReading, RegistrationAnswer, is_qualified};

use crate::{deadline, watch::until};
use mig_cdi_kubelet::api::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, PreferredAllocationRequest,
    RegisterRequest,
    service::{
        device_plugin::device_plugin_client::DevicePluginClient,
        registration::registration_server::RegistrationServer,
    },
};
use service::{Known, Served, Shared};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::UnixListener,
    runtime::Handle,
    sync::{oneshot, watch},
    task::AbortHandle,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Response, Status,
    transport::{Channel, Server},
};

/// Running fake kubelet in a directory; dropping it ends it and leaves its socket there.
pub struct FakeKubelet {
    shared: Arc<Shared>,
    handle: Handle,
    server: Option<AbortHandle>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeKubelet {
    /// Starts a fake kubelet.
    ///
    /// # Panics
    /// When it cannot listen there.
    #[must_use]
    pub fn start(dir: &Path) -> FakeKubelet {
        FakeKubelet::start_with_answer(dir, RegistrationAnswer::Accept)
    }

    /// Starts a fake kubelet that answers registrations so.
    ///
    /// # Panics
    /// As [`FakeKubelet::start`].
    #[must_use]
    pub fn start_with_answer(dir: &Path, answer: RegistrationAnswer) -> FakeKubelet {
        fs::create_dir_all(dir).expect("make the directory");
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            answer: Mutex::new(answer),
            reading: watch::Sender::new(ListReading::AtOnce),
            known: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        let (stop, thread) = (Some(stop), Some(thread));
        let mut kubelet = FakeKubelet { shared, handle, server: None, stop, thread };
        kubelet.restart();
        kubelet
    }

    /// Restarts as the real one does: all files of its directory are removed, and no plugin is known.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn restart(&mut self) {
        self.end();
        for entry in fs::read_dir(&self.shared.dir).expect("its directory") {
            let path = entry.expect("an entry").path();
            if !path.is_dir() {
                // The plugin may have removed its own socket.
                let _ = fs::remove_file(path);
            }
        }
        let _inside = self.handle.enter();
        let listener = UnixListener::bind(self.shared.dir.join("kubelet.sock")).expect("listen");
        let service = RegistrationServer::new(Served(self.shared.clone()));
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener));
        self.server = Some(self.handle.spawn(server).abort_handle());
    }

    /// Stops serving; its socket stays and nothing listens there.
    pub fn end(&mut self) {
        self.server.take().iter().for_each(AbortHandle::abort);
        let mut known = self.shared.known();
        let Known { streams, clients, .. } = &mut *known;
        std::mem::take(streams).values().for_each(AbortHandle::abort);
        clients.clear();
    }

    /// Sets the answer to registrations.
    pub fn answers(&self, answer: RegistrationAnswer) {
        *self.shared.answer() = answer;
    }

    /// Sets the speed of reading lists.
    pub fn reads(&self, reading: ListReading) {
        self.shared.reading.send_replace(reading);
    }

    /// Ends the stream of a resource; the connection stays.
    pub fn drop_stream(&self, resource: &str) {
        self.shared.known().streams.remove(resource).iter().for_each(AbortHandle::abort);
    }

    /// Requests the lists of a resource again.
    ///
    /// # Panics
    /// When the resource is not known.
    pub fn listen_again(&self, resource: &str) {
        let client = self.client(resource);
        let _inside = self.handle.enter();
        self.shared.listen(resource, client);
    }

    /// Returns the faults of plugins.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.shared.known().faults.clone()
    }

    /// Returns all registrations.
    #[must_use]
    pub fn registrations(&self) -> Vec<RegisterRequest> {
        self.shared.known().registrations.clone()
    }

    /// Returns the resources with an open stream of lists.
    #[must_use]
    pub fn alive(&self) -> BTreeSet<String> {
        let known = self.shared.known();
        known.streams.keys().filter(|name| !known.ended.contains(*name)).cloned().collect()
    }

    /// Returns all lists of a resource.
    #[must_use]
    pub fn lists(&self, resource: &str) -> Vec<DeviceList> {
        self.shared.known().lists.get(resource).cloned().unwrap_or_default()
    }

    /// Returns the healthy devices of a resource.
    #[must_use]
    pub fn healthy(&self, resource: &str) -> BTreeSet<String> {
        let known = self.shared.known();
        let list = known.lists.get(resource).and_then(|lists| lists.last());
        let devices = list.iter().flat_map(|list| &list.devices);
        devices.filter(|(_, health)| *health == "Healthy").map(|(id, _)| id.clone()).collect()
    }

    /// Returns the number of devices of each resource, and of healthy ones.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        let known = self.shared.known();
        let count = |(resource, lists): (&String, &Vec<DeviceList>)| {
            let devices = &lists.last()?.devices;
            let healthy = devices.values().filter(|health| *health == "Healthy").count();
            Some((resource.clone(), (devices.len(), healthy)))
        };
        known.lists.iter().filter_map(count).collect()
    }

    /// Waits until each resource has this number of healthy devices, and no other resource exists.
    ///
    /// # Panics
    /// When it does not within the time limit.
    pub fn until_counts(&self, what: &str, wanted: &[(&str, usize)]) -> Duration {
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|(name, count)| (format!("nvidia.com/{name}"), *count)).collect();
        until(&format!("{what}: {wanted:?}, not {:?}", self.counts()), || {
            let healthy = self.counts().into_iter().map(|(name, (_, count))| (name, count));
            healthy.collect::<BTreeMap<_, _>>() == wanted
        })
    }

    fn client(&self, resource: &str) -> DevicePluginClient<Channel> {
        self.shared.known().clients.get(resource).cloned().expect("it is registered")
    }

    /// Allocates devices for each container.
    ///
    /// # Errors
    /// The status of the plugin.
    pub fn allocate(
        &self,
        resource: &str,
        containers: &[&[&str]],
    ) -> Result<AllocateResponse, Status> {
        let request = |ids: &&[&str]| ContainerAllocateRequest { device_ids: owned(ids) };
        let container_requests = containers.iter().map(request).collect();
        let mut client = self.client(resource);
        let asked = client.allocate(AllocateRequest { container_requests });
        self.answer_of(asked)
    }

    /// Requests the preferred ones of the free devices for one container.
    ///
    /// # Errors
    /// The status of the plugin.
    pub fn prefer(
        &self,
        resource: &str,
        (available, must): (&[&str], &[&str]),
        size: i32,
    ) -> Result<Vec<String>, Status> {
        let request = ContainerPreferredAllocationRequest {
            available_device_ids: owned(available),
            must_include_device_ids: owned(must),
            allocation_size: size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![request] };
        let mut client = self.client(resource);
        let answer = self.answer_of(client.get_preferred_allocation(request))?;
        Ok(answer.container_responses.into_iter().flat_map(|answer| answer.device_ids).collect())
    }

    /// Waits for the answer of the plugin.
    ///
    /// # Panics
    /// When there is none within [`deadline::PROGRAM`].
    fn answer_of<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let limited = async { tokio::time::timeout(deadline::PROGRAM, answer).await };
        let answer = self.handle.block_on(limited).expect("the plugin answers within the limit");
        answer.map(Response::into_inner)
    }

    /// Requests the options of a resource, the smallest request of the interface.
    ///
    /// # Errors
    /// The status of the plugin.
    pub fn options(&self, resource: &str) -> Result<DevicePluginOptions, Status> {
        let mut client = self.client(resource);
        let asked = client.get_device_plugin_options(Empty {});
        self.answer_of(asked)
    }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.end();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
