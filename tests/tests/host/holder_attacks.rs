//! Attacks on the search for holders of slices, with real containers and processes: to hide a slice that is in use, to keep one without a
//! right to it, and to make the search slow. `docs/attacks.md` has the list.

use mig_cdi_tests::{
    Run,
    closed_cgroup::ClosedCgroup,
    deadline::kill_and_wait,
    fake_kubelet::FakeKubelet,
    partition_host::{PartitionHost, with_node_mounts, without_node_mounts},
    podman::{Podman, VARIANTS, compile},
    running_plugin::{RunningPlugin, kubelet_dir},
    through,
    watch::until,
    without_capabilities,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

/// Host, and the lock that its test has while it is there.
struct Locked<G> {
    host: PartitionHost,
    _lock: G,
}

impl<G> std::ops::Deref for Locked<G> {
    type Target = PartitionHost;

    fn deref(&self) -> &PartitionHost {
        &self.host
    }
}

/// Host with two slices of 2g.20gb, whose capability nodes have a major number that no other test's have.
fn host(major: u32) -> Locked<RwLockReadGuard<'static, ()>> {
    let lock = without_node_mounts();
    Locked { host: two_slices(major), _lock: lock }
}

/// The same for a test that mounts nodes.
fn host_with_mounts(major: u32) -> Locked<RwLockWriteGuard<'static, ()>> {
    let lock = with_node_mounts();
    Locked { host: two_slices(major), _lock: lock }
}

fn two_slices(major: u32) -> PartitionHost {
    let host = PartitionHost::new(&format!(
        "[majors]\nnvidia-caps = {major}\n[[gpu]]\nmodel = \"a100-80gb\"\nuuid = \"GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7c{major:04}\"\n\
         instances = [{{ profile = \"2g.20gb\", start = 0 }}, {{ profile = \"2g.20gb\", start = 2 }}]\n"
    ));
    fs::write(host.fake.config(), "capabilities = \"none\"\n").unwrap();
    host
}

