//! Cost of `mig-cdi generate`, of the whole process, on fake hosts of growing size: `cargo bench -p mig-cdi-tests`.
//!
//! Quote the ratios: to `cat` of the same driver files on the same machine, and from one size to the next. Absolute
//! times depend on the machine.

use mig_cdi_tests::{FakeHost, driver::DistributionLayout};
use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 21;

fn main() {
    println!(
        "gpus x devices | wall ms  min  x cat | us per device | peak MiB | system calls | opens of one driver file"
    );
    let sizes = [(1, 7), (2, 7), (4, 7), (8, 7), (16, 7), (32, 7), (8, 14), (32, 14)];
    let mut per_device = Vec::new();
    for (gpus, devices) in sizes {
        let figures = measure(gpus, devices);
        per_device.push(((gpus, devices), figures.per_device));
    }
    let (_, small) = per_device[0];
    println!();
    for ((gpus, devices), cost) in &per_device[1..] {
        println!("cost of a device at {gpus} x {devices}: {:.2} of that at 1 x 7", cost / small);
    }
}

struct Figures {
    per_device: f64,
}

fn measure(gpus: u32, devices: u32) -> Figures {
    let model = if devices > 7 { "limit" } else { "a100-80gb" };
    let profile = if devices > 7 { "1g.1gb" } else { "1g.10gb" };
    let instances = format!("{{ profile = \"{profile}\" }},").repeat(devices as usize);
    let gpu = |i: u32| {
        format!(
            "[[gpu]]\nmodel = \"{model}\"\npci = \"0000:{:02x}:00.0\"\ninstances = [{instances}]\n",
            i + 1
        )
    };
    let host =
        FakeHost::with_driver(&(0..gpus).map(gpu).collect::<String>(), DistributionLayout::Debian);
    let spec = host.spec().display().to_string();
    let generate = || {
        let mut command = host.command(&["generate", "-o", &spec]);
        command.stderr(Stdio::null());
        command
    };
    let files = driver_files(&host);
    let cat = || {
        let mut command = Command::new("cat");
        command.args(&files).stdout(Stdio::null());
        command
    };
    let (mut of_generate, mut of_cat) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        // Each run writes: an unchanged spec would cost less.
        let _ = fs::remove_file(host.spec());
        of_generate.push(time(generate()));
        of_cat.push(time(cat()));
    }
    let (wall, min) = (median(&mut of_generate), of_generate[0]);
    let ratio = wall.as_secs_f64() / median(&mut of_cat).as_secs_f64();
    let per_device = wall.as_secs_f64() * 1e6 / f64::from(gpus * devices);
    let _ = fs::remove_file(host.spec());
    let peak = peak_kib(generate());
    let _ = fs::remove_file(host.spec());
    let (calls, opens) = trace(&host, generate());
    println!(
        "{gpus:4} x {devices:2}      | {:7.2} {:5.2} {ratio:5.1} | {per_device:13.1} | {:8.2} | {calls:12} | {opens}",
        wall.as_secs_f64() * 1e3,
        min.as_secs_f64() * 1e3,
        peak as f64 / 1024.0,
    );
    Figures { per_device }
}

fn time(mut command: Command) -> Duration {
    let start = Instant::now();
    assert!(command.status().expect("it starts").success());
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Returns the files that are read: every text file of the fake /proc.
fn driver_files(host: &FakeHost) -> Vec<std::path::PathBuf> {
    let mut dirs = vec![host.path("/proc")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in
            fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() { dirs.push(entry) } else { files.push(entry) }
        }
    }
    files
}

/// Returns the largest resident set in KiB, as the kernel accounts it.
fn peak_kib(command: Command) -> u64 {
    let output = wrapped("/usr/bin/time", &["-f", "%M"], &command)
        .stderr(Stdio::piped())
        .output()
        .expect("time(1) runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().last().and_then(|line| line.trim().parse().ok()).expect("time(1) prints a number")
}

/// Returns the number of system calls, and the most opens of one driver file.
fn trace(host: &FakeHost, command: Command) -> (usize, usize) {
    let log = host.root().join("strace.log");
    let status = wrapped("strace", &["-f", "-o", log.to_str().expect("UTF-8")], &command).status();
    assert!(status.expect("strace runs").success());
    let text = fs::read_to_string(&log).expect("a log");
    fs::remove_file(log).expect("the log is ours");
    let mut opens: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("openat2(") && line.contains("\"proc/")) {
        *opens.entry(line.split('"').nth(1).expect("a path")).or_default() += 1;
    }
    (text.lines().count(), opens.into_values().max().unwrap_or_default())
}

fn wrapped(tool: &str, args: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(tool);
    outer.args(args).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        outer.env(key, value.expect("set, not removed"));
    }
    outer.stderr(Stdio::null());
    outer
}
