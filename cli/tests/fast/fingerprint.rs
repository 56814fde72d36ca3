//! Fingerprints of the driver's tree: what a plain poll notices, and what only a full scan does.

use mig_cdi_sys::{Fingerprint, Root};
use mig_cdi_tests::FakeHost;
use std::{fs, path::Path};

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";

fn node(first: &str, second: &str) -> String {
    let gpu = |pci, instances: &str| {
        format!(
            "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:{pci}:00.0\"\ninstances = [{instances}]\n"
        )
    };
    gpu("07", first) + &gpu("0f", second)
}

/// Returns a host after a change, and its root.
fn started(change: impl FnOnce(&FakeHost)) -> (FakeHost, Root) {
    let host = FakeHost::new(&node("{ profile = \"2g.20gb\" }", "{ profile = \"3g.40gb\" }"));
    change(&host);
    let proc = Root::open(&host.root()).unwrap();
    (host, proc)
}

/// Returns whether the plain poll and the full scan still find the tree unchanged after a change.
fn after(change: impl FnOnce(&FakeHost)) -> (bool, bool) {
    let (host, proc) = started(|_| ());
    let seen = Fingerprint::take(&proc);
    assert!(seen.is_unchanged_at_plain_poll() && seen.is_unchanged(&proc), "before any change");
    change(&host);
    (seen.is_unchanged_at_plain_poll(), seen.is_unchanged(&proc))
}

fn capabilities(host: &FakeHost, below: &str) -> std::path::PathBuf {
    host.path(&format!("{CAPABILITIES}/{below}"))
}

/// Replaces directories by others with the same names.
fn recreate(dir: &Path) {
    let copy = dir.with_file_name("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(dir).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(dir).unwrap();
    fs::rename(copy, dir).unwrap();
}

#[test]
fn a_plain_poll_sees_gpu_instances_come_and_go() {
    let one = "{ profile = \"2g.20gb\" }";
    for (what, description) in [
        ("one more on the first", node(&format!("{one}, {one}"), "{ profile = \"3g.40gb\" }")),
        (
            "one more on the second",
            node(one, "{ profile = \"3g.40gb\" }, { profile = \"1g.10gb\" }"),
        ),
        ("none on the second", node(one, "")),
    ] {
        assert_eq!(after(|host| host.change_to(&description)), (false, false), "{what}");
    }
}

/// A directory that is held open does not show that it was removed, so the poll checks its path too.
#[test]
fn a_plain_poll_sees_a_gpu_or_the_driver_vanish() {
    for below in ["gpu0", "gpu1", ""] {
        let gone = after(|host| fs::remove_dir_all(capabilities(host, below)).unwrap());
        assert_eq!(gone, (false, false), "{below:?}");
    }
    // As in procfs, where an open directory keeps its content.
    for gone in [&["gpu1"][..], &["gpu0", "gpu1"]] {
        let away = after(|host| {
            fs::create_dir(host.path("/away")).unwrap();
            for gpu in gone {
                fs::rename(capabilities(host, gpu), host.path("/away").join(gpu)).unwrap();
            }
        });
        assert_eq!(away, (false, false), "{gone:?}");
    }
}

#[test]
fn a_full_scan_sees_what_a_plain_poll_misses() {
    let compute = |list: &str| {
        node(
            "{ profile = \"2g.20gb\" }",
            &format!("{{ profile = \"3g.40gb\", compute = [{list}] }}"),
        )
    };
    for list in ["\"1c\", \"2c\"", ""] {
        assert!(!after(|host| host.change_to(&compute(list))).1, "{list}");
    }
    for dir in ["gpu0/mig/gi3", "gpu1/mig/gi1/ci0", "gpu1/mig"] {
        let (_, full) = after(|host| recreate(&capabilities(host, dir)));
        assert!(!full, "{dir}");
    }
    for (path, text) in [
        ("/proc/devices", "Character devices:\n195 nvidia\n"),
        ("/proc/driver/nvidia/version", "another\n"),
    ] {
        let (plain, full) = after(|host| fs::write(host.path(path), text).unwrap());
        assert_eq!((plain, full), (true, false), "{path}");
    }
    let (plain, full) = after(|host| {
        fs::remove_dir_all(host.path("/proc/driver/nvidia/gpus/0000:0f:00.0")).unwrap();
    });
    assert_eq!((plain, full), (true, false), "a gpu of the list");
}

/// The module nvidia-drm is loaded and unloaded without a trace in `/proc` where another driver uses DRM.
#[test]
fn a_full_scan_sees_drm_nodes_come_and_go() {
    let drm = "/sys/bus/pci/devices/0000:0f:00.0/drm";
    let make = |host: &FakeHost, name: &str| fs::create_dir_all(host.path(drm).join(name)).unwrap();
    assert_eq!(after(|host| make(host, "card1")), (true, false));
    assert_eq!(after(|host| fs::create_dir(host.path("/sys/bus/x")).unwrap()), (true, true));
    let (host, proc) = started(|host| make(host, "card1"));
    let seen = Fingerprint::take(&proc);
    fs::rename(host.path(drm).join("card1"), host.path(drm).join("card2")).unwrap();
    assert!(!seen.is_unchanged(&proc), "another number");
    let seen = Fingerprint::take(&proc);
    fs::remove_dir_all(host.path(drm)).unwrap();
    assert!(!seen.is_unchanged(&proc), "the module is gone");
}
