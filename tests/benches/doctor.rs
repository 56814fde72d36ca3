//! Cost of `mig-cdi doctor`, of the whole process, with specs of growing size: `cargo bench -p mig-cdi-tests --bench doctor`.
//!
//! Quote the cost of a device from one size to the next: it shows what grows faster than the spec. Absolute times depend on the
//! machine.

use mig_cdi_tests::mig_cdi;
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

const RUNS: usize = 7;

fn main() {
    println!("devices | format | doctor ms | doctor NAME ms | us per device");
    for format in ["json", "yaml"] {
        for devices in [1_000, 10_000, 100_000] {
            measure(devices, format);
        }
    }
}

fn measure(devices: usize, format: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let specs = dir.path().join("cdi");
    fs::create_dir(&specs).expect("make a directory");
    fs::write(specs.join(format!("a.{format}")), spec(devices, format)).expect("write a spec");
    let config = dir.path().join("config.toml");
    fs::write(&config, format!("spec-dirs = [{specs:?}]\n")).expect("write settings");
    let flags = ["--node=a100-80gb", &format!("--config={}", config.display())];
    // The engines of this machine are of no interest.
    let root = format!("--host-root={}", dir.path().display());
    let all = median(|| time(&[&["doctor", &root], &flags[..]].concat()));
    let name = median(|| time(&[&["doctor", "a.com/bb=d1", &root], &flags[..]].concat()));
    let per_device = all.as_secs_f64() * 1e6 / devices as f64;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{devices:7} | {format:6} | {:9.1} | {:14.1} | {per_device:13.2}",
        milliseconds(all),
        milliseconds(name)
    );
}

fn spec(devices: usize, format: &str) -> String {
    let node = |i: usize| format!("/dev/nvidia-caps/nvidia-cap{}", i % 500);
    let device = |i: usize| match format {
        "json" => format!(
            r#"{{"name":"d{i}","containerEdits":{{"deviceNodes":[{{"path":"{}","major":508,"minor":{}}}]}}}}"#,
            node(i),
            i % 500
        ),
        _ => format!(
            "- name: d{i}\n  containerEdits:\n    deviceNodes:\n    - path: {}\n      major: 508\n      minor: {}\n",
            node(i),
            i % 500
        ),
    };
    let all: Vec<_> = (0..devices).map(device).collect();
    match format {
        "json" => {
            let all = all.join(",");
            format!(r#"{{"cdiVersion":"0.5.0","kind":"a.com/bb","devices":[{all}]}}"#)
        }
        _ => format!("cdiVersion: 0.5.0\nkind: a.com/bb\ndevices:\n{}", all.concat()),
    }
}

fn time(args: &[&str]) -> Duration {
    let mut command = mig_cdi(args);
    let start = Instant::now();
    // It exits with 1: nodes of these specs belong to no slice.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert_eq!(status.code(), Some(1));
    start.elapsed()
}

fn median(run: impl Fn() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times[RUNS / 2]
}
