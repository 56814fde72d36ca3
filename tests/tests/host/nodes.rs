//! `mig-cdi nodes`: it creates the host's device nodes with the driver's numbers, and changes no other file.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, copy_program, program, run};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::Path,
    process::Command,
};

const A100: &str = "a100-80gb";
const CAP: &str = "/dev/nvidia-caps/nvidia-cap30";
const ACCESS: &str = "/proc/driver/nvidia/capabilities/gpu0/mig/gi3/access";

fn host() -> FakeHost {
    FakeHost::with_nodes(preset(A100).unwrap())
}

/// Makes a host whose nodes and links are correct.
fn settled() -> FakeHost {
    let host = host();
    nodes(&host, &[]).assert_code(0);
    host
}

fn nodes(host: &FakeHost, args: &[&str]) -> Run {
    host.run(&[&["nodes"], args].concat())
}

fn node(host: &FakeHost, path: &str, (major, minor): (u64, u64), mode: u32) {
    let path = host.path(path);
    let _ = fs::remove_file(&path);
    mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns numbers, mode and owner of a node: `508:30 0444 0:0`.
fn stat(host: &FakeHost, path: &str) -> Option<String> {
    let found = fs::symlink_metadata(host.path(path)).ok()?;
    assert!(found.file_type().is_char_device(), "{path}");
    let (major, minor, mode) = (major(found.rdev()), minor(found.rdev()), found.mode() & 0o7777);
    Some(format!("{major}:{minor} {mode:04o} {}:{}", found.uid(), found.gid()))
}

fn link(host: &FakeHost, numbers: &str) -> Option<String> {
    let target = fs::read_link(host.path("/dev/char").join(numbers)).ok()?;
    Some(target.to_str().unwrap().to_owned())
}

/// Returns everything below /dev, with the attributes that show a change.
fn dev(host: &FakeHost) -> BTreeMap<String, (u64, u32, i64, i64, i64, i64)> {
    fn walk(dir: &Path, all: &mut BTreeMap<String, (u64, u32, i64, i64, i64, i64)>) {
        let found = fs::symlink_metadata(dir).unwrap();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        let key = dir.to_str().unwrap().to_owned();
        all.insert(key, (found.ino(), found.mode(), times.0, times.1, times.2, times.3));
        if found.is_dir() {
            fs::read_dir(dir).unwrap().for_each(|entry| walk(&entry.unwrap().path(), all));
        }
    }
    let mut all = BTreeMap::new();
    walk(&host.path("/dev"), &mut all);
    all
}

fn has_temporary(host: &FakeHost) -> bool {
    dev(host).keys().any(|path| path.rsplit('/').next().unwrap().starts_with('.'))
}

/// Replaces the driver's files by those of another node; /dev stays.
fn driver_becomes(host: &FakeHost, description: &str) {
    fs::rename(host.path("/dev"), host.path("/kept")).unwrap();
    fs::create_dir(host.path("/dev")).unwrap();
    host.replace_node(description);
    fs::remove_dir_all(host.path("/dev")).unwrap();
    fs::rename(host.path("/kept"), host.path("/dev")).unwrap();
}

/// Returns the node without its last slice, gi 9 at capabilities 84 and 85; gi 3 has capabilities 30 and 31.
fn without_last() -> String {
    let text = preset(A100).unwrap();
    text.replace("    { profile = \"1g.10gb\", start = 6 },\n", "")
}

fn edit(host: &FakeHost, path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(host.path(path)).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(host.path(path), text.replace(from, to)).unwrap();
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line:?} in {text}");
}

