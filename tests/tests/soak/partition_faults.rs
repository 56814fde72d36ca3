//! An apply that fails, or is killed, at any of its NVML calls: the GPUs end with the old or the new layout, or the
//! journal holds the rest and `--resume` completes it.

use mig_cdi_tests::{Run, partition_host::PartitionHost, run};
use std::{collections::BTreeSet, fs};

/// Node with instances to keep, to destroy and to recreate, and a GPU that changes its mode.
const NODE: &str = r#"
[[gpu]]
model = "a100-80gb"
instances = [
    { profile = "2g.20gb", start = 0 },
    { profile = "2g.20gb", start = 4, compute = ["1c", "1c"] },
    { profile = "1g.10gb", start = 6 },
]
[[gpu]]
model = "a100-80gb"
mig = false
"#;
const OLD: [&str; 2] = ["2g.20gb@0,2g.20gb@4(1c@0,1c@1),1g.10gb@6", "off"];
const NEW: [&str; 2] = ["2g.20gb@0(1c@0),3g.40gb@4(2c@0,1c@2)", "7g.80gb@0"];
const APPLY: [&str; 4] =
    ["apply", "--no-refresh", "0=2g.20gb@0(1c@0),3g.40gb@4(2c@0,1c@2)", "1=7g.80gb"];
/// Injected codes: `NVML_ERROR_UNKNOWN`, `IN_USE`, `GPU_IS_LOST`, `NOT_FOUND`, `NOT_SUPPORTED`.
const CODES: [u32; 5] = [999, 19, 15, 6, 3];

fn reset(host: &PartitionHost) {
    host.fake.replace_node(NODE);
    let _ = fs::remove_dir_all(host.journal());
    host.write("/proc/sys/kernel/random/boot_id", "2d7a8c1e-0000-4000-8000-000000000001\n");
    host.process(1, "mnt:[1]", "0::/init.scope\n", "init");
}

fn apply(host: &PartitionHost, (key, value): (&str, &str)) -> Run {
    host.tidy(run(host.command(&APPLY).env(key, value)))
}

fn has_journal(host: &PartitionHost) -> bool {
    host.journal().join("apply.json").exists()
}

/// Returns the NVML calls of an apply without a fault.
fn calls(host: &PartitionHost) -> Vec<String> {
    let trace = host.fake.out().with_file_name("trace");
    let ended = apply(host, ("FAKE_NVML_TRACE", &trace.display().to_string()));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(host.layouts(), NEW);
    let text = fs::read_to_string(&trace).expect("a trace");
    text.lines().map(|line| line.split(' ').next().expect("a name").to_owned()).collect()
}

/// Returns whether each GPU has its old or its new layout.
fn is_old_or_new(host: &PartitionHost) -> bool {
    let is = host.layouts();
    is.iter().zip(OLD.iter().zip(&NEW)).all(|(is, (old, new))| is == old || is == new)
}

fn resumed(host: &PartitionHost, what: &str) {
    // No other change starts before it.
    let refused = host.run(&APPLY);
    assert_eq!(refused.code, 1, "{what}: {}", refused.stderr);
    assert!(refused.stderr.contains("run mig-cdi apply --resume"), "{what}: {}", refused.stderr);
    let ended = host.run(&["apply", "--no-refresh", "--resume"]);
    assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
    assert_eq!(host.layouts(), NEW, "{what}");
    assert!(!has_journal(host), "{what}");
}

#[test]
fn a_failure_of_any_nvml_call_is_undone() {
    let host = PartitionHost::new(NODE);
    let calls = calls(&host);
    let (mut undone, mut done, mut early) = (0, 0, 0);
    for (n, name) in calls.iter().enumerate() {
        for code in CODES {
            reset(&host);
            let ended = apply(&host, ("FAKE_NVML_FAIL", &format!("{}:{code}", n + 1)));
            let what = format!("call {} {name} fails with {code}: {}", n + 1, ended.stderr);
            assert!(is_old_or_new(&host), "{what} {:?}", host.layouts());
            assert!(!has_journal(&host), "{what}");
            match (ended.code, host.layouts() == NEW) {
                // A call that only improves a message.
                (0, true) => done += 1,
                (0, false) => panic!("{what}: it reports success"),
                (_, _) if ended.stderr.contains("it is partitioned as before") => undone += 1,
                // Before any change, or a mode that cannot be read.
                (_, new) => {
                    assert!(!new, "{what}");
                    early += 1;
                }
            }
        }
    }
    println!("{} calls: undone {undone}, done {done}, not begun {early}", calls.len());
    assert!(undone > 100, "{undone}");
}

