//! The fake driver through its C functions: return codes of nvml.h, state shared between processes, and injected
//! faults. `sim_partitioning.rs` tests the rules of MIG themselves.

use mig_cdi_sim::{ProcTree, SimulatedNode};
use mig_cdi_tests::{
    FakeHost, build_dir, deadline::kill_and_wait, fake_nvml, hook::feed, nvml_call::Caller, run,
};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const INVALID_ARGUMENT: u32 = 2;
const NOT_SUPPORTED: u32 = 3;
const NOT_FOUND: u32 = 6;
const GPU_IS_LOST: u32 = 15;
const IN_USE: u32 = 19;
const INSUFFICIENT_RESOURCES: u32 = 23;
const VERSION_MISMATCH: u32 = 25;

fn gpu(model: &str, keys: &str) -> String {
    format!("[[gpu]]\nmodel = \"{model}\"\n{keys}\n")
}

fn node(host: &FakeHost) -> SimulatedNode {
    let text = fs::read_to_string(host.env().1).unwrap();
    SimulatedNode::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Returns the capability tree of the host: directories, and files with their content.
fn capabilities(host: &FakeHost) -> BTreeMap<String, Option<Vec<u8>>> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("/{}", path.strip_prefix(root).unwrap().display());
            if path.is_dir() {
                found.insert(name, None);
                walk(root, &path, found);
            } else {
                found.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&host.root(), &host.path("/proc/driver/nvidia/capabilities"), &mut found);
    found
}

/// Asserts that the host's tree is that of its description, with no other file beside it.
fn assert_tree_matches(host: &FakeHost) {
    let tree = ProcTree::of(&node(host));
    let mut expected = BTreeMap::new();
    let files = tree.files.iter().map(|(path, content)| (path, Some(content.clone())));
    for (path, content) in files.chain(tree.dirs.iter().map(|dir| (dir, None))) {
        let Some(rest) = path.strip_prefix("/proc/driver/nvidia/capabilities/") else { continue };
        for (end, _) in rest.match_indices('/') {
            let dir = &path[..path.len() - rest.len() + end];
            expected.entry(dir.to_owned()).or_insert(None);
        }
        expected.insert(path.clone(), content);
    }
    similar_asserts::assert_eq!(capabilities(host), expected);
    let beside = fs::read_dir(host.root().parent().unwrap()).unwrap();
    let mut names: Vec<_> =
        beside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !["cdi", "config.toml", "root"].contains(&name.as_str()));
    names.sort();
    assert!(names == ["node.toml", "node.toml.lock"] || names == ["node.toml"], "{names:?}");
    let lock = fs::read(format!("{}.lock", host.env().1.display())).unwrap_or_default();
    assert!(lock.is_empty() || lock[8] == 0, "no change is under way");
}

/// Small pseudo-random generator.
fn random(state: &mut u64, sides: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32 % sides
}

/// Returns a random call that changes something or is refused.
fn any_change(seed: &mut u64, gpus: u32) -> String {
    let (gpu, ci, start) = (random(seed, gpus), random(seed, 2), random(seed, 7));
    let gi = [1, 2, 3, 4, 7, 8, 9][random(seed, 7) as usize];
    let (profile, size) = [(19, 1), (14, 2), (9, 4), (5, 4), (15, 2)][random(seed, 5) as usize];
    match random(seed, 21) {
        0..=3 => format!("create {gpu} {profile}"),
        4..=5 => format!("create {gpu} {profile} {start} {size}"),
        6..=10 => format!("ci-create {gpu} {gi} {}", random(seed, 3)),
        11..=15 => format!("ci-destroy {gpu} {gi} {ci}"),
        16..=19 => format!("destroy {gpu} {gi}"),
        _ => format!("set-mode {gpu} {}", u32::from(random(seed, 4) > 0)),
    }
}

