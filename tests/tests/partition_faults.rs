//! An apply that fails, or is killed, at any of its calls into NVML: the GPUs end as they were or as they
//! shall be, or the journal says what is left and `--resume` gets there.

use mig_cdi_tests::{Run, partition::Site, run};
use std::{collections::BTreeSet, fs};

/// Something to keep, to destroy, to divide anew, and a GPU that changes its mode.
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
const WISH: [&str; 4] =
    ["apply", "--no-refresh", "0=2g.20gb@0(1c@0),3g.40gb@4(2c@0,1c@2)", "1=7g.80gb"];
/// `NVML_ERROR_UNKNOWN`, `IN_USE`, `INSUFFICIENT_RESOURCES`, `GPU_IS_LOST`, `NOT_FOUND`.
const CODES: [u32; 5] = [999, 19, 23, 15, 6];

fn reset(site: &Site) {
    site.host.become_node(NODE);
    let _ = fs::remove_dir_all(site.journal());
    site.write("/proc/sys/kernel/random/boot_id", "2d7a8c1e-0000-4000-8000-000000000001\n");
    site.process(1, "mnt:[1]", "0::/init.scope\n", "init");
}

fn apply(site: &Site, (key, value): (&str, &str)) -> Run {
    site.tidy(run(site.command(&WISH).env(key, value)))
}

fn has_journal(site: &Site) -> bool {
    site.journal().join("apply.json").exists()
}

/// The calls of an apply that nothing disturbs.
fn calls(site: &Site) -> Vec<String> {
    let trace = site.host.out().with_file_name("trace");
    let ended = apply(site, ("FAKE_NVML_TRACE", &trace.display().to_string()));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(site.layouts(), NEW);
    let text = fs::read_to_string(&trace).expect("a trace");
    text.lines().map(|line| line.split(' ').next().expect("a name").to_owned()).collect()
}

/// Each GPU is as it was or as it shall be.
fn whole(site: &Site) -> bool {
    let is = site.layouts();
    is.iter().zip(OLD.iter().zip(&NEW)).all(|(is, (old, new))| is == old || is == new)
}

fn resumed(site: &Site, what: &str) {
    // Nothing else begins before.
    let refused = site.run(&WISH);
    assert_eq!(refused.code, 1, "{what}");
    assert!(refused.stderr.contains("run mig-cdi apply --resume"), "{what}: {}", refused.stderr);
    let ended = site.run(&["apply", "--no-refresh", "--resume"]);
    assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
    assert_eq!(site.layouts(), NEW, "{what}");
    assert!(!has_journal(site), "{what}");
}

#[test]
fn a_failure_at_every_call() {
    let site = Site::new(NODE);
    let calls = calls(&site);
    let (mut undone, mut done, mut early) = (0, 0, 0);
    for (n, name) in calls.iter().enumerate() {
        for code in CODES {
            reset(&site);
            let ended = apply(&site, ("FAKE_NVML_FAIL", &format!("{}:{code}", n + 1)));
            let what = format!("call {} {name} fails with {code}: {}", n + 1, ended.stderr);
            assert!(whole(&site), "{what} {:?}", site.layouts());
            assert!(!has_journal(&site), "{what}");
            match (ended.code, site.layouts() == NEW) {
                // One that only a better answer is asked of.
                (0, true) => done += 1,
                (0, false) => panic!("{what}: it says that it is done"),
                (_, _) if ended.stderr.contains("it is divided as before") => undone += 1,
                // Before anything was begun, or a mode that cannot be read.
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

/// From some call on nothing works any more: the way back fails too.
#[test]
fn a_driver_that_no_longer_answers() {
    let site = Site::new(NODE);
    let calls = calls(&site);
    let mut left = 0;
    let changes: Vec<_> = calls
        .iter()
        .enumerate()
        .filter(|(_, name)| ["Create", "Destroy", "SetMigMode"].iter().any(|w| name.contains(w)))
        .map(|(n, _)| n)
        .collect();
    assert!(changes.len() > 12, "{calls:?}");
    for first in changes.iter().flat_map(|n| [n + 1, n + 2]) {
        reset(&site);
        let fail: Vec<_> = (first..first + 400).map(|n| format!("{n}:999")).collect();
        let ended = apply(&site, ("FAKE_NVML_FAIL", &fail.join(",")));
        let what = format!("from call {first} on: {}", ended.stderr);
        assert_ne!(ended.code, 0, "{what}");
        if has_journal(&site) {
            left += 1;
            assert!(ended.stderr.contains("run mig-cdi apply --resume"), "{what}");
            resumed_gpu(&site, &what);
        } else {
            assert!(whole(&site), "{what}");
        }
    }
    assert!(left > 10, "{left}");
}

/// What is left is of one GPU; those after it were not begun.
fn resumed_gpu(site: &Site, what: &str) {
    let ended = site.run(&["apply", "--no-refresh", "--resume"]);
    assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
    assert!(whole(site), "{what} {:?}", site.layouts());
    assert!(!has_journal(site), "{what}");
}

#[test]
fn a_kill_at_every_call() {
    let site = Site::new(NODE);
    let calls = calls(&site);
    let mut cut_off = BTreeSet::new();
    for (n, name) in calls.iter().enumerate() {
        for after in ["", "+"] {
            reset(&site);
            let ended = apply(&site, ("FAKE_NVML_DIE", &format!("{}{after}", n + 1)));
            let what = format!("killed at call {}{after} {name}", n + 1);
            assert_eq!(ended.code, 128, "{what}: {}", ended.stderr);
            match has_journal(&site) {
                true => {
                    cut_off.insert(site.layouts());
                    resumed(&site, &what);
                }
                false => assert!(whole(&site), "{what} {:?}", site.layouts()),
            }
        }
    }
    println!("{} calls; cut off in {} different states", calls.len(), cut_off.len());
    assert!(cut_off.len() > 10, "{cut_off:?}");
}

/// No instance outlives a restart, so neither does the journal.
#[test]
fn a_restart_of_the_machine_voids_the_journal() {
    let site = Site::new(NODE);
    let calls = calls(&site);
    reset(&site);
    let last = calls.iter().rposition(|name| name.contains("Create")).expect("it creates");
    apply(&site, ("FAKE_NVML_DIE", &format!("{}", last + 1)));
    assert!(has_journal(&site));
    site.write("/proc/sys/kernel/random/boot_id", "2d7a8c1e-0000-4000-8000-000000000002\n");
    site.must(&WISH);
    assert_eq!(site.layouts(), NEW);
    assert!(!has_journal(&site));
    let run = site.must(&["apply", "--resume"]);
    assert_eq!(run.stderr, "nothing to resume: no apply was cut off\n");
}

/// A journal that says nothing readable is no reason to go on as if there were none.
#[test]
fn a_broken_journal_is_named() {
    let site = Site::new(NODE);
    fs::create_dir_all(site.journal()).expect("a directory");
    for text in ["{", "{}", r#"{"boot":"x","gpus":[],"more":1}"#, "\0\0\0"] {
        fs::write(site.journal().join("apply.json"), text).expect("write");
        for args in [&WISH[..], &["apply", "--resume"]] {
            let run = site.run(args);
            assert_eq!(run.code, 1, "{text}: {}", run.stderr);
            assert!(run.stderr.contains("TMP/journal/apply.json"), "{}", run.stderr);
            assert_eq!(site.layouts(), OLD);
        }
    }
}
