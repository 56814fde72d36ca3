//! The device plugin service of one resource: the kubelet's calls, answered from what is advertised.

use crate::{
    advertised::{AdvertisedDevice, AdvertisedDevices},
    api::{
        AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
        ContainerPreferredAllocationResponse, DevicePluginOptions, Empty, HEALTHY,
        ListAndWatchResponse, NumaNode, PluginDevice, PreStartContainerRequest,
        PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse,
        TopologyInfo, UNHEALTHY, service::device_plugin::device_plugin_server::DevicePlugin,
    },
    device_list_strategy::{DeviceListMode, DeviceListStrategy},
    error::{Error, Result},
    preferred_allocation::preferred_allocation,
    repartition::AllocationGate,
    strategy::{AllocatableDevice, Resource},
};
use mig_cdi_partition::{ContainerSearch, holders_in_containers};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Device plugin service of one resource.
#[derive(Debug, Clone)]
pub struct ResourcePlugin {
    /// Resource that is served.
    pub resource: Resource,
    /// Ways to name devices to the engine.
    pub device_list_strategy: DeviceListStrategy,
    /// Gate that is closed while GPUs are being partitioned.
    pub allocation_gate: AllocationGate,
    /// As [`ServeSettings::container_search`](crate::server::ServeSettings::container_search).
    pub container_search: Option<ContainerSearch>,
    /// Devices of all resources.
    pub advertised: watch::Receiver<Arc<AdvertisedDevices>>,
}

/// Optional calls that the plugin answers.
pub const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };

