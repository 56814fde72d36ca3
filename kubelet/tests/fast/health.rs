//! Health of devices: events that make one unhealthy, and events that end that.

use mig_cdi_gen::{
    Xid,
    inventory::{GpuEntry, Inventory, SliceEntry},
};
use mig_cdi_kubelet::{
    advertised::AdvertisedDevice,
    health::{DEPARTED_GRACE, Health, ParsedXidFilter, XidFilter},
    strategy::{InstanceIds, Resource, Strategy as MigStrategy, node_resources},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const PROFILES: [&str; 3] = ["1g.10gb", "2g.20gb", "3g.40gb"];

fn uuid(gpu: usize) -> String {
    format!("GPU-{gpu}")
}

fn id(gpu: usize, gi: u32, ci: u32) -> String {
    format!("MIG-{gpu}-{gi}-{ci}")
}

/// A GPU in MIG mode with slices, each as GPU instance, compute instance and index in [`PROFILES`].
fn partitioned(gpu: usize, slices: &[(u32, u32, usize)]) -> GpuEntry {
    let slice = |(gi, ci, profile): &(u32, u32, usize)| SliceEntry {
        name: format!("nvidia.com/mig={}", id(gpu, *gi, *ci)),
        uuid: Some(id(gpu, *gi, *ci)),
        profile: Some(PROFILES[*profile].to_owned()),
        gi: *gi,
        ci: *ci,
        ..SliceEntry::default()
    };
    GpuEntry { mig_enabled: true, slices: slices.iter().map(slice).collect(), ..whole(gpu) }
}

fn whole(gpu: usize) -> GpuEntry {
    GpuEntry {
        uuid: Some(uuid(gpu)),
        pci: format!("00000000:0{gpu}:00.0"),
        name: Some(format!("nvidia.com/gpu={}", uuid(gpu))),
        ..GpuEntry::default()
    }
}

fn node(gpus: Vec<GpuEntry>) -> Inventory {
    Inventory { driver_version: "580.1".to_owned(), gpus, ..Inventory::default() }
}

fn xid(gpu: usize, gi: Option<u32>, ci: Option<u32>, xid: u64) -> Xid {
    Xid { gpu: uuid(gpu), gi, ci, xid }
}

fn set<'a>(ids: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

/// The health of a node under the strategy mixed, with a clock that the test sets.
struct Scenario {
    health: Health,
    held: BTreeSet<String>,
    now: Instant,
}

impl Scenario {
    fn new() -> Scenario {
        let ParsedXidFilter { filter, warnings } = XidFilter::parse(None, None);
        assert_eq!(warnings, Vec::<String>::new());
        Scenario { health: Health::new(filter), held: BTreeSet::new(), now: Instant::now() }
    }

    fn refreshed(&mut self, inventory: &Inventory) {
        let resources = node_resources(inventory, MigStrategy::Mixed);
        self.health.refreshed(inventory, &resources, &self.held, self.now);
    }

    fn refresh_failed(&mut self, current: &[&str]) {
        let current = current.iter().map(|name| format!("nvidia.com/mig={name}")).collect();
        self.health.refresh_failed("nvml does not answer", &current, &self.held, self.now);
    }

    fn xid(&mut self, error: &Xid) -> bool {
        self.health.xid(error, self.now)
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.health.expire(&self.held, self.now);
    }

    /// All devices, each with the reason why it is unhealthy.
    fn all(&self) -> BTreeMap<String, Option<String>> {
        let devices = self.health.resources().flat_map(|resource| self.health.devices(resource));
        devices.map(|advertised| (advertised.device.id, advertised.unhealthy)).collect()
    }

    fn healthy(&self) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|(_, why)| why.is_none()).map(|(id, _)| id).collect()
    }

    fn why(&self, id: &str) -> String {
        self.all().get(id).cloned().flatten().unwrap_or_default()
    }
}

fn two_gpus() -> Inventory {
    node(vec![
        partitioned(0, &[(1, 0, 1), (1, 1, 1), (2, 0, 1)]),
        partitioned(1, &[(1, 0, 1)]),
        whole(2),
    ])
}