/// Script in which `apply` partitions the host.
fn script(host: &PartitionHost, script: &str) -> String {
    let dir = host.fake.out().parent().unwrap().display().to_string();
    format!(
        "DIR={dir}
        apply() {{ $MIG_CDI apply $FLAGS --journal-dir=$DIR/journal --state-dir=$DIR/state \"$@\"; }}
        trap '$PODMAN rm -af -t 0 >/dev/null 2>&1' EXIT
        $MIG_CDI generate $FLAGS >/dev/null
        {script}"
    )
}

/// Ways in which the programs of a container can hide that it has a slice. Each ends in a program that sleeps.
const HIDING: [(&str, &str); 5] = [
    ("renamed nodes, an empty environment", "mv /dev/nvidia-caps /dev/.x; exec env -i sleep 1000"),
    ("removed nodes", "rm -r /dev/nvidia-caps; exec env -i sleep 1000"),
    (
        "a root without nodes",
        "mkdir -p /tmp/e/bin; cp /bin/busybox /tmp/e/bin/sleep; exec env -i chroot /tmp/e /bin/sleep 1000",
    ),
    (
        "the node of a container that may partition",
        "mknod /dev/nvidia-caps/nvidia-cap1 c 486 1; exec sleep 1000",
    ),
    (
        "two megabytes of environment",
        "x=x; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do x=$x$x; done; i=0; \
         while [ $i -lt 30 ]; do i=$((i+1)); export v$i=$x; done; exec sleep 1000",
    ),
];

/// S20: a slice counts as in use as long as the kernel lets the container open its nodes, whatever the container does with them.
#[test]
fn a_container_cannot_hide_its_slice() {
    for variant in VARIANTS {
        for (what, hide) in HIDING {
            let host = host(486);
            let hide = hide.replace('\'', "'\\''");
            let run = format!(
                "id=$($PODMAN run -d --cap-add MKNOD --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS sh -c '{hide}; sleep 1000')
                short=${{id%${{id#????????????}}}}
                sleep 0.3
                if apply 0=7g.80gb 2>$DIR/errors; then echo destroyed; fi
                grep -q \"in use by container $short\" $DIR/errors || cat $DIR/errors
                $PODMAN rm -f -t 0 $id >/dev/null
                apply 0=7g.80gb >/dev/null && echo freed"
            );
            let run = Podman::of_machine(variant).script(&host.fake, &script(&host, &run));
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (0, "freed\n"),
                "{variant:?} {what}: {}",
                run.stderr
            );
        }
    }
}

/// S20: the device cgroup is consulted when a node is opened. A container that receives an open one over a socket can use it, whatever
/// its own rules are, also when the container that had the slice has ended. The nodes of this host are consoles, which can be opened.
#[test]
fn a_descriptor_from_another_container_is_seen() {
    let _lock = without_node_mounts();
    for variant in VARIANTS {
        let host = PartitionHost::new(
            "[majors]\nnvidia-caps = 4\n[[gpu]]\nmodel = \"a100-80gb\"\n\
             uuid = \"GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7c0004\"\n\
             instances = [{ profile = \"2g.20gb\", start = 0 }]\n",
        );
        fs::write(host.fake.config(), "capabilities = \"none\"\n").unwrap();
        let program = host.fake.out().with_file_name("send-descriptor");
        compile("send-descriptor.c", &program, &["-static"]);
        let run = "
            mkdir $DIR/share
            share=\"-v $DIR/share:/share -v $DIR/send-descriptor:/bin/send-descriptor:ro --rootfs $ROOTFS send-descriptor\"
            b=$($PODMAN run -d $share receive /share/socket)
            a=$($PODMAN run -d --device nvidia.com/mig=0:2g.20gb:0 $share send /share/socket /dev/nvidia-caps/nvidia-cap31)
            until [ -e $DIR/share/socket.received ]; do sleep 0.1; done
            $PODMAN rm -f -t 0 $a >/dev/null
            short=${b%${b#????????????}}
            if apply 0=7g.80gb 2>$DIR/errors; then echo destroyed; fi
            grep -q \"in use by container $short\" $DIR/errors || cat $DIR/errors
            $PODMAN rm -f -t 0 $b >/dev/null
            apply 0=7g.80gb >/dev/null && echo freed";
        let run = Podman::of_machine(variant).script(&host.fake, &script(&host, run));
        assert_eq!((run.code, run.stdout.as_str()), (0, "freed\n"), "{variant:?}: {}", run.stderr);
    }
}

/// A slice whose nodes a container may open, which the kubelet knows nothing of, is allocated to no pod until that container ends.
#[test]
fn a_slice_that_a_container_may_open_is_allocated_to_no_pod() {
    const RESOURCE: &str = "nvidia.com/mig-2g.20gb";
    // A plugin that does not partition GPUs examines the cgroups too.
    let variants =
        [("runc", "v1", true), ("crun", "v2", true), ("runc", "v2", false), ("crun", "v1", false)];
    for (runtime, cgroup, partitions) in variants {
        let variant = (runtime, cgroup);
        let host = host(477);
        let path = |name| host.fake.out().with_file_name(name);
        let (running, stop, layouts) = (path("running"), path("stop"), path("layouts.yaml"));
        fs::write(&layouts, "version: v1\nmig-configs: {}\n").unwrap();
        let layouts = format!("--layouts-file={}", layouts.display());
        let podman = Podman::of_machine(variant);
        let script = script(
            &host,
            "$PODMAN run -d --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS sleep 1000 >$DIR/id
            mv $DIR/id $DIR/running
            until [ -e $DIR/stop ]; do sleep 0.1; done",
        );
        std::thread::scope(|scope| {
            let container = scope.spawn(|| podman.script(&host.fake, &script));
            let stop = Stop(stop);
            until("the container", || running.exists() || container.is_finished());
            let kubelet = FakeKubelet::start(&kubelet_dir(&host.fake));
            let options = [&*layouts, "--node-name=node", "--kubeconfig=/nonexistent"];
            let options = if partitions { &options[..] } else { &[] };
            let plugin = RunningPlugin::start(&host.fake, options);
            kubelet.until_counts("the slices", &[("mig-2g.20gb", 2)]);
            let allocate = |id: &str| kubelet.allocate(RESOURCE, &[&[id]]);
            let ids = Vec::from_iter(kubelet.healthy(RESOURCE));
            let (held, free): (Vec<_>, Vec<_>) = ids.iter().partition(|id| allocate(id).is_err());
            let what = format!("{variant:?} {partitions}: {}", plugin.log());
            assert_eq!((held.len(), free.len()), (1, 1), "{what}");
            let container_id = fs::read_to_string(&running).unwrap();
            let refused = allocate(held[0]).unwrap_err().to_string();
            let holder = format!("in use by container {} (pid ", &container_id[..12]);
            assert!(refused.contains(&holder), "{refused}");
            drop(stop);
            container.join().unwrap().assert_code(0);
            allocate(held[0]).unwrap();
            assert_eq!(plugin.stop(), Some(0));
        });
    }
}

/// What is not covered: a plugin in a PID namespace of its own, as in its chart, sees no container. It says so.
#[test]
fn a_plugin_that_sees_no_container_says_so() {
    const RESOURCE: &str = "nvidia.com/mig-2g.20gb";
    let host = host(474);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host.fake));
    let plugin = RunningPlugin::apart(&host.fake);
    kubelet.until_counts("the slices", &[("mig-2g.20gb", 2)]);
    let rules = ["c 1:3 rwm", "c 474:30 rw", "c 474:31 rw", "c 474:39 rw", "c 474:40 rw"];
    let cgroup = ClosedCgroup::new("unseen", &rules);
    let mut sleep = Process(Command::new("sleep").arg("1000").spawn().unwrap());
    cgroup.add(sleep.0.id());
    for id in kubelet.healthy(RESOURCE) {
        kubelet.allocate(RESOURCE, &[&[&*id]]).unwrap();
    }
    plugin.until_logged(
        "slices are allocated also where a container may open them: only some processes of the machine can be seen from here",
    );
    kill_and_wait(&mut sleep.0);
}

/// Host with a slice and a plugin that partitions it, and a kubelet.
struct Node {
    host: PartitionHost,
    kubelet: FakeKubelet,
    plugin: RunningPlugin,
    resource: &'static str,
}

impl Node {
    fn new(description: &str, resource: &'static str) -> Node {
        let host = PartitionHost::new(description);
        let layouts = host.fake.out().with_file_name("layouts.yaml");
        fs::write(&layouts, "version: v1\nmig-configs: {}\n").unwrap();
        let layouts = format!("--layouts-file={}", layouts.display());
        let kubelet = FakeKubelet::start(&kubelet_dir(&host.fake));
        let options = [&*layouts, "--node-name=node", "--kubeconfig=/nonexistent"];
        let plugin = RunningPlugin::start(&host.fake, &options);
        let short = resource.strip_prefix("nvidia.com/").unwrap();
        kubelet.until_counts("the slice", &[(short, 1)]);
        Node { host, kubelet, plugin, resource }
    }

    /// Allocates the slice to a pod; returns the plugin's reason when it does not.
    fn allocate(&self) -> Result<(), String> {
        let id = self.kubelet.healthy(self.resource).into_iter().next().expect("a slice");
        let allocated = self.kubelet.allocate(self.resource, &[&[&*id]]);
        allocated.map(drop).map_err(|status| status.to_string())
    }
}

/// Node with one slice, whose capability nodes are consoles, which can be opened.
fn node_of_consoles() -> Node {
    Node::new(
        "[majors]\nnvidia-caps = 4\n[[gpu]]\nmodel = \"a100-80gb\"\n\
         uuid = \"GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7c1004\"\n\
         instances = [{ profile = \"3g.40gb\", start = 0 }]\n",
        "nvidia.com/mig-3g.40gb",
    )
}

/// Starts a program that has the node of a slice open.
fn with_open(node: &Path, program: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec 3<>$NODE; {program}")]).env("NODE", node);
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let opened = std::io::Read::read_exact(process.0.stdout.as_mut().unwrap(), &mut [0; 6]);
    opened.expect("the node of a console can be opened");
    process
}

/// S20, for the plugin: a process in a container that may not open a slice has it open.
#[test]
fn a_slice_that_a_container_has_open_is_allocated_to_no_pod() {
    let node = node_of_consoles();
    node.allocate().unwrap();
    let path = node.host.fake.path("/dev/nvidia-caps/nvidia-cap13");
    let mut process = with_open(&path, "echo ready; exec sleep 1000");
    // Of the host, it could open the slice at any time.
    node.allocate().unwrap();
    let cgroup = ClosedCgroup::new("open", &["c 1:3 rwm"]);
    cgroup.add(process.0.id());
    let refused = node.allocate().unwrap_err();
    assert!(refused.contains(&format!("in use by pid {}", process.0.id())), "{refused}");
    kill_and_wait(&mut process.0);
    node.allocate().unwrap();
    assert_eq!(node.plugin.stop(), Some(0));
}

/// S20, for the plugin: a process that no cgroup restricts, as of a rootless container, has a slice open that its user may not open: a
/// container that had the slice has sent it.
#[test]
fn a_slice_that_a_user_has_received_is_allocated_to_no_pod() {
    let node = node_of_consoles();
    let path = node.host.fake.path("/dev/nvidia-caps/nvidia-cap13");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let mut process = with_open(&path, &format!("exec {user} sh -c 'echo ready; exec sleep 1000'"));
    let refused = node.allocate().unwrap_err();
    assert!(refused.contains(&format!("in use by pid {}", process.0.id())), "{refused}");
    kill_and_wait(&mut process.0);
    node.allocate().unwrap();
    assert_eq!(node.plugin.stop(), Some(0));
}

/// NVIDIA's runtime gives the pod of the plugin, and others that partition GPUs or watch all slices, the nodes of all slices. The plugin
/// keeps none for itself, nor does a container that may partition.
#[test]
fn the_plugin_s_own_container_keeps_no_slice() {
    let node = Node::new(
        "[majors]\nnvidia-caps = 476\n[[gpu]]\nmodel = \"a100-80gb\"\n\
         uuid = \"GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7c0476\"\n\
         instances = [{ profile = \"2g.20gb\", start = 0 }]\n",
        "nvidia.com/mig-2g.20gb",
    );
    let slice = ["c 1:3 rwm", "c 476:30 rw", "c 476:31 rw"];
    let own = ClosedCgroup::new("plugin", &slice);
    own.add(node.plugin.pid().cast_unsigned());
    node.allocate().unwrap();
    let mut sleep = Process(Command::new("sleep").arg("1000").spawn().unwrap());
    let partitions = ClosedCgroup::new("partitions", &[&slice[..], &["c 476:1 r"]].concat());
    partitions.add(sleep.0.id());
    node.allocate().unwrap();
    let watches = ClosedCgroup::new("watches", &slice);
    watches.add(sleep.0.id());
    let refused = node.allocate().unwrap_err();
    assert!(refused.contains(&format!("in use by pid {}", sleep.0.id())), "{refused}");
    kill_and_wait(&mut sleep.0);
    node.allocate().unwrap();
    assert_eq!(node.plugin.stop(), Some(0));
}

/// File that ends a container's script when this is dropped, also by a test that fails.
struct Stop(PathBuf);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "");
    }
}

/// S20: the kernel shows a process whose main thread has ended without descriptors and, on version 1, at the root of all cgroups. Its
/// other threads go on.
#[test]
fn a_program_whose_main_thread_has_ended_is_seen() {
    for variant in VARIANTS {
        let host = host(481);
        let program = host.fake.out().with_file_name("leaderless");
        compile("leaderless.c", &program, &["-static", "-pthread"]);
        let run = "
            id=$($PODMAN run -d --device nvidia.com/mig=0:2g.20gb:0 -v $DIR/leaderless:/bin/leaderless:ro --rootfs $ROOTFS leaderless)
            short=${id%${id#????????????}}
            pid=$($PODMAN inspect -f {{.State.Pid}} $id)
            until grep -q zombie /proc/$pid/status; do sleep 0.1; done
            if apply 0=7g.80gb 2>$DIR/errors; then echo destroyed; fi
            grep -q \"in use by container $short\" $DIR/errors || cat $DIR/errors
            # The runtimes take it for stopped.
            kill -9 $pid
            $PODMAN wait $id >/dev/null
            apply 0=7g.80gb >/dev/null && echo freed";
        let run = Podman::of_machine(variant).script(&host.fake, &script(&host, run));
        assert_eq!((run.code, run.stdout.as_str()), (0, "freed\n"), "{variant:?}: {}", run.stderr);
    }
}

/// The exemption of containers that may partition GPUs holds where the kernel lets them.
#[test]
fn only_a_container_that_may_partition_is_exempt() {
    for variant in [("runc", "v1"), ("crun", "v2")] {
        let host = host(485);
        let run = "
            $PODMAN run -d --device-cgroup-rule 'c 485:1 r' --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS sleep 1000 >/dev/null
            apply 0=7g.80gb >/dev/null && echo applied";
        let run = Podman::of_machine(variant).script(&host.fake, &script(&host, run));
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (0, "applied\n"),
            "{variant:?}: {}",
            run.stderr
        );
    }
}

/// Process that is killed on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        kill_and_wait(&mut self.0);
    }
}

/// Waits until a process has done what it prepares.
fn wait_for(path: &Path, what: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a process of a user who owns nothing, after `setup` in namespaces of its own.
fn user(host: &PartitionHost, setup: &str) -> Process {
    let ready = host.fake.out().with_file_name("ready");
    let _ = fs::remove_dir_all(&ready);
    fs::create_dir(&ready).unwrap();
    fs::set_permissions(&ready, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ]);
    command.args([
        "sh",
        "-euc",
        &format!("{setup}\n: > {}/done; exec sleep 1000", ready.display()),
    ]);
    let node = host.fake.path("/dev/nvidia-caps/nvidia-cap31");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("NODE", node);
    command.env("MIG_CDI_DEVICE_0_3_0", ",,").stdin(Stdio::null());
    let process = Process(command.spawn().unwrap());
    wait_for(&ready.join("done"), setup);
    process
}

fn apply_command(host: &PartitionHost, layout: &str) -> Command {
    // Outside of podman's namespace, the default directories of specs are the machine's own.
    let own = host.fake.out().display().to_string();
    let config = format!("capabilities = \"none\"\nspec-dirs = [{own:?}]\n");
    fs::write(host.fake.config(), config).unwrap();
    let mut command = host.fake.command(&["apply", layout]);
    command.arg(format!("--journal-dir={}", host.journal().display()));
    command.arg(format!("--state-dir={}", host.state().display()));
    command
}

fn apply(host: &PartitionHost, layout: &str) -> Run {
    host.tidy(mig_cdi_tests::run(&mut apply_command(host, layout)))
}

/// Opens the directories above the node of a slice to all users, and returns its path.
fn node_for_all(host: &PartitionHost) -> PathBuf {
    let node = host.fake.path("/dev/nvidia-caps/nvidia-cap31");
    let above = node.ancestors().skip(1);
    for dir in above.take_while(|dir| dir.starts_with("/var/lib/mig-cdi-tests")) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    node
}

/// S20: a rootless container, which no cgroup restricts, has a slice by a mount of its node. `/proc/PID/mountinfo` leaves out what is
/// outside of the process's root, and marks a node that the host has removed or made anew.
#[test]
fn a_rootless_container_cannot_hide_its_slice() {
    type Case = (&'static str, &'static str, fn(&Path));
    const MOUNT: &str = "mount -t tmpfs tmpfs /mnt; : > /mnt/node; mount --bind $NODE /mnt/node";
    const CHROOT: &str = "mkdir -p /mnt/e/bin; cp /bin/busybox /mnt/e/bin/sleep; : > DONE; exec chroot /mnt/e /bin/sleep 1000";
    let cases: [Case; 5] = [
        ("a mount", "", |_| ()),
        ("a root without the node", CHROOT, |_| ()),
        ("a node that was made anew", "", make_anew),
        ("a node that was removed", "", |node| fs::remove_file(node).unwrap()),
        ("both", CHROOT, make_anew),
    ];
    let mut wrong = Vec::new();
    for (what, hide, change) in cases {
        let host = host_with_mounts(475);
        let node = node_for_all(&host);
        let done = host.fake.out().with_file_name("ready/done");
        let setup = format!("{MOUNT}\n{}", hide.replace("DONE", &done.display().to_string()));
        let mut process = user(&host, &setup);
        let pid = process.0.id();
        if hide == CHROOT {
            let root = || fs::read_link(format!("/proc/{pid}/root")).unwrap();
            until("the root is changed", || root() == Path::new("/mnt/e"));
        }
        change(&node);
        let held = apply(&host, "0=7g.80gb");
        if held.code != 5 || !held.stderr.contains(&format!("in use by pid {pid}")) {
            wrong.push(format!("{what}: {} {}", held.code, held.stderr));
        }
        kill_and_wait(&mut process.0);
        apply(&host, "0=7g.80gb").assert_code(0);
    }
    assert_eq!(wrong, [""; 0]);
}

/// Replaces a node by another one with the same numbers, as `mig-cdi nodes` does.
fn make_anew(node: &Path) {
    let new = node.with_file_name("new");
    let made = Command::new("mknod").arg("-m0444").arg(&new).args(["c", "475", "31"]).status();
    assert!(made.unwrap().success());
    fs::rename(new, node).unwrap();
}

/// S21: a user who may not open a node keeps no slice from being destroyed.
#[test]
fn a_user_without_a_right_to_a_slice_cannot_keep_it() {
    for (what, setup) in [
        ("variables of our specs", ":"),
        (
            "a file with the name of a node",
            "mount -t tmpfs tmpfs /dev; mkdir /dev/nvidia-caps; exec 3>/dev/nvidia-caps/nvidia-cap31",
        ),
        (
            "a descriptor that names the node",
            "exec perl -e '$^F = 9; sysopen(F, $ENV{NODE}, 0x200000) or die; exec \"sh\", \"-c\", shift' \": > DONE; exec sleep 1000\"",
        ),
        (
            "a mount of the node",
            "mount -t tmpfs tmpfs /mnt; : > /mnt/node; mount --bind $NODE /mnt/node",
        ),
    ] {
        let host = host_with_mounts(484);
        // As with NVreg_DeviceFileMode=0600. The directories above it are open to all.
        let node = node_for_all(&host);
        fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
        let done = host.fake.out().with_file_name("ready/done");
        let _process = user(&host, &setup.replace("DONE", &done.display().to_string()));
        let run = apply(&host, "0=7g.80gb");
        assert_eq!(run.code, 0, "{what}: {}", run.stderr);
    }
}

/// S21: the same for a user who may make cgroups, as in a session of systemd, with a name that is no text, or too long.
#[test]
fn a_user_without_a_right_keeps_nothing_by_the_name_of_a_cgroup() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let host = host(474);
    let node = node_for_all(&host);
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
    let mut process = user(&host, "mount -t tmpfs tmpfs /mnt");
    let dir = Path::new("/sys/fs/cgroup/devices").join(OsStr::from_bytes(b"mig-cdi-\xff"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("cgroup.procs"), process.0.id().to_string()).unwrap();
    let run = apply(&host, "0=7g.80gb");
    kill_and_wait(&mut process.0);
    until("the cgroup is empty", || fs::remove_dir(&dir).is_ok());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// S22: no file system of a container can block the search. One of FUSE whose server never answers is mounted on its `/dev`, or on the root
/// of its mount namespace, and a descriptor names its root.
#[test]
fn a_dead_file_system_does_not_block_the_search() {
    let host = host(483);
    let path = |name: &str| host.fake.out().with_file_name(name);
    let program = path("dead-file-system");
    compile("dead-file-system.c", &program, &[]);
    let processes = [("/dev", "ready-dev"), ("/", "ready-root")].map(|(point, ready)| {
        let mut command = Command::new(&program);
        let process = Process(command.arg(point).arg(path(ready)).spawn().unwrap());
        wait_for(&path(ready), "a file system is mounted");
        process
    });
    let run = apply(&host, "0=7g.80gb");
    assert_eq!(run.code, 0, "{}", run.stderr);
    drop(processes);
}

/// S22: what a file system or the kernel keeps from the search is not taken for nothing. Without `CAP_SYS_PTRACE` the descriptors and
/// mounts of a user's process cannot be looked at, and without `CAP_DAC_READ_SEARCH` its descriptors cannot be listed. In a Landlock
/// domain neither can, with all privileges.
#[test]
fn a_process_that_may_not_be_examined_is_reported() {
    let host = host(480);
    let _process = user(&host, ":");
    let landlock = host.fake.out().with_file_name("landlock");
    compile("landlock.c", &landlock, &[]);
    let apply = apply_command(&host, "0=7g.80gb");
    for (what, mut apply) in [
        ("no right to trace", without_capabilities(&apply, "-sys_ptrace")),
        ("no right to read", without_capabilities(&apply, "-dac_override,-dac_read_search")),
        ("landlock", through(Command::new(&landlock), &apply)),
    ] {
        let run = host.tidy(mig_cdi_tests::run(&mut apply));
        assert_eq!(run.code, 1, "{what}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(" cannot be examined; "), "{what}: {}", run.stderr);
    }
}

/// S20: a search in a PID namespace of its own sees nobody, as in a pod without `hostPID`: nothing is destroyed, and no new slice stays,
/// which an old container may have the nodes of.
#[test]
fn a_search_that_does_not_see_the_machine_finds_everything_in_use() {
    let host = host(477);
    let inside = |layout: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]);
        host.tidy(mig_cdi_tests::run(&mut through(unshare, &apply_command(&host, layout))))
    };
    let before = host.layouts();
    let run = inside("0=7g.80gb");
    assert_eq!(run.code, 5, "{}{}", run.stdout, run.stderr);
    let cause = "the processes of the whole machine cannot be seen from here";
    assert!(run.stderr.contains(cause), "{}", run.stderr);
    assert_eq!(host.layouts(), before);
    apply(&host, "0=none").assert_code(0);
    let run = inside("0=2g.20gb");
    assert_eq!(run.code, 5, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(cause), "{}", run.stderr);
    assert_eq!(host.layouts(), ["none"]);
}

