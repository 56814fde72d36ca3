//! Cost of `mig-cdi-kubelet` on a node of 8 GPUs with 7 slices each: memory, the time of Allocate, and the time from
//! a change to the list that advertises it: `cargo bench -p mig-cdi-tests --features plugin --bench kubelet`.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    BASE, FakeHost,
    driver::DistributionLayout,
    fake_api_server::FakeApiServer,
    fake_kubelet::FakeKubelet,
    running_plugin::{RunningPlugin, kubelet_dir},
    watch::until,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    fs,
    time::{Duration, Instant},
};

const CHANGES: usize = 60;
const ALLOCATIONS: usize = 2000;
const RESOURCE: &str = "nvidia.com/mig-1g.10gb";

/// Poll interval of watch in milliseconds, the default of `--interval`. Changes are spread over the interval.
const INTERVAL: u64 = 170;

fn main() {
    in_memory();
    let preset_text = preset("dgx-a100").expect("a preset");
    println!("Polling, on a DGX A100:");
    measure(preset_text, &[], false);
    println!("\nDriver events, on the same machine with H100s:");
    measure(&preset_text.replace("a100-80gb", "h100-80gb"), &["--driver-events"], false);
    println!("\nPolling, and connected to a cluster (by plain HTTP):");
    measure(preset_text, &[], true);
}

/// Puts the files in memory, where `/run/cdi` and `/proc` are on a machine: no run waits for a disk that others use.
fn in_memory() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; run it as root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    fs::create_dir_all(BASE).expect("make a directory");
    mount(Some("tmpfs"), BASE, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("tmpfs");
}

fn measure(whole: &str, watch: &[&str], joined: bool) {
    let (before, after) = whole.rsplit_once("{ profile").expect("an instance");
    let rest = &after[after.find('}').expect("its end") + 1..];
    let fewer = format!("{before}{}", rest.trim_start_matches(','));
    let host = FakeHost::with_driver(whole, DistributionLayout::Debian);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let file = FakeApiServer::start("node-1").kubeconfig(host.out().parent().expect("a directory"));
    let cluster =
        ["--node-name=node-1", "--node-labels", &format!("--kubeconfig={}", file.display())];
    let plugin = RunningPlugin::with(&host, if joined { &cluster } else { &[] }, watch, &[]);
    kubelet.until_counts("all", &[("mig-1g.10gb", 56)]);
    if !watch.is_empty() {
        let status = host.out().with_file_name("state").join("status.json");
        let is_covered = || fs::read_to_string(&status).is_ok_and(|text| text.contains("\"all\""));
        until("driver events cover all gpus", is_covered);
    }
    // For two seconds after a refresh every poll is a full scan (docs/watch.md).
    std::thread::sleep(Duration::from_secs(5));
    memory("idle", &plugin);
    allocate(&kubelet);
    changes(&host, &kubelet, [&fewer, whole]);
    memory("after these changes", &plugin);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

fn memory(when: &str, plugin: &RunningPlugin) {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let rollup =
        fs::read_to_string(format!("/proc/{}/smaps_rollup", plugin.pid())).expect("it runs");
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a figure");
    let pss = pss.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("KiB");
    let [resident, anonymous, peak] = ["VmRSS", "RssAnon", "VmHWM"].map(|name| plugin.memory(name));
    println!(
        "{when}: {:.1} MiB resident (of that {:.1} its own, the rest pages of the program), PSS {:.1}, peak {:.1}",
        mib(resident),
        mib(anonymous),
        mib(pss),
        mib(peak)
    );
}

fn allocate(kubelet: &FakeKubelet) {
    let ids = Vec::from_iter(kubelet.healthy(RESOURCE));
    let allocate_one = |round: usize| {
        let begin = Instant::now();
        let answer = kubelet.allocate(RESOURCE, &[&[&ids[round % ids.len()]]]).expect("a slice");
        assert_eq!(answer.container_responses.len(), 1);
        begin.elapsed().as_secs_f64() * 1e3
    };
    print_times("Allocate", (0..ALLOCATIONS).map(allocate_one).collect());
}

fn changes(host: &FakeHost, kubelet: &FakeKubelet, states: [&str; 2]) {
    let change = |round: usize| {
        host.change_to(states[round % 2]);
        let begin = Instant::now();
        until("the list", || kubelet.healthy(RESOURCE).len() == 55 + round % 2);
        let time = begin.elapsed().as_secs_f64() * 1e3;
        // The step is coprime to the interval, so that changes fall on every part of it equally often.
        std::thread::sleep(Duration::from_millis(2 * INTERVAL + (round as u64 * 37) % INTERVAL));
        time
    };
    print_times("from a change to the list that advertises it", (0..CHANGES).map(change).collect());
}

fn print_times(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}, {} times: min {:.2} ms, median {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}",
        times.len(),
        at(0.0),
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
}
