//! `mig-cdi plan`, `apply`, `assert`, `export`, `checkpoint`, `restore` and `profiles`: the built program with a fake
//! driver that partitions as the real one does.

use mig_cdi_tests::{
    Run,
    deadline::wait,
    mig_cdi,
    partition_host::{PartitionHost, without_node_mounts},
    podman::Podman,
    run,
    watch::{Watch, until},
    without_capabilities,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const A100: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";
const H100: &str = "[[gpu]]\nmodel = \"h100-80gb\"\n";

/// Makes a host with 2g at 0 and 4 and 1g at 6, with the ids that the driver gives them.
fn partitioned() -> PartitionHost {
    let host = PartitionHost::new(A100);
    host.run_ok(&["apply", "0=2g.20gb@0,2g.20gb@4,1g.10gb@6"]);
    host
}

/// Returns the message to the child process that searches for the users of a capability node, with its time.
fn device_query(host: &PartitionHost, nanoseconds: u32) -> String {
    let root = host.fake.root().display().to_string();
    format!(
        "[{{\"host_root\":{root:?},\"dev_root\":{root:?},\"devices\":[[508,31]],\"nodes\":[\"nvidia-caps/nvidia-cap31\"],\
         \"config\":null,\"kinds\":\"All\",\"describe\":[],\"has_hints\":true}},{{\"secs\":0,\"nanos\":{nanoseconds}}}]"
    )
}

fn refused(run: &Run, parts: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{}", run.stderr);
    for part in parts {
        assert!(run.stderr.contains(part), "{part:?} not in {}", run.stderr);
    }
}

#[test]
fn apply_creates_the_layout_of_the_tutorial() {
    let host = PartitionHost::new(A100);
    let run = host.run_ok(&["apply", "0=3x2g.20gb,1g.10gb"]);
    assert_eq!(host.layouts(), ["2g.20gb@0,2g.20gb@2,2g.20gb@4,1g.10gb@6"]);
    assert!(run.stdout.starts_with("GPU  STEP  WHAT"), "{}", run.stdout);
    let spec = host.fake.read_spec().expect("apply refreshes the spec");
    for name in ["0:2g.20gb:0", "0:2g.20gb:2", "0:2g.20gb:4", "0:1g.10gb:6"] {
        assert!(spec.contains(&format!("{name:?}")), "{name} in {spec}");
    }
    // The nodes exist too.
    assert!(host.fake.path("/dev/nvidia-caps/nvidia-cap30").exists());
    let again = host.run_ok(&["apply", "0=3x2g.20gb,1g.10gb"]);
    assert!(again.stdout.contains("nothing to change"), "{}", again.stdout);
    // NVIDIA's tutorial has this command.
    let wrong = host.run(&["apply", "0=9,9,9,19"]);
    let expected = "error: partition gpu 0: 3 x 3g.40gb needs 12 memory slices of 8; 2g.20gb (profile 14) instead of \
                    3g.40gb would fit\n";
    assert_eq!((wrong.code, wrong.stderr.as_str()), (2, expected));
    assert_eq!(host.layouts(), ["2g.20gb@0,2g.20gb@2,2g.20gb@4,1g.10gb@6"]);
}

#[test]
fn plan_prints_steps_and_reasons_and_changes_nothing() {
    let host = partitioned();
    host.container(&[30, 31]);
    let before = (fs::read(host.fake.env().1).unwrap(), host.fake.read_spec());
    let run = host.run_ok(&["plan", "0=2g.20gb,3g.40gb"]);
    let expected = "\
GPU  STEP  WHAT                                          WHY
0    keep  gpu instance 3                                2g.20gb, in use by container 4f08cd7afbc6 (pid 77, sleep inf)
0    1     destroy compute instance 0 of gpu instance 4  makes room for 3g.40gb
0    2     destroy gpu instance 4                        makes room for 3g.40gb
0    3     destroy compute instance 0 of gpu instance 7  makes room for 3g.40gb
0    4     destroy gpu instance 7                        makes room for 3g.40gb
0    5     create gpu instance 3g.40gb at 4:4            requested as 3g.40gb
0    6     create compute instance 0:3 in the gpu instance at 4:4  requested as 3g.40gb
";
    let squeeze = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    similar_asserts::assert_eq!(squeeze(&run.stdout), squeeze(expected));
    let json: serde_json::Value =
        serde_json::from_str(&host.run_ok(&["plan", "--json", "0=2g.20gb,3g.40gb"]).stdout)
            .unwrap();
    assert_eq!(json[0]["is"], "2g.20gb@0,2g.20gb@4,1g.10gb@6");
    assert_eq!(json[0]["steps"][4]["placement"], serde_json::json!({"start": 4, "size": 4}));
    assert_eq!(json[0]["keep"][0]["gi"], 3);
    assert_eq!(before, (fs::read(host.fake.env().1).unwrap(), host.fake.read_spec()));
}

/// A holder of a slice is named, and nothing is changed; when it has ended, the layout is applied.
#[test]
fn slices_in_use_are_not_destroyed() {
    type Case = (&'static str, fn(&PartitionHost), fn(&PartitionHost));
    let cases: [Case; 5] = [
        (
            "container 4f08cd7afbc6 (pid 77, sleep inf)",
            |host| host.container(&[30, 31]),
            |host| host.end(77),
        ),
        // A rootless container, which no cgroup restricts.
        (
            "pid 88, sleep inf",
            |host| host.mounts(88, "sleep inf", "/dev/nvidia-caps/nvidia-cap31"),
            |host| host.end(88),
        ),
        (
            "pid 99, python3 train.py",
            |host| host.opens(99, "python3 train.py", "/dev/nvidia-caps/nvidia-cap31"),
            |host| host.end(99),
        ),
        (
            "job 17 (lease mine)",
            |host| {
                let uuid = host.node().gpus[0].uuid.to_string();
                fs::create_dir_all(host.state().join("leases")).unwrap();
                let text = r#"{"gpu": "UUID", "gi": 3, "holder": "job 17"}"#;
                fs::write(host.state().join("leases/mine"), text.replace("UUID", &uuid)).unwrap();
            },
            |host| fs::remove_file(host.state().join("leases/mine")).unwrap(),
        ),
        (
            "pid 4711, trainer",
            |host| host.computes(4711, "trainer", 0, 3),
            |host| {
                let mut node = host.node();
                node.gpus[0].processes.clear();
                fs::write(host.fake.env().1, node.to_toml()).unwrap();
            },
        ),
    ];
    for (who, begin, end) in cases {
        let host = partitioned();
        begin(&host);
        let before = host.layouts();
        let run = host.run(&["apply", "0=7g.80gb"]);
        refused(&run, &["gpu 0: gpu instance 3 (2g.20gb at 0:2) is in use by ", who]);
        assert_eq!(host.layouts(), before);
        assert!(!host.journal().join("apply.json").exists());
        // A layout that keeps the slice is applied.
        host.run_ok(&["apply", "0=2g.20gb,3g.40gb"]);
        assert_eq!(host.layouts(), ["2g.20gb@0,3g.40gb@4"]);
        assert_eq!(
            host.node().gpus[0].instances.iter().find(|gi| gi.id == 3).unwrap().placement.start,
            0
        );
        end(&host);
        host.run_ok(&["apply", "0=7g.80gb"]);
        assert_eq!(host.layouts(), ["7g.80gb@0"]);
    }
}

/// A container with the config capability has the nodes of all slices, which makes it no holder.
#[test]
fn a_container_with_the_config_capability_holds_no_slice() {
    let host = partitioned();
    host.container(&[1, 30, 31, 39, 40]);
    host.run_ok(&["apply", "0=7g.80gb"]);
}

/// Files of a process that say less than they seem to: each of these processes holds gpu instance 3.
#[test]
fn what_the_search_cannot_see_at_once_is_held() {
    type Case = (&'static str, &'static str, fn(&PartitionHost));
    const NODE: &str = "/dev/nvidia-caps/nvidia-cap31";
    let cases: [Case; 6] = [
        (
            "a descriptor in a container that may not open its node",
            "container 4f08cd7afbc6 (pid 77, sleep inf)",
            |host| {
                host.container(&[]);
                let fd = host.fake.path("/proc/77/fd/3");
                std::os::unix::fs::symlink(host.fake.path(NODE), fd).unwrap();
            },
        ),
        (
            "a cgroup that cannot be read",
            "pid 77, sleep inf, which cannot be examined: read",
            |host| {
                host.container(&[30, 31]);
                let cgroup = host.fake.path("/proc/77/cgroup");
                fs::remove_file(&cgroup).unwrap();
                fs::create_dir(cgroup).unwrap();
            },
        ),
        ("descriptors of a thread", "pid 99, python3 train.py", |host| {
            host.process(99, "mnt:[1]", "0::/user.slice\n", "python3 train.py");
            for thread in ["99", "100"] {
                host.write(&format!("/proc/99/task/{thread}/cgroup"), "0::/user.slice\n");
            }
            fs::create_dir(host.fake.path("/proc/99/task/100/fd")).unwrap();
            let fd = host.fake.path("/proc/99/task/100/fd/3");
            std::os::unix::fs::symlink(host.fake.path(NODE), fd).unwrap();
        }),
        (
            "more mounts than are read",
            "pid 88, sleep inf, which cannot be examined: read",
            |host| {
                host.mounts(88, "sleep inf", NODE);
                let path = "/proc/88/mountinfo";
                let text = fs::read_to_string(host.fake.path(path)).unwrap();
                let others = "22 1 0:5 / /x rw - tmpfs tmpfs rw\n".repeat(1 << 18);
                host.write(path, &(others + &text));
            },
        ),
        (
            "a mount namespace whose first process may not open the node",
            "pid 89, sleep inf",
            |host| {
                let status = |uid| {
                    format!("State:\tS\nUid:\t{uid} {uid} {uid} {uid}\nGid:\t9 9 9 9\nGroups:\t\n")
                };
                for (pid, uid) in [(88, 1000), (89, 1001)] {
                    host.mounts(pid, "sleep inf", NODE);
                    host.write(&format!("/proc/{pid}/status"), &status(uid));
                }
                let namespace = host.fake.path("/proc/89/ns/mnt");
                fs::remove_file(&namespace).unwrap();
                std::os::unix::fs::symlink("mnt:[88]", namespace).unwrap();
                let node = host.fake.path(NODE);
                std::os::unix::fs::chown(&node, Some(1001), None).unwrap();
                fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
            },
        ),
        (
            "a container with the config capability that has a slice open",
            "container 4f08cd7afbc6 (pid 77, sleep inf)",
            |host| {
                host.container(&[1, 30, 31]);
                let fd = host.fake.path("/proc/77/fd/3");
                std::os::unix::fs::symlink(host.fake.path(NODE), fd).unwrap();
            },
        ),
    ];
    let mut wrong = Vec::new();
    for (what, who, begin) in cases {
        let host = partitioned();
        begin(&host);
        let run = host.run(&["apply", "0=7g.80gb"]);
        if run.code != 5 || !run.stderr.contains(&format!("in use by {who}")) {
            wrong.push(format!("{what}: {} {}", run.code, run.stderr));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// S21: descriptors that cannot be listed count for those who may open a node.
#[test]
fn a_user_keeps_nothing_by_descriptors_that_cannot_be_listed() {
    for (mode, code) in [(0o600, 0), (0o660, 5)] {
        let host = partitioned();
        host.process(98, "mnt:[1]", "0::/user.slice\n", "sleep inf");
        let status = "State:\tS\nUid:\t1000 1000 1000 1000\nGid:\t9 9 9 9\nGroups:\t\n";
        host.write("/proc/98/status", status);
        // A link to itself cannot be opened.
        let fd = host.fake.path("/proc/98/fd");
        fs::remove_dir(&fd).unwrap();
        std::os::unix::fs::symlink("fd", &fd).unwrap();
        for minor in [30, 31] {
            let node = host.fake.path(&format!("/dev/nvidia-caps/nvidia-cap{minor}"));
            std::os::unix::fs::chown(&node, Some(0), Some(9)).unwrap();
            fs::set_permissions(&node, fs::Permissions::from_mode(mode)).unwrap();
        }
        let run = host.run(&["apply", "0=2g.20gb@4,1g.10gb@6"]);
        assert_eq!(run.code, code, "{mode:o}: {}", run.stderr);
        assert_eq!(run.stderr.contains("in use by pid 98"), code == 5, "{}", run.stderr);
    }
}

/// S22: a container with very many cgroups, and very many containers, hold what they hold.
#[test]
fn very_many_cgroups_do_not_hold_the_slices_of_others() {
    for are_distinct in [false, true] {
        let host = partitioned();
        for i in 0..4100_u32 {
            let id = if are_distinct { i } else { 0 };
            let path = format!("/libpod-{id:012x}{}.scope/{i}", "0".repeat(52));
            host.write(
                &format!("/proc/{}/cgroup", 100_000 + i),
                &format!("5:devices:{path}\n0::/\n"),
            );
            let rules = "c 508:30 rw\nc 508:31 rw\n";
            host.write(&format!("/sys/fs/cgroup/devices{path}/devices.list"), rules);
        }
        let run = host.run(&["apply", "0=7g.80gb"]);
        refused(
            &run,
            &["gpu instance 3 (2g.20gb at 0:2) is in use by container 000000000000 (pid 100000)"],
        );
        host.run_ok(&["apply", "0=2g.20gb@0,3g.40gb"]);
    }
}

/// S22: where the time is up before all open files are examined, the message names a process with most of them.
#[test]
fn the_process_with_most_open_files_is_named() {
    let host = partitioned();
    make_busy(&host);
    let query = device_query(&host, 100_000_000);
    let found = run(&mut mig_cdi(["device-access", &query]));
    let who = "\"devices\":[0],\"access\":{\"Unknown\":\"the search for open files takes too long, and no process has more than this one, ";
    assert!(found.stdout.contains(who), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains("\"command\":\"busy\""), "{}", found.stdout);
}

/// Makes 400 processes with 5,000 open files each.
fn make_busy(host: &PartitionHost) {
    let fds = host.fake.path("/descriptors");
    fs::create_dir(&fds).unwrap();
    for fd in 0..5000 {
        std::os::unix::fs::symlink("/dev/null", fds.join(fd.to_string())).unwrap();
    }
    for pid in 1000..1400 {
        host.process(pid, "mnt:[1]", "0::/user.slice\n", "busy");
        let fd = host.fake.path(&format!("/proc/{pid}/fd"));
        fs::remove_dir(&fd).unwrap();
        std::os::unix::fs::symlink("/descriptors", fd).unwrap();
    }
}

/// S22: where the time is up before any open file is examined, every slice counts as in use.
#[test]
fn a_search_without_time_finds_everything_in_use() {
    let host = partitioned();
    let query = device_query(&host, 1000);
    let found = run(&mut mig_cdi(["device-access", &query]));
    let held = "\"devices\":[0],\"access\":{\"Unknown\":";
    assert!(found.stdout.contains(held), "{}{}", found.stdout, found.stderr);
}

/// Stops the child process in which an apply searches. Returns false when the apply ends before.
fn stop_search(apply: &mut Child) -> bool {
    let children = format!("/proc/{0}/task/{0}/children", apply.id());
    let is_search = |pid: &&str| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("device-access")
    };
    while apply.try_wait().unwrap().is_none() {
        let pids = fs::read_to_string(&children).unwrap_or_default();
        let search = pids.split(' ').find(is_search).map(|pid| pid.parse().unwrap());
        if search.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok()) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// S22: a search that does not end is stopped, and every slice counts as in use. The message says so. Others need not wait for it.
#[test]
fn a_search_that_does_not_end_finds_everything_in_use() {
    let host = partitioned();
    make_busy(&host);
    let lock = host.journal().join(".mig-cdi.lock");
    // A busy machine may be too late to stop it, or to look at the lock before the time is up.
    let mut apply = loop {
        let mut command = host.command(&["apply", "0=7g.80gb"]);
        let mut apply = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begin = Instant::now();
        if !stop_search(&mut apply) {
            continue;
        }
        let mut flock = Command::new("flock");
        let is_free = flock.arg("--nonblock").arg(&lock).arg("true").status().unwrap().success();
        if begin.elapsed() < Duration::from_millis(1500) {
            assert!(is_free, "apply has the lock while it looks");
            break apply;
        }
        wait(&mut apply);
    };
    assert_eq!(wait(&mut apply).code(), Some(5));
    let mut message = String::new();
    apply.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    let why = "in use by processes that could not be examined: it takes longer than 1800 ms";
    assert!(message.contains(why), "{message}");
}

/// What discovery leaves out has no device nodes to search for: nobody knows who has it.
#[test]
fn a_slice_that_cannot_be_discovered_is_in_use() {
    const GPU: &str = "/proc/driver/nvidia/capabilities/gpu0";
    type Damage = fn(&PartitionHost);
    let cases: [(&str, Damage); 4] = [
        ("an access file cut short", |host| {
            host.write(&format!("{GPU}/mig/gi3/access"), "DeviceFi")
        }),
        ("no access file", |host| {
            fs::remove_file(host.fake.path(&format!("{GPU}/mig/gi3/ci0/access"))).unwrap();
        }),
        ("no tree", |host| fs::remove_dir_all(host.fake.path(GPU)).unwrap()),
        ("a gpu that cannot be read", |host| {
            let gpus = fs::read_dir(host.fake.path("/proc/driver/nvidia/gpus")).unwrap();
            gpus.for_each(|gpu| fs::write(gpu.unwrap().path().join("information"), "").unwrap());
        }),
    ];
    for (what, damage) in cases {
        // Nobody can tell who has it, nor whether it is the slice that was declared in use.
        for (option, code, why) in [
            (
                &[][..],
                5,
                "processes that could not be searched for, since /proc does not describe it",
            ),
            (
                &["--in-use=0:2g.20gb:0=pod default/train"],
                1,
                "0:2g.20gb:0, in use by pod default/train",
            ),
        ] {
            let host = partitioned();
            let before = host.layouts();
            damage(&host);
            let run = host.run(&[&["apply", "0=7g.80gb"], option].concat());
            assert_eq!(run.code, code, "{what}: {}{}", run.stdout, run.stderr);
            assert!(run.stderr.contains(why), "{what}: {}", run.stderr);
            assert_eq!(host.layouts(), before, "{what}: {}", run.stderr);
        }
    }
}

/// A container may still have the right to the nodes of a slice that another program destroyed: no new slice gets these nodes.
#[test]
fn a_new_slice_does_not_have_the_nodes_of_a_container() {
    let host = PartitionHost::new(&format!("{A100}instances = []\n"));
    host.container(&[30, 31]);
    let run = host.run(&["apply", "0=3x2g.20gb"]);
    refused(
        &run,
        &[
            "partition gpu 0",
            "gpu instance 3 has the device nodes of an earlier one, which are in use by container 4f08cd7afbc6 (pid 77, sleep inf)",
            "it is partitioned as before; stop them and try again",
        ],
    );
    assert_eq!(host.layouts(), ["none"]);
    host.end(77);
    host.run_ok(&["apply", "0=3x2g.20gb"]);
}

#[test]
fn an_unreadable_lease_blocks_every_destruction() {
    let host = partitioned();
    fs::create_dir_all(host.state().join("leases")).unwrap();
    fs::write(host.state().join("leases/mine"), "{").unwrap();
    let run = host.run(&["apply", "0=7g.80gb"]);
    run.assert_code(1);
    assert!(run.stderr.contains("TMP/state/leases/mine"), "{}", run.stderr);
    assert_eq!(host.layouts(), ["2g.20gb@0,2g.20gb@4,1g.10gb@6"]);
    host.run_ok(&["apply", "0=2g.20gb@0,2g.20gb@2,2g.20gb@4,1g.10gb@6"]);
}

/// A mistyped name protects nothing, and the command goes on.
#[test]
fn holders_of_nothing_are_warned_of() {
    let host = partitioned();
    let uuid = host.node().gpus[0].uuid.to_string();
    let leases = host.state().join("leases");
    fs::create_dir_all(&leases).unwrap();
    let lease = |name: &str, gpu: &str, gi: u32| {
        let text = format!("{{\"gpu\": {gpu:?}, \"gi\": {gi}, \"holder\": \"job 17\"}}");
        fs::write(leases.join(name), text).unwrap();
    };
    lease("right", &uuid, 4);
    lease("gone", &uuid, 9);
    lease("other", "GPU-x", 3);
    let expected = format!(
        "warning: lease TMP/state/leases/gone of job 17 holds nothing: gpu {uuid} has no gi 9; correct or remove it\n\
         warning: lease TMP/state/leases/other of job 17 holds nothing: this node has no gpu GPU-x; correct or remove it\n\
         warning: --in-use 0:2g.20gb:2=a holds nothing: no slice or gpu has this name; mig-cdi list shows the names\n\
         warning: --in-use 1=b holds nothing: no slice or gpu has this name; mig-cdi list shows the names\n"
    );
    const KEPT: &str = "0=2g.20gb@0,2g.20gb@4,1g.10gb@6";
    let flags = ["--in-use=0:2g.20gb:2=a", "--in-use=1=b", "--in-use=0:1g.10gb:6=c"];
    for args in [&["plan", KEPT][..], &["map"]] {
        let run = host.run(&[args, &flags].concat());
        let warnings: String = run
            .stderr
            .lines()
            .filter(|l| l.contains("holds nothing"))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(warnings, expected, "{args:?}: {}", run.stderr);
    }
    // A change is refused, and those that name a slice keep it.
    let before = host.layouts();
    let run = host.run(&[&["apply", KEPT][..], &flags].concat());
    run.assert_code(2);
    assert_eq!(run.stderr.matches("warning: lease ").count(), 2, "{}", run.stderr);
    host.run(&["apply", "0=7g.80gb", flags[2]]).assert_code(5);
    assert_eq!(host.layouts(), before);
}

#[test]
fn evict_waits_until_holders_end_and_kills_none() {
    let host = partitioned();
    host.container(&[30, 31]);
    let mut command = host.command(&["apply", "--evict=60", "0=7g.80gb"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // An apply that does not wait has ended by then.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(host.layouts(), ["2g.20gb@0,2g.20gb@4,1g.10gb@6"]);
    host.end(77);
    assert!(wait(&mut child).success());
    assert_eq!(host.layouts(), ["7g.80gb@0"]);
}

#[test]
fn compute_instances_change_without_their_gpu_instance() {
    let host = PartitionHost::new(A100);
    host.run_ok(&["apply", "0=3g.40gb@4(1c@2,1c@0)"]);
    assert_eq!(host.layouts(), ["3g.40gb@4(1c@0,1c@2)"]);
    let id = host.node().gpus[0].instances[0].id;
    host.run_ok(&["apply", "0=3g.40gb(3x1c)"]);
    assert_eq!(host.node().gpus[0].instances[0].id, id, "the GPU instance stayed");
    host.run_ok(&["apply", "0=3g.40gb(none)"]);
    assert_eq!(host.layouts(), ["3g.40gb@4(none)"]);
    host.run_ok(&["apply", "0=3g.40gb"]);
    assert_eq!(host.layouts(), ["3g.40gb@4"]);
    // Only the driver knows whether such a compute instance exists, once the GPU instance does.
    let run = host.run(&["apply", "0=4g.40gb(3c)"]);
    assert_ne!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("it is partitioned as before"), "{}", run.stderr);
    assert_eq!(host.layouts(), ["3g.40gb@4"]);
}

#[test]
fn mig_mode_is_changed_on_one_gpu_only() {
    let two = format!("{A100}mig = false\n{A100}mig = false\n");
    let host = PartitionHost::new(&two);
    let plan = host.run_ok(&["plan", "1=7g.80gb"]);
    assert!(plan.stdout.contains("enable MIG mode"), "{}", plan.stdout);
    // A program has the other GPU open, and this one.
    host.opens(50, "dcgm", "/dev/nvidia0");
    host.opens(51, "nvsm", "/dev/nvidia1");
    let run = host.run(&["apply", "1=7g.80gb"]);
    refused(&run, &["enable mig mode on gpu 1: it needs a reset, and is in use by pid 51, nvsm;"]);
    assert_eq!(host.layouts(), ["off", "off"]);
    host.end(51);
    // The persistence daemon uses no GPU; a program that has its name as an argument may.
    host.opens(52, "nvidia-persistenced --verbose", "/dev/nvidia1");
    host.opens(54, "/usr/bin/nvidia-persistenced", "/dev/nvidia1");
    for other in ["python3 nvidia-persistenced", "nvidia-persistent-job", "nvidia-persiste"] {
        host.opens(53, other, "/dev/nvidia1");
        let run = host.run(&["apply", "1=7g.80gb"]);
        refused(&run, &[&format!("is in use by pid 53, {other};")]);
        host.end(53);
    }
    host.run_ok(&["apply", "1=7g.80gb"]);
    assert_eq!(host.layouts(), ["off", "7g.80gb@0"]);
    // A layout that is impossible, or turns out to be, leaves the GPU as it was.
    host.end(50);
    for layout in ["0=2x7g.80gb", "0=4g.40gb(3c)"] {
        let run = host.run(&["apply", layout]);
        assert_ne!(run.code, 0, "{layout}");
        assert_eq!(host.layouts(), ["off", "7g.80gb@0"], "{}", run.stderr);
    }
    assert_eq!(host.layouts(), ["off", "7g.80gb@0"]);
    host.run_ok(&["apply", "1=off"]);
    assert_eq!(host.layouts(), ["off", "off"]);
    assert!(host.fake.read_spec().is_none(), "no slice, no spec");
}

/// A monitoring agent has the GPU open, and nothing shows that.
#[test]
fn what_only_the_driver_knows_to_be_in_use_is_waited_for() {
    let busy = [
        ("nvmlComputeInstanceDestroy", "0=7g.80gb", "destroy compute instance 0 of gpu instance 3"),
        ("nvmlGpuInstanceDestroy", "0=7g.80gb", "destroy gpu instance 3"),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", "0=2x2g.20gb", "create gpu instance 2g.20gb"),
        ("nvmlDeviceSetMigMode", "0=off", "disable mig mode"),
    ];
    for (call, layout, step) in busy {
        let host =
            PartitionHost::new(&format!("{A100}instances = [{{ profile = \"2g.20gb\" }}]\n"));
        let before = host.node();
        let faults = host.fake.path("/faults");
        fs::write(&faults, format!("{call}:19:*")).unwrap();
        let apply = |args: &[&str]| {
            let mut command = host.command(&[&["apply", layout], args].concat());
            command.env("FAKE_NVML_FAIL", format!("@{}", faults.display()));
            command
        };
        let ended = host.tidy(run(&mut apply(&[])));
        refused(&ended, &[step, "the driver says that it is in use", "dcgm"]);
        assert_eq!(host.node(), before, "{call}");
        let mut waiting = apply(&["--evict=60"]);
        let mut child = waiting.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let line = mig_cdi_tests::deadline::read_line(&mut std::io::BufReader::new(
            child.stderr.as_mut().unwrap(),
        ));
        assert!(line.unwrap().contains("waiting up to 60 s"), "{call}");
        fs::remove_file(&faults).unwrap();
        assert!(wait(&mut child).success(), "{call}");
    }
}

/// NVML reports only afterwards that the mode change is pending; it must not take effect at the next reset.
#[test]
fn a_pending_mode_change_is_reverted() {
    let host = PartitionHost::new(&format!("{A100}mig = false\nheld = true\n"));
    let run = host.run(&["apply", "0=none"]);
    refused(&run, &["enable mig mode on gpu 0", "it needs a reset"]);
    let gpu = &host.node().gpus[0];
    assert_eq!((gpu.is_mig_enabled, gpu.is_mig_enabled_after_reset), (false, false));
    // On Hopper the mode changes while the GPU is open.
    let host = PartitionHost::new(&format!("{H100}mig = false\nheld = true\n"));
    host.opens(50, "dcgm", "/dev/nvidia0");
    host.run_ok(&["apply", "0=none"]);
    assert_eq!(host.layouts(), ["none"]);
}

/// The codes that a driver gives as the reason why a mode is pending: in use, a reset is required, not ready, invalid state.
#[test]
fn the_reason_why_a_mode_is_pending_is_named() {
    for (code, cause, cure) in [
        (19, "the driver says that it is in use", "dcgm"),
        (16, "the gpu needs a reset", "a virtual machine can only reboot"),
        (27, "the gpu is not ready", "stop the programs"),
        (29, "the gpu is in a state", "stop the programs"),
    ] {
        let host = PartitionHost::new(&format!("{A100}mig = false\n"));
        let mut command = host.command(&["apply", "0=none"]);
        let run = run(command.env("FAKE_NVML_FAIL", format!("activationStatus:{code}")));
        refused(&host.tidy(run), &["enable mig mode on gpu 0", cause, cure]);
        let gpu = &host.node().gpus[0];
        assert_eq!((gpu.is_mig_enabled, gpu.is_mig_enabled_after_reset), (false, false));
    }
}

/// What an administrator has set stays, when a change is not made or is undone.
#[test]
fn a_mode_that_was_pending_before_is_pending_again() {
    let modes = |host: &PartitionHost| {
        let gpu = &host.node().gpus[0];
        (gpu.is_mig_enabled, gpu.is_mig_enabled_after_reset)
    };
    let host = PartitionHost::new(&format!("{A100}mig = false\nmig-pending = true\nheld = true\n"));
    refused(&host.run(&["apply", "0=none"]), &["enable mig mode on gpu 0", "it needs a reset"]);
    assert_eq!(modes(&host), (false, true));
    let host = PartitionHost::new(&format!("{A100}mig-pending = false\nheld = true\n"));
    let run = host.run(&["apply", "0=4g.40gb(3c)"]);
    assert!(run.stderr.contains("it is partitioned as before"), "{}", run.stderr);
    assert_eq!(modes(&host), (true, false));
    host.run_ok(&["apply", "0=none"]);
    assert_eq!(modes(&host), (true, true));
}

#[test]
fn layout_files_of_mig_parted_are_applied() {
    let host = PartitionHost::new(&format!("{A100}{A100}"));
    let file = host.fake.path("/layouts.yaml");
    let text = "version: v1\nmig-configs:\n  mixed:\n    - devices: [0]\n      mig-enabled: true\n      \
                mig-devices:\n        1g.10gb: 2\n        2g.20gb: 1\n        3g.40gb: 1\n    - devices: [1]\n      \
                mig-enabled: false\n";
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let assert = ["assert", "-f", &file, "-c", "mixed"];
    let run = host.run(&assert);
    run.assert_code(6);
    assert!(
        run.stdout.contains("gpu 0: the layout is none, not 1g.10gb,1g.10gb,2g.20gb,3g.40gb\n"),
        "{}",
        run.stdout
    );
    host.run_ok(&["apply", "-f", &file, "-c", "mixed"]);
    host.run_ok(&assert);
    assert_eq!(host.layouts()[1], "off");
    let exported = host.run_ok(&["export", "-c", "mixed"]).stdout;
    fs::write(&file, &exported).unwrap();
    host.run_ok(&assert);
    let run = host.run(&["apply", "-f", &file, "-c", "mixd"]);
    run.assert_code(2);
    assert!(run.stderr.contains("mixed"), "{}", run.stderr);
    // An error that only the driver detects is a one-line message, too.
    fs::write(&file, exported.replace("3g.40gb", "5g.50gb")).unwrap();
    let run = host.run(&assert);
    run.assert_code(2);
    let expected = "/layouts.yaml: line 4): 5g.50gb is not a profile of this GPU; it has ";
    assert!(run.stderr.starts_with("error: partition gpu 0 ("), "{}", run.stderr);
    assert!(run.stderr.contains(expected), "{}", run.stderr);
}

#[test]
fn restore_recreates_every_instance() {
    let host = PartitionHost::new(&format!("{A100}{H100}{A100}mig = false\n"));
    host.run_ok(&["apply", "0=3g.40gb@0(1c@2,1c@0),1g.10gb@6,1g.10gb+me@4", "1=2g.20gb@4"]);
    let before = host.layouts();
    let file = host.fake.out().with_file_name("layout.yaml").display().to_string();
    host.run_ok(&["checkpoint", &file]);
    // As after a reboot: no instance, and on Hopper no MIG mode.
    host.run_ok(&["apply", "0=none", "1=off"]);
    host.run_ok(&["restore", &file]);
    assert_eq!(host.layouts(), before);
    // A GPU that is missing does not prevent the others from being partitioned.
    let text = fs::read_to_string(&file).unwrap();
    let gone =
        "    - devices: [GPU-00000000-0000-4000-8000-000000000000]\n      mig-enabled: false\n";
    fs::write(&file, text + gone).unwrap();
    host.run_ok(&["apply", "0=none"]);
    let run = host.run(&["restore", &file]);
    run.assert_code(3);
    let absent =
        "gpu GPU-00000000-0000-4000-8000-000000000000: it is not on this node, and is omitted";
    assert!(run.stderr.contains(absent), "{}", run.stderr);
    assert_eq!(host.layouts(), before);
    let run = host.run(&["restore", "/nowhere.yaml"]);
    run.assert_code(2);
}

/// What can be restored is, whatever has become of the rest: a GPU that is lost, one that is busy, profiles of another driver.
#[test]
fn restore_does_what_is_possible() {
    let host = PartitionHost::new(&A100.repeat(4));
    let layouts = ["0=3g.40gb", "1=3g.40gb", "2=2g.20gb@0,1g.10gb@6,1g.10gb+me@4", "3=7g.80gb"];
    host.run_ok(&[&["apply"], &layouts[..]].concat());
    let file = host.fake.out().with_file_name("layout.yaml").display().to_string();
    host.run_ok(&["checkpoint", &file]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("2g.20gb", "2g.22gb").replace("+me", "+xy")).unwrap();
    host.run_ok(&["apply", "all=none"]);
    host.run_ok(&["apply", "1=7g.80gb"]);
    host.computes(88, "python", 1, 0);
    let mut node = host.node();
    node.gpus[0].is_lost = true;
    fs::write(host.fake.env().1, node.to_toml()).unwrap();
    let run = host.run(&["restore", &file]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    for part in [
        "query nvml about gpu 0: ",
        ": it is not among the gpus that nvml describes, and is omitted",
        "gpu 1: gpu instance 0 (7g.80gb at 0:8) is in use by pid 88",
        "restore 1g.10gb+xy@4 on gpu 2: it is not a profile of this GPU, and is omitted",
    ] {
        assert!(run.stderr.contains(part), "{part:?} not in {}", run.stderr);
    }
    assert_eq!(host.layouts()[1..], ["7g.80gb@0", "2g.20gb@0,1g.10gb@6", "7g.80gb@0"]);
}

/// The same on a simulated node.
#[test]
fn what_a_simulated_restore_leaves_out_is_named() {
    let host = PartitionHost::new(A100);
    let text = "version: v1\nmig-configs:\n  checkpoint:\n    - devices: all\n      mig-enabled: true\n      mig-devices:\n        \
                - \"1g.10gb+xy@4\"\n        - \"1g.10gb@6\"\n";
    let file = host.fake.out().with_file_name("layout.yaml");
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let run = run(&mut mig_cdi(["restore", "--node", "a100-80gb", &file]));
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr.contains("restore 1g.10gb+xy@4 on gpu 0: it is not a profile"),
        "{}",
        run.stderr
    );
}

/// The layout that a user asked for is reached whole, or not at all.
#[test]
fn a_resumed_apply_leaves_no_instance_out() {
    let host = PartitionHost::new(A100);
    let uuid = host.node().gpus[0].uuid.to_string();
    let boot = "2d7a8c1e-0000-4000-8000-000000000001";
    let journal = format!(
        "{{\"boot\":\"{boot}\",\"gpus\":[{{\"gpu\":\"{uuid}\",\"before\":\"none\",\"after\":\"1g.10gb@6,1g.10gb+xy@4\"}}]}}"
    );
    fs::create_dir_all(host.journal()).unwrap();
    fs::write(host.journal().join("apply.json"), journal).unwrap();
    let run = host.run(&["apply", "--resume"]);
    assert_ne!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("1g.10gb+xy@4 is not a profile of this GPU"), "{}", run.stderr);
    assert_eq!(host.layouts(), ["none"]);
}

/// A GPU that is lost in the middle of its change keeps no other from being partitioned.
#[test]
fn an_interrupted_change_of_one_gpu_blocks_no_other() {
    let host = PartitionHost::new(&format!("{A100}{A100}"));
    host.run_ok(&["apply", "0=2g.20gb"]);
    let mut command = host.command(&["apply", "0=3g.40gb@0", "1=3g.40gb@4"]);
    let fault = "nvmlDeviceCreateGpuInstanceWithPlacement:15:*";
    let run = host.tidy(mig_cdi_tests::run(command.env("FAKE_NVML_FAIL", fault)));
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("run mig-cdi apply --resume"), "{}", run.stderr);
    host.run_ok(&["apply", "1=2g.20gb@2"]);
    assert_eq!(host.layouts(), ["none", "2g.20gb@2"]);
    for layout in ["0=none", "all=none"] {
        let run = host.run(&["apply", layout]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        let cause = "partition gpu 0: an earlier apply was interrupted, as TMP/";
        assert!(run.stderr.contains(cause), "{}", run.stderr);
    }
    host.run_ok(&["apply", "--resume"]);
    assert_eq!(host.layouts(), ["3g.40gb@0", "2g.20gb@2"]);
}

#[test]
fn profiles_lists_what_still_fits_and_where() {
    let host = partitioned();
    let text = host.run_ok(&["profiles"]).stdout;
    let line = |name: &str| {
        let found = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(line("2g.20gb").starts_with("2g.20gb 14 1 3 "), "{text}");
    assert!(line("2g.20gb").ends_with(" 2"), "{text}");
    assert!(line("7g.80gb").ends_with(" -"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&host.run_ok(&["profiles", "--json"]).stdout).unwrap();
    let profiles = json[0]["profiles"].as_array().unwrap();
    let small = profiles.iter().find(|p| p["name"] == "1g.10gb").unwrap();
    assert_eq!(
        small["free"],
        serde_json::json!([{"start": 2, "size": 1}, {"start": 3, "size": 1}])
    );
    // The same on a simulated node.
    let run = run(&mut mig_cdi(["profiles", "--node", "hgx-h100"]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.contains("GPU 7: NVIDIA H100"), "{}", run.stdout);
}

/// The profiles that NVML reports for every model match its table, through the C interface.
#[test]
fn profiles_through_nvml_are_those_of_the_model() {
    for model in mig_cdi_sim::MODELS {
        let description = format!("[[gpu]]\nmodel = {:?}\n", model.key);
        let host = PartitionHost::new(&description);
        let through_nvml = host.run_ok(&["profiles", "--json"]);
        let node = host.fake.env().1.display().to_string();
        let simulated = run(&mut mig_cdi(["profiles", "--json", "--node", &node]));
        assert_eq!(through_nvml.stdout, simulated.stdout, "{}", model.key);
        // A driver that supports version 2 of the structure only, and one that supports neither: the names are
        // computed. The largest GPU is no product, and neither are its names.
        for calls in 1..=if model.key == "limit" { 1 } else { 2 } {
            let name = "nvmlDeviceGetGpuInstanceProfileInfoV:25";
            let fail: Vec<_> = (1..=calls).map(|n| format!("{name}:{n}")).collect();
            let mut command = host.command(&["profiles", "--json"]);
            let older = run(command.env("FAKE_NVML_FAIL", fail.join(",")));
            assert_eq!(older.stdout, simulated.stdout, "{} {calls}", model.key);
        }
    }
}

/// A slice that no container can be given, since the refresh leaves it out.
#[test]
fn what_the_refresh_leaves_out_is_incomplete() {
    // Without the nodes of nvidia-drm, a slice with graphics is omitted.
    let host = PartitionHost::new("[[gpu]]\nmodel = \"rtx-pro-6000\"\n");
    let run = host.run(&["apply", "0=1g.24gb+gfx"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("nvidia-drm"), "{}", run.stderr);
    assert_eq!(host.layouts(), ["1g.24gb+gfx@0"]);
    // A directory in the place of a node.
    let host = PartitionHost::new(A100);
    host.run_ok(&["apply", "0=2g.20gb"]);
    let node = host.fake.path("/dev/nvidia-caps/nvidia-cap30");
    host.run_ok(&["apply", "0=none"]);
    fs::create_dir(&node).unwrap();
    let run = host.run(&["apply", "0=2g.20gb"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("nvidia-cap30"), "{}", run.stderr);
    fs::remove_dir(&node).unwrap();
    // Without CAP_MKNOD the nodes stay missing.
    host.run_ok(&["apply", "0=none"]);
    let command = host.command(&["apply", "0=2g.20gb"]);
    let run = host.tidy(mig_cdi_tests::run(&mut without_capabilities(&command, "-mknod")));
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("nvidia-cap30"), "{}", run.stderr);
}

#[test]
fn apply_works_on_a_simulated_node() {
    let run = run(&mut mig_cdi(["apply", "--node", "a100-80gb", "0=3x2g.20gb,1g.10gb"]));
    run.assert_code(0);
    assert_eq!(
        run.stderr,
        "warning: the node is simulated: all steps succeeded, and nothing is kept\n"
    );
}

#[test]
fn invalid_arguments_are_refused() {
    let host = partitioned();
    let before = host.layouts();
    for (args, part) in [
        (&["0"][..], "no = between a gpu and its layout"),
        (&["5=none"], "no gpu 5 on this node"),
        (&["0=none", "0=off"], "is selected by"),
        (&["0=-1x1g.10gb"], "write a profile"),
        (&["0=5g.50gb"], "5g.50gb is not a profile of this GPU; it has"),
        (&["0=3g.40gb@1"], "3g.40gb@1 cannot start there; it can start at 0, 4"),
        (&["-f", "/nowhere", "-c", "x"], "/nowhere"),
    ] {
        let run = host.run(&[&["apply"], args].concat());
        assert!(run.code == 2 || run.code == 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert_eq!(host.layouts(), before);
    }
    let run = host.run(&["apply", "--source=proc", "0=none"]);
    run.assert_code(2);
}

/// Watch refreshes the spec with its own flags.
#[test]
fn a_running_watch_refreshes_the_spec() {
    let host = PartitionHost::new(A100);
    let watch = Watch::start(&host.fake, &["--names=slot"]);
    until("watch has refreshed", || watch.status().contains("\"state\": \"ok\""));
    host.run_ok(&["apply", "0=3x2g.20gb,1g.10gb"]);
    // The next container finds the spec.
    let spec = host.fake.read_spec().expect("apply waits for the watch");
    assert!(spec.contains("0:1g.10gb:6"), "{spec}");
    assert!(!spec.contains("\"name\":\"MIG-"), "names by the flags of watch: {spec}");
    host.run_ok(&["apply", "0=7g.80gb"]);
    let spec = host.fake.read_spec().expect("a spec");
    assert!(spec.contains("0:7g.80gb:0") && !spec.contains("1g.10gb"), "{spec}");
    host.run_ok(&["apply", "0=none"]);
    assert!(host.fake.read_spec().is_none(), "no slice, no spec");
    assert_eq!(watch.stop(), Some(0));
}

#[test]
fn gpus_are_selected_by_uuid_and_pci_address() {
    let host = PartitionHost::new(&format!("{A100}{A100}"));
    let uuid = host.node().gpus[1].uuid.to_string();
    host.run_ok(&["apply", &format!("{uuid}=7g.80gb"), "0000:07:00.0=none"]);
    assert_eq!(host.layouts(), ["none", "7g.80gb@0"]);
    let run = host.run(&["apply", &format!("{uuid}=none"), "1=7g.80gb"]);
    run.assert_code(2);
    assert!(run.stderr.contains("is selected by"), "{}", run.stderr);
}

/// Two concurrent runs: one waits for the other.
#[test]
fn concurrent_applies_run_one_after_the_other() {
    let host = PartitionHost::new(A100);
    let layouts = ["0=7g.80gb", "0=3x2g.20gb", "0=2x3g.40gb", "0=none"];
    std::thread::scope(|scope| {
        for layout in layouts {
            scope.spawn(|| host.run_ok(&["apply", layout]));
        }
    });
    let end = host.layouts();
    let whole = ["7g.80gb@0", "2g.20gb@0,2g.20gb@2,2g.20gb@4", "3g.40gb@0,3g.40gb@4", "none"];
    assert!(whole.contains(&end[0].as_str()), "{end:?}");
}

/// A podman container runs on a slice: changes of other slices do not disturb it, and one that would destroy its
/// slice names it.
#[test]
fn a_running_container_keeps_its_slice() {
    let script = r#"
        apply() { $MIG_CDI apply $FLAGS --journal-dir=$DIR/journal --state-dir=$DIR/state "$@"; }
        $MIG_CDI generate $FLAGS
        trap '$PODMAN rm -af -t 0 >/dev/null 2>&1' EXIT
        id=$($PODMAN run -d --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS sleep 1000)
        entry() { sed 's/},{"name"/},\n{"name"/g' /var/run/cdi/nvidia.com-mig.json | grep '"0:2g.20gb:0"'; }
        before=$(entry)
        apply 0=2g.20gb,3g.40gb
        [ "$before" = "$(entry)" ]
        $PODMAN exec $id probe | grep nvidia-caps
        if apply 0=7g.80gb 2>$DIR/errors; then echo destroyed; fi
        grep -o "in use by container $(echo $id | cut -c1-12)" $DIR/errors | cut -d' ' -f1-4
        $PODMAN rm -f -t 0 $id >/dev/null
        apply 0=7g.80gb >/dev/null
        $PODMAN $RUN --device nvidia.com/mig=0:7g.80gb:0 --rootfs $ROOTFS probe | grep nvidia-caps
    "#;
    let _lock = without_node_mounts();
    for variant in [("runc", "v1"), ("crun", "v2")] {
        // A GPU and numbers of their own, so that containers of other tests hold nothing of this host.
        let slices = "[{ profile = \"2g.20gb\", start = 0 }, { profile = \"2g.20gb\", start = 2 }, \
                      { profile = \"1g.10gb\", start = 6 }]";
        let uuid = "GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7c1e55";
        let host = PartitionHost::new(&format!(
            "[majors]\nnvidia-caps = 487\n{A100}uuid = {uuid:?}\ninstances = {slices}\n"
        ));
        fs::write(host.fake.config(), "capabilities = \"none\"\n").unwrap();
        let dir = host.fake.out().parent().unwrap().display().to_string();
        let script = format!("DIR={dir}\n{script}");
        let run = Podman::of_machine(variant).script(&host.fake, &script);
        run.assert_code(0);
        let lines: Vec<_> = run.stdout.lines().filter(|l| !l.contains("instance")).collect();
        let expected = [
            "GPU  STEP",
            "node /dev/nvidia-caps/nvidia-cap30",
            "node /dev/nvidia-caps/nvidia-cap31",
            "in use by container",
            "node /dev/nvidia-caps/nvidia-cap3 ",
            "node /dev/nvidia-caps/nvidia-cap4 ",
        ];
        assert_eq!(lines.len(), expected.len(), "{variant:?}: {}{}", run.stdout, run.stderr);
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{variant:?}: {line} {}", run.stderr);
        }
        assert_eq!(host.layouts(), ["7g.80gb@0"]);
    }
}
