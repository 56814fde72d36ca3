//! Attacks by images, containers and their users on tools like this one, repeated against the hook. `docs/attacks.md`
//! is the register: each test names its entries. Canaries outside of the container's root show every unwanted access:
//! each run compares them with their state before.

use mig_cdi_tests::{
    FakeHost, Run,
    deadline::{PROGRAM, finish, wait},
    docs::is_test,
    hook::{feed, oci_config, runc_state},
    podman::{Podman, VARIANTS, compile},
    prepared_container::{ENGINE_MOUNTS, PreparedContainer, SECRET, host, names, tree},
    run, script_program,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::mkfifo,
};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";
/// Expected slice of `verify` that is current on the host of [`host`]: `0:2g.20gb:0`.
const EXPECTED_SLICE: &str =
    "0:3:0,nodes=195:508:30:31,gpu=GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

fn refused(run: &Run, why: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains(why), "{why:?} is not in {}", run.stderr);
}

fn verify(host: &FakeHost, more: &[&str]) -> Command {
    let mut command = host.hook(&["verify", &format!("--proc-root={}", host.root().display())]);
    command.args(more).arg(EXPECTED_SLICE);
    command
}

/// Installs a program on the host for `verify --full`.
fn program(host: &FakeHost, script: &str) -> PathBuf {
    let path = host.root().join("program");
    script_program(&path, script);
    path
}

/// Returns the command under strace, with the trace in a file.
fn traced(command: &Command, log: &Path, flags: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.env_clear().args(["-f", "-y", "-o"]).arg(log).args(flags).arg("--");
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

fn config_without_request() -> String {
    oci_config(&[], &[], false)
}

fn replace_by_link(path: &Path, to: impl AsRef<Path>) {
    if let Ok(meta) = fs::symlink_metadata(path) {
        let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.unwrap();
    }
    symlink(to, path).unwrap();
}

/// S1, CVE-2025-23266: the environment and the working directory of an image.
#[test]
fn the_hook_loads_no_library_of_an_image() {
    let host = host();
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let (evil, canary) = (container.rootfs().join("evil.so"), host.root().join("loaded"));
    let define = format!("-DCANARY=\"{}\"", canary.display());
    compile("evil.c", &evil, &["-shared", "-fPIC", &define]);
    let hostile = |mut command: Command, input: &str| {
        for name in ["LD_AUDIT", "GCONV_PATH", "LOCPATH", "NLSPATH", "MALLOC_TRACE"] {
            command.env(name, "./evil.so");
        }
        command.env("LD_PRELOAD", &evil);
        for name in ["LD_LIBRARY_PATH", "PATH", "TMPDIR", "HOME"] {
            command.env(name, container.rootfs());
        }
        command.env("GLIBC_TUNABLES", "glibc.malloc.check=3").env("IFS", "/");
        command.env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
        feed(command.current_dir(container.rootfs()), input.as_bytes())
    };
    hostile(Command::new("/bin/true"), "").assert_code(0);
    fs::remove_file(&canary).expect("the library works");
    let state = container.state();
    let full = program(&host, "exec /bin/true");
    let config = format!("--config={}", host.config().display());
    let runtime =
        host.hook(&["runtime", &config, "--dry-run", "--", "create", "-b", "/nowhere", "a"]);
    for (command, input, code) in [
        (host.create_runtime(), state.as_str(), 0),
        (host.hook(&["precreate", &config]), &config_without_request(), 0),
        (verify(&host, &[]), &state, 0),
        (verify(&host, &["--full", full.to_str().unwrap()]), &state, 0),
        (verify(&host, &["--full", "./evil.so"]), &state, 2),
        (runtime, "", 1),
        (host.hook(&["--help"]), "", 0),
    ] {
        let shown = format!("{command:?}");
        let run = hostile(command, input);
        assert_eq!(run.code, code, "{shown}: {}", run.stderr);
        assert!(run.stderr.lines().count() <= 1, "no backtrace, no trace: {}", run.stderr);
        assert!(!canary.exists(), "{shown} has loaded a library of the image");
    }
    container.assert_nothing_outside_changed("a hostile environment");
}

/// S2, CVE-2025-23266: engines run a hook without an environment with that of the image. `hook_verify.rs` tests the
/// hooks of a spec; these are installed for engines to find.
#[test]
fn every_installed_hook_has_an_environment() {
    let dir = mig_cdi_tests::project().join("config/hooks.d");
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let hook = serde_json::from_str::<serde_json::Value>(&text).unwrap()["hook"].take();
        let env = hook["env"].as_array().expect("it is there");
        assert!(env.iter().any(|entry| entry.as_str().unwrap().contains('=')), "{file:?}: {env:?}");
        assert!(hook["path"].as_str().unwrap().starts_with('/'), "{file:?}");
    }
}

/// S1: no dynamic loader runs, so no variable can make it load a library.
#[test]
fn the_hook_is_a_static_program() {
    let hook = mig_cdi_tests::program("mig-cdi-hook");
    let headers = run(Command::new("readelf").args(["-ldW"]).arg(hook)).stdout;
    assert!(headers.contains("LOAD"), "{headers}");
    assert!(!headers.contains("INTERP") && !headers.contains("(NEEDED)"), "{headers}");
}

