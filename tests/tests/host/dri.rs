//! The DRI nodes of slices that render: from the kernel's sysfs, with and without the links that udev makes. Generator, watch,
//! doctor and hook find the same.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run, bare,
    hook::{feed, oci_config},
    run,
    watch::{Watch, until},
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

const SLICE: &str = "0:2g.48gb.gfx:0";
const CARD: &str = "/dev/dri/card1";
const RENDER: &str = "/dev/dri/renderD128";
const LINK_DIR: &str = "/dev/dri/by-path";
const CARD_LINK: &str = "/dev/dri/by-path/pci-0000:c1:00.0-card";
const RENDER_LINK: &str = "/dev/dri/by-path/pci-0000:c1:00.0-render";
const DRM: &str = "/sys/bus/pci/devices/0000:c1:00.0/drm";

/// A GPU whose DRI nodes have the major 509, which no driver of the machine has.
fn host() -> FakeHost {
    let host = FakeHost::with_nodes(preset("rtx-pro-6000").unwrap());
    host.configure_hook("");
    host
}

fn written(host: &FakeHost) -> Run {
    let run = host.generate(&[]);
    run.assert_code(0);
    run
}

/// Returns the DRI nodes of the slice in the spec on disk, by path: numbers and mode.
fn dri(host: &FakeHost) -> BTreeMap<String, (u64, u64, u64)> {
    let spec: Value =
        serde_json::from_str(&host.read_spec().unwrap_or_default()).unwrap_or_default();
    let devices = spec["devices"].as_array().into_iter().flatten();
    let slice = devices.into_iter().find(|device| device["name"] == SLICE);
    let nodes = slice.and_then(|slice| slice["containerEdits"]["deviceNodes"].as_array());
    let nodes = nodes.into_iter().flatten().filter_map(|node| {
        let path = node["path"].as_str()?.to_owned();
        let number = |key: &str| node[key].as_u64();
        let found = (number("major")?, number("minor")?, number("fileMode")?);
        path.starts_with("/dev/dri/").then_some((path, found))
    });
    nodes.collect()
}

fn paths(host: &FakeHost) -> Vec<String> {
    dri(host).into_keys().collect()
}

fn remove(host: &FakeHost, path: &str) {
    let path = host.path(path);
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

fn make(host: &FakeHost, path: &str, minor: u64) {
    let mode = Mode::from_bits_truncate(0o660);
    mknod(&host.path(path), SFlag::S_IFCHR, mode, makedev(509, minor)).unwrap();
}

fn precreate(host: &FakeHost) -> Run {
    host.precreate(&oci_config(&[], &[("mig-cdi/devices", SLICE)], false), &[])
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part} in {text}");
}

