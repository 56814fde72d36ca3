//! Device rules for the cgroup of a running container, with runc and crun, on cgroup v1 and v2, where the effect is
//! asserted from inside the container; and for cgroups with programs of every kind.
//!
//! No driver has these majors: opening a node that the device cgroup allows gives ENXIO, one that it denies EPERM.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, build_dir,
    podman::{Podman, VARIANTS, compile},
    run,
    watch::until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};
use tempfile::TempDir;

/// Returns the path of `sys/examples/device_cgroup.rs`, which cargo builds with the tests of its package.
fn example() -> PathBuf {
    let path = build_dir().join("examples/device_cgroup");
    let how = "cargo build -p mig-cdi-sys --example device_cgroup";
    assert!(path.exists(), "{} is not there: run {how}", path.display());
    path
}

/// Runs a script with every OCI runtime and cgroup version, and compares its output.
fn everywhere(script: &str, expected: &str) {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let script = script.replace("$EXAMPLE", &example().display().to_string());
    for variant in VARIANTS {
        println!("{variant:?}");
        let run = Podman::new(variant).script(&host, &script);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        similar_asserts::assert_eq!(run.stdout, expected, "{}", run.stderr);
    }
}

/// Script that opens, inside the container, two devices, their neighbours in each number, and the block device.
const PROBE: &str = "
cat >$HOME/probe <<'END'
$PODMAN exec $id probe 511:22 195:7 511:21 511:23 510:22 195:22 511:7
$PODMAN exec $id sh -c 'mknod /tmp/block b 511 22; head -c 1 /tmp/block; rm /tmp/block' 2>&1
cat /sys/fs/cgroup/devices/*/$id/devices.list >$HOME/$1 2>/dev/null || true
END
";
const DENIED: &str = "\
made 511:22 EPERM
made 195:7 EPERM
made 511:21 EPERM
made 511:23 EPERM
made 510:22 EPERM
made 195:22 EPERM
made 511:7 EPERM
head: /tmp/block: Operation not permitted
";

#[test]
fn a_running_container_can_use_allowed_devices_and_no_others() {
    let script = format!(
        "{PROBE}
        export id=$($PODMAN run -d --cap-add MKNOD --rootfs $ROOTFS sleep 1000)
        trap '$PODMAN rm -f -t 0 $id >/dev/null' EXIT
        cd $HOME
        sh probe before
        $EXAMPLE $($PODMAN inspect -f '{{{{.State.Pid}}}}' $id) 511:22 195:7 -- sh probe between
        sh probe after
        cmp before after
        ! [ -s before ] || [ \"$(grep -vxFf before between | tr '\\n' ,)\" = 'c 511:22 rw,c 195:7 rw,' ]"
    );
    let allowed =
        DENIED.replace("511:22 EPERM", "511:22 ENXIO").replace("195:7 EPERM", "195:7 ENXIO");
    let expected = format!(
        "{DENIED}scope none
before Some(0)
changed true None
{allowed}done Some(0)
after Some(0)
{DENIED}"
    );
    everywhere(&script, &expected);
}

/// Flag of an attachment beside which others are allowed, `BPF_F_ALLOW_MULTI`.
const MULTI: u32 = 2;

/// Cgroup `…/a.slice/b.scope/c` of version 2 with a process, and programs that deny everything.
struct Scratch {
    /// Its directories, from the leaf upwards.
    dirs: Vec<PathBuf>,
    process: Child,
    /// Has the helper, and a `/proc` that shows no hierarchy of version 1.
    dir: TempDir,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        compile("device-program.c", &dir.path().join("device-program"), &[]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<_> = mounts.lines().filter(|line| line.contains(" - cgroup2 ")).collect();
        let mount = mounts.first().expect("a mounted unified hierarchy of cgroups");
        let mount = Path::new(mount.split(' ').nth(4).unwrap());
        let slice = format!("mig-cdi-{name}-{}.slice", std::process::id());
        let leaf = mount.join(slice).join("b.scope/c");
        fs::create_dir_all(&leaf).unwrap();
        let dirs = leaf.ancestors().take(3).map(Path::to_owned).collect();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(leaf.join("cgroup.procs"), process.id().to_string()).unwrap();
        for id in ["self".to_owned(), process.id().to_string()] {
            let proc = dir.path().join("proc").join(&id);
            fs::create_dir_all(&proc).unwrap();
            let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap();
            let unified = groups.lines().find(|line| line.starts_with("0::")).unwrap();
            fs::write(proc.join("cgroup"), format!("{unified}\n")).unwrap();
        }
        fs::write(dir.path().join("proc/self/mountinfo"), mounts.join("\n") + "\n").unwrap();
        Scratch { dirs, process, dir }
    }

    fn helper(&self, args: &[&str]) -> String {
        let run = run(Command::new(self.dir.path().join("device-program")).args(args));
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    }

    fn attach(&self, level: usize, name: &str, flags: u32) {
        self.helper(&["attach", self.dirs[level].to_str().unwrap(), name, &flags.to_string()]);
    }

    /// Returns the attachment of a level: its flags, and each program's id, name and number of instructions.
    fn attached(&self, level: usize) -> String {
        self.helper(&["list", self.dirs[level].to_str().unwrap()])
    }

    fn all(&self) -> Vec<String> {
        (0..3).map(|level| self.attached(level)).collect()
    }

    /// Allows /dev/null and not /dev/zero, and prints the attachments of some levels while it is allowed.
    fn allow(&self, informed: bool, levels: &[usize]) -> String {
        let helper = self.dir.path().join("device-program");
        let list =
            |level: &usize| format!("{} list {}", helper.display(), self.dirs[*level].display());
        let script: Vec<_> = levels.iter().map(list).collect();
        let mut example = Command::new(example());
        example.arg(self.process.id().to_string()).args(["1:3", "!1:5", "--"]);
        example.arg(script.join(" && ")).env("PROC_ROOT", self.dir.path());
        if informed {
            example.env("SYSTEMD_INFORMED", "1");
        }
        let run = run(&mut example);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.stdout
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for dir in &self.dirs {
            // The kernel may still be about to take the ended process out of it.
            until("the cgroup is empty", || fs::remove_dir(dir).is_ok() || !dir.exists());
        }
    }
}

#[test]
fn each_kind_of_attachment_is_extended_and_restored() {
    for flags in 0..=MULTI {
        let scratch = Scratch::new("kind");
        let nothing = "scope b.scope\nbefore None\nchanged false None\ndone Some(0)\nafter None\n";
        assert_eq!(scratch.allow(false, &[]), nothing);
        scratch.attach(0, "sd_devices", flags);
        let before = scratch.attached(0);
        assert_eq!(
            scratch.allow(true, &[0]),
            format!(
                "scope b.scope\nbefore Some(0)\nchanged false Some(0)\n{before}done Some(0)\nafter Some(0)\n"
            ),
            "systemd changes its own"
        );
        let printed = scratch.allow(false, &[0]);
        let head = format!("scope b.scope\nbefore Some(0)\nchanged true Some(1)\nflags {flags}\n");
        let tail = " sd_devices 11\ndone Some(0)\nafter Some(0)\n";
        let id = printed.strip_prefix(&head).and_then(|rest| rest.strip_suffix(tail));
        let id = id.unwrap_or_else(|| panic!("one program of 9 + 2 instructions: {printed}"));
        assert_ne!(before, format!("flags {flags}\n{id} sd_devices 2\n"), "another program");
        assert_eq!(scratch.attached(0), before);
    }
}

#[test]
fn all_programs_of_the_unit_are_extended_and_none_above() {
    let scratch = Scratch::new("unit");
    for level in [0, 0, 1, 2] {
        scratch.attach(level, "a", MULTI);
    }
    let before = scratch.all();
    let printed = scratch.allow(false, &[0, 1, 2]);
    let head = "scope b.scope\nbefore Some(0)\nchanged true Some(0)\nflags 2\n";
    let rest =
        printed.strip_prefix(head).unwrap_or_else(|| panic!("denied by the slice: {printed}"));
    let [leaf, scope, above] = rest.split("flags 2\n").collect::<Vec<_>>()[..] else {
        panic!("three levels: {printed}")
    };
    assert_eq!((leaf.lines().count(), scope.lines().count()), (2, 1), "{printed}");
    for line in leaf.lines().chain(scope.lines()) {
        assert!(line.ends_with(" a 11") && !before.concat().contains(line), "{line}");
    }
    assert_eq!(above, before[2]["flags 2\n".len()..].to_owned() + "done Some(0)\nafter Some(0)\n");
    assert_eq!(scratch.all(), before);
}

#[test]
fn a_program_that_cannot_be_loaded_again_is_refused() {
    let scratch = Scratch::new("call");
    scratch.attach(0, "a", MULTI);
    scratch.helper(&["attach", scratch.dirs[1].to_str().unwrap(), "b", "2", "call"]);
    let before = scratch.all();
    let printed = scratch.allow(false, &[]);
    let refused = format!(
        "refused: extend the device program of {}: it calls a function\n",
        scratch.dirs[1].display()
    );
    assert_eq!(printed, format!("scope b.scope\nbefore Some(0)\n{refused}after Some(0)\n"));
    assert_eq!(scratch.all(), before);
}

/// A program of the slice that allows none beside it, attached last, makes the kernel refuse a replacement in the
/// scope, and none in the leaf (`hierarchy_allows_attach` in `kernel/bpf/cgroup.c`).
#[test]
fn the_steps_before_a_failure_are_undone() {
    let scratch = Scratch::new("undo");
    scratch.attach(0, "a", MULTI);
    scratch.attach(1, "b", MULTI);
    scratch.attach(2, "c", 0);
    let before = scratch.all();
    let printed = scratch.allow(false, &[]);
    let refused = format!("refused: replace the device program of {}: ", scratch.dirs[1].display());
    assert!(printed.contains(&refused) && printed.ends_with("\nafter Some(0)\n"), "{printed}");
    assert_eq!(scratch.all(), before);
}