#[test]
fn profiles_and_placements_are_reported_as_by_nvml() {
    let gpus =
        [gpu("a100-80gb", ""), gpu("rtx-pro-6000", ""), gpu("a30", "mig = false"), gpu("l40s", "")];
    let host = FakeHost::new(&gpus.concat());
    let mut nvml = Caller::new(&host);
    for (line, answer) in [
        ("profile 0 0", "19 1 7 9728"),
        ("profile 0 9", "15 1 4 19968"),
        ("profile 0 0 2", "19 7 MIG 1g.10gb"),
        ("profile 0 7 3", "20 1 MIG 1g.10gb+me 0"),
        ("profile 0 2 3", "9 2 MIG 3g.40gb 0"),
        ("profile 1 10 3", "47 4 MIG 1g.24gb+gfx 2"),
        ("profile 1 16 3", "64 1 MIG 2g.48gb+me.all 0"),
        ("profile 2 1", "5 2 2 11970"),
        ("places 0 9", "0:4 4:4"),
        ("places 2 14", "0:1 1:1 2:1 3:1"),
        ("remaining 0 14", "3"),
        ("pci 0", "0x20B210DE 0x146310DE 7 00000000:07:00.0"),
        ("pci 3", "0x26B910DE 0x185110DE 31 00000000:1f:00.0"),
        ("mode 2", "0 0"),
    ] {
        assert_eq!(nvml.get(line), answer, "{line}");
    }
    for (line, code) in [
        ("profile 0 17", INVALID_ARGUMENT),
        ("profile 0 10", NOT_SUPPORTED),
        ("profile 0 0 1", VERSION_MISMATCH),
        ("profile 0 0 4", VERSION_MISMATCH),
        ("profile 2 0 3", NOT_SUPPORTED),
        ("profile 3 0", NOT_SUPPORTED),
        ("places 0 7", NOT_SUPPORTED),
        ("remaining 2 14", NOT_SUPPORTED),
        ("remaining 9 14", INVALID_ARGUMENT),
        ("list 2 14", NOT_SUPPORTED),
        ("list 0 1", INVALID_ARGUMENT),
        ("create 2 14", NOT_SUPPORTED),
        ("create 0 1", INVALID_ARGUMENT),
        ("create 0 9 2 4", INVALID_ARGUMENT),
        ("create 0 9 0 3", INVALID_ARGUMENT),
        ("info 0 1", NOT_FOUND),
        ("info 2 1", NOT_SUPPORTED),
        ("set-mode 3 1", NOT_SUPPORTED),
        ("set-mode 0 2", INVALID_ARGUMENT),
    ] {
        assert_eq!(nvml.code(line), code, "{line}");
    }
}

#[test]
fn instances_are_created_listed_and_destroyed() {
    let host = FakeHost::new(&gpu("a100-80gb", ""));
    let mut nvml = Caller::new(&host);
    for (line, answer) in [
        ("create 0 9", Ok("1")),
        ("create 0 19 0 1", Ok("7")),
        ("create 0 9", Err(INSUFFICIENT_RESOURCES)),
        ("create 0 19 0 1", Err(INSUFFICIENT_RESOURCES)),
        ("remaining 0 19", Ok("3")),
        ("list 0 19", Ok("7")),
        ("list 0 14", Ok("")),
        ("info 0 1", Ok("1 9 4:4")),
        ("ci-profile 0 1 1 0", Ok("1 2 1")),
        ("ci-profile 0 1 1 0 2", Ok("1 2 MIG 2c.3g.40gb")),
        ("ci-profile 0 1 2 0 3", Ok("2 3 MIG 3g.40gb")),
        ("ci-profile 0 1 3 0", Err(NOT_SUPPORTED)),
        ("ci-profile 0 1 8 0", Err(INVALID_ARGUMENT)),
        ("ci-profile 0 1 0 1", Err(INVALID_ARGUMENT)),
        ("ci-profile 0 1 0 0 4", Err(VERSION_MISMATCH)),
        ("ci-places 0 1 1", Ok("0:2 1:2")),
        ("ci-places 0 1 3", Err(NOT_SUPPORTED)),
        ("ci-remaining 0 1 0", Ok("3")),
        ("ci-create 0 1 0 2 1", Ok("0")),
        ("ci-create 0 1 1", Ok("1")),
        ("ci-create 0 1 0", Err(INSUFFICIENT_RESOURCES)),
        ("ci-create 0 1 3", Err(NOT_SUPPORTED)),
        ("ci-create 0 1 0 3 1", Err(INVALID_ARGUMENT)),
        ("ci-list 0 1 1", Ok("1")),
        ("ci-info 0 1 1", Ok("1 1 0:2")),
        ("ci-info 0 1 5", Err(NOT_FOUND)),
        ("destroy 0 1", Err(IN_USE)),
        ("set-mode 0 0", Err(IN_USE)),
        ("ci-destroy 0 1 0", Ok("")),
        // The caller has kept its handle, which now refers to nothing.
        ("ci-destroy 0 1 0", Err(INVALID_ARGUMENT)),
        ("ci-info 0 1 1", Ok("1 1 0:2")),
        ("destroy 0 7", Ok("")),
        ("destroy 0 7", Err(INVALID_ARGUMENT)),
        ("ci-destroy 0 1 1", Ok("")),
        ("destroy 0 1", Ok("")),
        ("set-mode 0 0", Ok("0")),
        ("mode 0", Ok("0 0")),
    ] {
        let (code, value) = nvml.call(line).unwrap();
        let result = if code == 0 { Ok(value.as_str()) } else { Err(code) };
        assert_eq!(result, answer, "{line}");
        assert_tree_matches(&host);
    }
    assert_eq!(nvml.get("shutdown"), "");
    assert_eq!(nvml.code("mode 0"), 1, "uninitialized");
}

