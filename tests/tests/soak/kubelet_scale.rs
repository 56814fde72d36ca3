//! `mig-cdi-kubelet` on a large node that changes all the time.

use mig_cdi_sim::SimulatedNode;
use mig_cdi_tests::{
    FakeHost,
    driver::DistributionLayout,
    fake_kubelet::FakeKubelet,
    running_plugin::{RunningPlugin, kubelet_dir},
    watch::until,
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// GPUs of the node. A GPU has at most seven slices, so these are as many as 16 GPUs with 14 each would have.
const GPUS: usize = 32;
const SLICES: usize = 7;
const CHANGES: usize = 200;
/// Interval of the changes: two hundred in a minute.
const EVERY: Duration = Duration::from_millis(300);
/// Limit of the resident memory in KiB, for the build of the tests; `benches/kubelet.rs` measures the release.
const MEMORY: u64 = 64 << 10;
/// Limit of the growth in KiB. A leak of one allocation per change would be far more after [`CHANGES`].
const GROWTH: u64 = 4 << 10;

const RESOURCE: &str = "nvidia.com/mig-1g.10gb";

fn description(slots: &[bool]) -> String {
    let gpu = |(number, slots): (usize, &[bool])| {
        let instance = |(slot, is): (usize, &bool)| {
            let line = format!("{{ profile = \"1g.10gb\", start = {slot}, id = {} }},", 7 + slot);
            if *is { line } else { String::new() }
        };
        let instances: String = slots.iter().enumerate().map(instance).collect();
        let pci = number + 1;
        format!(
            "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:{pci:02x}:00.0\"\ninstances = [{instances}]\n"
        )
    };
    slots.chunks(SLICES).enumerate().map(gpu).collect()
}

/// Returns the UUIDs of all slices.
fn all_uuids(description: &str) -> BTreeSet<String> {
    let node = SimulatedNode::parse(description).unwrap();
    let instances = node.gpus.iter().flat_map(|gpu| &gpu.instances);
    instances.flat_map(|gi| &gi.compute).map(|ci| ci.uuid.to_string()).collect()
}

#[test]
fn two_hundred_changes_in_a_minute_are_all_advertised() {
    let mut slots = [true; GPUS * SLICES];
    let host = FakeHost::with_driver(&description(&slots), DistributionLayout::Debian);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::start(&host, &[]);
    kubelet.until_counts("all", &[("mig-1g.10gb", GPUS * SLICES)]);
    let (mut memory, mut files, mut slowest) = (0, 0, Duration::ZERO);
    let begin = Instant::now();
    for change in 0..CHANGES {
        // A prime, so that every GPU has its turn. Sometimes three changes at once, of which two may be noticed as
        // one.
        for step in 0..if change % 8 == 7 { 3 } else { 1 } {
            let slot = (change * 3 + step) * 37 % slots.len();
            slots[slot] = !slots[slot];
            host.change_to(&description(&slots));
        }
        let uuids = all_uuids(&description(&slots));
        let took = until(&format!("change {change}"), || kubelet.healthy(RESOURCE) == uuids);
        slowest = slowest.max(took);
        if change == 0 {
            (memory, files) = (plugin.memory("VmHWM"), plugin.open_files());
        }
        let next = EVERY * u32::try_from(change + 1).unwrap();
        std::thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    let (minutes, peak) = (begin.elapsed().as_secs_f64() / 60.0, plugin.memory("VmHWM"));
    println!(
        "{CHANGES} changes in {minutes:.1} min, slowest {slowest:?}, {memory} KiB, then {peak} KiB"
    );
    assert!(peak < MEMORY && peak < memory + GROWTH, "{memory} KiB, then {peak} KiB");
    until("as few open files as before", || plugin.open_files() <= files);
    assert!(kubelet.lists(RESOURCE).len() > CHANGES);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}
