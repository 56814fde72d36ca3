//! Health of slices: what makes one unhealthy, and what ends that.

use mig_cdi::{
    Xid,
    inventory::{GpuEntry, Inventory, SliceEntry},
};
use mig_cdi_kubelet::{
    health::{GRACE, Health, Xids},
    strategy::{Resource, Strategy as Kind, offers},
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

/// A GPU with slices: GPU instance, compute instance, number of the profile.
fn divided(gpu: usize, slices: &[(u32, u32, usize)]) -> GpuEntry {
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

/// A node under the strategy mixed, with a clock.
struct Story {
    health: Health,
    held: BTreeSet<String>,
    now: Instant,
}

impl Story {
    fn new() -> Story {
        let (xids, complaints) = Xids::parse(None, None);
        assert_eq!(complaints, Vec::<String>::new());
        Story { health: Health::new(xids), held: BTreeSet::new(), now: Instant::now() }
    }

    fn found(&mut self, inventory: &Inventory) {
        let offers = offers(inventory, Kind::Mixed);
        self.health.found(inventory, &offers, &self.held, self.now);
    }

    fn failed(&mut self, standing: &[&str]) {
        let standing = standing.iter().map(|name| format!("nvidia.com/mig={name}")).collect();
        self.health.failed("nvml does not answer", &standing, &self.held, self.now);
    }

    fn xid(&mut self, error: &Xid) -> bool {
        self.health.xid(error, self.now)
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.health.settle(&self.held, self.now);
    }

    /// All devices, each with why it is unhealthy.
    fn all(&self) -> BTreeMap<String, Option<String>> {
        let devices = self.health.resources().flat_map(|resource| self.health.devices(resource));
        devices.map(|(offer, why)| (offer.id.clone(), why)).collect()
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
    node(vec![divided(0, &[(1, 0, 1), (1, 1, 1), (2, 0, 1)]), divided(1, &[(1, 0, 1)]), whole(2)])
}

#[test]
fn an_error_is_held_against_what_it_is_in_and_nothing_else() {
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
        let mut story = Story::new();
        story.found(&two_gpus());
        assert_eq!(story.healthy(), all);
        story.xid(&error);
        let healthy: Vec<_> = all.into_iter().filter(|id| !sick.contains(id)).collect();
        assert_eq!(story.healthy(), healthy, "{error:?}");
        // No time heals, nor another look that finds the same.
        story.passes(Duration::from_secs(86_400));
        story.found(&two_gpus());
        assert_eq!(story.healthy(), healthy, "{error:?}");
        for id in sick {
            assert!(story.why(id).contains(&format!("xid {}", error.xid)), "{}", story.why(id));
        }
        story.health.forgive();
        assert_eq!(story.healthy(), all);
    }
}

/// Every slice of a GPU has its own health, whichever was the last.
#[test]
fn seven_slices_have_seven_healths() {
    let slices: Vec<_> = (7..14).map(|gi| (gi, 0, 0)).collect();
    let inventory = node(vec![divided(0, &slices)]);
    let mut story = Story::new();
    story.found(&inventory);
    for gi in 7..14 {
        assert!(story.xid(&xid(0, Some(gi), Some(0), 48)));
        assert_eq!(story.healthy().len(), 13 - gi as usize);
        assert!(!story.healthy().contains(&id(0, gi, 0)));
    }
}

#[test]
fn a_gpu_instance_made_anew_is_healthy_and_its_gpu_is_not() {
    let mut story = Story::new();
    story.found(&two_gpus());
    story.xid(&xid(0, Some(1), None, 94));
    story.xid(&xid(1, None, None, 48));
    // Of the two compute instances one goes: it is the GPU instance that had the error.
    story.found(&node(vec![divided(0, &[(1, 1, 1), (2, 0, 1)]), divided(1, &[]), whole(2)]));
    assert_eq!(story.healthy(), ["GPU-2", "MIG-0-2-0"]);
    story.found(&node(vec![divided(0, &[(2, 0, 1)]), divided(1, &[(1, 0, 1)]), whole(2)]));
    story.found(&two_gpus());
    // Nobody has reset the second GPU.
    assert_eq!(story.healthy(), ["GPU-2", "MIG-0-1-0", "MIG-0-1-1", "MIG-0-2-0"]);
}

#[test]
fn a_gpu_that_was_lost_and_is_back_is_healthy() {
    let mut story = Story::new();
    story.found(&two_gpus());
    story.xid(&xid(0, None, None, 79));
    let mut lost = two_gpus();
    lost.gpus.remove(0);
    lost.problems.push("gpu 0: lost".to_owned());
    story.found(&lost);
    assert_eq!(story.healthy(), ["GPU-2", "MIG-1-1-0"]);
    assert!(story.why("MIG-0-1-0").contains("is lost"), "{}", story.why("MIG-0-1-0"));
    // Two views that did not agree for a moment are no reset.
    story.passes(Duration::from_secs(1));
    story.found(&two_gpus());
    assert_eq!(story.healthy(), ["GPU-2", "MIG-1-1-0"]);
    story.found(&lost);
    story.passes(Duration::from_secs(10));
    story.found(&two_gpus());
    assert_eq!(story.healthy().len(), 5);
}

#[test]
fn what_does_not_stand_is_gone_and_what_stands_is_as_it_was() {
    let mut story = Story::new();
    story.found(&two_gpus());
    story.xid(&xid(0, Some(2), Some(0), 94));
    story.failed(&["MIG-0-1-0", "MIG-0-2-0"]);
    assert_eq!(story.healthy(), ["MIG-0-1-0"]);
    let why = story.why("MIG-1-1-0");
    assert!(why.contains("nvml does not answer"), "{why}");
    // The driver is loaded anew.
    story.failed(&[]);
    assert_eq!(story.healthy(), Vec::<String>::new());
    story.passes(Duration::from_secs(5));
    story.found(&two_gpus());
    assert_eq!(story.healthy().len(), 5);
}

#[test]
fn another_driver_has_started_all_anew() {
    let mut story = Story::new();
    story.found(&two_gpus());
    story.xid(&xid(0, None, None, 48));
    story.found(&Inventory { driver_version: "580.2".to_owned(), ..two_gpus() });
    assert_eq!(story.healthy().len(), 5);
}

#[test]
fn what_is_gone_stays_for_a_grace_or_as_long_as_a_pod_has_it() {
    let mut story = Story::new();
    story.found(&two_gpus());
    story.held = set(["MIG-0-1-0"]);
    story.found(&node(vec![whole(2)]));
    assert_eq!((story.healthy(), story.all().len()), (vec!["GPU-2".to_owned()], 5));
    assert_eq!(story.health.next_deadline(), Some(story.now + GRACE));
    story.passes(GRACE);
    assert_eq!(story.all().into_keys().collect::<Vec<_>>(), ["GPU-2", "MIG-0-1-0"]);
    assert_eq!(story.health.next_deadline(), None);
    story.held.clear();
    story.passes(Duration::ZERO);
    assert_eq!(story.all().into_keys().collect::<Vec<_>>(), ["GPU-2"]);
    // A resource that has been offered stays, and is empty.
    assert!(story.health.resources().any(|resource| resource.as_str() == "nvidia.com/mig-2g.20gb"));
}

/// As when a GPU instance is made anew with another profile, and has the same UUID.
#[test]
fn a_device_that_changes_its_resource_is_never_given_twice() {
    let with = |profile| node(vec![divided(0, &[(1, 0, profile)])]);
    let of = |story: &Story, profile: usize| {
        let resource = Resource::of_profile(PROFILES[profile]).unwrap();
        story.health.devices(&resource).into_iter().map(|(_, why)| why).collect::<Vec<_>>()
    };
    let mut story = Story::new();
    story.found(&with(0));
    story.found(&with(1));
    assert_eq!((of(&story, 0), of(&story, 1)), (vec![], vec![None]));
    story.held = set(["MIG-0-1-0"]);
    story.found(&with(2));
    let still = "a pod still has it as nvidia.com/mig-2g.20gb";
    assert_eq!(of(&story, 2), [Some(still.to_owned())]);
    assert_eq!(of(&story, 1), [Some("it is offered as nvidia.com/mig-3g.40gb now".to_owned())]);
    // Back again: the pod has what it had.
    story.found(&with(1));
    assert_eq!((of(&story, 1), of(&story, 2)), (vec![None], vec![]));
    story.found(&with(0));
    story.held.clear();
    story.passes(Duration::ZERO);
    assert_eq!((of(&story, 0), of(&story, 1)), (vec![None], vec![]));
}

/// Capability nodes go by the numbers of the instances, and each slice opens the node of its GPU.
#[test]
fn what_a_pod_can_open_is_given_to_nobody_else() {
    let mut anew = node(vec![divided(0, &[(1, 0, 1), (1, 1, 0), (2, 0, 1)])]);
    let mut story = Story::new();
    story.found(&anew);
    story.held = set(["MIG-0-1-0"]);
    anew.gpus[0].slices[0].uuid = Some("MIG-new".to_owned());
    story.found(&anew);
    assert_eq!(story.healthy(), ["MIG-0-1-1", "MIG-0-2-0"]);
    let why = "a pod that was given MIG-0-1-0, which is gone, can open it too; delete that pod";
    assert_eq!(story.why("MIG-new"), why);
    story.found(&node(vec![whole(0), whole(1)]));
    assert_eq!((story.healthy(), story.why("GPU-0")), (vec!["GPU-1".to_owned()], why.to_owned()));
    story.held.clear();
    story.passes(Duration::ZERO);
    assert_eq!(story.healthy(), ["GPU-0", "GPU-1"]);
}

#[test]
fn the_variables_mean_what_users_know() {
    let xids = |disable, enable| Xids::parse(disable, enable).0;
    let counts = |xids: &Xids, these: [u64; 4]| these.map(|xid| xids.counts(xid));
    let these = [13, 48, 79, 109];
    for (disable, enable, counted, any) in [
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
        let xids = xids(disable, enable);
        assert_eq!(counts(&xids, these), counted, "{disable:?} {enable:?}");
        assert_eq!(xids.any(), any, "{disable:?} {enable:?}");
    }
    let (xids, complaints) = Xids::parse(Some("48,-5,fan"), None);
    assert_eq!((complaints.len(), xids.counts(48)), (2, false));
    assert!(complaints[0].contains("\"-5\""), "{complaints:?}");
}

/// More errors than there are places for.
#[test]
fn a_storm_of_errors_takes_no_memory() {
    let mut story = Story::new();
    story.found(&two_gpus());
    for n in 0..5000 {
        assert!(story.xid(&xid(0, Some(100 + n), Some(n), 48)));
    }
    // They are held against the whole GPU in the end.
    assert_eq!(story.healthy(), ["GPU-2", "MIG-1-1-0"]);
    let size = format!("{:?}", story.health).len();
    assert!(size < 300_000, "{size}");
}

#[derive(Debug, Clone)]
enum Event {
    Found { gpus: Vec<GpuEntry>, is_complete: bool, strategy: Kind },
    Failed { stands: Vec<bool> },
    Error(Xid),
    Hold(Vec<bool>),
    Forgive,
    Pass(u64),
}

const PLACES: [(u32, u32); 4] = [(1, 0), (1, 1), (2, 0), (3, 0)];

fn a_gpu(gpu: usize) -> impl Strategy<Value = Option<GpuEntry>> {
    let slices = prop::collection::vec(prop::option::of(0..PROFILES.len()), PLACES.len());
    (0..8_u8, slices).prop_map(move |(kind, slices)| {
        let slices = PLACES.iter().zip(slices);
        let slices: Vec<_> =
            slices.filter_map(|((gi, ci), profile)| Some((*gi, *ci, profile?))).collect();
        match kind {
            0 => None,
            1 => Some(whole(gpu)),
            _ => Some(divided(gpu, &slices)),
        }
    })
}

fn an_event() -> impl Strategy<Value = Event> {
    let strategies = [Kind::Mixed, Kind::Mixed, Kind::Mixed, Kind::Single];
    let found = (a_gpu(0), a_gpu(1), any::<bool>(), prop::sample::select(strategies.to_vec()));
    let error = (0..3_usize, prop::option::of(0..4_u32), prop::option::of(0..2_u32));
    let number = prop::sample::select(&[13_u64, 48, 79][..]);
    prop_oneof![
        6 => found.prop_map(|(a, b, is_complete, strategy)| {
            Event::Found { gpus: [a, b].into_iter().flatten().collect(), is_complete, strategy }
        }),
        2 => prop::collection::vec(any::<bool>(), 10).prop_map(|stands| Event::Failed { stands }),
        4 => (error, number).prop_map(|((gpu, gi, ci), n)| Event::Error(xid(gpu, gi, ci, n))),
        3 => prop::collection::vec(any::<bool>(), 10).prop_map(Event::Hold),
        1 => Just(Event::Forgive),
        3 => (0..90_u64).prop_map(Event::Pass),
    ]
}

fn every_id() -> Vec<String> {
    let slices = (0..2).flat_map(|gpu| PLACES.map(|(gi, ci)| id(gpu, gi, ci)));
    slices.chain((0..2).map(uuid)).collect()
}

/// A GPU by UUID, and an instance in it.
type Place = (String, Option<(u32, u32)>);

/// What is so by the words of the rules, told the same events.
#[derive(Default)]
struct Model {
    /// What can be handed out, each with GPU and instance.
    current: BTreeMap<(Resource, String), Place>,
    /// Every error there has been since the last that was forgiven.
    ever: Vec<Xid>,
    /// Errors whose place has been there at every look since.
    lasting: Vec<Xid>,
    gpus: BTreeSet<String>,
}

fn covers(error: &Xid, (gpu, instance): &Place) -> bool {
    error.gpu == *gpu
        && match (error.gi, instance) {
            (None, _) | (_, None) => true,
            (Some(gi), Some((in_gi, in_ci))) => {
                gi == *in_gi && error.ci.is_none_or(|ci| ci == *in_ci)
            }
        }
}

impl Model {
    fn found(&mut self, inventory: &Inventory, strategy: Kind) {
        self.gpus = inventory.gpus.iter().filter_map(|gpu| gpu.uuid.clone()).collect();
        let uuids: BTreeMap<_, _> = inventory
            .gpus
            .iter()
            .map(|gpu| (&gpu.pci, gpu.uuid.clone().unwrap_or_default()))
            .collect();
        let offers = offers(inventory, strategy);
        let all = offers.resources.iter();
        let all = all.flat_map(|(resource, list)| list.iter().map(move |offer| (resource, offer)));
        self.current = all
            .map(|(resource, offer)| {
                let place = (uuids[&offer.gpu].clone(), offer.instance);
                ((resource.clone(), offer.id.clone()), place)
            })
            .collect();
        let mut places: Vec<Place> = Vec::new();
        for (gpu, slice) in inventory.slices() {
            places.push((gpu.uuid.clone().unwrap_or_default(), Some((slice.gi, slice.ci))));
        }
        self.lasting.retain(|error| match error.gi {
            None => self.gpus.contains(&error.gpu),
            Some(_) => places.iter().any(|place| covers(error, place)),
        });
    }
}

fn check(health: &Health, model: &Model, held: &BTreeSet<String>) {
    // GPUs of slices that are gone, and that a pod was given.
    let all = health.resources().flat_map(|resource| {
        health.devices(resource).into_iter().map(|(offer, _)| (resource.clone(), offer))
    });
    let left = all.filter(|(resource, offer)| {
        let key = (resource.clone(), offer.id.clone());
        !model.current.contains_key(&key) && offer.instance.is_some() && held.contains(&offer.id)
    });
    let left: BTreeSet<String> = left.map(|(_, offer)| offer.gpu.clone()).collect();
    let mut healthy = BTreeMap::new();
    let mut listed = BTreeSet::new();
    for resource in health.resources() {
        for (offer, why) in health.devices(resource) {
            let key = (resource.clone(), offer.id.clone());
            assert!(listed.insert(key.clone()), "{key:?} is there twice");
            let Some(place) = model.current.get(&key) else {
                assert!(why.is_some(), "{key:?} is gone, and healthy");
                continue;
            };
            let is_twice = health.resources().any(|other| {
                other != resource
                    && health.devices(other).iter().any(|(there, _)| there.id == offer.id)
            });
            match &why {
                None => assert_eq!(healthy.insert(offer.id.clone(), resource.clone()), None),
                Some(why) => {
                    let error = model.ever.iter().any(|error| covers(error, place));
                    let opens = offer.instance.is_none() && left.contains(&offer.gpu);
                    assert!(error || is_twice || opens, "{key:?} is well, and unhealthy: {why}");
                }
            }
            let opens = offer.instance.is_none() && left.contains(&offer.gpu);
            assert!(!opens || why.is_some(), "{key:?} is open to a pod, and healthy");
            let lasting = model.lasting.iter().find(|error| covers(error, place));
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
    fn after_any_story_health_is_what_the_rules_say(events in prop::collection::vec(an_event(), 1..40)) {
        let (mut story, mut model) = (Story::new(), Model::default());
        for event in &events {
            match event {
                Event::Found { gpus, is_complete, strategy } => {
                    let mut inventory = node(gpus.clone());
                    if !is_complete {
                        inventory.problems.push("something".to_owned());
                    }
                    model.found(&inventory, *strategy);
                    let offers = offers(&inventory, *strategy);
                    story.health.found(&inventory, &offers, &story.held, story.now);
                }
                Event::Failed { stands } => {
                    let stands = stands.iter().zip(every_id()).filter(|(stands, _)| **stands);
                    let names: BTreeSet<String> = stands
                        .map(|(_, id)| match id.starts_with("MIG") {
                            true => format!("nvidia.com/mig={id}"),
                            false => format!("nvidia.com/gpu={id}"),
                        })
                        .collect();
                    story.health.failed("why", &names, &story.held, story.now);
                    model.current.retain(|(_, id), _| names.iter().any(|name| name.ends_with(&format!("={id}"))));
                    // What it says of errors is for the other tests.
                    model.lasting.clear();
                }
                Event::Error(error) => {
                    if story.xid(error) {
                        assert!(model.gpus.contains(&error.gpu) && error.xid != 13);
                        let ci = error.gi.and(error.ci);
                        let error = Xid { ci, ..error.clone() };
                        model.ever.push(error.clone());
                        model.lasting.push(error);
                    }
                }
                Event::Hold(held) => {
                    let held = held.iter().zip(every_id()).filter(|(held, _)| **held);
                    story.held = held.map(|(_, id)| id).collect();
                    story.passes(Duration::ZERO);
                }
                Event::Forgive => {
                    story.health.forgive();
                    model.ever.clear();
                    model.lasting.clear();
                }
                Event::Pass(seconds) => story.passes(Duration::from_secs(*seconds)),
            }
            check(&story.health, &model, &story.held);
        }
        // Nothing is kept of what is gone, when no pod has it.
        story.held.clear();
        story.passes(GRACE);
        let left: usize = story.health.resources().map(|r| story.health.devices(r).len()).sum();
        prop_assert_eq!(left, model.current.len());
        prop_assert_eq!(story.health.next_deadline(), None);
    }
}
