//! `mig-cdi watch --health`: Xid errors that the driver reports, for every GPU, with their instance.

use mig_cdi_tests::{
    FakeHost,
    watch::{Watch, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

fn gpu(model: &str, pci: &str, rest: &str) -> String {
    format!("[[gpu]]\nmodel = \"{model}\"\npci = \"0000:{pci}:00.0\"\n{rest}\n")
}

const SLICES: &str = "instances = [{ profile = \"2g.20gb\" }, { profile = \"3g.40gb\" }]";

fn a100(rest: &str) -> String {
    gpu("a100-80gb", "0f", rest)
}

fn h100(rest: &str) -> String {
    gpu("h100-80gb", "07", rest)
}

/// Watch with `--health`, and its output.
struct HealthWatch {
    // Dropped in this order: a running watch would write its status into the directory that is removed.
    watch: Watch,
    host: FakeHost,
    log: PathBuf,
}

impl HealthWatch {
    fn start(description: &str, args: &[&str]) -> HealthWatch {
        let host = FakeHost::new(description);
        host.install();
        let log = host.out().with_file_name("log");
        let words = [&["--health"], args].concat();
        let watch = Watch::start_with(&host, &words, |command| {
            command.stderr(File::create(&log).unwrap());
        });
        HealthWatch { host, watch, log }
    }

    /// Injects an error of the GPU with this index.
    fn inject_error(&self, gpu: usize, xid: u64, instance: &str) {
        let file = self.host.out().with_file_name("node.toml.xids");
        let mut file = File::options().append(true).create(true).open(file).unwrap();
        writeln!(file, "{gpu} {xid} {instance}").unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn until_logged(&self, line: &str) {
        until(line, || self.log().contains(line));
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.watch.status()).unwrap_or_default()
    }

    fn until_coverage(&self, coverage: &str) {
        until(&format!("driver_errors is {coverage}"), || {
            self.status()["driver_errors"] == coverage
        });
    }

    fn uuid(&self, pci: &str) -> String {
        let path = format!("/proc/driver/nvidia/gpus/0000:{pci}:00.0/information");
        let text = fs::read_to_string(self.host.path(&path)).unwrap();
        let line = text.lines().find(|line| line.starts_with("GPU UUID")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    }
}

#[test]
fn xid_errors_are_reported_with_their_instance() {
    let node = h100(SLICES) + &a100(SLICES) + &gpu("a100-80gb", "47", "mig = false");
    let watched = HealthWatch::start(&node, &[]);
    watched.until_coverage("all");
    let status = watched.status();
    assert_eq!(status["driver_events"], "some", "changes of the H100 alone");
    let [first, second, third] = ["07", "0f", "47"].map(|pci| watched.uuid(pci));
    watched.inject_error(0, 48, "1 0");
    watched.until_logged(&format!("the driver reports xid 48 on {first}, gi 1 ci 0; see dmesg"));
    watched.inject_error(1, 94, "2 -");
    watched.until_logged(&format!("the driver reports xid 94 on {second}, gi 2; see dmesg"));
    watched.inject_error(2, 62, "- -");
    watched.until_logged(&format!("the driver reports xid 62 on {third}; see dmesg"));
    // A burst of errors, none of which is lost.
    (100..150).for_each(|xid| watched.inject_error(1, xid, "1 0"));
    (100..150).for_each(|xid| watched.until_logged(&format!("xid {xid} on {second}, gi 1 ci 0")));
    assert_eq!(watched.log().matches("the driver reports xid").count(), 53);
    let state = format!("--state-dir={}", watched.watch.state_dir().display());
    let run = watched.host.run(&["status", &state]);
    assert!(
        run.stdout.contains("changes of some gpus, 0 so far; critical errors of all gpus"),
        "{}",
        run.stdout
    );
    assert_eq!(watched.watch.stop(), Some(0));
}

/// A GPU that an operator wants to reset is closed, and opened again after the reset.
#[test]
fn a_gpu_that_needs_a_reset_is_released() {
    let (on, off) = (a100(SLICES), a100("mig = false"));
    let watched = HealthWatch::start(&(h100(SLICES) + &on), &["--resync=1"]);
    watched.until_coverage("all");
    let pending = a100(&format!("mig-pending = false\n{SLICES}"));
    watched.host.change_to(&(h100(SLICES) + &pending));
    watched.until_logged("a gpu waits to be reset for another mig mode: stopped listening to it");
    watched.until_coverage("some");
    watched.inject_error(0, 48, "1 0");
    watched.until_logged("the driver reports xid 48");
    watched.inject_error(1, 63, "1 0");
    watched.host.change_to(&(h100(SLICES) + &off));
    watched.until_coverage("all");
    watched.inject_error(1, 64, "- -");
    watched.until_logged("the driver reports xid 64");
    assert!(!watched.log().contains("xid 63"), "the gpu was released then");
}

/// Without another GPU, nothing is held open at all.
#[test]
fn a_gpu_that_needs_a_reset_at_the_start_is_never_opened() {
    let pending = a100(&format!("mig-pending = false\n{SLICES}"));
    let watched = HealthWatch::start(&pending, &["--resync=1"]);
    watched.until_logged("no gpu can send driver events");
    until("there is no listener", || watched.status()["listener"].is_null());
    assert_eq!(watched.status()["driver_errors"], "nobody");
    watched.host.change_to(&a100("mig = false"));
    watched.until_coverage("all");
}

/// A lost GPU does not change the capability tree: the end of the listener causes the full scan.
#[test]
fn a_lost_gpu_is_noticed_at_once_and_others_still_report() {
    let node = h100(SLICES) + &a100(SLICES);
    let watched = HealthWatch::start(&node, &["--resync=86400"]);
    watched.until_coverage("all");
    watched.host.change_to(&(h100(SLICES) + &a100(&format!("lost = true\n{SLICES}"))));
    let devices = || watched.status()["devices"].as_array().map(Vec::len);
    until("its slices are gone", || devices() == Some(2));
    watched.until_coverage("some");
    watched.inject_error(0, 48, "1 0");
    watched.until_logged("the driver reports xid 48");
}

#[test]
fn without_the_flag_no_error_event_is_registered() {
    let host = FakeHost::new(&a100(SLICES));
    host.install();
    let watch = Watch::start(&host, &["--driver-events"]);
    let status = || serde_json::from_str::<Value>(&watch.status()).unwrap_or_default();
    until("no gpu is covered", || status()["driver_events"] == "nobody");
    until("there is no listener", || status()["listener"].is_null());
    assert!(status()["driver_errors"].is_null());
    watch.signal(Signal::SIGHUP);
    assert_eq!(watch.stop(), Some(0));
}
