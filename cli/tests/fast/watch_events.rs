//! `mig-cdi watch --driver-events`: the driver reports changes where a listener does no harm, no GPU is held open
//! where it would, and the spec stays current whatever happens to the listener.

use mig_cdi_tests::{
    FakeHost,
    watch::{Watch, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// Poll interval that is longer than any test.
const RARELY: &str = "--interval=100000";

fn gpu(model: &str, pci: &str, rest: &str) -> String {
    format!("[[gpu]]\nmodel = \"{model}\"\npci = \"0000:{pci}:00.0\"\n{rest}\n")
}

fn instances(profiles: &[&str]) -> String {
    let instance = |profile: &&str| format!("{{ profile = \"{profile}\" }},");
    format!("instances = [{}]", profiles.iter().map(instance).collect::<String>())
}

fn h100(profiles: &[&str]) -> String {
    gpu("h100-80gb", "07", &instances(profiles))
}

/// Watch with driver events, and its output.
struct EventWatch {
    // Dropped in this order: a running watch would write its status into the directory that is removed.
    watch: Watch,
    host: FakeHost,
    log: PathBuf,
}

impl EventWatch {
    fn start(description: &str, args: &[&str]) -> EventWatch {
        let host = FakeHost::new(description);
        host.install();
        let log = host.out().with_file_name("log");
        let words = [&["--driver-events"], args].concat();
        let watch = Watch::start_with(&host, &words, |command| {
            command.stderr(fs::File::create(&log).unwrap());
        });
        let watched = EventWatch { host, watch, log };
        watched.until_spec_current("the first spec");
        watched
    }

    fn until_spec_current(&self, what: &str) {
        let current = self.host.current_spec();
        until(what, || self.host.read_spec() == current);
    }

    fn change_node(&self, description: &str, what: &str) {
        self.host.change_to(description);
        self.until_spec_current(what);
    }

    fn until_logged(&self, line: &str) {
        until(line, || fs::read_to_string(&self.log).unwrap().contains(line));
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.watch.status()).unwrap_or_default()
    }

    fn until_coverage(&self, coverage: &str) {
        until(&format!("driver_events is {coverage}"), || {
            self.status()["driver_events"] == coverage
        });
    }

    fn listener(&self) -> Option<i32> {
        self.status()["listener"].as_i64().map(|pid| pid.try_into().unwrap())
    }
}

/// Returns whether a process has ended; a zombie counts as ended.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

fn children(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
}

fn has_nvml_open(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("libnvidia-ml")
}

#[test]
fn a_driver_event_reports_a_change_before_any_poll() {
    let watched = EventWatch::start(&h100(&["2g.20gb"]), &[RARELY]);
    watched.until_coverage("all");
    for (round, profiles) in
        [&["2g.20gb", "3g.40gb"][..], &["3g.40gb"], &["1g.10gb", "1g.10gb", "1g.10gb"], &[]]
            .into_iter()
            .enumerate()
    {
        watched.change_node(&h100(profiles), &format!("{profiles:?}"));
        until("the events are counted", || {
            watched.status()["told_changes"].as_u64() > Some(round as u64)
        });
    }
    let listener = watched.listener().unwrap();
    assert!(has_nvml_open(listener), "the listener has nvml open");
    assert!(!has_nvml_open(watched.watch.pid()), "watch itself has not");
    let state = format!("--state-dir={}", watched.watch.state_dir().display());
    let run = watched.host.run(&["status", &state]);
    assert!(run.stdout.contains("changes of all gpus"), "{}", run.stdout);
    assert_eq!(watched.watch.stop(), Some(0));
    until("the listener is gone", || is_gone(listener));
}

/// On Ampere a client that has the GPU open would keep a change of MIG mode pending.
#[test]
fn on_ampere_no_gpu_is_held_open() {
    let a100 = |profiles: &[&str]| gpu("a100-80gb", "07", &instances(profiles));
    let watched = EventWatch::start(&a100(&["2g.20gb"]), &[]);
    watched.until_logged("no gpu can send driver events");
    until("no gpu is covered", || watched.status()["driver_events"] == "nobody");
    assert_eq!(children(watched.watch.pid()), "");
    assert!(!has_nvml_open(watched.watch.pid()));
    assert_eq!((watched.listener(), watched.status()["refreshes"].as_u64()), (None, Some(1)));
    watched.change_node(&a100(&["3g.40gb"]), "the change is found by polling");
    assert_eq!(watched.status()["told_changes"], 0);
    until("the refresh was the last process", || children(watched.watch.pid()).is_empty());
    assert!(!has_nvml_open(watched.watch.pid()));
}

/// A mode change is not reported by an event, and changes the events to register for.
#[test]
fn a_change_without_an_event_is_found_by_polling() {
    let watched = EventWatch::start(&h100(&["2g.20gb"]), &[]);
    watched.until_coverage("all");
    let listener = watched.listener();
    watched.change_node(&gpu("h100-80gb", "07", "mig = false"), "MIG mode is off");
    assert_eq!(watched.host.read_spec(), None);
    assert_eq!(watched.status()["told_changes"], 0);
    until("no gpu is covered", || watched.status()["driver_events"] == "nobody");
    until("the listener has ended", || listener.is_some_and(is_gone));
    watched.change_node(&h100(&["3g.40gb"]), "MIG mode is on");
    watched.until_coverage("all");
    assert_ne!(watched.listener(), listener);
}

/// One of two GPUs sends events, and the other is polled as often as without events.
#[test]
fn gpus_with_and_without_events_can_be_mixed() {
    let both = |h: &[&str], a: &[&str]| h100(h) + &gpu("a100-80gb", "0f", &instances(a));
    let watched = EventWatch::start(&both(&["2g.20gb"], &["2g.20gb"]), &[]);
    watched.until_coverage("some");
    watched.change_node(&both(&["3g.40gb"], &["2g.20gb"]), "the H100 has changed");
    watched.change_node(&both(&["3g.40gb"], &["1g.10gb"]), "the A100 has changed");
    until("one event is counted", || watched.status()["told_changes"] == 1);
}

#[test]
fn the_spec_follows_when_the_listener_dies() {
    let watched = EventWatch::start(&h100(&["2g.20gb"]), &[]);
    watched.until_coverage("all");
    let first = watched.listener().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    watched.until_logged("the listener process has ended; next try in 1 s");
    watched.change_node(&h100(&["3g.40gb"]), "polling after the listener died");
    watched.until_coverage("all");
    let second = watched.listener().unwrap();
    assert_ne!(first, second);
    // SIGTERM is the request to release the driver: the listener ends at once.
    kill(Pid::from_raw(second), Signal::SIGTERM).unwrap();
    until("it has ended", || is_gone(second));
    watched.change_node(&h100(&["1g.10gb"]), "polling after the listener was stopped");
    until("another listener starts", || watched.listener().is_some_and(|pid| pid != second));
    watched.until_coverage("all");
    let third = watched.listener();
    watched.watch.signal(Signal::SIGHUP);
    until("a reload starts another listener", || {
        let now = watched.listener();
        now.is_some() && now != third && watched.status()["driver_events"] == "all"
    });
    until("the one before ends", || third.is_some_and(is_gone));
    // The end of watch is the end of the listener too.
    let last = watched.listener().unwrap();
    watched.watch.signal(Signal::SIGKILL);
    until("the listener ends with watch", || is_gone(last));
}

/// NVML reports to a waiting client that a GPU has fallen off the bus.
#[test]
fn a_lost_gpu_sends_no_event() {
    let watched = EventWatch::start(&h100(&["2g.20gb"]), &["--resync=1"]);
    watched.until_coverage("all");
    watched.change_node(&(h100(&["2g.20gb"]) + "lost = true"), "it is lost");
    watched.until_logged("cannot wait for events: the gpu has fallen off the bus");
    until("no gpu is covered", || watched.status()["driver_events"] == "nobody");
    watched.change_node(&h100(&["2g.20gb", "3g.40gb"]), "it is back");
    watched.until_coverage("all");
}

/// Driver events as a setting, which a reload can disable.
#[test]
fn driver_events_are_also_a_setting() {
    let host = FakeHost::new(&h100(&["2g.20gb"]));
    host.install();
    let set = |on| {
        fs::write(host.config(), format!("capabilities = \"none\"\ndriver-events = {on}\n"))
            .unwrap();
    };
    set(true);
    let watch = Watch::start(&host, &[]);
    let status = || serde_json::from_str::<Value>(&watch.status()).unwrap_or_default();
    until("driver events cover all gpus", || status()["driver_events"] == "all");
    let listener = status()["listener"].as_i64().unwrap().try_into().unwrap();
    set(false);
    watch.signal(Signal::SIGHUP);
    until("driver events are off", || status()["driver_events"].is_null());
    assert!(is_gone(listener));
    assert_eq!(watch.stop(), Some(0));
}