#[test]
fn missing_nodes_are_created() {
    for umask in ["022", "077"] {
        let host = host();
        fs::remove_dir_all(host.path("/dev")).unwrap();
        fs::create_dir(host.path("/dev")).unwrap();
        edit(
            &host,
            "/proc/driver/nvidia/params",
            "GID: 0\nDeviceFileMode: 438",
            "GID: 44\nDeviceFileMode: 432",
        );
        let command = host.command(&["nodes"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        // NVML is not loaded: there is none.
        let run = run(shell.arg(command.get_program()).args(command.get_args()).env_clear());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
        for (path, numbers, target) in [
            ("/dev/nvidiactl", "195:255 0660 0:44", "../nvidiactl"),
            ("/dev/nvidia-uvm", "511:0 0660 0:44", "../nvidia-uvm"),
            ("/dev/nvidia-uvm-tools", "511:1 0660 0:44", "../nvidia-uvm-tools"),
            ("/dev/nvidia0", "195:0 0660 0:44", "../nvidia0"),
            ("/dev/nvidia-caps/nvidia-cap1", "508:1 0400 0:0", "../nvidia-caps/nvidia-cap1"),
            ("/dev/nvidia-caps/nvidia-cap2", "508:2 0444 0:0", "../nvidia-caps/nvidia-cap2"),
            (CAP, "508:30 0444 0:0", "../nvidia-caps/nvidia-cap30"),
            ("/dev/nvidia-caps/nvidia-cap31", "508:31 0444 0:0", "../nvidia-caps/nvidia-cap31"),
        ] {
            assert_eq!(stat(&host, path).as_deref(), Some(numbers), "{path}");
            let numbers = numbers.split(' ').next().unwrap();
            assert_eq!(link(&host, numbers).as_deref(), Some(target));
        }
        for dir in ["/dev/nvidia-caps", "/dev/char"] {
            assert_eq!(fs::metadata(host.path(dir)).unwrap().mode() & 0o7777, 0o755);
        }
        for line in [
            "make /dev/nvidia-caps 0755",
            "make /dev/nvidia-caps/nvidia-cap30 508:30 0444",
            "make /dev/nvidia0 195:0 0660 of 0:44",
            "link /dev/char/508:30 -> ../nvidia-caps/nvidia-cap30",
        ] {
            has(&run.stdout, line);
        }
        // The driver's 4 nodes, 2 capabilities, 4 slices of 2, their links, 2 directories.
        assert_eq!(run.stdout.lines().count(), 2 * (4 + 2 + 8) + 2);
        assert!(!has_temporary(&host), "no temporary name is left");
    }
}

#[test]
fn a_second_run_changes_nothing() {
    let host = settled();
    let before = dev(&host);
    let run = nodes(&host, &[]);
    let message = "nothing to change: all device nodes are correct\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", message));
    assert_eq!(dev(&host), before);
}

