//! Cost of `mig-cdi watch` while nothing changes, and time from a change to a new spec, on a node of 8 GPUs with 7
//! slices each, by polling and by driver events: `cargo bench -p mig-cdi-tests --bench watch`.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    BASE, FakeHost,
    driver::DistributionLayout,
    watch::{Watch, until},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

const CHANGES: usize = 101;
const IDLE: Duration = Duration::from_secs(30);

/// Poll interval of watch in milliseconds, the default of `--interval`. Changes are spread over the interval.
const INTERVAL: u64 = 170;

fn main() {
    in_memory();
    let preset_text = preset("dgx-a100").expect("a preset");
    println!("Polling, on a DGX A100:");
    measure(preset_text, &[]);
    println!("\nDriver events, on the same machine with H100s:");
    measure(&preset_text.replace("a100-80gb", "h100-80gb"), &["--driver-events"]);
}

/// Puts the files in memory, where `/run/cdi` and `/proc` are on every machine: no run waits for a disk that others
/// use.
fn in_memory() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; run it as root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    fs::create_dir_all(BASE).expect("make a directory");
    mount(Some("tmpfs"), BASE, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("tmpfs");
}

fn measure(whole: &str, args: &[&str]) {
    let (before, after) = whole.rsplit_once("{ profile").expect("an instance");
    let fewer = format!(
        "{before}{}",
        &after[after.find('}').expect("its end") + 1..].trim_start_matches(',')
    );
    let host = FakeHost::with_driver(whole, DistributionLayout::Debian);
    host.install();
    let watch = Watch::start_with(&host, args, |command| {
        command.stderr(std::process::Stdio::null());
    });
    until("the first spec", || host.read_spec().is_some());
    if !args.is_empty() {
        until("driver events cover all gpus", || watch.status().contains("\"all\""));
    }
    // For two seconds after a refresh every poll is a full scan (docs/watch.md), which would count as idle.
    std::thread::sleep(Duration::from_secs(3));
    let own = u32::try_from(watch.pid()).expect("a pid");
    let listener = children(own);
    let rate = idle("watch", own);
    listener.iter().for_each(|pid| _ = idle("listener process", *pid));
    println!("for scale, a thread that wakes as often and does nothing: {:.3} %", sleeper(rate));
    latency(&host, [&fewer, whole]);
    println!("resident {:.1} MiB after these changes", resident(own));
    assert_eq!(watch.stop(), Some(0));
}

fn file(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it runs")
}

fn children(pid: u32) -> Vec<u32> {
    let text = file(pid, &format!("task/{pid}/children"));
    text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// Prints the cost of a process, and returns its wake-ups per second.
fn idle(what: &str, pid: u32) -> f64 {
    let busy = || -> f64 {
        let text = file(pid, "schedstat");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
    };
    let wakeups = || -> f64 {
        let text = file(pid, "status");
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt"));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).expect("a number")
    };
    let (busy_before, wakeups_before, begin) = (busy(), wakeups(), Instant::now());
    std::thread::sleep(IDLE);
    let time = begin.elapsed().as_secs_f64();
    let share = (busy() - busy_before) / 1e9 / time * 100.0;
    let rate = (wakeups() - wakeups_before) / time;
    let resident = resident(pid);
    println!(
        "idle, {what}: {share:.3} % of a core, {rate:.1} wakeups per second, {resident:.1} MiB resident"
    );
    rate
}

/// Returns the cost of waking up on this machine.
fn sleeper(rate: f64) -> f64 {
    let busy = || -> f64 {
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("it runs");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
    };
    let (before, begin) = (busy(), Instant::now());
    while begin.elapsed() < IDLE {
        std::thread::sleep(Duration::from_secs_f64(1.0 / rate));
    }
    (busy() - before) / 1e9 / begin.elapsed().as_secs_f64() * 100.0
}

fn resident(pid: u32) -> f64 {
    let text = file(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("KiB") / 1024.0
}

fn latency(host: &FakeHost, states: [&str; 2]) {
    let mark = || fs::metadata(host.spec()).map(|metadata| metadata.ino()).ok();
    let mut times = Vec::with_capacity(CHANGES);
    for round in 0..CHANGES {
        let old = mark();
        host.change_to(states[round % 2]);
        let begin = Instant::now();
        until("a new spec", || mark() != old && mark().is_some());
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        // The step is coprime to the interval, so that changes fall on every part of it equally often.
        std::thread::sleep(Duration::from_millis(2 * INTERVAL + (round as u64 * 37) % INTERVAL));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "from a change to a new spec, {CHANGES} times: min {:.0} ms, median {:.0}, p90 {:.0}, max {:.0}",
        at(0.0),
        at(0.5),
        at(0.9),
        at(1.0)
    );
}