#[test]
fn an_error_makes_the_devices_in_its_scope_unhealthy_and_no_others() {
    let all = ["GPU-2", "MIG-0-1-0", "MIG-0-1-1", "MIG-0-2-0", "MIG-1-1-0"];
    for (error, sick) in [
        (xid(0, Some(1), Some(1), 94), &["MIG-0-1-1"][..]),
        (xid(0, Some(1), None, 94), &["MIG-0-1-0", "MIG-0-1-1"]),
        (xid(0, Some(2), Some(0), 94), &["MIG-0-2-0"]),
        (xid(0, None, None, 79), &["MIG-0-1-0", "MIG-0-1-1", "MIG-0-2-0"]),
        (xid(0, None, Some(0), 79), &["MIG-0-1-0", "MIG-0-1-1", "MIG-0-2-0"]),
        (xid(1, Some(1), Some(0), 48), &["MIG-1-1-0"]),
        (xid(2, None, None, 48), &["GPU-2"]),
        (xid(0, Some(9), Some(0), 48), &[]),
        (xid(7, None, None, 48), &[]),
        (xid(0, None, None, 31), &[]),
    ] {
        let mut scenario = Scenario::new();
        scenario.refreshed(&two_gpus());
        assert_eq!(scenario.healthy(), all);
        scenario.xid(&error);
        let healthy: Vec<_> = all.into_iter().filter(|id| !sick.contains(id)).collect();
        assert_eq!(scenario.healthy(), healthy, "{error:?}");
        // Neither time nor another refresh with the same result closes it.
        scenario.advance(Duration::from_secs(86_400));
        scenario.refreshed(&two_gpus());
        assert_eq!(scenario.healthy(), healthy, "{error:?}");
        for id in sick {
            assert!(
                scenario.why(id).contains(&format!("xid {}", error.xid)),
                "{}",
                scenario.why(id)
            );
        }
        scenario.health.clear_errors();
        assert_eq!(scenario.healthy(), all);
    }
}

/// NVIDIA's device plugin keeps only the last slice of each GPU (`internal/rm/health.go`, `parentToDeviceMap`).
#[test]
fn each_slice_of_a_gpu_has_its_own_health() {
    let slices: Vec<_> = (7..14).map(|gi| (gi, 0, 0)).collect();
    let inventory = node(vec![partitioned(0, &slices)]);
    let mut scenario = Scenario::new();
    scenario.refreshed(&inventory);
    for gi in 7..14 {
        assert!(scenario.xid(&xid(0, Some(gi), Some(0), 48)));
        assert_eq!(scenario.healthy().len(), 13 - gi as usize);
        assert!(!scenario.healthy().contains(&id(0, gi, 0)));
    }
}

#[test]
fn a_recreated_gpu_instance_is_healthy_and_an_error_on_its_gpu_stays() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    scenario.xid(&xid(0, Some(1), None, 94));
    scenario.xid(&xid(1, None, None, 48));
    // One of the two compute instances is destroyed. The error was on the GPU instance, which stays.
    scenario.refreshed(&node(vec![
        partitioned(0, &[(1, 1, 1), (2, 0, 1)]),
        partitioned(1, &[]),
        whole(2),
    ]));
    assert_eq!(scenario.healthy(), ["GPU-2", "MIG-0-2-0"]);
    scenario.refreshed(&node(vec![
        partitioned(0, &[(2, 0, 1)]),
        partitioned(1, &[(1, 0, 1)]),
        whole(2),
    ]));
    scenario.refreshed(&two_gpus());
    // The second GPU was not reset.
    assert_eq!(scenario.healthy(), ["GPU-2", "MIG-0-1-0", "MIG-0-1-1", "MIG-0-2-0"]);
}

#[test]
fn a_gpu_that_was_lost_and_is_back_is_healthy() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    scenario.xid(&xid(0, None, None, 79));
    let mut lost = two_gpus();
    lost.gpus.remove(0);
    lost.problems.push("gpu 0: lost".to_owned());
    scenario.refreshed(&lost);
    assert_eq!(scenario.healthy(), ["GPU-2", "MIG-1-1-0"]);
    assert!(scenario.why("MIG-0-1-0").contains("is lost"), "{}", scenario.why("MIG-0-1-0"));
    // NVML and the kernel disagreed for a moment, which is no reset.
    scenario.advance(Duration::from_secs(1));
    scenario.refreshed(&two_gpus());
    assert_eq!(scenario.healthy(), ["GPU-2", "MIG-1-1-0"]);
    scenario.refreshed(&lost);
    scenario.advance(Duration::from_secs(10));
    scenario.refreshed(&two_gpus());
    assert_eq!(scenario.healthy().len(), 5);
}