#[test]
fn a_dry_run_prints_the_same_and_changes_nothing() {
    let host = host();
    node(&host, CAP, (234, 30), 0o444);
    fs::remove_file(host.path("/dev/nvidia0")).unwrap();
    let before = dev(&host);
    let dry = nodes(&host, &["--dry-run"]);
    dry.assert_code(0);
    assert_eq!(dev(&host), before);
    has(&dry.stdout, "would replace /dev/nvidia-caps/nvidia-cap30 508:30 0444");
    let json = nodes(&host, &["--dry-run", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["dry_run"], true);
    let made = json["changes"].as_array().unwrap().iter().find(|c| c["path"] == "/dev/nvidia0");
    let made = made.unwrap();
    assert_eq!((&made["action"], &made["minor"]), (&"make".into(), &0.into()));
    let actual = nodes(&host, &[]).stdout;
    assert_eq!(
        dry.stdout,
        actual.lines().map(|line| format!("would {line}\n")).collect::<String>()
    );
}

#[test]
fn wrong_nodes_are_replaced() {
    for (numbers, mode, owner) in [
        ((234, 30), 0o444, 0),
        ((508, 31), 0o444, 0),
        ((508, 30), 0o666, 0),
        ((508, 30), 0o444, 1234),
    ] {
        let host = settled();
        node(&host, CAP, numbers, mode);
        lchown(host.path(CAP), Some(owner), Some(owner)).unwrap();
        let old = format!("{}:{}", numbers.0, numbers.1);
        if old == "234:30" {
            symlink("../nvidia-caps/nvidia-cap30", host.path("/dev/char/234:30")).unwrap();
        }
        let run = nodes(&host, &[]);
        run.assert_code(0);
        has(&run.stdout, "replace /dev/nvidia-caps/nvidia-cap30 508:30 0444");
        assert_eq!(stat(&host, CAP).as_deref(), Some("508:30 0444 0:0"));
        assert_eq!(link(&host, "234:30"), None, "the old numbers lead nowhere");
        assert_eq!(link(&host, "508:31").as_deref(), Some("../nvidia-caps/nvidia-cap31"));
        assert_eq!(nodes(&host, &[]).stdout, "");
    }
}

#[test]
fn nodes_of_vanished_instances_are_removed_and_others_stay() {
    let host = settled();
    driver_becomes(&host, &without_last());
    // Capabilities of other kinds, one of a vanished instance with the major of an older driver, and files that are
    // no node of a capability.
    node(&host, "/dev/nvidia-caps/nvidia-cap0", (508, 0), 0o444);
    // 3 + 135 * 32: the first minor after those of the 32 GPUs that the driver supports (`nv-caps.c`).
    node(&host, "/dev/nvidia-caps/nvidia-cap4323", (508, 4323), 0o444);
    node(&host, "/dev/nvidia-caps/nvidia-cap99", (234, 99), 0o444);
    node(&host, "/dev/nvidia-caps/nvidia-cap098", (508, 98), 0o444);
    node(&host, "/dev/nvidia-caps/null", (1, 3), 0o666);
    fs::write(host.path("/dev/nvidia-caps/nvidia-cap97"), "mine").unwrap();
    symlink("/dev/null", host.path("/dev/nvidia-caps/nvidia-cap96")).unwrap();
    symlink("../nvidia-caps/nvidia-cap99", host.path("/dev/char/234:99")).unwrap();
    let run = nodes(&host, &[]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let mut lines: Vec<_> = run.stdout.lines().collect();
    lines.sort_unstable();
    let gone: Vec<_> = destroyed_caps().iter().map(|minor| minor.to_string()).collect();
    let mut expected = vec![
        "remove /dev/char/234:99".to_owned(),
        "remove /dev/nvidia-caps/nvidia-cap99".to_owned(),
    ];
    for minor in &gone {
        expected.push(format!("remove /dev/char/508:{minor}"));
        expected.push(format!("remove /dev/nvidia-caps/nvidia-cap{minor}"));
    }
    expected.sort();
    assert_eq!(lines, expected);
    for left in
        ["nvidia-cap0", "nvidia-cap4323", "nvidia-cap098", "null", "nvidia-cap97", "nvidia-cap96"]
    {
        assert!(host.path("/dev/nvidia-caps").join(left).symlink_metadata().is_ok(), "{left}");
    }
    assert_eq!(nodes(&host, &[]).stdout, "");
}

/// `--prune`, for the removal of mig-cdi: it removes stale nodes and creates none.
#[test]
fn prune_removes_only_stale_nodes() {
    let host = settled();
    driver_becomes(&host, &without_last());
    fs::remove_file(host.path("/dev/nvidia-uvm")).unwrap();
    fs::remove_file(host.path("/dev/char/195:255")).unwrap();
    node(&host, CAP, (234, 30), 0o444);
    symlink("../nvidia-caps/nvidia-cap30", host.path("/dev/char/234:30")).unwrap();
    node(&host, "/dev/nvidia0", (195, 0), 0o600);
    let run = nodes(&host, &["--prune"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let mut expected = vec![format!("remove {CAP}"), "remove /dev/char/234:30".to_owned()];
    for minor in destroyed_caps() {
        expected.push(format!("remove /dev/char/508:{minor}"));
        expected.push(format!("remove /dev/nvidia-caps/nvidia-cap{minor}"));
    }
    expected.sort();
    let mut lines: Vec<_> = run.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(stat(&host, "/dev/nvidia0").as_deref(), Some("195:0 0600 0:0"), "it is itself");
    assert_eq!(stat(&host, "/dev/nvidia-uvm"), None);
    assert_eq!(nodes(&host, &["--prune"]).stdout, "");
}

/// Returns the capability minors of the slice that [`without_last`] lacks, from the driver's own files.
fn destroyed_caps() -> Vec<u32> {
    let caps = |description: &str| {
        let host = FakeHost::with_nodes(description);
        let list = fs::read_dir(host.path("/dev/nvidia-caps")).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let minor = |name: String| name.trim_start_matches("nvidia-cap").parse::<u32>().unwrap();
        list.map(|entry| minor(name(entry.unwrap()))).collect::<Vec<_>>()
    };
    let left = caps(&without_last());
    let gone: Vec<_> =
        caps(preset(A100).unwrap()).into_iter().filter(|cap| !left.contains(cap)).collect();
    assert_eq!(gone.len(), 2);
    gone
}

/// A node without slices: the nodes of old slices are removed, the driver's own stay.
#[test]
fn without_an_instance_all_capability_nodes_are_removed() {
    let host = settled();
    fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig")).unwrap();
    fs::create_dir(host.path("/proc/driver/nvidia/capabilities/gpu0/mig")).unwrap();
    assert_eq!(nodes(&host, &[]).stdout.lines().count(), 2 * 8);
    assert!(stat(&host, "/dev/nvidia-caps/nvidia-cap1").is_some() && stat(&host, CAP).is_none());
}

#[test]
fn a_node_that_cannot_be_confirmed_is_not_removed() {
    let tree = "/proc/driver/nvidia/capabilities";
    type Damage<'a> = &'a dyn Fn(&FakeHost);
    let remove = |host: &FakeHost, path: &str| fs::remove_dir_all(host.path(path)).unwrap();
    let cases: [(&str, i32, Damage); 7] = [
        ("one access file cut short", 3, &|host| fs::write(host.path(ACCESS), "DeviceFi").unwrap()),
        ("no access file", 3, &|host| fs::remove_file(host.path(ACCESS)).unwrap()),
        ("no tree", 3, &|host| remove(host, tree)),
        ("the subtree of a gpu that is not initialized", 0, &|host| {
            remove(host, &format!("{tree}/gpu0"))
        }),
        ("no gpu to the tree", 3, &|host| {
            remove(host, "/proc/driver/nvidia/gpus");
        }),
        ("a gpu that cannot be read", 3, &|host| {
            let gpus = fs::read_dir(host.path("/proc/driver/nvidia/gpus")).unwrap();
            gpus.for_each(|gpu| fs::write(gpu.unwrap().path().join("information"), "").unwrap());
        }),
        ("no table", 1, &|host| {
            fs::remove_file(host.path("/proc/driver/nvidia-caps/mig-minors")).unwrap();
        }),
    ];
    for (what, code, damage) in cases {
        let host = settled();
        driver_becomes(&host, &without_last());
        damage(&host);
        let before = dev(&host);
        fs::remove_file(host.path("/dev/nvidiactl")).unwrap();
        let run = nodes(&host, &[]);
        assert_eq!(run.code, code, "{what}: {}{}", run.stdout, run.stderr);
        assert!(!run.stdout.contains("remove"), "{what}: {}", run.stdout);
        let after = dev(&host);
        assert!(before.keys().all(|path| path.ends_with("nvidiactl") || after.contains_key(path)));
        // Nodes with confirmed numbers are created all the same.
        assert_eq!(stat(&host, "/dev/nvidiactl").is_some(), code != 1, "{what}");
    }
}

#[test]
fn without_a_driver_nothing_is_changed() {
    for (what, damage) in [("no nvidia driver", true), ("\"nvidia-caps\"", false)] {
        let host = settled();
        match damage {
            true => fs::remove_dir_all(host.path("/proc/driver/nvidia")).unwrap(),
            false => {
                edit(&host, "/proc/devices", "508 nvidia-caps\n", "");
                fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities")).unwrap();
            }
        }
        let before = dev(&host);
        let run = nodes(&host, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""));
        assert!(run.stderr.contains(what), "{}", run.stderr);
        assert_eq!(dev(&host), before);
    }
}

#[test]
fn nodes_of_the_administrator_are_not_changed() {
    let host = settled();
    edit(&host, ACCESS, "Modify: 1", "Modify: 0");
    edit(&host, "/proc/driver/nvidia/params", "ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0");
    node(&host, CAP, (508, 30), 0o600);
    node(&host, "/dev/nvidia0", (195, 7), 0o666);
    fs::remove_file(host.path("/dev/nvidiactl")).unwrap();
    fs::remove_file(host.path("/dev/char/508:30")).unwrap();
    let run = nodes(&host, &["--verbose"]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "link /dev/char/508:30 -> ../nvidia-caps/nvidia-cap30\n")
    );
    for (path, setting) in [
        (CAP, "DeviceFileModify is 0 in its access file"),
        ("/dev/nvidia0", "NVreg_ModifyDeviceFiles is 0"),
        ("/dev/nvidiactl", "NVreg_ModifyDeviceFiles is 0"),
    ] {
        has(&run.stderr, &format!("detail: {path} is not changed: {setting}"));
    }
    assert_eq!(stat(&host, CAP).as_deref(), Some("508:30 0600 0:0"));
    assert_eq!(stat(&host, "/dev/nvidia0").as_deref(), Some("195:7 0666 0:0"));
    // The other capability nodes are created.
    fs::remove_file(host.path("/dev/nvidia-caps/nvidia-cap31")).unwrap();
    has(&nodes(&host, &[]).stdout, "make /dev/nvidia-caps/nvidia-cap31 508:31 0444");
}

/// `options nvidia NVreg_DeviceFileMode=666`: every command goes on, with the line to write.
#[test]
fn a_mode_that_was_meant_to_be_octal_is_explained() {
    let host = settled();
    edit(&host, "/proc/driver/nvidia/params", "DeviceFileMode: 438", "DeviceFileMode: 666");
    let spec = format!("--output={}", host.spec().display());
    for args in [&["list"][..], &["generate", &spec], &["show", "0:2g.20gb:4"]] {
        let run = host.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        has(
            &run.stderr,
            "warning: /proc/driver/nvidia/params: DeviceFileMode is 666, which the nvidia module takes for a decimal number, \
             mode 01232; for mode 0666 load it with NVreg_DeviceFileMode=438",
        );
    }
}

#[test]
fn a_file_that_is_no_device_is_not_replaced() {
    for (what, put) in
        [("a directory", 0), ("a regular file", 1), ("a symbolic link to \"null\"", 2)]
    {
        let host = settled();
        let path = host.path(CAP);
        fs::remove_file(&path).unwrap();
        match put {
            0 => fs::create_dir(&path).unwrap(),
            1 => fs::write(&path, "mine").unwrap(),
            _ => symlink("null", &path).unwrap(),
        }
        fs::remove_file(host.path("/dev/nvidia0")).unwrap();
        let before = fs::symlink_metadata(&path).unwrap();
        let run = nodes(&host, &[]);
        let message = format!("error: make TMP/root{CAP}: {what} is in its place; remove it\n");
        assert_eq!((run.code, run.stderr), (1, message));
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before.ino());
        assert!(stat(&host, "/dev/nvidia0").is_some(), "the others are made");
    }
}

#[test]
fn directories_that_another_user_can_write_are_refused() {
    for dir in ["/dev/nvidia-caps", "/dev/char"] {
        let host = settled();
        fs::rename(host.path(dir), host.path("/elsewhere")).unwrap();
        symlink(host.path("/elsewhere"), host.path(dir)).unwrap();
        fs::remove_file(host.path("/dev/nvidia0")).unwrap();
        fs::remove_file(host.path("/elsewhere").join(if dir == "/dev/char" {
            "508:30"
        } else {
            "nvidia-cap30"
        }))
        .unwrap();
        let before = (fs::read_dir(host.path("/elsewhere")).unwrap().count(), dev(&host));
        let run = nodes(&host, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{}", run.stderr);
        assert!(
            run.stderr.contains(&format!("TMP/root{dir}: it is a symbolic link")),
            "{}",
            run.stderr
        );
        let after = (fs::read_dir(host.path("/elsewhere")).unwrap().count(), dev(&host));
        assert_eq!(after, before);
    }
    for dir in ["/dev", "/dev/nvidia-caps", "/dev/char"] {
        let host = settled();
        fs::remove_file(host.path("/dev/nvidia0")).unwrap();
        fs::set_permissions(host.path(dir), Permissions::from_mode(0o775)).unwrap();
        let open = nodes(&host, &[]);
        assert!(open.code == 5 && open.stderr.contains("chmod go-w"), "{}", open.stderr);
        fs::set_permissions(host.path(dir), Permissions::from_mode(0o755)).unwrap();
        chown(host.path(dir), Some(1234), None).unwrap();
        let foreign = nodes(&host, &[]);
        assert!(foreign.code == 5 && foreign.stderr.contains("user 1234"), "{}", foreign.stderr);
        assert!(stat(&host, "/dev/nvidia0").is_none());
    }
}

#[test]
fn links_are_recreated_and_files_in_their_place_kept() {
    let host = settled();
    let at = |name: &str| host.path("/dev/char").join(name);
    for name in ["195:0", "508:30", "508:31", "195:255"] {
        fs::remove_file(at(name)).unwrap();
    }
    symlink("../nvidia7", at("195:0")).unwrap();
    fs::write(at("508:30"), "mine").unwrap();
    // Links as nvidia-ctk makes them.
    symlink("/dev/nvidiactl", at("195:255")).unwrap();
    symlink("../sda", at("8:0")).unwrap();
    let run = nodes(&host, &[]);
    run.assert_code(0);
    let expected = "link /dev/char/195:0 -> ../nvidia0\nlink /dev/char/508:31 -> ../nvidia-caps/nvidia-cap31\n";
    assert_eq!(run.stdout, expected);
    let warning = "warning: link TMP/root/dev/char/508:30: a file that is no symbolic link is in its place; remove it\n";
    assert_eq!(run.stderr, warning);
    assert_eq!(fs::read_to_string(at("508:30")).unwrap(), "mine");
    assert_eq!(link(&host, "8:0").as_deref(), Some("../sda"));
}

/// GPUs that swapped their minors: each link has its new target, whatever it had before.
#[test]
fn links_follow_swapped_nodes() {
    let host = FakeHost::with_nodes(preset("hgx-h100").unwrap());
    nodes(&host, &[]).assert_code(0);
    node(&host, "/dev/nvidia0", (195, 1), 0o666);
    node(&host, "/dev/nvidia1", (195, 0), 0o666);
    for (numbers, target) in [("195:0", "../nvidia1"), ("195:1", "../nvidia0")] {
        fs::remove_file(host.path("/dev/char").join(numbers)).unwrap();
        symlink(target, host.path("/dev/char").join(numbers)).unwrap();
    }
    assert_eq!(nodes(&host, &[]).stdout.lines().count(), 4);
    assert_eq!(link(&host, "195:0").as_deref(), Some("../nvidia0"));
    assert_eq!(link(&host, "195:1").as_deref(), Some("../nvidia1"));
    assert_eq!(nodes(&host, &[]).stdout, "");
}

#[test]
fn an_ordinary_user_can_do_a_dry_run() {
    let host = host();
    for dir in host.root().ancestors().take(2) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let copy = host.root().join("mig-cdi");
    copy_program(&program("mig-cdi"), &copy);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(args);
        run(command.args(host.flags()).env_clear())
    };
    let before = dev(&host);
    let run = as_nobody(&["nodes"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    let cure = "not permitted; run it as root, or with --dry-run";
    assert!(run.stderr.contains(cure), "{}", run.stderr);
    let dry = as_nobody(&["nodes", "--dry-run"]);
    assert_eq!((dry.code, dry.stderr.as_str()), (0, ""));
    has(&dry.stdout, "would link /dev/char/508:30 -> ../nvidia-caps/nvidia-cap30");
    assert_eq!(dev(&host), before);
    host.run(&["nodes", "--node=a30"]).assert_code(2);
}

/// Killed at any system call that changes something: each node is correct or as before, and the next run removes
/// leftovers.
#[test]
fn a_killed_run_leaves_no_incomplete_node() {
    for call in ["mknodat", "fchownat", "renameat", "symlinkat"] {
        for when in [1, 2] {
            let host = settled();
            node(&host, "/dev/nvidia0", (195, 7), 0o600);
            fs::remove_file(host.path(CAP)).unwrap();
            fs::remove_file(host.path("/dev/char/508:31")).unwrap();
            let command = host.command(&["nodes"]);
            let mut strace = Command::new("strace");
            strace.args([
                "-qq",
                "-o/dev/null",
                "-e",
                &format!("inject={call}:signal=KILL:when={when}"),
            ]);
            let killed =
                run(strace.arg(command.get_program()).args(command.get_args()).env_clear());
            let once = call == "symlinkat" && when == 2;
            assert_eq!(killed.code == 0, once, "{call} {when}: {}", killed.stderr);
            for (path, old, new) in [
                ("/dev/nvidia0", Some("195:7 0600 0:0"), "195:0 0666 0:0"),
                (CAP, None, "508:30 0444 0:0"),
            ] {
                let found = stat(&host, path);
                assert!(found.as_deref() == old || found.as_deref() == Some(new), "{found:?}");
            }
            let next = nodes(&host, &[]);
            assert_eq!(
                (next.code, next.stderr.lines().count()),
                (0, usize::from(next.stdout.is_empty()))
            );
            assert_eq!(stat(&host, "/dev/nvidia0").as_deref(), Some("195:0 0666 0:0"));
            assert!(stat(&host, CAP).is_some() && link(&host, "508:31").is_some());
            assert!(!has_temporary(&host), "{call} {when}");
        }
    }
}