/// S3, S4, S8, CVE-2024-0132, CVE-2025-23267: the hook runs and reads no file of the container. While it is in the
/// container's mount namespace, it opens existing files with `O_PATH` only, and any other open creates the file.
#[test]
fn the_hook_runs_and_reads_no_file_of_a_container() {
    let host = host();
    let container = PreparedContainer::new();
    let root = container.rootfs();
    mkfifo(&root.join("etc/ld.so.conf"), Mode::from_bits_truncate(0o644)).unwrap();
    symlink(container.canary().join("file"), root.join("etc/ld.so.cache")).unwrap();
    fs::create_dir_all(root.join("usr/local/cuda")).unwrap();
    symlink("/", root.join("usr/local/cuda/compat")).unwrap();
    fs::File::create(root.join("etc/huge")).unwrap().set_len(1 << 30).unwrap();
    symlink("huge", root.join("etc/ld.so.preload")).unwrap();
    let ran = host.root().join("ran");
    for name in ["ldconfig", "nvidia-smi", "systemctl", "bin/ldconfig", "bin/sh", "bin/systemctl"] {
        script_program(&root.join(name), &format!(": > {}", ran.display()));
    }
    let container = container.start(ENGINE_MOUNTS);
    let log = host.root().join("strace");
    let calls = "trace=open,openat,openat2,execve,execveat,setns,read";
    let path = format!("PATH={}", root.display());
    let mut command = traced(&host.create_runtime(), &log, &["-E", &path, "-e", calls]);
    let run = feed(command.current_dir(&root), container.state().as_bytes());
    run.assert_code(0);
    let trace = fs::read_to_string(log).unwrap();
    assert_eq!(trace.matches("execve").count(), 1, "nothing but the hook is run: {trace}");
    let mut parts = trace.split("setns(");
    let inside = parts.nth(1).expect("it enters");
    assert_eq!(parts.count(), 1, "and leaves: {trace}");
    let opened: Vec<_> = inside.lines().filter(|line| line.contains("open")).collect();
    assert!(opened.len() > 20, "{inside}");
    for line in &opened {
        assert!(line.contains("O_PATH") || line.contains("O_CREAT|O_EXCL"), "{line}");
    }
    assert!(!inside.contains(" read("), "{inside}");
    assert!(!ran.exists());
    container.assert_nothing_outside_changed("programs of the container");
}

/// Returns the target of a link for a container.
type Link<'a> = &'a dyn Fn(&PreparedContainer) -> String;