#[test]
fn after_a_failed_refresh_current_devices_keep_their_health_and_others_are_gone() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    scenario.xid(&xid(0, Some(2), Some(0), 94));
    scenario.refresh_failed(&["MIG-0-1-0", "MIG-0-2-0"]);
    assert_eq!(scenario.healthy(), ["MIG-0-1-0"]);
    let why = scenario.why("MIG-1-1-0");
    assert!(why.contains("nvml does not answer"), "{why}");
    // The driver is unloaded and loaded again.
    scenario.refresh_failed(&[]);
    assert_eq!(scenario.healthy(), Vec::<String>::new());
    scenario.advance(Duration::from_secs(5));
    scenario.refreshed(&two_gpus());
    assert_eq!(scenario.healthy().len(), 5);
}

#[test]
fn another_driver_version_closes_all_errors() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    scenario.xid(&xid(0, None, None, 48));
    scenario.refreshed(&Inventory { driver_version: "580.2".to_owned(), ..two_gpus() });
    assert_eq!(scenario.healthy().len(), 5);
}

#[test]
fn a_device_that_is_gone_is_listed_for_the_grace_time_or_while_a_pod_holds_it() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    scenario.held = set(["MIG-0-1-0"]);
    scenario.refreshed(&node(vec![whole(2)]));
    assert_eq!((scenario.healthy(), scenario.all().len()), (vec!["GPU-2".to_owned()], 5));
    assert_eq!(scenario.health.next_deadline(), Some(scenario.now + DEPARTED_GRACE));
    scenario.advance(DEPARTED_GRACE);
    assert_eq!(scenario.all().into_keys().collect::<Vec<_>>(), ["GPU-2", "MIG-0-1-0"]);
    assert_eq!(scenario.health.next_deadline(), None);
    scenario.held.clear();
    scenario.advance(Duration::ZERO);
    assert_eq!(scenario.all().into_keys().collect::<Vec<_>>(), ["GPU-2"]);
    // A resource that has been advertised stays, without devices.
    assert!(
        scenario.health.resources().any(|resource| resource.as_str() == "nvidia.com/mig-2g.20gb")
    );
}

/// Happens when a GPU instance is created again with another profile and has the same UUID.
#[test]
fn a_device_that_moves_to_another_resource_is_never_allocated_twice() {
    let with = |profile| node(vec![partitioned(0, &[(1, 0, profile)])]);
    let reasons = |scenario: &Scenario, profile: usize| {
        let resource = Resource::of_profile(PROFILES[profile]).unwrap();
        scenario.health.devices(&resource).into_iter().map(|d| d.unhealthy).collect::<Vec<_>>()
    };
    let mut scenario = Scenario::new();
    scenario.refreshed(&with(0));
    scenario.refreshed(&with(1));
    assert_eq!((reasons(&scenario, 0), reasons(&scenario, 1)), (vec![], vec![None]));
    scenario.held = set(["MIG-0-1-0"]);
    scenario.refreshed(&with(2));
    let held = "a pod still holds it as nvidia.com/mig-2g.20gb";
    assert_eq!(reasons(&scenario, 2), [Some(held.to_owned())]);
    assert_eq!(
        reasons(&scenario, 1),
        [Some("it is now advertised as nvidia.com/mig-3g.40gb".to_owned())]
    );
    // Back in its first resource, from which the pod holds it.
    scenario.refreshed(&with(1));
    assert_eq!((reasons(&scenario, 1), reasons(&scenario, 2)), (vec![None], vec![]));
    scenario.refreshed(&with(0));
    scenario.held.clear();
    scenario.advance(Duration::ZERO);
    assert_eq!((reasons(&scenario, 0), reasons(&scenario, 1)), (vec![None], vec![]));
}