/// S21: a process that has ended, and whose parent does not care, stays in a cgroup that is gone. It can open nothing.
#[test]
fn an_ended_process_in_a_removed_cgroup_keeps_nothing() {
    let host = host(479);
    let cgroup = Cgroup::new("gone");
    let process = nix::unistd::Pid::from_raw(cgroup.process.0.id().cast_signed());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the cgroup is removed", || fs::remove_dir(&cgroup.dir).is_ok());
    apply(&host, "0=7g.80gb").assert_code(0);
}

/// S20, S21: a cgroup of version 1 whose name is no text cannot be opened by the text that names it. That above it decides: a container
/// that may write to its cgroups neither hides its slice there, nor keeps one that it may not open.
#[test]
fn a_cgroup_whose_name_is_no_text_decides_as_the_one_above() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let host = host(478);
    let top = Path::new("/sys/fs/cgroup/devices").join(format!("mig-cdi-{}", std::process::id()));
    let inner = top.join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&top).unwrap();
    fs::write(top.join("devices.deny"), "a").unwrap();
    let rules = ["c 478:30 rw", "c 478:31 rw"];
    for rule in rules {
        fs::write(top.join("devices.allow"), rule).unwrap();
    }
    fs::create_dir(&inner).unwrap();
    let mut process = Process(Command::new("sleep").arg("1000").spawn().unwrap());
    fs::write(inner.join("cgroup.procs"), process.0.id().to_string()).unwrap();
    let held = apply(&host, "0=7g.80gb");
    for rule in rules {
        fs::write(top.join("devices.deny"), rule).unwrap();
    }
    let free = apply(&host, "0=7g.80gb");
    kill_and_wait(&mut process.0);
    for dir in [inner, top] {
        until("the cgroup is empty", || fs::remove_dir(&dir).is_ok());
    }
    assert_eq!(held.code, 5, "{}{}", held.stdout, held.stderr);
    assert!(held.stderr.contains("in use by pid"), "{}", held.stderr);
    assert_eq!(free.code, 0, "{}", free.stderr);
}