#[test]
fn calls_on_used_lost_and_forbidden_gpus_fail_with_their_codes() {
    let instances = "instances = [{ profile = \"1g.10gb\" }, { profile = \"3g.40gb\", compute = [\"1c\", \"1c\"] }]";
    let processes = "processes = [{ pid = 11, gi = 1, ci = 1 }, { pid = 12, gi = 7, ci = 0 }, \
                     { pid = 13, gi = 1, kind = \"graphics\" }, { pid = 14, gi = 1, ci = 1 }]";
    let gpus = [
        gpu("a100-80gb", &format!("{instances}\n{processes}")),
        gpu("a100-80gb", "lost = true"),
        gpu("a100-80gb", "held = true"),
    ];
    let host = FakeHost::new(&gpus.concat());
    let mut nvml = Caller::new(&host);
    for (line, answer) in [
        ("processes 0 0 0", Ok("3 needed")),
        ("processes 0 0 2", Ok("3 needed")),
        ("processes 0 0 9", Ok("11:1:1 12:7:0 14:1:1")),
        ("processes 0 1 9", Ok("13:1:-1")),
        ("processes 0 2 0", Ok("")),
        ("mig-processes 0 1 0 9", Ok("11:1:1 14:1:1")),
        ("mig-processes 0 0 0 9", Ok("")),
        ("ci-destroy 0 1 1", Err(IN_USE)),
        ("ci-destroy 0 1 0", Ok("")),
        ("destroy 0 7", Err(IN_USE)),
        ("mode 1", Err(GPU_IS_LOST)),
        ("create 1 9", Err(GPU_IS_LOST)),
        // Pending until the process that has the GPU open closes it: nvml.h's activation status.
        ("set-mode 2 0", Ok("19")),
        ("mode 2", Ok("1 0")),
    ] {
        let (code, value) = nvml.call(line).unwrap();
        let result = if code == 0 { Ok(value.as_str()) } else { Err(code) };
        assert_eq!(result, answer, "{line}");
    }
    assert_tree_matches(&host);
}

#[test]
fn changes_are_visible_to_other_processes() {
    let host = FakeHost::new(&gpu("a100-80gb", "").repeat(2));
    let (mut one, mut two) = (Caller::new(&host), Caller::new(&host));
    assert_eq!(one.get("create 0 9 0 4"), "1");
    assert_eq!(one.get("ci-create 0 1 2"), "0");
    // The other process has not read the state since. When it changes something, it sees every change.
    assert_eq!(two.code("info 0 1"), NOT_FOUND);
    assert_eq!(two.code("create 0 9 0 4"), INSUFFICIENT_RESOURCES);
    assert_eq!(two.get("create 0 9"), "2");
    assert_eq!(two.get("info 0 1"), "1 9 0:4");
    assert_eq!(two.get("ci-destroy 0 1 0"), "");
    assert_eq!(two.get("destroy 0 1"), "");
    // A handle of an instance that the other process has destroyed.
    assert_eq!(one.code("destroy 0 1"), INVALID_ARGUMENT);
    assert_eq!(one.get("shutdown") + &one.get("init") + &one.get("list 0 9"), "2");
    // A test replaces the description.
    host.replace_node(&gpu("a30", ""));
    assert_eq!(two.code("create 0 9"), INVALID_ARGUMENT);
    assert_eq!(two.get("create 0 14"), "3");
    assert_tree_matches(&host);
}

/// A program with an empty environment finds the description through the link beside the library.
#[test]
fn a_change_through_a_symlink_changes_its_target() {
    let host = FakeHost::new(&gpu("a100-80gb", ""));
    let library = host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    let link = format!("{}.toml", library.display());
    let mut command = Command::new(build_dir().join("nvml-call"));
    command.env_clear().arg(&library);
    let run = feed(&mut command, b"init\ncreate 0 9\nci-create 0 1 2\n");
    assert_eq!(run.stdout, "0 \n0 1\n0 0\n", "{}", run.stderr);
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    assert_eq!(node(&host).gpus[0].instances[0].compute.len(), 1);
    assert_tree_matches(&host);
}