/// S4, S5, CVE-2024-0133, CVE-2024-0134, CVE-2024-45310, CVE-2026-41579: a directory of the image on the path to a
/// file that the hook makes is a link.
#[test]
fn a_linked_directory_cannot_lead_out_of_a_container() {
    let host = host();
    let canary =
        |container: &PreparedContainer| container.canary().join("dir").display().to_string();
    let targets: [(&str, Link<'_>); 9] = [
        ("absolute", &canary),
        ("relative", &|v| format!("../../../../../../../../../../../..{}", canary(v))),
        ("beside the root", &|_| "../../../../canary/dir".to_owned()),
        ("/proc/self/root", &|v| format!("/proc/self/root{}", canary(v))),
        ("/proc/1/root", &|v| format!("/proc/1/root{}", canary(v))),
        ("/proc/self/cwd", &|v| format!("/proc/self/cwd{}", canary(v))),
        ("/proc/self/fd/3", &|_| "/proc/self/fd/3".to_owned()),
        ("/proc/PID/cwd", &|v| format!("/proc/{}/cwd{}", std::process::id(), canary(v))),
        ("itself", &|_| "x86_64-linux-gnu".to_owned()),
    ];
    for parent in ["usr", "usr/lib", LIBRARIES, "usr/bin", "run"] {
        for (form, to) in &targets {
            let container = PreparedContainer::new();
            replace_by_link(&container.rootfs().join(parent), to(&container));
            let container = container.start(ENGINE_MOUNTS);
            refused(&container.attack(&host, &format!("{parent}: {form}")), parent);
        }
        let container = PreparedContainer::new();
        // The kernel follows 40 links at most (MAXSYMLINKS, include/linux/namei.h).
        let chain = |i: usize| container.rootfs().join(format!("etc/{i}"));
        (0..50).for_each(|i| symlink(format!("/etc/{}", i + 1), chain(i)).unwrap());
        symlink(canary(&container), chain(50)).unwrap();
        replace_by_link(&container.rootfs().join(parent), "/etc/0");
        let container = container.start(ENGINE_MOUNTS);
        refused(&container.attack(&host, &format!("{parent}: a chain")), "too many");
    }
}

/// The same where the target exists inside the container: the file is made there, and not on the machine.
#[test]
fn symlinks_resolve_inside_the_container() {
    let host = host();
    for to in ["/of-image", "../../../../../../../../of-image", "/run/../of-image"] {
        let container = PreparedContainer::new();
        fs::create_dir(container.rootfs().join("of-image")).unwrap();
        replace_by_link(&container.rootfs().join(LIBRARIES), to);
        let container = container.start(ENGINE_MOUNTS);
        let run = container.attack(&host, to);
        assert_eq!(run.code, 0, "{to}: {}", run.stderr);
        let given = container.rootfs().join("of-image/libnvidia-ml.so.1").display().to_string();
        assert!(container.new_mounts().contains(&given), "{:?}", container.new_mounts());
    }
}

/// Name of an obstacle, and the function that puts it at the path of a file that the hook makes.
type Obstacle<'a> = (&'a str, &'a dyn Fn(&PreparedContainer, &Path));

fn obstacles<'a>() -> Vec<Obstacle<'a>> {
    vec![
        ("link to a file", &|v, at| symlink(v.canary().join("file"), at).unwrap()),
        ("link to a directory", &|v, at| symlink(v.canary().join("dir"), at).unwrap()),
        ("relative link", &|_, at| symlink("../../../../canary/file", at).unwrap()),
        ("dangling link", &|v, at| symlink(v.canary().join("new"), at).unwrap()),
        ("link to itself", &|_, at| symlink(at.file_name().unwrap(), at).unwrap()),
        ("magic link", &|_, at| symlink("/proc/self/exe", at).unwrap()),
        ("magic link to the machine", &|v, at| {
            let to = format!("/proc/1/root{}", v.canary().join("file").display());
            symlink(to, at).unwrap();
        }),
        ("link to a sysctl", &|_, at| symlink("/proc/sys/kernel/core_pattern", at).unwrap()),
        ("link to sysfs", &|_, at| symlink("/sys/kernel/uevent_seqnum", at).unwrap()),
        ("link to proc", &|_, at| symlink("/proc", at).unwrap()),
        ("pipe", &|_, at| mkfifo(at, Mode::from_bits_truncate(0o666)).unwrap()),
        ("device", &|_, at| {
            // /dev/zero.
            mknod(at, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).unwrap();
        }),
    ]
}

/// S4, S5, CVE-2024-0132, CVE-2025-23359: the last component of the path has an unexpected type, in the root file
/// system and in `/dev`.
#[test]
fn an_unexpected_file_type_is_neither_mounted_on_nor_replaced() {
    let host = host();
    let file: Obstacle<'_> = ("file", &|_, at| fs::write(at, "").unwrap());
    let dir: Obstacle<'_> = ("directory", &|_, at| fs::create_dir(at).unwrap());
    let places = [
        (LIBRARY, &dir),
        ("usr/bin/nvidia-smi", &dir),
        ("run/mig-cdi", &file),
        ("dev/nvidia0", &file),
        ("dev/nvidia-caps", &file),
    ];
    for (place, other) in places {
        for (what, make) in obstacles().iter().chain([other]) {
            // Only the mount namespace sees a /dev of the container's own, as a directory.
            let container = PreparedContainer::new()
                .start(&format!("{ENGINE_MOUNTS}; mount -t sysfs sysfs sys"));
            make(&container, &container.inside().join(place));
            refused(&container.attack(&host, &format!("{place}: {what}")), place);
        }
    }
    // Mounting on a socket is allowed: engines mount sockets.
    let container = PreparedContainer::new();
    let _socket = UnixListener::bind(container.rootfs().join(LIBRARY)).unwrap();
    let container = container.start(ENGINE_MOUNTS);
    container.attack(&host, "socket").assert_code(0);
}

/// S10, S26, CVE-2025-31133, CVE-2025-52565, CVE-2026-41579: the container's `/dev` is a link, is the image's or the
/// machine's, or has links in it.
#[test]
fn only_the_container_s_own_dev_is_used() {
    let host = host();
    let sysctl = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let (pattern, dev) = (sysctl(), names_of("/dev"));
    for to in ["/dev", "../../../../dev", "/proc/1/root/dev", "../canary/dir", "etc"] {
        let container = PreparedContainer::new();
        replace_by_link(&container.rootfs().join("dev"), to);
        let container = container.start("mount -t proc proc proc");
        refused(&container.attack(&host, to), "rootfs/dev");
    }
    let image = PreparedContainer::new().start("mount -t proc proc proc");
    refused(&image.attack(&host, "a /dev of the image"), "mount a tmpfs on its /dev");
    let bound = PreparedContainer::new().start("mount --bind /dev dev");
    refused(&bound.attack(&host, "the machine's /dev"), "rootfs/dev/nvidia");
    // Here, since no other test looks at the machine's /dev.
    let of_dev = HostDevDir(format!("/dev/mig-cdi-tests-{}", std::process::id()).into());
    fs::create_dir(&of_dev.0).unwrap();
    let bind =
        format!("mkdir dev/nvidia-caps; mount --bind {} dev/nvidia-caps", of_dev.0.display());
    let below = PreparedContainer::new().start(&format!("{ENGINE_MOUNTS}; {bind}"));
    let run = below.attack(&host, "a directory of the machine's /dev");
    refused(&run, "a file system of the machine");
    assert_eq!(names(&of_dev.0), [""; 0].map(PathBuf::from));
    drop((below, of_dev));
    let links = "ln -s /proc/sys/kernel/core_pattern dev/null; ln -s /proc/sys/kernel/core_pattern dev/zero";
    let container = PreparedContainer::new().start(&format!("{ENGINE_MOUNTS}; {links}"));
    let log = host.root().join("strace");
    let mut command = traced(&host.create_runtime(), &log, &["-e", "trace=%file,%desc,mount"]);
    let run = feed(&mut command, container.state().as_bytes());
    run.assert_code(0);
    let trace = fs::read_to_string(log).unwrap();
    assert!(trace.contains("nvidiactl"), "{trace}");
    for word in ["core_pattern", "\"null\"", "\"zero\"", "/dev/zero", "rootfs/dev/null"] {
        assert!(!trace.contains(word), "{word} in {trace}");
    }
    assert_eq!((sysctl(), names_of("/dev")), (pattern, dev));
}

fn names_of(dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Directory on a tmpfs that the machine has mounted, until it is dropped.
struct HostTmpfs(tempfile::TempDir);

impl HostTmpfs {
    fn new() -> HostTmpfs {
        let dir = tempfile::tempdir().unwrap();
        mount(None::<&str>, dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        HostTmpfs(dir)
    }
}

impl Drop for HostTmpfs {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// Directory in the machine's `/dev`, until it is dropped.
struct HostDevDir(PathBuf);

impl Drop for HostDevDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// S26: nodes are made only where they end with the container: not on a disk, nor on a tmpfs of the machine, on `/dev` or
/// below it.
#[test]
fn nodes_are_made_only_on_a_tmpfs_of_the_container() {
    let host = host();
    let shared = HostTmpfs::new();
    // A ramfs is no tmpfs, and like a disk it is another file system than the image's.
    let bind = |dir: &Path| format!("mount --bind {}", dir.display());
    let places = [
        ("a ramfs", "mount -t ramfs ramfs".to_owned(), "not on a tmpfs"),
        ("a tmpfs of the machine", bind(shared.0.path()), "a file system of the machine"),
    ];
    for (what, mount, why) in &places {
        let container = PreparedContainer::new().start(&format!("{mount} dev"));
        refused(&container.attack(&host, what), why);
        let below = format!("{ENGINE_MOUNTS}; mkdir dev/nvidia-caps; {mount} dev/nvidia-caps");
        let container = PreparedContainer::new().start(&below);
        let run = container.attack(&host, what);
        refused(&run, why);
        assert!(run.stderr.contains("mount a tmpfs on its /dev"), "{}", run.stderr);
        assert_eq!(names(shared.0.path()), [""; 0].map(PathBuf::from), "{what}");
    }
    // The right nodes may be there already.
    for minor in [30, 31] {
        let path = shared.0.path().join(format!("nvidia-cap{minor}"));
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o444), makedev(508, minor)).unwrap();
    }
    let before = tree(shared.0.path());
    let below = bind(shared.0.path());
    let container = PreparedContainer::new()
        .start(&format!("{ENGINE_MOUNTS}; mkdir dev/nvidia-caps; {below} dev/nvidia-caps"));
    container.attack(&host, "nodes of the machine").assert_code(0);
    assert_eq!(tree(shared.0.path()), before);
}

/// S26: podman makes a volume on the disk for an image that has `/dev` as one; here the disk is a ramfs, which is not
/// the image's file system either.
#[test]
fn an_image_with_dev_as_a_volume_gets_no_nodes_on_the_disk() {
    let script = "
        mkdir /run/disk
        mount -t ramfs ramfs /run/disk
        tar -C $ROOTFS -cf /run/image.tar .
        podman=\"$PODMAN --volumepath /run/disk --hooks-dir $HOOKS\"
        $podman import --quiet --change 'VOLUME /dev' /run/image.tar image >/dev/null
        run='run --rm --log-driver passthrough --network none --annotation mig-cdi/devices=0:2g.20gb:0'
        $podman $run image ls /dev/nvidia-caps >/dev/null 2>&1 && echo started
        find /run/disk -name 'nvidia*'
        $podman $run --tmpfs /dev:mode=755 image ls /dev/nvidia-caps
        find /run/disk -name 'nvidia*'";
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host();
        host.configure_hook("");
        let hooks = host.hooks_dir("create-runtime").display().to_string();
        let run = podman.script(&host, &script.replace("$HOOKS", &hooks));
        let log = host.read_log();
        assert_eq!(run.code, 0, "{variant:?}: {}{}{log}", run.stdout, run.stderr);
        assert_eq!(run.stdout, "nvidia-cap30\nnvidia-cap31\n", "{variant:?}: {}{log}", run.stderr);
        assert!(log.contains("its directory is not on a tmpfs"), "{variant:?}: {log}");
    }
}

/// S11, CVE-2025-52881, CVE-2025-62161: the hook does not read the container's `/proc`.
#[test]
fn the_driver_is_read_from_the_host_s_proc() {
    let host = host();
    let fake = "mount -t tmpfs tmpfs proc; mkdir -p proc/self/attr proc/driver/nvidia/capabilities/gpu0/mig/gi3/ci0;
        for file in driver/nvidia/capabilities/gpu0/mig/gi3/access driver/nvidia/capabilities/gpu0/mig/gi3/ci0/access; do
            printf 'DeviceFileMinor: 99\\nDeviceFileMode: 292\\nDeviceFileModify: 1\\n' > proc/$file
        done; : > proc/self/attr/exec; : > proc/mounts; printf 'Character devices:\\n 240 nvidia-caps\\n' > proc/devices";
    let container =
        PreparedContainer::new().start(&format!("mount -t tmpfs -o mode=755 tmpfs dev; {fake}"));
    let before = tree(&container.inside().join("proc"));
    let run = container.attack(&host, "a fake /proc");
    run.assert_code(0);
    assert_eq!(tree(&container.inside().join("proc")), before);
    let node =
        |name: &str| fs::metadata(container.inside().join("dev").join(name)).map(|m| m.rdev());
    assert_eq!(node("nvidia-caps/nvidia-cap30").unwrap(), makedev(508, 30));
    assert!(node("nvidia-caps/nvidia-cap99").is_err());
}

/// S11: if the machine's own `/proc` is no procfs, the hook refuses it and enters no namespace.
#[test]
fn a_proc_that_is_not_procfs_is_refused() {
    let host = host();
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let over = |command: &Command| {
        let script = "mkdir -p $TMP; mount -t proc proc $TMP; mount -t tmpfs tmpfs /proc; mkdir /proc/self /proc/$PID;
            for pid in self $PID; do cp -r $TMP/$pid/cgroup $TMP/$pid/mountinfo /proc/$pid; done;
            cp $TMP/devices /proc/devices; exec \"$@\"";
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", script, "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.env("PID", container.pid().to_string()).env("TMP", host.root().join("realproc"));
        feed(&mut shell, container.state().as_bytes())
    };
    refused(&over(&host.hook(&["verify", EXPECTED_SLICE])), "/proc: it is no procfs");
    refused(&over(&host.create_runtime()), "/proc: it is no procfs");
    assert_eq!(container.new_mounts(), [""; 0]);
    container.assert_nothing_outside_changed("a /proc that is no procfs");
}

/// S12, CVE-2024-21626: descriptors that a runtime has left open, among them one of the machine's root; also where
/// the kernel has no `close_range`.
#[test]
fn inherited_descriptors_do_not_reach_a_child() {
    let host = host();
    let seen = host.root().join("seen");
    let full = program(&host, &format!("exec ls -l /proc/self/fd > {}", seen.display()));
    let hook = verify(&host, &["--full", full.to_str().unwrap()]);
    let log = host.root().join("strace");
    let old = ["-e", "trace=close_range", "-e", "inject=close_range:error=ENOSYS"];
    let with_open_files = |command: &Command| {
        let open = "for i in {10..510}; do eval \"exec $i</\"; done; exec \"$@\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", open, "bash"]).arg(command.get_program()).args(command.get_args());
        let run = feed(&mut bash, runc_state(1, Path::new("/bundle")).as_bytes());
        let listing = fs::read_to_string(&seen).unwrap_or_default();
        fs::remove_file(&seen).expect("the program ran");
        (run, listing.lines().filter(|line| line.contains(" -> ")).count(), listing)
    };
    let (_, count, _) = with_open_files(&Command::new(&full));
    assert!(count > 500, "without the hook they are inherited");
    for command in [hook, traced(&verify(&host, &["--full", full.to_str().unwrap()]), &log, &old)] {
        let (run, count, listing) = with_open_files(&command);
        run.assert_code(0);
        // The standard three, and the one with which ls reads the directory.
        assert_eq!(count, 4, "{listing}");
        assert!(!listing.lines().any(|line| line.ends_with("-> /")), "{listing}");
    }
    assert!(fs::read_to_string(log).unwrap().contains("(INJECTED)"));
}