/// Shell functions that move a process into cgroups which are nested in its own of a hierarchy (`devices`, or `unified` for version 2) until
/// the kernel no longer shows their path, and back. Where it cuts the path off, another cgroup has what is left as its path, and
/// allows nothing.
const NEST: &str = r#"
own_cgroup() {
    case $2 in
    unified) echo "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$1/cgroup)" ;;
    *) echo "/sys/fs/cgroup/$2$(sed -n "s/^[0-9]*:$2://p" /proc/$1/cgroup)" ;;
    esac
}
nest() {
    perl -e '
        my ($pid, $dir) = @ARGV;
        my $name = "x" x 255;
        chdir $dir or die "$dir: $!";
        for (1 .. 17) { mkdir $name or die $!; chdir $name or die $!; }
        open(my $procs, ">", "cgroup.procs") or die $!;
        print $procs $pid;
        close $procs or die $!;
        open(my $shown, "<", "/proc/$pid/cgroup") or die $!;
        my ($rest) = grep { length > 4000 && -e "devices.deny" } <$shown> or exit;
        chomp $rest;
        chdir $dir or die $!;
        chdir $name or die $! for 1 .. ($rest =~ s{/$name(?=/)}{}g);
        $rest =~ s{.*/}{};
        mkdir $rest or die $!;
        open(my $deny, ">", "$rest/devices.deny") or die $!;
        print $deny "a";
    ' "$1" "$2"
}
unnest() {
    echo "$1" >"$2/cgroup.procs"
    perl -e '
        my $name = "x" x 255;
        chdir $ARGV[0] or die $!;
        for (1 .. 17) { chdir $name or die $!; }
        for (1 .. 17) { chdir ".." or die $!; rmdir $_ or die $! for glob "x*"; }
    ' "$2"
}
"#;