/// Concurrent processes, each as fast as it can: no change is lost, and none is done twice.
#[test]
fn concurrent_processes_lose_no_change() {
    let host = FakeHost::new(&gpu("a100-80gb", "").repeat(4));
    std::thread::scope(|scope| {
        for gpu in 0..4 {
            let host = &host;
            scope.spawn(move || {
                let mut nvml = Caller::new(host);
                for _ in 0..6 {
                    let ids: Vec<_> =
                        (0..7).map(|_| nvml.get(&format!("create {gpu} 19"))).collect();
                    for id in &ids {
                        nvml.get(&format!("ci-create {gpu} {id} 0"));
                    }
                    for id in ids {
                        nvml.get(&format!("ci-destroy {gpu} {id} 0"));
                        nvml.get(&format!("destroy {gpu} {id}"));
                    }
                }
                nvml.get(&format!("create {gpu} 0"));
            });
        }
    });
    let profiles: Vec<_> =
        node(&host).gpus.iter().map(|gpu| gpu.instances[0].profile.name).collect();
    assert_eq!(profiles, ["7g.80gb"; 4]);
    assert_tree_matches(&host);
}

#[test]
fn the_description_and_the_capability_tree_agree() {
    let mut seed = 3;
    let host =
        FakeHost::new(&[gpu("a100-80gb", "minor = 4"), gpu("h100-80gb", "minor = 2")].concat());
    let mut callers = [Caller::new(&host), Caller::new(&host)];
    let (mut done, mut tried) = (0, 0);
    while done < 500 {
        let line = any_change(&mut seed, 2);
        done += u32::from(callers[random(&mut seed, 2) as usize].code(&line) == 0);
        tried += 1;
        if tried % 20 == 0 {
            assert_tree_matches(&host);
        }
    }
    assert_tree_matches(&host);
    println!("{done} changes of {tried} tried (seed 3)");
}

