//! `mig-cdi watch` on a node that changes at random for a long time, with readers that read at all times and writers
//! that are killed at any moment. A failure prints the seed: SOAK_SEED repeats it.

use container_device_interface::spec::read_spec;
use mig_cdi_tests::{
    FakeHost,
    deadline::{StopOnDrop, wait},
    podman::{Podman, VARIANTS},
    watch::{Watch, until},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const STEPS: usize = 500;
const KILLS: usize = 200;

/// xorshift generator, which a seed can repeat.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let seed = std::env::var("SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(u64::try_from(now % 1_000_000_007).unwrap() + 1);
        println!("SOAK_SEED={seed}");
        Random(seed)
    }

    /// Returns a number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Two GPUs that can each be partitioned into four 1g.10gb and one 3g.40gb.
#[derive(Clone, Default)]
struct Machine {
    unloaded: bool,
    caps_major: u64,
    gpus: [Gpu; 2],
}

#[derive(Clone, Default)]
struct Gpu {
    whole: bool,
    lost: bool,
    slots: [bool; 5],
}

impl Machine {
    fn description(&self) -> String {
        if self.unloaded {
            return "driver = \"580.105.08\"\n[majors]\nnvidia = 0\nnvidia-caps = 0\nnvidia-uvm = 0\n\
                    [faults]\nnvml = \"driver-not-loaded\"\n"
                .to_owned();
        }
        let mut text = format!("[majors]\nnvidia-caps = {}\n", 508 - self.caps_major);
        for (index, Gpu { whole, lost, slots }) in self.gpus.iter().enumerate() {
            let instance = |slot: usize| match slot {
                4 => "{ profile = \"3g.40gb\", start = 4, id = 2 },".to_owned(),
                _ => format!("{{ profile = \"1g.10gb\", start = {slot}, id = {} }},", 7 + slot),
            };
            let instances: String = (0..5).filter(|slot| slots[*slot]).map(instance).collect();
            let pci = 7 + index;
            text += &format!(
                "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:{pci:02x}:00.0\"\nmig = {}\nlost = {lost}\n",
                !whole
            );
            text += &format!("instances = [{}]\n", if *whole { "" } else { &instances });
        }
        text
    }

    /// Makes a random change as administrators, tools and hardware do.
    fn change(&mut self, random: &mut Random) {
        if self.unloaded {
            *self = Machine { caps_major: random.below(4), ..Machine::default() };
            return;
        }
        let gpu = &mut self.gpus[usize::try_from(random.below(2)).unwrap()];
        match random.below(50) {
            0 => self.unloaded = true,
            1 => gpu.lost = !gpu.lost,
            2 | 3 => *gpu = Gpu { whole: !gpu.whole, ..Gpu::default() },
            4 => *self = Machine { caps_major: (self.caps_major + 1) % 4, ..Machine::default() },
            _ => {
                let slot = &mut gpu.slots[usize::try_from(random.below(5)).unwrap()];
                *slot = !*slot;
            }
        }
    }
}

/// Returns the capability minors of all instances, from the driver's own table.
fn table(host: &FakeHost) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(host.path("/proc/driver/nvidia-caps/mig-minors")).unwrap();
    let row = |line: &str| {
        let (name, minor) = line.split_once(' ').unwrap();
        (name.to_owned(), minor.parse().unwrap())
    };
    text.lines().map(row).collect()
}

/// Asserts that a spec has no incomplete device and no node of another slice.
fn check(text: &str, table: &BTreeMap<String, u64>, copy: &Path) {
    fs::write(copy, text).unwrap();
    read_spec(&copy.to_owned(), 0).unwrap_or_else(|e| panic!("{e:#}: {text}"));
    let spec: Value = serde_json::from_str(text).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let common = list(&spec["containerEdits"]["deviceNodes"]);
    assert_eq!(common.len(), 3, "{text}");
    for device in list(&spec["devices"]) {
        let edits = &device["containerEdits"];
        let mut nodes = vec![];
        for variable in list(&edits["env"]) {
            let name = variable.as_str().unwrap().split('=').next().unwrap();
            let id: Vec<_> = name.trim_start_matches("MIG_CDI_DEVICE_").split('_').collect();
            let gi = format!("gpu{}/gi{}", id[0], id[1]);
            nodes.push(format!("/dev/nvidia{}", id[0]));
            nodes.push(cap(table[&format!("{gi}/access")]));
            nodes.push(cap(table[&format!("{gi}/ci{}/access", id[2])]));
        }
        let path = |node: &Value| node["path"].as_str().unwrap().to_owned();
        let mut found: Vec<_> = list(&edits["deviceNodes"]).iter().map(path).collect();
        for list in [&mut nodes, &mut found] {
            list.sort();
            list.dedup();
        }
        assert_eq!(found, nodes, "{device}");
    }
}