/// S9, CVE-2024-0135, CVE-2019-5736: the program of a running hook cannot be written, and a process with the hook's
/// user and no more privileges cannot even open it.
#[test]
fn the_running_hook_cannot_be_overwritten() {
    let host = host();
    let path = host.install().join("mig-cdi-hook");
    let before = tree(path.parent().unwrap());
    // The kernel refuses to open /proc/PID/exe of a process that is not dumpable (prctl(2), PR_SET_DUMPABLE) without
    // CAP_SYS_PTRACE.
    let bare = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(program);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let reads = |pid: u32| {
        let open = format!("exec 3</proc/{pid}/exe");
        run(bare(Path::new("sh")).args(["-c", &open])).code == 0
    };
    let mut other = bare(Path::new("cat")).spawn().unwrap();
    let mut hook = bare(&path);
    let words: Vec<_> = verify(&host, &[]).get_args().map(ToOwned::to_owned).collect();
    let mut hook = hook.args(words).spawn().unwrap();
    let start = Instant::now();
    let hidden =
        || fs::metadata(format!("/proc/{}/exe", hook.id())).is_ok_and(|_| !reads(hook.id()));
    while !hidden() {
        assert!(start.elapsed() < Duration::from_secs(20), "the hook's program can be opened");
    }
    // It becomes readable only once setpriv has dropped its capabilities and runs cat.
    while !reads(other.id()) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the program of another process cannot be opened"
        );
    }
    let exe = format!("/proc/{}/exe", hook.id());
    assert_eq!(fs::read_link(&exe).unwrap(), path, "it is the hook that runs");
    let written = fs::OpenOptions::new().write(true).open(&exe);
    assert_eq!(written.unwrap_err().raw_os_error(), Some(26), "ETXTBSY");
    drop(other.stdin.take());
    hook.stdin.take().unwrap().write_all(runc_state(1, Path::new("/b")).as_bytes()).unwrap();
    drop(hook.stdin.take());
    assert!(wait(&mut hook).success() && wait(&mut other).success());
    assert_eq!(tree(path.parent().unwrap()), before);
}