/// S20, S21: the kernel cuts off the path of a cgroup that is longer than 4,095 bytes, or shows no cgroup of the process at all. The rules
/// decide as before: a container of another user keeps its slice, whatever the modes of the host's nodes, and no other.
#[test]
fn a_cgroup_with_too_long_a_path_keeps_its_rules() {
    let devices_and_freezer = VARIANTS.map(|(runtime, cgroup)| {
        let hierarchies: &[&str] =
            if cgroup == "v1" { &["devices", "freezer"] } else { &["unified"] };
        hierarchies.iter().map(move |hierarchy| ((runtime, cgroup), *hierarchy))
    });
    for (variant, hierarchy) in devices_and_freezer.into_iter().flatten() {
        for mode in [0o600, 0o666] {
            let host = host(472);
            for minor in [30, 31] {
                let node = host.fake.path(&format!("/dev/nvidia-caps/nvidia-cap{minor}"));
                fs::set_permissions(node, fs::Permissions::from_mode(mode)).unwrap();
            }
            let run = format!(
                "{NEST}
                start() {{ $PODMAN run -d --user 65534 \"$@\" --rootfs $ROOTFS sleep 1000; }}
                pid() {{ $PODMAN inspect -f '{{{{.State.Pid}}}}' \"$1\"; }}
                id=$(start --device nvidia.com/mig=0:2g.20gb:0)
                other=$(start)
                a=$(pid $id); b=$(pid $other)
                of_a=$(own_cgroup $a {hierarchy}); of_b=$(own_cgroup $b {hierarchy})
                trap '(unnest $a $of_a; unnest $b $of_b; $PODMAN rm -af -t 0) >/dev/null 2>&1 || true' EXIT
                nest $a $of_a; nest $b $of_b
                short=${{id%${{id#????????????}}}}
                if apply 0=7g.80gb 2>$DIR/errors; then echo destroyed; fi
                grep -q \"in use by container $short\" $DIR/errors || cat $DIR/errors
                unnest $a $of_a
                $PODMAN rm -f -t 0 $id >/dev/null
                apply 0=7g.80gb >/dev/null && echo freed
                unnest $b $of_b"
            );
            let run = Podman::of_machine(variant).script(&host.fake, &script(&host, &run));
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (0, "freed\n"),
                "{variant:?} {hierarchy} {mode:o}: {}",
                run.stderr
            );
        }
    }
}

/// Cgroup of version 2 with a process in it, in the machine's own hierarchy.
struct Cgroup {
    dir: PathBuf,
    process: Process,
}

impl Cgroup {
    fn new(name: &str) -> Cgroup {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = mount.expect("a mounted unified hierarchy of cgroups");
        let dir = Path::new(mount.split(' ').nth(4).unwrap());
        Cgroup::at(dir.join(format!("mig-cdi-{name}-{}", std::process::id())))
    }

    /// Makes one below it.
    fn below(&self, name: &str) -> Cgroup {
        Cgroup::at(self.dir.join(name))
    }

    fn at(dir: PathBuf) -> Cgroup {
        fs::create_dir(&dir).unwrap();
        let process = Process(Command::new("sleep").arg("1000").spawn().unwrap());
        fs::write(dir.join("cgroup.procs"), process.0.id().to_string()).unwrap();
        Cgroup { dir, process }
    }

    fn freeze(&self) {
        fs::write(self.dir.join("cgroup.freeze"), "1").unwrap();
        until("it is frozen", || {
            fs::read_to_string(self.dir.join("cgroup.events")).unwrap().contains("frozen 1")
        });
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.freeze"), "0");
        kill_and_wait(&mut self.process.0);
        until("the cgroup is empty", || !self.dir.exists() || fs::remove_dir(&self.dir).is_ok());
    }
}

/// A device program that cannot be interpreted (this one calls a function) is asked from within its cgroup. In a frozen one a process
/// would stop: it counts as one that holds the slice, and nothing hangs.
#[test]
fn a_program_that_cannot_be_read_is_asked_from_within() {
    let host = host(482);
    let helper = host.fake.out().with_file_name("device-program");
    compile("device-program.c", &helper, &[]);
    let cgroup = Cgroup::new("opaque");
    let allow = |major: &str| {
        let mut command = Command::new(&helper);
        command.args(["allow", cgroup.dir.to_str().unwrap(), major]);
        mig_cdi_tests::run(&mut command).assert_code(0);
    };
    let pid = format!("in use by pid {}, sleep 1000", cgroup.process.0.id());
    allow("482");
    let held = apply(&host, "0=7g.80gb");
    assert!(held.code == 5 && held.stderr.contains(&pid), "{}", held.stderr);
    allow("481");
    for layout in ["0=7g.80gb", "0=2x2g.20gb"] {
        apply(&host, layout).assert_code(0);
    }
    cgroup.freeze();
    let frozen = apply(&host, "0=7g.80gb");
    assert_eq!(frozen.code, 5, "{}", frozen.stderr);
    assert!(frozen.stderr.contains(&pid), "{}", frozen.stderr);
    let why = "which cannot be examined: its device program cannot be examined: it calls a function; enter the cgroup";
    assert!(
        frozen.stderr.contains(why) && frozen.stderr.contains(": it is frozen"),
        "{}",
        frozen.stderr
    );
    fs::write(cgroup.dir.join("cgroup.freeze"), "0").unwrap();
    apply(&host, "0=7g.80gb").assert_code(0);
    // A process with the right to write to its cgroup may make one below, and freeze that.
    let inner = cgroup.below("inner");
    inner.freeze();
    let pid = cgroup.process.0.id().to_string();
    fs::write(cgroup.dir.with_file_name("cgroup.procs"), pid).unwrap();
    apply(&host, "0=2x2g.20gb").assert_code(0);
}

/// The same on a node with several containers, each with a program of its own: the answers are not mixed up.
#[test]
fn each_program_that_cannot_be_read_has_its_own_answer() {
    let host = host(473);
    let helper = host.fake.out().with_file_name("device-program");
    compile("device-program.c", &helper, &[]);
    let cgroups = ["a", "b", "c"].map(|name| Cgroup::new(&format!("opaque-{name}")));
    for (cgroup, major) in cgroups.iter().zip(["481", "473", "481"]) {
        let dir = cgroup.dir.to_str().unwrap();
        mig_cdi_tests::run(Command::new(&helper).args(["allow", dir, major])).assert_code(0);
    }
    let held = apply(&host, "0=7g.80gb");
    for (cgroup, is_holder) in cgroups.iter().zip([false, true, false]) {
        let who = format!("pid {}, sleep 1000", cgroup.process.0.id());
        assert_eq!(held.stderr.contains(&who), is_holder, "{}", held.stderr);
    }
    let [_, holder, _] = cgroups;
    drop(holder);
    apply(&host, "0=7g.80gb").assert_code(0);
}