/// From some call on every call fails, and so does undoing.
#[test]
fn a_driver_that_stops_answering_leaves_a_journal() {
    let host = PartitionHost::new(NODE);
    let calls = calls(&host);
    let mut left = 0;
    let changes: Vec<_> = calls
        .iter()
        .enumerate()
        .filter(|(_, name)| ["Create", "Destroy", "SetMigMode"].iter().any(|w| name.contains(w)))
        .map(|(n, _)| n)
        .collect();
    assert!(changes.len() > 12, "{calls:?}");
    for first in changes.iter().flat_map(|n| [n + 1, n + 2]) {
        reset(&host);
        // 400 are more calls than an apply and its undo make.
        let fail: Vec<_> = (first..first + 400).map(|n| format!("{n}:999")).collect();
        let ended = apply(&host, ("FAKE_NVML_FAIL", &fail.join(",")));
        let what = format!("from call {first} on: {}", ended.stderr);
        assert_ne!(ended.code, 0, "{what}: {}", ended.stderr);
        if has_journal(&host) {
            left += 1;
            assert!(ended.stderr.contains("run mig-cdi apply --resume"), "{what}");
            resumed_gpu(&host, &what);
        } else {
            assert!(is_old_or_new(&host), "{what}");
        }
    }
    assert!(left > 10, "{left}");
}

/// Returns the GPU of which the journal holds the rest; the GPUs after it were not started.
fn resumed_gpu(host: &PartitionHost, what: &str) {
    let ended = host.run(&["apply", "--no-refresh", "--resume"]);
    assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
    assert!(is_old_or_new(host), "{what} {:?}", host.layouts());
    assert!(!has_journal(host), "{what}");
}

#[test]
fn a_kill_at_any_nvml_call_can_be_resumed() {
    let host = PartitionHost::new(NODE);
    let calls = calls(&host);
    let mut interrupted = BTreeSet::new();
    for (n, name) in calls.iter().enumerate() {
        for after in ["", "+"] {
            reset(&host);
            let ended = apply(&host, ("FAKE_NVML_DIE", &format!("{}{after}", n + 1)));
            let what = format!("killed at call {}{after} {name}", n + 1);
            assert_eq!(ended.code, 128, "{what}: {}", ended.stderr);
            match has_journal(&host) {
                true => {
                    interrupted.insert(host.layouts());
                    resumed(&host, &what);
                }
                false => assert!(is_old_or_new(&host), "{what} {:?}", host.layouts()),
            }
        }
    }
    println!("{} calls; cut off in {} different states", calls.len(), interrupted.len());
    assert!(interrupted.len() > 10, "{interrupted:?}");
}

/// No instance outlives a reboot, so the journal is void then.
#[test]
fn a_reboot_voids_the_journal() {
    let host = PartitionHost::new(NODE);
    let calls = calls(&host);
    reset(&host);
    let last = calls.iter().rposition(|name| name.contains("Create")).expect("it creates");
    apply(&host, ("FAKE_NVML_DIE", &format!("{}", last + 1)));
    assert!(has_journal(&host));
    host.write("/proc/sys/kernel/random/boot_id", "2d7a8c1e-0000-4000-8000-000000000002\n");
    host.run_ok(&APPLY);
    assert_eq!(host.layouts(), NEW);
    assert!(!has_journal(&host));
    let run = host.run_ok(&["apply", "--resume"]);
    assert_eq!(run.stderr, "nothing to resume: no apply was interrupted\n");
}

/// With an unreadable journal, nothing is changed.
#[test]
fn an_invalid_journal_is_named() {
    let host = PartitionHost::new(NODE);
    fs::create_dir_all(host.journal()).expect("a directory");
    for text in ["{", "{}", r#"{"boot":"x","gpus":[],"more":1}"#, "\0\0\0"] {
        fs::write(host.journal().join("apply.json"), text).expect("write");
        for args in [&APPLY[..], &["apply", "--resume"]] {
            let run = host.run(args);
            assert_eq!(run.code, 1, "{text}: {}", run.stderr);
            assert!(run.stderr.contains("TMP/journal/apply.json"), "{}", run.stderr);
            assert_eq!(host.layouts(), OLD);
        }
    }
}