/// Longest time for which Allocate waits for partitioning to end. The kubelet sets no deadline on Allocate
/// (k8s.io/kubernetes, `pkg/kubelet/cm/devicemanager/endpoint.go`, `allocate`), and admits pods one after the other
/// (`pkg/kubelet/kubelet.go`, `HandlePodAdditions`): all other pods of the node wait as long.
const GATE_TIMEOUT: Duration = Duration::from_secs(10);

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl DevicePlugin for ResourcePlugin {
    type ListAndWatchStream = ReceiverStream<std::result::Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(&self, _: Request<Empty>) -> Answer<DevicePluginOptions> {
        Ok(Response::new(OPTIONS))
    }

    /// Sends the current list, and each list that differs from the one before. A kubelet that reads slowly gets the
    /// newest list and skips those in between, so no queue grows.
    async fn list_and_watch(&self, _: Request<Empty>) -> Answer<Self::ListAndWatchStream> {
        // Room for one list: one is on its way to the kubelet, and the next is made when that has been taken.
        let (sender, receiver) = mpsc::channel(1);
        let (mut advertised, resource) = (self.advertised.clone(), self.resource.clone());
        tokio::spawn(async move {
            let mut sent = None;
            loop {
                // The list is read after there is room for it, so it is current when it is sent.
                let Ok(permit) = sender.reserve().await else { return };
                let current = list(advertised.borrow_and_update().of(&resource));
                if sent.as_ref() != Some(&current) {
                    permit.send(Ok(current.clone()));
                    sent = Some(current);
                } else {
                    drop(permit);
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = advertised.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Answer<PreferredAllocationResponse> {
        let advertised = self.advertised.borrow();
        let devices = advertised.of(&self.resource);
        let requests = &request.get_ref().container_requests;
        let answers = requests.iter().map(|request| ContainerPreferredAllocationResponse {
            device_ids: preferred_allocation(devices, request),
        });
        Ok(Response::new(PreferredAllocationResponse { container_responses: answers.collect() }))
    }

    async fn allocate(&self, request: Request<AllocateRequest>) -> Answer<AllocateResponse> {
        // Partitioning changes which devices exist, so they are searched after it.
        self.allocation_gate.wait_until_open(GATE_TIMEOUT).await;
        self.expect_free(request.get_ref()).await?;
        // From here on nothing waits.
        Ok(Response::new(self.allocation(request.get_ref())?))
    }

    /// Never called: [`OPTIONS`] does not require it.
    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Answer<PreStartContainerResponse> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

impl ResourcePlugin {
    /// Answer to Allocate for all containers, or the first reason to refuse the pod.
    fn allocation(&self, request: &AllocateRequest) -> Result<AllocateResponse> {
        let advertised = self.advertised.borrow();
        let devices = advertised.of(&self.resource);
        let requests = &request.container_requests;
        let answers = requests.iter().map(|request| {
            let found: Result<Vec<_>> =
                request.device_ids.iter().map(|id| self.find(devices, id)).collect();
            Ok(self.answer(&found?))
        });
        let container_responses = answers.collect::<Result<_>>()?;
        let ids = requests.iter().flat_map(|request| &request.device_ids);
        self.allocation_gate.record_allocation(&self.resource, ids)?;
        Ok(AllocateResponse { container_responses })
    }

    /// Checks that no container can use the requested slices: none of the pod's containers exists yet, so one that may open a slice, or
    /// has it open, was given it by another engine or another container, or before the slice was made anew.
    async fn expect_free(&self, request: &AllocateRequest) -> Result<()> {
        let Some(search) = self.container_search.clone() else { return Ok(()) };
        let ids = request.container_requests.iter().flat_map(|request| &request.device_ids);
        let slices: Vec<AllocatableDevice> = {
            let advertised = self.advertised.borrow();
            let find = |id| advertised.of(&self.resource).iter().find(|a| &a.device.id == id);
            let devices = ids.filter_map(find).map(|advertised| advertised.device.clone());
            devices.filter(|device| device.capability.is_some()).collect()
        };
        let capabilities: Vec<_> = slices.iter().filter_map(|slice| slice.capability).collect();
        let config = slices.iter().find_map(|slice| slice.config);
        if capabilities.is_empty() {
            return Ok(());
        }
        let search = move || holders_in_containers(&search, &capabilities, config);
        // It waits for a child process, and the servers share this thread.
        let found = tokio::task::spawn_blocking(search).await;
        let found = found.unwrap_or_else(|error| {
            Err(mig_cdi_gen::Error::failed("find", "the processes that can use devices")
                .because(error))
        });
        let holders = found.map_err(|cause| Error::Holders {
            resource: self.resource.clone(),
            cause: Box::new(cause),
        })?;
        match slices.into_iter().zip(holders).find(|(_, holders)| !holders.is_empty()) {
            Some((AllocatableDevice { id: device, .. }, holders)) => {
                Err(Error::DeviceInUse { device, resource: self.resource.clone(), holders })
            }
            None => Ok(()),
        }
    }

    /// Finds a device that may be allocated.
    fn find<'a>(&self, devices: &'a [AdvertisedDevice], id: &str) -> Result<&'a AdvertisedDevice> {
        let (device, resource) = (id.to_owned(), self.resource.clone());
        let Some(found) = devices.iter().find(|advertised| advertised.device.id == id) else {
            return Err(Error::UnknownDevice { device, resource });
        };
        // The kubelet chooses from the last list that it has read, in which the device may have been healthy.
        match &found.unhealthy {
            Some(why) => Err(Error::UnhealthyDevice { device, resource, cause: why.clone() }),
            None => Ok(found),
        }
    }

    fn answer(&self, allocated: &[&AdvertisedDevice]) -> ContainerAllocateResponse {
        let mut answer = ContainerAllocateResponse::default();
        let names = || allocated.iter().map(|advertised| advertised.device.name.as_str());
        if self.device_list_strategy.has(DeviceListMode::CdiCri) {
            answer.cdi_devices = names().map(|name| CdiDevice { name: name.to_owned() }).collect();
        }
        if self.device_list_strategy.has(DeviceListMode::CdiAnnotations) {
            // A container may have devices of several resources. Of two answers with the same key the kubelet keeps
            // the first and drops the other (k8s.io/kubernetes, `pkg/kubelet/cm/devicemanager/pod_devices.go`,
            // `deviceRunContainerOptions`), so each resource has a key of its own.
            let key = format!("cdi.k8s.io/mig-cdi_{}", self.resource.short());
            answer.annotations.insert(key, names().collect::<Vec<_>>().join(","));
        }
        if self.device_list_strategy.has(DeviceListMode::Envvar) {
            // The runtime of NVIDIA's toolkit finds devices by UUID or index, not by CDI name.
            let ids: Vec<_> = allocated.iter().map(|a| a.device.id.as_str()).collect();
            answer.envs.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","));
        }
        answer
    }
}

fn list(devices: &[AdvertisedDevice]) -> ListAndWatchResponse {
    let device = |advertised: &AdvertisedDevice| PluginDevice {
        id: advertised.device.id.clone(),
        health: if advertised.unhealthy.is_none() { HEALTHY } else { UNHEALTHY }.to_owned(),
        // The kubelet allocates a device without topology after those on the NUMA node that it aligns to
        // (`pkg/kubelet/cm/devicemanager/manager.go`, `filterByAffinity`), so an unknown node is omitted, not guessed.
        topology: advertised
            .device
            .numa
            .map(|numa| TopologyInfo { nodes: vec![NumaNode { id: i64::from(numa) }] }),
    };
    ListAndWatchResponse { devices: devices.iter().map(device).collect() }
}