/// A process that is no container, or one for which no node can be made.
#[test]
fn a_process_that_is_no_container_is_not_entered() {
    let host = host();
    let of_the_machine = PreparedContainer::new().start_in(&["--uts"], "true");
    refused(&of_the_machine.attack(&host, "the machine's"), "no mount namespace of its own");
    let user = PreparedContainer::new()
        .start_in(&["--user", "--map-root-user", "--mount"], "mount -t tmpfs tmpfs dev");
    refused(&user.attack(&host, "a user namespace"), "user namespace");
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let mut gone = Command::new("true").spawn().unwrap();
    wait(&mut gone);
    for (pid, why) in [(0, "no process"), (1, "no process"), (gone.id(), "/proc/")] {
        let state = runc_state(pid, container.bundle());
        refused(&feed(&mut host.create_runtime(), state.as_bytes()), why);
    }
    container.assert_nothing_outside_changed("no container");
    assert_eq!(names_of(container.inside().join("dev").to_str().unwrap()).len(), 0);
}

/// The last mount fails: nodes, mount points and mounts made before it are removed.
#[test]
fn a_failed_run_is_undone_completely() {
    let host = host();
    let container = PreparedContainer::new();
    fs::remove_dir_all(container.rootfs().join("usr")).unwrap();
    mkfifo(&container.rootfs().join("run/mig-cdi"), Mode::from_bits_truncate(0o644)).unwrap();
    let container = container.start(ENGINE_MOUNTS);
    let log = host.root().join("strace");
    let mut command =
        traced(&host.create_runtime(), &log, &["-e", "trace=mknodat,mknod,move_mount"]);
    refused(
        &feed(&mut command, container.state().as_bytes()),
        "run/mig-cdi: the container has something",
    );
    let trace = fs::read_to_string(log).unwrap();
    let done =
        |call: &str| trace.lines().filter(|l| l.contains(call) && l.ends_with("= 0")).count();
    assert_eq!(done("mknod"), 6, "{trace}");
    assert!(done("move_mount(") >= 7, "{trace}");
    // The method compares the whole container before and after.
    refused(&container.attack(&host, "a pipe at the end"), "run/mig-cdi");
    assert!(!container.inside().join("usr").exists());
    assert_eq!(names(&container.inside().join("dev")), [""; 0].map(PathBuf::from));
}