/// Capability nodes belong to the numbers of the instances, and each slice gets the node of its GPU.
#[test]
fn a_device_that_a_pod_can_open_is_allocated_to_no_other_pod() {
    let mut inventory = node(vec![partitioned(0, &[(1, 0, 1), (1, 1, 0), (2, 0, 1)])]);
    let mut scenario = Scenario::new();
    scenario.refreshed(&inventory);
    scenario.held = set(["MIG-0-1-0"]);
    inventory.gpus[0].slices[0].uuid = Some("MIG-new".to_owned());
    scenario.refreshed(&inventory);
    assert_eq!(scenario.healthy(), ["MIG-0-1-1", "MIG-0-2-0"]);
    let why = "a pod that was allocated MIG-0-1-0, which is gone, can open it too; delete that pod";
    assert_eq!(scenario.why("MIG-new"), why);
    scenario.refreshed(&node(vec![whole(0), whole(1)]));
    assert_eq!(
        (scenario.healthy(), scenario.why("GPU-0")),
        (vec!["GPU-1".to_owned()], why.to_owned())
    );
    scenario.held.clear();
    scenario.advance(Duration::ZERO);
    assert_eq!(scenario.healthy(), ["GPU-0", "GPU-1"]);
}

#[test]
fn the_variables_have_the_meaning_of_nvidias_plugin() {
    let filter = |disable, enable| XidFilter::parse(disable, enable).filter;
    let xids = [13, 48, 79, 109];
    for (disable, enable, critical, any) in [
        (None, None, [false, true, true, false], true),
        (Some(""), Some(""), [false, true, true, false], true),
        (Some("48"), None, [false, false, true, false], true),
        (Some(" 48 ,79,"), None, [false, false, false, false], true),
        (Some("all"), None, [false; 4], false),
        (Some("XIDS"), None, [false; 4], false),
        (Some("48,xids"), None, [false; 4], false),
        (Some("all"), Some("48"), [false, true, false, false], true),
        (Some("48"), Some("48"), [false, true, true, false], true),
        (None, Some("13"), [true, true, true, false], true),
        (Some("all"), Some("all"), [true; 4], true),
    ] {
        let filter = filter(disable, enable);
        let found = xids.map(|xid| filter.is_critical(xid));
        assert_eq!(found, critical, "{disable:?} {enable:?}");
        assert_eq!(filter.passes_any(), any, "{disable:?} {enable:?}");
    }
    let ParsedXidFilter { filter, warnings } = XidFilter::parse(Some("48,-5,fan"), None);
    assert_eq!((warnings.len(), filter.is_critical(48)), (2, false));
    assert!(warnings[0].contains("\"-5\""), "{warnings:?}");
}

/// More errors than are kept.
#[test]
fn a_storm_of_errors_takes_bounded_memory() {
    let mut scenario = Scenario::new();
    scenario.refreshed(&two_gpus());
    for n in 0..5000 {
        assert!(scenario.xid(&xid(0, Some(100 + n), Some(n), 48)));
    }
    // In the end they are open on the whole GPU.
    assert_eq!(scenario.healthy(), ["GPU-2", "MIG-1-1-0"]);
    let size = format!("{:?}", scenario.health).len();
    assert!(size < 300_000, "{size}");
}

#[derive(Debug, Clone)]
enum Event {
    Refreshed { gpus: Vec<GpuEntry>, is_complete: bool, strategy: MigStrategy },
    RefreshFailed { is_current: Vec<bool> },
    Error(Xid),
    Hold(Vec<bool>),
    ClearErrors,
    Advance(u64),
}

const INSTANCES: [(u32, u32); 4] = [(1, 0), (1, 1), (2, 0), (3, 0)];

fn a_gpu(gpu: usize) -> impl Strategy<Value = Option<GpuEntry>> {
    let slices = prop::collection::vec(prop::option::of(0..PROFILES.len()), INSTANCES.len());
    (0..8_u8, slices).prop_map(move |(kind, slices)| {
        let slices = INSTANCES.iter().zip(slices);
        let slices: Vec<_> =
            slices.filter_map(|((gi, ci), profile)| Some((*gi, *ci, profile?))).collect();
        match kind {
            0 => None,
            1 => Some(whole(gpu)),
            _ => Some(partitioned(gpu, &slices)),
        }
    })
}

