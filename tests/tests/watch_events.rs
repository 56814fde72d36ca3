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
struct Told {
    host: FakeHost,
    watch: Watch,
    log: PathBuf,
}

impl Told {
    fn start(description: &str, args: &[&str]) -> Told {
        let host = FakeHost::new(description);
        host.install();
        let log = host.out().with_file_name("log");
        let words = [&["--driver-events"], args].concat();
        let watch = Watch::run(&host, &words, |command| {
            command.stderr(fs::File::create(&log).unwrap());
        });
        let told = Told { host, watch, log };
        told.follows("the first spec");
        told
    }

    fn follows(&self, what: &str) {
        let truth = self.host.truth();
        until(what, || self.host.read_spec() == truth);
    }

    fn becomes(&self, description: &str, what: &str) {
        self.host.morph(description);
        self.follows(what);
    }

    fn says(&self, line: &str) {
        until(line, || fs::read_to_string(&self.log).unwrap().contains(line));
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.watch.status()).unwrap_or_default()
    }

    fn hears(&self, whom: &str) {
        until(&format!("it hears {whom}"), || self.status()["driver_events"] == whom);
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
    let told = Told::start(&h100(&["2g.20gb"]), &[RARELY]);
    told.hears("all");
    for (round, profiles) in
        [&["2g.20gb", "3g.40gb"][..], &["3g.40gb"], &["1g.10gb", "1g.10gb", "1g.10gb"], &[]]
            .into_iter()
            .enumerate()
    {
        told.becomes(&h100(profiles), &format!("{profiles:?}"));
        until("it counts them", || told.status()["told_changes"].as_u64() > Some(round as u64));
    }
    let listener = told.listener().unwrap();
    assert!(has_nvml_open(listener), "somebody has to");
    assert!(!has_nvml_open(told.watch.pid()), "watch has not");
    let state = format!("--state-dir={}", told.watch.state_dir().display());
    let run = told.host.run(&["status", &state]);
    assert!(run.stdout.contains("changes of all gpus"), "{}", run.stdout);
    assert_eq!(told.watch.stop(), Some(0));
    until("the listener is gone", || is_gone(listener));
}

/// On Ampere a client that has the GPU open would keep a change of MIG mode pending.
#[test]
fn on_ampere_no_gpu_is_held_open() {
    let a100 = |profiles: &[&str]| gpu("a100-80gb", "07", &instances(profiles));
    let told = Told::start(&a100(&["2g.20gb"]), &[]);
    told.says("no gpu can send driver events");
    until("it has said so", || told.status()["driver_events"] == "nobody");
    assert_eq!(children(told.watch.pid()), "");
    assert!(!has_nvml_open(told.watch.pid()));
    assert_eq!((told.listener(), told.status()["refreshes"].as_u64()), (None, Some(1)));
    told.becomes(&a100(&["3g.40gb"]), "it is looked for");
    assert_eq!(told.status()["told_changes"], 0);
    until("the refresh was the last process", || children(told.watch.pid()).is_empty());
    assert!(!has_nvml_open(told.watch.pid()));
}

/// A mode change is not reported by an event, and changes the events to register for.
#[test]
fn a_change_without_an_event_is_found_by_polling() {
    let told = Told::start(&h100(&["2g.20gb"]), &[]);
    told.hears("all");
    let listener = told.listener();
    told.becomes(&gpu("h100-80gb", "07", "mig = false"), "the mode is off");
    assert_eq!(told.host.read_spec(), None);
    assert_eq!(told.status()["told_changes"], 0);
    until("there is nothing to listen to", || told.status()["driver_events"] == "nobody");
    until("its process is gone", || listener.is_some_and(is_gone));
    told.becomes(&h100(&["3g.40gb"]), "the mode is on");
    told.hears("all");
    assert_ne!(told.listener(), listener);
}

/// One of two GPUs sends events, and the other is polled as often as without events.
#[test]
fn gpus_with_and_without_events_can_be_mixed() {
    let both = |h: &[&str], a: &[&str]| h100(h) + &gpu("a100-80gb", "0f", &instances(a));
    let told = Told::start(&both(&["2g.20gb"], &["2g.20gb"]), &[]);
    told.hears("some");
    told.becomes(&both(&["3g.40gb"], &["2g.20gb"]), "that of the H100");
    told.becomes(&both(&["3g.40gb"], &["1g.10gb"]), "that of the A100");
    until("one was told", || told.status()["told_changes"] == 1);
}

#[test]
fn the_spec_follows_when_the_listener_dies() {
    let told = Told::start(&h100(&["2g.20gb"]), &[]);
    told.hears("all");
    let first = told.listener().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    told.says("the listener process has ended; next try in 1 s");
    told.becomes(&h100(&["3g.40gb"]), "nobody tells");
    told.hears("all");
    let second = told.listener().unwrap();
    assert_ne!(first, second);
    // A request to release the driver ends the listener at once.
    kill(Pid::from_raw(second), Signal::SIGTERM).unwrap();
    until("it has ended", || is_gone(second));
    told.becomes(&h100(&["1g.10gb"]), "nobody tells again");
    until("another listens", || told.listener().is_some_and(|pid| pid != second));
    told.hears("all");
    let third = told.listener();
    told.watch.signal(Signal::SIGHUP);
    until("a reload starts it anew", || {
        let now = told.listener();
        now.is_some() && now != third && told.status()["driver_events"] == "all"
    });
    assert!(third.is_some_and(is_gone));
    // The end of watch is the end of the listener too.
    let last = told.listener().unwrap();
    told.watch.signal(Signal::SIGKILL);
    until("it is gone with watch", || is_gone(last));
}

/// NVML reports to a waiting client that a GPU has fallen off the bus.
#[test]
fn a_lost_gpu_sends_no_event() {
    let told = Told::start(&h100(&["2g.20gb"]), &["--resync=1"]);
    told.hears("all");
    told.becomes(&(h100(&["2g.20gb"]) + "lost = true"), "it is lost");
    told.says("nvmlEventSetWait_v2: the gpu has fallen off the bus");
    until("nobody tells", || told.status()["driver_events"] == "nobody");
    told.becomes(&h100(&["2g.20gb", "3g.40gb"]), "it is back");
    told.hears("all");
}

/// As a setting, which a reload can disable.
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
    until("it listens", || status()["driver_events"] == "all");
    let listener = status()["listener"].as_i64().unwrap().try_into().unwrap();
    set(false);
    watch.signal(Signal::SIGHUP);
    until("it does not", || status()["driver_events"].is_null());
    assert!(is_gone(listener));
    assert_eq!(watch.stop(), Some(0));
}