/// On a kernel without a system call that a mode needs, the container does not start with an incomplete slice.
#[test]
fn a_kernel_that_is_too_old_is_reported() {
    let host = host();
    for call in ["open_tree", "fsopen", "fsconfig", "fsmount", "mount_setattr", "move_mount"] {
        let container = PreparedContainer::new();
        let container = container.start(ENGINE_MOUNTS);
        let without = format!("inject={call}:error=ENOSYS");
        let mut command =
            traced(&host.create_runtime(), &host.root().join("strace"), &["-e", &without]);
        refused(&feed(&mut command, container.state().as_bytes()), "linux 5.12 or newer");
        assert_eq!(container.new_mounts(), [""; 0], "{call}");
        assert_eq!(names(&container.inside().join("dev")), [""; 0].map(PathBuf::from), "{call}");
        container.assert_nothing_outside_changed(call);
    }
}

/// As root without a privilege that a mode needs, as in a container, the container does not start with an incomplete
/// slice.
#[test]
fn without_a_privilege_the_container_is_unchanged() {
    let host = host();
    for privilege in ["sys_admin", "sys_chroot", "mknod"] {
        let container = PreparedContainer::new();
        let container = container.start(ENGINE_MOUNTS);
        let hook = host.create_runtime();
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-{privilege}")).arg(hook.get_program());
        command.args(hook.get_args()).env_clear();
        refused(
            &feed(&mut command, container.state().as_bytes()),
            "run it as root with all capabilities",
        );
        assert_eq!(container.new_mounts(), [""; 0], "{privilege}");
        assert_eq!(
            names(&container.inside().join("dev")),
            [""; 0].map(PathBuf::from),
            "{privilege}"
        );
        container.assert_nothing_outside_changed(privilege);
    }
}

/// S13: the command line of every mode.
#[test]
fn unknown_arguments_stop_the_container() {
    let host = host();
    let input = vec![b' '; 1 << 20];
    for words in [
        &[][..],
        &["poststop"],
        &["create_runtime"],
        &["verify"],
        &["verify", "--warn-only", EXPECTED_SLICE],
        &["verify", "0:3:0"],
        &["precreate", "--quiet"],
        &["precreate", "word"],
        &["precreate", "--config"],
        &["precreate", "--config=/nowhere"],
        &["create-runtime", "--config=/nowhere"],
        &["prestart", "--config="],
        &["runtime", "--config=/nowhere", "create", "a"],
    ] {
        // A mode that reads its input reads it to the end; the input of `runtime` belongs to the real runtime.
        let run = match words.first() {
            Some(&"runtime") => run(&mut host.hook(words)),
            _ => feed(&mut host.hook(words), &input),
        };
        let result = (run.code, run.stdout.as_str(), run.stderr.lines().count());
        assert_eq!(result, (2, "", 1), "{words:?}: {}", run.stderr);
    }
}