/// What the generator omits and the hook refuses, with one reason.
#[track_caller]
fn is_refused(host: &FakeHost, reason: &str) {
    // The spec is that of a host without the fault.
    let run = precreate(host);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    let cause = reason.split(';').next().unwrap();
    has(&run.stderr, cause);
    let run = host.run(&["generate", "--output=-"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    has(&run.stderr, &format!("error: gpu 0 gi 1: {reason}\n"));
    let doctor = host.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{}", doctor.stdout);
    has(&doctor.stdout, &format!("error    devices       gpu 0 gi 1: {cause}\n"));
    let check = host.run(&["check", &format!("--output={}", host.spec().display())]);
    assert_ne!(check.code, 0, "{}", check.stdout);
    has(&check.stderr, cause);
}

/// Container hosts without udev's rules for DRM, and driver containers, have no links.
#[test]
fn no_link_of_udev_is_needed() {
    let host = host();
    written(&host);
    assert_eq!(paths(&host), [CARD_LINK, RENDER_LINK, CARD, RENDER]);
    remove(&host, LINK_DIR);
    // The nodes in a spec that is older are still those of the slice.
    precreate(&host).assert_code(0);
    let check = host.run(&["check", &format!("--output={}", host.spec().display())]);
    assert_eq!(check.code, 6, "{}{}", check.stdout, check.stderr);
    has(&check.stdout, CARD_LINK);
    written(&host);
    let expected = [(CARD, (509, 1, 0o660)), (RENDER, (509, 128, 0o660))];
    assert_eq!(dri(&host), expected.map(|(path, node)| (path.to_owned(), node)).into());
    let config: Value = serde_json::from_str(&precreate(&host).stdout).unwrap();
    let devices = config["linux"]["devices"].as_array().unwrap();
    let given: Vec<_> = devices.iter().filter_map(|node| node["path"].as_str()).collect();
    assert!(given.contains(&CARD) && given.contains(&RENDER), "{given:?}");
    let show = host.run(&["show", SLICE]).stdout;
    let line = show.lines().find(|line| line.contains(CARD)).unwrap();
    assert!(line.contains(" same ") && line.ends_with(&format!("{DRM}/card1/dev")), "{line}");
    has(&host.run(&["doctor"]).stdout, "3 mig devices, all confirmed");
}

/// Nodes are numbered in the order in which drivers register. A link that an earlier order has left leads to another GPU.
#[test]
fn a_stale_link_gives_no_other_gpu() {
    let host = host();
    make(&host, "/dev/dri/card0", 0);
    remove(&host, CARD_LINK);
    symlink("../card0", host.path(CARD_LINK)).unwrap();
    written(&host);
    assert_eq!(paths(&host), [RENDER_LINK, CARD, RENDER]);
    assert_eq!(dri(&host)[CARD].1, 1);
    precreate(&host).assert_code(0);
}

/// What is done to a host.
type Fault<'f> = &'f dyn Fn(&FakeHost);

#[test]
fn a_node_that_is_missing_or_another_is_named() {
    let missing = "stat /dev/dri/card1: not there, and the kernel has 509:1 under this name; name a /dev that is a devtmpfs with --dev-root, or make it with mknod";
    let other = "stat /dev/dri/card1: it is 509:7, and the kernel has 509:1 under this name; remove it and make it with mknod";
    let no_node = "stat /dev/dri/card1: no character device, and the kernel has 509:1 under this name; remove it and make it with mknod";
    let unloaded = format!("list {DRM}: not there; run modprobe nvidia-drm");
    let faults: [(&str, Fault<'_>); 4] = [
        (missing, &|host| remove(host, CARD)),
        (other, &|host| {
            remove(host, CARD);
            make(host, CARD, 7);
        }),
        (no_node, &|host| {
            remove(host, CARD);
            fs::write(host.path(CARD), "").unwrap();
        }),
        (&unloaded, &|host| remove(host, DRM)),
    ];
    for (reason, fault) in faults {
        let host = host();
        written(&host);
        fault(&host);
        is_refused(&host, reason);
    }
    // The links alone are not believed where the kernel knows better.
    let host = host();
    written(&host);
    remove(&host, "/sys/bus/pci/devices/0000:c1:00.0");
    fs::create_dir(host.path("/sys/bus/pci/devices/0000:07:00.0")).unwrap();
    is_refused(
        &host,
        "list /sys/bus/pci/devices: 0000:c1:00.0 is not there, and the driver has it; see dmesg",
    );
}

/// Below a root without `/sys`, as that of some driver containers, the links are what there is.
#[test]
fn without_sysfs_the_links_name_the_nodes() {
    let host = host();
    remove(&host, "/sys");
    written(&host);
    assert_eq!(paths(&host), [CARD_LINK, RENDER_LINK, CARD, RENDER]);
    precreate(&host).assert_code(0);
    let show = host.run(&["show", SLICE]).stdout;
    let line = show.lines().find(|line| line.contains("/dev/dri/card1 ")).unwrap();
    assert!(line.ends_with(CARD_LINK), "{line}");
    remove(&host, LINK_DIR);
    is_refused(&host, &format!("stat {CARD_LINK}: not there; run modprobe nvidia-drm"));
}

/// A `/sys` of the machine that is no sysfs may be anybody's: it has forged numbers, and the hook refuses them.
#[test]
fn a_forged_sysfs_of_the_machine_is_refused() {
    let host = host();
    written(&host);
    let root = host.root().display().to_string();
    let config = fs::read_to_string(host.config()).unwrap();
    fs::write(
        host.config(),
        config.replace(&format!("proc-root = \"{root}\""), "proc-root = \"/\""),
    )
    .unwrap();
    // The driver's part of the fake /proc is put into that of the machine, in a mount namespace.
    let run = |prepare: &str| {
        let hook = host.hook(&["precreate", &format!("--config={}", host.config().display())]);
        let script = format!(
            "mount --bind {root}/proc/devices /proc/devices && mount --bind {root}/proc/driver /proc/driver && {prepare} && exec \"$@\""
        );
        let mut command = Command::new("unshare");
        bare(&mut command).args(["--mount", "sh", "-ec", &script, "sh"]);
        command.arg(hook.get_program()).args(hook.get_args());
        let config = oci_config(&[], &[("mig-cdi/devices", SLICE)], false);
        feed(&mut command, config.as_bytes())
    };
    let forged = run(&format!("mount -t tmpfs none /sys && cp -r {root}/sys/bus /sys"));
    assert_eq!(forged.code, 1, "{}", forged.stderr);
    has(&forged.stderr, "read /sys: it is no sysfs");
    // The machine's own sysfs has no such GPU.
    let own = run("true");
    assert_eq!(own.code, 1, "{}", own.stderr);
    has(&own.stderr, "list /sys/bus/pci/devices: 0000:c1:00.0 is not there");
}

/// nvidia-drm is loaded after the watch began: the kernel makes nodes, then udev sets their modes and makes its links.
#[test]
fn watch_follows_the_nodes() {
    let host = host();
    host.install();
    let unplugged = host.out().with_file_name("drm");
    fs::rename(host.path(DRM), &unplugged).unwrap();
    let kept = host.out().with_file_name("dri");
    fs::rename(host.path("/dev/dri"), &kept).unwrap();
    // The next refresh without a cause is too late for this test.
    let watch = Watch::start(&host, &["--leave-nodes", "--resync=300"]);
    until("a spec without graphics", || {
        host.read_spec()
            .is_some_and(|spec| !spec.contains(SLICE) && spec.contains("0:1g.24gb-me:3"))
    });
    fs::create_dir(host.path("/dev/dri")).unwrap();
    make(&host, CARD, 1);
    make(&host, RENDER, 128);
    fs::rename(&unplugged, host.path(DRM)).unwrap();
    until("the nodes", || paths(&host) == [CARD, RENDER]);
    for path in [CARD, RENDER] {
        fs::set_permissions(host.path(path), Permissions::from_mode(0o666)).unwrap();
    }
    until("their modes", || dri(&host).values().all(|(.., mode)| *mode == 0o666));
    fs::create_dir(host.path(LINK_DIR)).unwrap();
    symlink("../card1", host.path(CARD_LINK)).unwrap();
    symlink("../renderD128", host.path(RENDER_LINK)).unwrap();
    until("the links", || paths(&host) == [CARD_LINK, RENDER_LINK, CARD, RENDER]);
    // The driver stops to answer. What /proc and /sys show is what it was, so the slice stays.
    let failing =
        format!("faults.nvml = \"version-mismatch\"\n{}", preset("rtx-pro-6000").unwrap());
    fs::write(host.out().with_file_name("node.toml"), failing).unwrap();
    watch.signal(nix::sys::signal::Signal::SIGHUP);
    until("the state is failing", || {
        serde_json::from_str::<Value>(&watch.status())
            .is_ok_and(|status| status["state"] == "failing")
    });
    assert_eq!(paths(&host), [CARD_LINK, RENDER_LINK, CARD, RENDER]);
    // Another driver has registered before: the slice has other nodes.
    fs::rename(host.path(DRM).join("card1"), host.path(DRM).join("card2")).unwrap();
    fs::write(host.path(DRM).join("card2/dev"), "509:2\n").unwrap();
    until("the slice is gone", || paths(&host).is_empty());
    assert_eq!(watch.stop(), Some(0));
}

/// `mig-cdi nodes` makes no link to a DRI node, so the doctor names what does.
#[test]
fn a_missing_link_by_numbers_has_its_own_cure() {
    let host = host();
    written(&host);
    for dir in ["/run/systemd/system", "/dev/char"] {
        fs::create_dir_all(host.path(dir)).unwrap();
    }
    let root = format!("--host-root={}", host.root().display());
    let doctor = || {
        let text = host.run(&["doctor", &root]).stdout;
        text.lines()
            .skip_while(|line| !line.contains(" links "))
            .take(4)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let before = doctor();
    let cure = "run udevadm trigger --subsystem-match=drm as root";
    assert!(before.contains(cure) && before.contains("mig-cdi nodes as root"), "{before}");
    run(&mut host.command(&["nodes"])).assert_code(0);
    let after = doctor();
    has(&after, "missing or wrong: /dev/char/509:1, /dev/char/509:128; systemd needs them");
    assert!(after.contains(cure) && !after.contains("mig-cdi nodes"), "{after}");
    symlink("../dri/card1", host.path("/dev/char/509:1")).unwrap();
    symlink("../dri/renderD128", host.path("/dev/char/509:128")).unwrap();
    has(&doctor(), "/dev/char leads to ");
}
