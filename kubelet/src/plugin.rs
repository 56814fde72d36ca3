//! What the kubelet asks of one resource.

use crate::{
    api::{
        AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
        ContainerPreferredAllocationResponse, Device, DevicePluginOptions, Empty, HEALTHY,
        ListAndWatchResponse, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
        PreferredAllocationRequest, PreferredAllocationResponse, TopologyInfo, UNHEALTHY,
        service::device_plugin::device_plugin_server::DevicePlugin,
    },
    lists::{List, Lists},
    prefer::preferred,
    repartition::Dividing,
    roster::{Entry, Roster},
    strategy::Resource,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// One resource, as the kubelet sees it.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Which one.
    pub resource: Resource,
    /// How devices are named to the engine.
    pub lists: Lists,
    /// Whether GPUs are being divided: nothing is given out then.
    pub dividing: Dividing,
    /// What there is.
    pub roster: watch::Receiver<Arc<Roster>>,
}

/// What can be done besides.
pub const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };

/// How long a pod waits for GPUs to be divided. The kubelet admits no other meanwhile, and gives an answer all
/// the time that it takes.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    type ListAndWatchStream = ReceiverStream<Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(&self, _: Request<Empty>) -> Answer<DevicePluginOptions> {
        Ok(Response::new(OPTIONS))
    }

    /// The list of now, and each that differs from the one before. A kubelet that reads slowly gets the newest
    /// and misses what has come and gone meanwhile, so that nothing piles up.
    async fn list_and_watch(&self, _: Request<Empty>) -> Answer<Self::ListAndWatchStream> {
        let (sender, receiver) = mpsc::channel(1);
        let (mut roster, resource) = (self.roster.clone(), self.resource.clone());
        tokio::spawn(async move {
            let mut sent = None;
            loop {
                let Ok(permit) = sender.reserve().await else { return };
                let now = list(roster.borrow_and_update().of(&resource));
                if sent.as_ref() != Some(&now) {
                    permit.send(Ok(now.clone()));
                    sent = Some(now);
                } else {
                    drop(permit);
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = roster.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Answer<PreferredAllocationResponse> {
        let roster = self.roster.borrow();
        let entries = roster.of(&self.resource);
        let requests = &request.get_ref().container_requests;
        let answer = requests.iter().map(|request| ContainerPreferredAllocationResponse {
            device_ids: preferred(entries, request),
        });
        Ok(Response::new(PreferredAllocationResponse { container_responses: answer.collect() }))
    }

    async fn allocate(&self, request: Request<AllocateRequest>) -> Answer<AllocateResponse> {
        // Not before it is over is it known what there is to give out. From here on nothing waits.
        self.dividing.settled(PATIENCE).await;
        let roster = self.roster.borrow();
        let entries = roster.of(&self.resource);
        let requests = &request.get_ref().container_requests;
        let answers = requests.iter().map(|request| {
            let given: Result<Vec<_>, Status> =
                request.device_ids.iter().map(|id| self.find(entries, id)).collect();
            Ok(self.answer(&given?))
        });
        let container_responses = answers.collect::<Result<_, Status>>()?;
        let ids = requests.iter().flat_map(|request| &request.device_ids);
        self.dividing
            .hand_out(ids)
            .map_err(|why| Status::unavailable(format!("allocate of {}: {why}", self.resource)))?;
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Answer<PreStartContainerResponse> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

impl Plugin {
    /// What may be given out. The pod is refused with these words otherwise.
    fn find<'a>(&self, entries: &'a [Entry], id: &str) -> Result<&'a Entry, Status> {
        let resource = &self.resource;
        match entries.iter().find(|entry| entry.offer.id == id) {
            Some(Entry { sick: Some(why), .. }) => {
                Err(Status::failed_precondition(format!("allocate {id} of {resource}: {why}")))
            }
            Some(entry) => Ok(entry),
            None => Err(Status::not_found(format!(
                "allocate {id} of {resource}: there is no such device any more; create the pod again"
            ))),
        }
    }

    fn answer(&self, given: &[&Entry]) -> ContainerAllocateResponse {
        let mut answer = ContainerAllocateResponse::default();
        let names = || given.iter().map(|entry| entry.offer.name.as_str());
        if self.lists.has(List::CdiCri) {
            answer.cdi_devices = names().map(|name| CdiDevice { name: name.to_owned() }).collect();
        }
        if self.lists.has(List::CdiAnnotations) {
            // One key for each resource: a container may have several.
            let key = format!("cdi.k8s.io/mig-cdi_{}", self.resource.short());
            answer.annotations.insert(key, names().collect::<Vec<_>>().join(","));
        }
        if self.lists.has(List::Envvar) {
            let ids = given.iter().map(|entry| entry.offer.id.as_str()).collect::<Vec<_>>();
            answer.envs.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","));
        }
        answer
    }
}

fn list(entries: &[Entry]) -> ListAndWatchResponse {
    let device = |entry: &Entry| Device {
        id: entry.offer.id.clone(),
        health: if entry.sick.is_none() { HEALTHY } else { UNHEALTHY }.to_owned(),
        topology: entry
            .offer
            .numa
            .map(|numa| TopologyInfo { nodes: vec![NumaNode { id: i64::from(numa) }] }),
    };
    ListAndWatchResponse { devices: entries.iter().map(device).collect() }
}