/// S13: an invalid state does not let a container start.
#[test]
fn an_invalid_state_stops_the_container() {
    let host = host();
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let state = container.state();
    let bundle = container.bundle().display().to_string();
    let change = |from: &str, to: &str| state.replace(from, to).into_bytes();
    let mut no_text = state.clone().into_bytes();
    let id = state.find("test").unwrap();
    no_text[id] = 0xff;
    // The hook reads 16 MiB of a state at most (hook/src/state.rs).
    let huge = format!("\"annotations\":{{\"a\":\"{}\"}},\"pid\"", "x".repeat(17 << 20));
    for (what, input) in [
        ("nothing", Vec::new()),
        ("no state", b"{}".to_vec()),
        ("a list", b"[]".to_vec()),
        ("cut off", state.as_bytes()[..state.len() - 1].to_vec()),
        ("two", [state.as_bytes(), state.as_bytes()].concat()),
        ("an id twice", change("\"id\"", "\"id\":\"x\",\"id\"")),
        ("a pid twice", change("\"pid\"", "\"pid\":1,\"pid\"")),
        ("a bundle twice", change("\"bundle\"", "\"bundle\":\"/\",\"bundle\"")),
        ("no number", change(&format!("\"pid\":{}", container.pid()), "\"pid\":\"1\"")),
        ("below nothing", change("\"pid\":", "\"pid\":-")),
        ("too large", change("\"pid\"", &huge)),
        ("a byte order mark", change("{\"oci", "\u{feff}{\"oci")),
        ("no text", no_text),
        ("UTF-16", state.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a bundle from here", change(&bundle, "rootfs")),
        ("deep", b"{\"annotations\":".repeat(100_000)),
    ] {
        for mut command in [host.create_runtime(), verify(&host, &[])] {
            let run = feed(&mut command, &input);
            println!("{what}");
            refused(&run, "read the container's state");
        }
    }
    refused(&feed(&mut host.create_runtime(), &change(&bundle, "/nowhere")), "open the bundle");
    container.assert_nothing_outside_changed("no state");
    assert_eq!(container.new_mounts(), [""; 0]);
    assert_eq!(names_of(container.inside().join("dev").to_str().unwrap()).len(), 0);
}

/// S13: nor does an unreliable configuration, or a root that is none, in any mode.
#[test]
fn an_invalid_configuration_stops_the_container() {
    let host = host();
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let started = host.root().join("started");
    let real = program(&host, &format!(": > {}", started.display()));
    host.configure_hook(&format!("runtimes = [{:?}]", real.to_str().unwrap()));
    let good = oci_config(&[], &[("mig-cdi/devices", "0:2g.20gb:0")], false);
    let change = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let root = |path: &str| change("\"rootfs\"", &format!("{path:?}"));
    // Bytes that are no UTF-8 in the place of a key.
    let bad_text = good.replace("x-unknown", "x\u{1}").into_bytes();
    let bad_text = bad_text.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    let everywhere: [(&str, Vec<u8>); 9] = [
        ("nothing", Vec::new()),
        ("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
        ("two", [good.as_bytes(), good.as_bytes()].concat()),
        ("annotations twice", change("\"annotations\"", "\"annotations\":{},\"annotations\"")),
        (
            "one twice",
            change("\"mig-cdi/devices\"", "\"mig-cdi/devices\":\"\",\"mig-cdi/devices\""),
        ),
        ("a byte order mark", change("{\"ociVersion\"", "\u{feff}{\"ociVersion\"")),
        ("no text", bad_text),
        (
            "too large",
            change("\"x-large\"", &format!("\"x\":\"{}\",\"x-large\"", "x".repeat(16 << 20))),
        ),
        ("deep", b"{\"process\":".repeat(90_000)),
    ];
    // Only create-runtime uses the root: the other modes leave it to the runtime.
    let roots = ["/", "", "..", ".", "rootfs/..", "../rootfs", "/nowhere", "/.."];
    let roots = roots.map(|path| (path, root(path)));
    let config = format!("--config={}", host.config().display());
    for (what, input) in &everywhere {
        refused(&feed(&mut host.hook(&["precreate", &config]), input), "read ");
        container.configure(input);
        let bundle = container.bundle().to_str().unwrap();
        let mut runtime = host.hook(&["runtime", &config, "--", "create", "-b", bundle, "a"]);
        refused(&run(&mut runtime), "");
        assert!(!started.exists(), "{what}: the runtime has started");
        assert_eq!(fs::read(container.bundle().join("config.json")).unwrap(), *input);
    }
    for (what, input) in everywhere.iter().chain(&roots) {
        container.configure(input);
        refused(&container.attack(&host, what), "");
    }
    let path = container.bundle().join("config.json");
    for make in [obstacles()[0].1, obstacles()[10].1] {
        fs::remove_file(&path).unwrap();
        make(&container, &path);
        refused(&container.attack(&host, "a link or a pipe"), "config.json");
    }
    assert_eq!(names_of(container.inside().join("dev").to_str().unwrap()).len(), 0);
}

/// S14: text from a container is either the name of a slice that it may have, or data without any effect.
#[test]
fn text_from_a_container_is_only_data() {
    let host = host();
    let other = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    for value in
        ["0:2g.20gb:0\n0:2g.20gb:2", "0:2g.20gb:0\0", "../../0:2g.20gb:0", "*", "\u{1b}[2J", other]
    {
        let policy = if value == other { "devices = [\"0:2g.20gb:0\"]" } else { "" };
        host.configure_hook(policy);
        let json = serde_json::to_string(value).unwrap();
        let config =
            oci_config(&[], &[("mig-cdi/devices", "WORD")], false).replace("\"WORD\"", &json);
        container.configure(&config);
        refused(&container.attack(&host, value), "");
        refused(&host.precreate(&config, &[]), "");
        let config = oci_config(&["WORD"], &[], true).replace(
            "\"WORD\"",
            &serde_json::to_string(&format!("NVIDIA_VISIBLE_DEVICES={value}")).unwrap(),
        );
        container.configure(&config);
        refused(&container.attack(&host, value), "");
    }
    let lines = host.read_log().lines().count();
    assert_eq!(lines, 6 * 3, "{}", host.read_log());
    assert!(!host.read_log().contains(['\u{1b}', '\0']));
    // Variables and annotations that look like those of a spec have no effect.
    host.configure_hook("");
    let env = [&format!("MIG_CDI_DEVICE_0_5_0={other},2g.20gb,GPU-x"), "MIG_CDI_X=a'\n$(reboot)"];
    let config = oci_config(
        &env.map(|entry| entry),
        &[("x", other), ("mig-cdi/devices", "0:2g.20gb:0")],
        false,
    );
    container.configure(&config);
    container.attack(&host, "variables").assert_code(0);
    let caps = names_of(container.inside().join("dev/nvidia-caps").to_str().unwrap());
    assert_eq!(caps.into_iter().collect::<Vec<_>>(), ["nvidia-cap30", "nvidia-cap31"]);
    let given = fs::read_to_string(container.inside().join("run/mig-cdi/environment")).unwrap();
    assert!(!given.contains(other) && !given.contains("reboot"), "{given}");
    // verify checks the slices in the spec, whatever the state contains.
    let annotations = format!("\"annotations\":{{\"mig-cdi/devices\":\"{other}\"}},\"pid\"");
    for state in [
        container.state().replace("\"pid\"", &annotations),
        container.state().replace("test", "a\\n\\u0000../b"),
    ] {
        feed(&mut verify(&host, &[]), state.as_bytes()).assert_code(0);
    }
}

/// S16: crun fails a container whose hook ends before it has read its input.
#[test]
fn a_large_state_on_a_slow_pipe_is_read_to_its_end() {
    let host = host();
    let container = PreparedContainer::new();
    container.configure(config_without_request());
    let container = container.start(ENGINE_MOUNTS);
    let pad = format!("\"annotations\":{{\"a\":\"{}\"}},\"pid\"", "x".repeat(10 << 20));
    let state = container.state().replace("\"pid\"", &pad);
    for (mut command, code) in [
        (host.create_runtime(), 0),
        (verify(&host, &[]), 0),
        (host.hook(&["create-runtime", "--unknown"]), 2),
        (host.hook(&["verify", "--config=/nowhere"]), 2),
        (host.hook(&["create-runtime", "--config=/nowhere"]), 2),
    ] {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for part in state.as_bytes().chunks(1 << 20) {
            stdin.write_all(part).unwrap_or_else(|e| panic!("{command:?}: {e}"));
            // The pipe runs empty, so a hook that reads once would miss the rest.
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(stdin);
        finish(child, PROGRAM).assert_code(code);
    }
    assert_eq!(container.new_mounts(), [""; 0]);
    assert_eq!(fs::read_to_string(container.canary().join("file")).unwrap(), SECRET);
}

/// The register names existing tests, and all tests of these two files.
#[test]
fn the_register_lists_exactly_these_tests() {
    let project = mig_cdi_tests::project();
    let register = fs::read_to_string(project.join("docs/attacks.md")).unwrap();
    for (file, test) in register.split('`').filter_map(|word| word.split_once("::")) {
        assert!(is_test(&format!("{file}::{test}")), "{file}::{test}");
    }
    for (tier, file) in [("host", "attacks"), ("soak", "races")] {
        let path = project.join(format!("tests/tests/{tier}/hook_{file}.rs"));
        let text = fs::read_to_string(path).unwrap();
        let tests = text.split("#[test]\nfn ").skip(1).map(|rest| rest.split('(').next().unwrap());
        for test in tests.filter(|test| *test != "the_register_lists_exactly_these_tests") {
            assert!(register.contains(&format!("`{file}::{test}`")), "{file}::{test} is missing");
        }
    }
}
