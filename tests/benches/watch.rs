//! What `mig-cdi watch` costs while nothing happens, and how long it takes from a change to a new spec, on
//! a node of 8 GPUs with 7 slices each: `cargo bench -p mig-cdi-tests --bench watch`.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    driver::Layout,
    watch::{Watch, until},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

const CHANGES: usize = 101;
const IDLE: Duration = Duration::from_secs(30);

fn main() {
    let whole = preset("dgx-a100").expect("a preset");
    let (before, after) = whole.rsplit_once("{ profile").expect("an instance");
    let fewer = format!(
        "{before}{}",
        &after[after.find('}').expect("its end") + 1..].trim_start_matches(',')
    );
    let host = FakeHost::with_driver(whole, Layout::Debian);
    host.install();
    let watch = Watch::run(&host, &[], |command| {
        command.stderr(std::process::Stdio::null());
    });
    until("the first spec", || host.read_spec().is_some());
    std::thread::sleep(Duration::from_secs(2));
    idle(&watch);
    latency(&host, [&fewer, whole]);
    println!("resident {:.1} MiB after that", resident(&watch));
    assert_eq!(watch.stop(), Some(0));
}

fn idle(watch: &Watch) {
    let file =
        |name: &str| fs::read_to_string(format!("/proc/{}/{name}", watch.pid())).expect("it runs");
    let busy = || -> f64 {
        let text = file("schedstat");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
    };
    let wakeups = || -> f64 {
        let text = file("status");
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt"));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).expect("a number")
    };
    let (busy_before, wakeups_before, begin) = (busy(), wakeups(), Instant::now());
    std::thread::sleep(IDLE);
    let time = begin.elapsed().as_secs_f64();
    let share = (busy() - busy_before) / 1e9 / time * 100.0;
    let rate = (wakeups() - wakeups_before) / time;
    let resident = resident(watch);
    println!(
        "idle: {share:.3} % of a core, {rate:.1} wakeups per second, {resident:.1} MiB resident"
    );
    println!("for scale, a thread that wakes as often and does nothing: {:.3} %", sleeper(rate));
}

/// What waking up costs on this machine.
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

fn resident(watch: &Watch) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/status", watch.pid())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("KiB") / 1024.0
}

fn latency(host: &FakeHost, states: [&str; 2]) {
    let mark = || fs::metadata(host.spec()).map(|metadata| metadata.ino()).ok();
    let mut times = Vec::with_capacity(CHANGES);
    for round in 0..CHANGES {
        let old = mark();
        host.morph(states[round % 2]);
        let begin = Instant::now();
        until("a new spec", || mark() != old && mark().is_some());
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        // So that changes come at every moment of the interval.
        std::thread::sleep(Duration::from_millis(300 + (round as u64 * 37) % 160));
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