fn an_event() -> impl Strategy<Value = Event> {
    let strategies =
        [MigStrategy::Mixed, MigStrategy::Mixed, MigStrategy::Mixed, MigStrategy::Single];
    let refreshed = (a_gpu(0), a_gpu(1), any::<bool>(), prop::sample::select(strategies.to_vec()));
    let error = (0..3_usize, prop::option::of(0..4_u32), prop::option::of(0..2_u32));
    let number = prop::sample::select(&[13_u64, 48, 79][..]);
    prop_oneof![
        6 => refreshed.prop_map(|(a, b, is_complete, strategy)| {
            Event::Refreshed { gpus: [a, b].into_iter().flatten().collect(), is_complete, strategy }
        }),
        2 => prop::collection::vec(any::<bool>(), 10).prop_map(|is_current| Event::RefreshFailed { is_current }),
        4 => (error, number).prop_map(|((gpu, gi, ci), n)| Event::Error(xid(gpu, gi, ci, n))),
        3 => prop::collection::vec(any::<bool>(), 10).prop_map(Event::Hold),
        1 => Just(Event::ClearErrors),
        3 => (0..90_u64).prop_map(Event::Advance),
    ]
}

fn every_id() -> Vec<String> {
    let slices = (0..2).flat_map(|gpu| INSTANCES.map(|(gi, ci)| id(gpu, gi, ci)));
    slices.chain((0..2).map(uuid)).collect()
}

/// A GPU by UUID, and an instance in it.
type Location = (String, Option<InstanceIds>);

/// The rules of the documentation, written down a second time and fed with the same events.
#[derive(Default)]
struct Model {
    /// Devices of the last refresh, each with GPU and instance.
    current: BTreeMap<(Resource, String), Location>,
    /// Every error since errors were cleared.
    ever: Vec<Xid>,
    /// Errors whose GPU or instance was in every refresh since.
    lasting: Vec<Xid>,
    gpus: BTreeSet<String>,
}

fn affects(error: &Xid, (gpu, instance): &Location) -> bool {
    error.gpu == *gpu
        && match (error.gi, instance) {
            (None, _) | (_, None) => true,
            (Some(gi), Some(ids)) => gi == ids.gi && error.ci.is_none_or(|ci| ci == ids.ci),
        }
}

impl Model {
    fn refreshed(&mut self, inventory: &Inventory, strategy: MigStrategy) {
        self.gpus = inventory.gpus.iter().filter_map(|gpu| gpu.uuid.clone()).collect();
        let uuids: BTreeMap<_, _> = inventory
            .gpus
            .iter()
            .map(|gpu| (&gpu.pci, gpu.uuid.clone().unwrap_or_default()))
            .collect();
        let resources = node_resources(inventory, strategy);
        let all = resources.devices.iter();
        let all =
            all.flat_map(|(resource, list)| list.iter().map(move |device| (resource, device)));
        self.current = all
            .map(|(resource, device)| {
                let location = (uuids[&device.gpu].clone(), device.instance);
                ((resource.clone(), device.id.clone()), location)
            })
            .collect();
        let mut locations: Vec<Location> = Vec::new();
        for (gpu, slice) in inventory.slices() {
            let ids = InstanceIds { gi: slice.gi, ci: slice.ci };
            locations.push((gpu.uuid.clone().unwrap_or_default(), Some(ids)));
        }
        self.lasting.retain(|error| match error.gi {
            None => self.gpus.contains(&error.gpu),
            Some(_) => locations.iter().any(|location| affects(error, location)),
        });
    }
}