fn cap(minor: u64) -> String {
    format!("/dev/nvidia-caps/nvidia-cap{minor}")
}

fn read(host: &FakeHost) -> Option<String> {
    match fs::read_to_string(host.spec()) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_spec_stays_current_through_random_changes() {
    let mut random = Random::new();
    let mut machine = Machine::default();
    let host = FakeHost::with_nodes(&machine.description());
    host.install();
    let (table, copy) = (table(&host), host.out().with_file_name("copy.json"));
    let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let watch = Watch::start(&host, &["--resync=1"]);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let _stop = StopOnDrop(&stop);
            let mut last = None;
            while !stop.load(Relaxed) {
                let now = read(&host);
                if let (Some(text), true) = (&now, now != last) {
                    check(text, &table, &copy);
                }
                last = now;
                reads.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let containers = scope.spawn(|| start_containers(&host, &stop));
        for step in 0..STEPS {
            // A thread that fails ends the others.
            if stop.load(Relaxed) {
                break;
            }
            for _ in 0..=random.below(3) {
                machine.change(&mut random);
                host.change_to(&machine.description());
                // Less time than a refresh takes, so that changes happen in every stage of one.
                std::thread::sleep(Duration::from_millis(random.below(30)));
            }
            let current = host.current_spec();
            until(&format!("step {step}: {}", machine.description()), || read(&host) == current);
        }
        stop.store(true, Relaxed);
        let (started, refused) = containers.join().unwrap();
        println!("{} reads, {started} containers, {refused} refused", reads.load(Relaxed));
        assert!(started > 0 && reads.load(Relaxed) > STEPS);
    });
    assert_eq!(watch.stop(), Some(0));
    assert_eq!(files(&host), [".mig-cdi.lock", "nvidia.com-mig.json"][..files(&host).len()]);
}

/// Starts containers with a current slice, one after the other: each has its whole slice, or does not start because
/// the slice has been destroyed.
fn start_containers(host: &FakeHost, stop: &AtomicBool) -> (usize, usize) {
    let _stop = StopOnDrop(stop);
    let podman = Podman::new(VARIANTS[1]);
    let script = format!(
        "mkdir -p /var/run/cdi
        mount --bind {} /var/run/cdi
        name=$(grep -o 'MIG-[0-9a-f-]*\"' /var/run/cdi/nvidia.com-mig.json | head -1 | tr -d '\"') || exit 3
        $PODMAN $RUN --device nvidia.com/mig=$name --rootfs $ROOTFS probe || exit 4",
        host.out().display()
    );
    let (mut started, mut refused) = (0, 0);
    while !stop.load(Relaxed) {
        let run = podman.script(host, &script);
        let nodes = run.stdout.matches("ENXIO").count();
        match run.code {
            0 => {
                assert_eq!(
                    (nodes, run.stdout.matches("/dev/nvidia-caps/").count()),
                    (6, 2),
                    "{}",
                    run.stdout
                );
                started += 1;
            }
            3 => {}
            _ => {
                let gone = ["unresolvable CDI devices", "no such file"];
                assert!(gone.iter().any(|why| run.stderr.contains(why)), "{}", run.stderr);
                refused += 1;
            }
        }
    }
    (started, refused)
}

fn files(host: &FakeHost) -> Vec<String> {
    let entries = fs::read_dir(host.out()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_writer_leaves_the_old_or_the_new_spec() {
    let mut random = Random::new();
    let mut machine = Machine::default();
    machine.gpus[0].slots = [true, true, false, false, true];
    let host = FakeHost::with_nodes(&machine.description());
    host.install();
    let output = format!("--output={}", host.spec().display());
    let mut specs = [None, None];
    for current in &mut specs {
        machine.gpus[0].slots[2] ^= true;
        host.change_to(&machine.description());
        *current = host.current_spec();
    }
    host.generate(&[]).assert_code(0);
    let (mut old, mut new) = (0, 0);
    for kill in 0..KILLS {
        machine.gpus[0].slots[2] ^= true;
        host.change_to(&machine.description());
        let before = read(&host);
        let mut command = host.command(&["generate", &output]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        // From before main to after the end of a run.
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        // It may have ended.
        let _ = child.kill();
        wait(&mut child);
        let now = read(&host);
        assert!(specs.contains(&now) && now.is_some(), "kill {kill}: {now:?}");
        if now == before { old += 1 } else { new += 1 }
    }
    println!("{KILLS} kills: {old} times the old spec, {new} times the new");
    // The next start removes leftovers.
    let watch = Watch::start(&host, &[]);
    let current = host.current_spec();
    until("a current spec", || read(&host) == current);
    until("no stray file", || files(&host) == [".mig-cdi.lock", "nvidia.com-mig.json"]);
    assert_eq!(watch.stop(), Some(0));
}