/// After a kill at any time the description can be read, and the next process repairs the tree.
#[test]
fn the_next_process_completes_a_killed_change() {
    let mut seed = 5;
    let host = FakeHost::new(&gpu("a100-80gb", "").repeat(2));
    let mut interrupted = 0;
    for turn in 0..60 {
        let mut lines = String::from("init\n");
        (0..4000).for_each(|_| lines += &(any_change(&mut seed, 2) + "\n"));
        let mut command = Command::new(build_dir().join("nvml-call"));
        command.env_clear().arg(fake_nvml()).envs([host.env()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        // By then the process has loaded the library, and makes changes.
        std::thread::sleep(Duration::from_micros(3000 + u64::from(random(&mut seed, 20_000))));
        kill_and_wait(&mut child);
        drop(writer.join());
        drop(node(&host));
        let lock = fs::read(format!("{}.lock", host.env().1.display())).unwrap_or_default();
        interrupted += u32::from(lock.last() == Some(&1));
        let mut next = Caller::new(&host);
        if turn % 2 == 0 {
            next.call(&any_change(&mut seed, 2)).unwrap();
        }
        assert_tree_matches(&host);
    }
    println!("{interrupted} of 60 were killed in the middle of a change (seed 5)");
}

/// The incomplete trees that a change leaves at each of its steps.
#[test]
fn every_incomplete_tree_is_repaired() {
    let host =
        FakeHost::new(&gpu("a100-80gb", "instances = [{ profile = \"3g.40gb\", start = 0 }]"));
    drop(Caller::new(&host).get("create 0 19"));
    let lock = format!("{}.lock", host.env().1.display());
    let mig = host.path("/proc/driver/nvidia/capabilities/gpu0/mig");
    let scratch = host.root().parent().unwrap().join("capabilities.new");
    let breaks: [&dyn Fn(); 7] = [
        &|| fs::remove_dir_all(mig.join("gi1")).unwrap(),
        &|| fs::remove_dir_all(mig.join("gi1/ci0")).unwrap(),
        &|| fs::create_dir_all(mig.join("gi9/ci3")).unwrap(),
        &|| fs::write(mig.join("gi1/access"), "").unwrap(),
        &|| fs::remove_file(mig.join("gi1/ci0/access")).unwrap(),
        &|| fs::create_dir_all(scratch.join("ci0")).unwrap(),
        &|| fs::write(&scratch, "half").unwrap(),
    ];
    for (turn, damage) in breaks.iter().cycle().take(14).enumerate() {
        let mut before = Caller::new(&host);
        damage();
        let mut bytes = fs::read(&lock).unwrap();
        bytes[8] = 1;
        fs::write(&lock, bytes).unwrap();
        match turn % 2 {
            0 => drop(Caller::new(&host)),
            _ => assert_eq!(before.code("create 0 0"), INSUFFICIENT_RESOURCES),
        }
        assert_tree_matches(&host);
    }
}

fn exported() -> Vec<String> {
    let listed = run(Command::new("nm").args(["-D", "--defined-only"]).arg(fake_nvml()));
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let names = listed.stdout.lines().filter_map(|line| line.split_whitespace().last());
    names.filter(|name| name.starts_with("nvml")).map(str::to_owned).collect()
}

/// Each function accepts null pointers, and none skips the injected faults.
#[test]
fn every_function_counts_its_calls_and_accepts_null_pointers() {
    let host = FakeHost::new(&gpu("a100-80gb", ""));
    let trace = host.root().join("trace");
    let environment = [("FAKE_NVML_TRACE", trace.to_str().unwrap())];
    let mut nvml = Caller::with(&host, &environment);
    nvml.get("init");
    let mut names = exported();
    assert!(names.len() >= 40, "{names:?}");
    names.sort_by_key(|name| name == "nvmlShutdown");
    let codes = nvml.get(&format!("every {}", names.join(" ")));
    let codes: Vec<_> = codes.split(' ').collect();
    let traced: Vec<_> =
        names.iter().zip(&codes).map(|(name, code)| format!("{name} {code}")).collect();
    let written = fs::read_to_string(&trace).unwrap();
    similar_asserts::assert_eq!(written, format!("nvmlInit_v2 0\n{}\n", traced.join("\n")));
    for (name, code) in names.iter().zip(codes) {
        let bare = ["nvmlInit_v2", "nvmlShutdown"].contains(&name.as_str());
        assert_eq!(code == "0", bare, "{name} with nothing but nulls gave {code}");
    }
}

#[test]
fn faults_are_injected_on_request() {
    let host = FakeHost::new(&gpu("a100-80gb", ""));
    // Each `create` is three calls: handle, create, info. The first call of the process is init.
    let create = |nvml: &mut Caller| nvml.call("create 0 19").map(|(code, _)| code);
    let trace = host.root().join("trace");
    let made = |host: &FakeHost| node(host).gpus[0].instances.len();
    let mut count = 0;
    for (variable, value, first, second, more) in [
        ("FAKE_NVML_FAIL", "3:999", Some(999), Some(0), 1),
        ("FAKE_NVML_FAIL", "3:999,5:23", Some(999), Some(23), 0),
        ("FAKE_NVML_FAIL", "nvmlDeviceCreateGpuInstance:19", Some(19), Some(0), 1),
        ("FAKE_NVML_FAIL", "nvmlDeviceCreateGpuInstance:19:2", Some(0), Some(19), 1),
        ("FAKE_NVML_DIE", "3", None, None, 0),
        ("FAKE_NVML_DIE", "3+", None, None, 1),
        ("FAKE_NVML_DIE", "2+", None, None, 0),
        ("FAKE_NVML_DIE", "6", Some(0), None, 1),
        ("FAKE_NVML_DIE", "6+", Some(0), None, 2),
    ] {
        let mut nvml =
            Caller::with(&host, &[(variable, value), ("FAKE_NVML_TRACE", trace.to_str().unwrap())]);
        nvml.get("init");
        assert_eq!((create(&mut nvml), create(&mut nvml)), (first, second), "{variable}={value}");
        if let Some(calls) = value.strip_suffix('+').or(Some(value)).filter(|_| second.is_none()) {
            let done = calls.parse::<usize>().unwrap() - usize::from(!value.ends_with('+'));
            assert_eq!(fs::read_to_string(&trace).unwrap().lines().count(), done, "{value}");
        }
        fs::remove_file(&trace).unwrap();
        count += more;
        assert_eq!(made(&host), count, "{variable}={value}");
        assert_tree_matches(&host);
        if count > 4 {
            host.replace_node(&gpu("a100-80gb", ""));
            count = 0;
        }
    }
    let mut nvml = Caller::with(&host, &[("FAKE_NVML_FAIL", "1:9")]);
    assert_eq!((nvml.code("init"), nvml.code("mode 0"), nvml.code("init")), (9, 1, 0));
}