fn check(health: &Health, model: &Model, held: &BTreeSet<String>) {
    // GPUs of slices that are gone and that a pod holds.
    let all = health.resources().flat_map(|resource| {
        health.devices(resource).into_iter().map(|d| (resource.clone(), d.device))
    });
    let gone = all.filter(|(resource, device)| {
        let key = (resource.clone(), device.id.clone());
        !model.current.contains_key(&key) && device.instance.is_some() && held.contains(&device.id)
    });
    let gone: BTreeSet<String> = gone.map(|(_, device)| device.gpu.clone()).collect();
    let mut healthy = BTreeMap::new();
    let mut listed = BTreeSet::new();
    for resource in health.resources() {
        for AdvertisedDevice { device, unhealthy: why } in health.devices(resource) {
            let key = (resource.clone(), device.id.clone());
            assert!(listed.insert(key.clone()), "{key:?} is listed twice");
            let Some(location) = model.current.get(&key) else {
                assert!(why.is_some(), "{key:?} is gone, and healthy");
                continue;
            };
            let is_twice = health.resources().any(|other| {
                other != resource
                    && health.devices(other).iter().any(|listed| listed.device.id == device.id)
            });
            match &why {
                None => assert_eq!(healthy.insert(device.id.clone(), resource.clone()), None),
                Some(why) => {
                    let error = model.ever.iter().any(|error| affects(error, location));
                    let is_openable = device.instance.is_none() && gone.contains(&device.gpu);
                    assert!(
                        error || is_twice || is_openable,
                        "{key:?} has no error, and is unhealthy: {why}"
                    );
                }
            }
            let is_openable = device.instance.is_none() && gone.contains(&device.gpu);
            assert!(!is_openable || why.is_some(), "{key:?} is open to a pod, and healthy");
            let lasting = model.lasting.iter().find(|error| affects(error, location));
            assert!(lasting.is_none() || why.is_some(), "{key:?} has {lasting:?}, and is healthy");
        }
    }
    for key in model.current.keys() {
        assert!(listed.contains(key), "{key:?} is not listed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_events_health_follows_the_rules(events in prop::collection::vec(an_event(), 1..40)) {
        let (mut scenario, mut model) = (Scenario::new(), Model::default());
        for event in &events {
            match event {
                Event::Refreshed { gpus, is_complete, strategy } => {
                    let mut inventory = node(gpus.clone());
                    if !is_complete {
                        inventory.problems.push("something".to_owned());
                    }
                    model.refreshed(&inventory, *strategy);
                    let resources = node_resources(&inventory, *strategy);
                    scenario.health.refreshed(&inventory, &resources, &scenario.held, scenario.now);
                }
                Event::RefreshFailed { is_current } => {
                    let current = is_current.iter().zip(every_id()).filter(|(is_current, _)| **is_current);
                    let names: BTreeSet<String> = current
                        .map(|(_, id)| match id.starts_with("MIG") {
                            true => format!("nvidia.com/mig={id}"),
                            false => format!("nvidia.com/gpu={id}"),
                        })
                        .collect();
                    scenario.health.refresh_failed("why", &names, &scenario.held, scenario.now);
                    model.current.retain(|(_, id), _| names.iter().any(|name| name.ends_with(&format!("={id}"))));
                    // The other tests are about the errors after a failed refresh.
                    model.lasting.clear();
                }
                Event::Error(error) => {
                    if scenario.xid(error) {
                        assert!(model.gpus.contains(&error.gpu) && error.xid != 13);
                        let ci = error.gi.and(error.ci);
                        let error = Xid { ci, ..error.clone() };
                        model.ever.push(error.clone());
                        model.lasting.push(error);
                    }
                }
                Event::Hold(held) => {
                    let held = held.iter().zip(every_id()).filter(|(held, _)| **held);
                    scenario.held = held.map(|(_, id)| id).collect();
                    scenario.advance(Duration::ZERO);
                }
                Event::ClearErrors => {
                    scenario.health.clear_errors();
                    model.ever.clear();
                    model.lasting.clear();
                }
                Event::Advance(seconds) => scenario.advance(Duration::from_secs(*seconds)),
            }
            check(&scenario.health, &model, &scenario.held);
        }
        // No device that is gone is kept, when no pod holds it.
        scenario.held.clear();
        scenario.advance(DEPARTED_GRACE);
        let listed: usize = scenario.health.resources().map(|r| scenario.health.devices(r).len()).sum();
        prop_assert_eq!(listed, model.current.len());
        prop_assert_eq!(scenario.health.next_deadline(), None);
    }
}
