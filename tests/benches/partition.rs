//! Cost of partitioning GPUs, of the whole process, on a fake host of 8 GPUs with 7 slices each, with the refresh of
//! spec and device nodes: `cargo bench -p mig-cdi-tests --bench partition`.
//!
//! Quote the ratios to `mig-cdi list` on the same host, which asks NVML for every slice once.

use mig_cdi_tests::{partition_host::PartitionHost, run};
use std::time::{Duration, Instant};

const RUNS: usize = 15;

fn main() {
    let host = PartitionHost::new(&"[[gpu]]\nmodel = \"a100-80gb\"\n".repeat(8));
    let file = host.fake.path("/layouts.yaml");
    let text = "version: v1\nmig-configs:\n  all:\n    - devices: all\n      mig-enabled: true\n      mig-devices:\n        1g.10gb: 7\n";
    std::fs::write(&file, text).expect("write the layout file");
    let file = file.display().to_string();
    let layout = ["-f", &file, "-c", "all"];
    let apply = [&["apply"], &layout[..]].concat();
    let mut made = Vec::new();
    let mut destroyed = Vec::new();
    for _ in 0..RUNS {
        made.push(time(&host, &apply));
        destroyed.push(time(&host, &["apply", "all=none"]));
    }
    host.run_ok(&apply);
    let base = median((0..RUNS).map(|_| time(&host, &["list"])).collect());
    let show = |what: &str, times: Vec<Duration>| {
        let ms = median(times);
        println!("{what:<40} {ms:7.2} ms  {:5.2} x list", ms / base);
    };
    println!("{:<40} {base:7.2} ms", "list");
    show("apply, 8 x 7 slices made", made);
    show("apply, 8 x 7 slices destroyed", destroyed);
    let again = |args: &[&str]| (0..RUNS).map(|_| time(&host, args)).collect();
    show("apply, nothing to do", again(&apply));
    show("plan, nothing to do", again(&[&["plan"], &layout[..]].concat()));
    show("plan, all slices recreated", again(&["plan", "all=7g.80gb"]));
    show("assert", again(&[&["assert"], &layout[..]].concat()));
    show("export", again(&["export"]));
    show("profiles", again(&["profiles"]));
}

fn time(host: &PartitionHost, args: &[&str]) -> Duration {
    let mut command = host.command(args);
    let begin = Instant::now();
    let ended = run(&mut command);
    let time = begin.elapsed();
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    time
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}
