//! `generate --ldcache-hook`: containers whose loader searches other directories, and attacks of images on a hook
//! that reads their loader cache.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    deadline::StopOnDrop,
    driver::{DistributionLayout, library_dir},
    hook::{crun_state, feed, oci_config, runc_state},
    podman::{Podman, VARIANTS, compile},
    run,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

const VERSION: &str = "580.105.08";

/// Makes a host with a libcuda that can be loaded.
fn host() -> FakeHost {
    let layout = DistributionLayout::Fedora;
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), layout);
    let cuda = host.path(&format!("{}/libcuda.so.{VERSION}", library_dir(layout)));
    compile("fake-libcuda.c", &cuda, &["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]);
    host.install();
    host
}

fn passed(run: &Run) -> &str {
    run.assert_code(0);
    &run.stdout
}

fn words(hook: &Value) -> Vec<&str> {
    hook["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
}

#[test]
fn the_spec_has_one_hook_with_the_libraries_of_the_first_directory() {
    let host = host();
    host.generate(&["--ldcache-hook", "--capabilities=compute,utility,compat32"]).assert_code(0);
    let spec: Value = serde_json::from_str(&host.read_spec().unwrap()).unwrap();
    let [hook] = spec["containerEdits"]["hooks"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(hook["hookName"], "createContainer");
    assert_eq!(hook["env"], serde_json::json!(["MIG_CDI_HOOK=ldcache"]));
    assert_eq!(hook["timeout"], 5);
    assert!(Path::new(hook["path"].as_str().unwrap()).is_file());
    let dir = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let words = words(hook);
    assert_eq!(words[..3], ["mig-cdi-hook", "ldcache", format!("--dir={dir}").as_str()]);
    assert!(words.contains(&"libcuda.so.1") && words.contains(&"libnvidia-ml.so.1"), "{words:?}");
    // One argument for each library that is mounted there, and none for one that is 32-bit only.
    let mounts = spec["containerEdits"]["mounts"].as_array().unwrap().iter();
    let paths = mounts.filter_map(|mount| mount["containerPath"].as_str()?.strip_prefix(&dir));
    let mut mounted: Vec<_> = paths.map(|name| name.trim_start_matches('/')).collect();
    let mut libraries = words[3..].to_vec();
    mounted.sort_unstable();
    libraries.sort_unstable();
    assert_eq!(libraries, mounted);
    assert!(
        spec["devices"]
            .as_array()
            .unwrap()
            .iter()
            .all(|d| d["containerEdits"].get("hooks").is_none())
    );
    let output = format!("--output={}", host.spec().display());
    let flags = ["--ldcache-hook", "--capabilities=compute,utility,compat32"];
    host.run(&[&["check", &output], &flags[..]].concat()).assert_code(0);
    let without = host.run(&["check", &output, flags[1]]);
    assert!(
        without.code == 6 && without.stdout.contains("hook createContainer"),
        "{}",
        without.stdout
    );
}

#[test]
fn without_the_flag_or_a_library_there_is_no_hook() {
    let host = host();
    for flags in [&[][..], &["--ldcache-hook", "--capabilities=none"]] {
        host.generate(flags).assert_code(0);
        assert!(!host.read_spec().unwrap().contains("hooks"));
    }
    let run = host.run(&["generate", "--node=a30", "--output=-", "--ldcache-hook"]);
    assert!(run.code == 2 && run.stderr.contains("--ldcache-hook: it is for"), "{}", run.stderr);
    fs::remove_file(host.install().join("mig-cdi-hook")).unwrap();
    let run = host.generate(&["--ldcache-hook"]);
    assert!(
        run.code == 5 && run.stderr.contains("--ldcache-hook: no such program"),
        "{}",
        run.stderr
    );
}

/// A slice with graphics has more libraries, and so a hook of its own.
#[test]
fn a_slice_with_graphics_adds_its_libraries() {
    let host = FakeHost::with_driver(preset("rtx-pro-6000").unwrap(), DistributionLayout::Fedora);
    host.install();
    host.generate(&["--ldcache-hook", "--capabilities=all"]).assert_code(0);
    let spec: Value = serde_json::from_str(&host.read_spec().unwrap()).unwrap();
    let devices = spec["devices"].as_array().unwrap().iter();
    let hooks: Vec<_> = devices.filter_map(|d| d["containerEdits"]["hooks"].get(0)).collect();
    assert!(!hooks.is_empty());
    for hook in hooks {
        assert!(words(hook).contains(&"libnvidia-glcore.so.580.105.08"), "{hook}");
        assert!(!words(hook).contains(&"libcuda.so.1"), "{hook}");
    }
}

/// Two kinds of images that do not search /opt/nvidia/lib: with a loader cache that names a library, and without one.
const ROOTS: [&str; 2] = ["debian-root", "lib64-root"];

const IMAGE: &str = "
    mkdir -p $ROOTFS/opt/image
    cc -shared -fPIC -Wl,-soname,libimage.so.3 -o $ROOTFS/opt/image/libimage.so.3 -x c /dev/null
    echo /opt/image > $ROOTFS/etc/ld.so.conf
    run() { $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 \"$@\"; }
";

#[test]
fn libraries_are_found_where_the_loader_does_not_search() {
    let script = format!(
        "{IMAGE}
        $BIN/mig-cdi generate --library-dirs /opt/nvidia/lib $FLAGS
        run --rootfs $ROOTFS loader libcuda.so.1 && exit 9
        $BIN/mig-cdi generate --ldcache-hook --library-dirs /opt/nvidia/lib $FLAGS
        echo no cache
        [ ! -e $ROOTFS/etc/ld.so.cache ]
        run --rootfs $ROOTFS loader libcuda.so.1 libcuda.so libnvidia-ml.so.1
        [ -f $ROOTFS/etc/ld.so.cache ] && [ ! -s $ROOTFS/etc/ld.so.cache ]
        echo its own cache
        ldconfig -r $ROOTFS
        before=$(sha256sum $ROOTFS/etc/ld.so.cache; stat -c '%i %Y %s' $ROOTFS/etc/ld.so.cache)
        run --rootfs $ROOTFS loader libcuda.so.1 libcuda.so libnvidia-ml.so.1 libimage.so.3
        echo read-only
        run --read-only --rootfs $ROOTFS loader libcuda.so.1 libimage.so.3
        run --rootfs $ROOTFS sh -c 'echo x > /etc/ld.so.cache || stat -c %a /etc/ld.so.cache' 2>/dev/null
        cp /sbin/ldconfig $ROOTFS/bin/
        run --rootfs $ROOTFS sh -c 'ldconfig || echo ldconfig fails; loader libimage.so.3' 2>/dev/null
        grep -q \"$ROOTFS/etc/ld.so.cache\" /proc/self/mountinfo && exit 8
        [ \"$before\" = \"$(sha256sum $ROOTFS/etc/ld.so.cache; stat -c '%i %Y %s' $ROOTFS/etc/ld.so.cache)\" ]"
    );
    let expected = "\
libcuda.so.1: libcuda.so.1: cannot open shared object file: No such file or directory
no cache
libcuda.so.1 /opt/nvidia/lib/libcuda.so.1
libcuda.so /opt/nvidia/lib/libcuda.so.1 is libcuda.so.1
libnvidia-ml.so.1 /opt/nvidia/lib/libnvidia-ml.so.1
cuInit 100
its own cache
libcuda.so.1 /opt/nvidia/lib/libcuda.so.1
libcuda.so /opt/nvidia/lib/libcuda.so.1 is libcuda.so.1
libnvidia-ml.so.1 /opt/nvidia/lib/libnvidia-ml.so.1
libimage.so.3 /opt/image/libimage.so.3
cuInit 100
read-only
libcuda.so.1 /opt/nvidia/lib/libcuda.so.1
libimage.so.3 /opt/image/libimage.so.3
cuInit 100
444
ldconfig fails
libimage.so.3 /opt/image/libimage.so.3
";
    let host = host();
    let script = script.replace("$BIN", &host.install().display().to_string());
    for variant in VARIANTS {
        for root in ROOTS {
            let run = Podman::with_c_library(variant, root).script(&host, &script);
            similar_asserts::assert_eq!(passed(&run), expected, "{variant:?} {root}");
        }
    }
}

/// Runtimes run a hook of the stage createRuntime in their own namespaces, not in the container's.
#[test]
fn at_another_hook_stage_no_container_starts() {
    let script = "
        $BIN/mig-cdi generate --ldcache-hook $FLAGS
        sed -i s/createContainer/createRuntime/ /var/run/cdi/nvidia.com-mig.json
        ! $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS ls /
        [ ! -e $ROOTFS/etc/ld.so.cache ]";
    let host = host();
    let script = script.replace("$BIN", &host.install().display().to_string());
    for variant in VARIANTS {
        let run = Podman::new(variant).script(&host, &script);
        assert_eq!(passed(&run), "", "{variant:?}");
        let shown = variant.0 == "crun" || run.stderr.contains("rootfs");
        assert!(shown, "{variant:?}: {}", run.stderr);
    }
}

/// Bundle of a container, a canary beside it, and the hook in a mount namespace in which the container has a `/dev`
/// and a `/proc` of its own.
struct Rig {
    host: FakeHost,
}

impl Rig {
    fn new() -> Rig {
        let rig = Rig { host: FakeHost::with_nodes(preset("a30").unwrap()) };
        for dir in ["rootfs/dev", "rootfs/proc", "rootfs/etc", "canary"] {
            fs::create_dir_all(rig.path(dir)).unwrap();
        }
        fs::write(rig.path("config.json"), oci_config(&[], &[], false)).unwrap();
        fs::write(rig.path("canary/ld.so.cache"), "canary\n").unwrap();
        fs::write(rig.path("state"), runc_state(1, &rig.path(""))).unwrap();
        rig.host.install();
        rig
    }

    fn path(&self, below: &str) -> PathBuf {
        self.host.out().join(below)
    }

    fn cache(&self) -> PathBuf {
        self.path("rootfs/etc/ld.so.cache")
    }

    /// Runs a script as a runtime runs hooks, with our hook in `$HOOK`.
    fn script(&self, script: &str, state: &str) -> Run {
        let mounts = "mount -t tmpfs none rootfs/dev; mount -t proc none rootfs/proc; ";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("{mounts}{script}")).current_dir(self.path("")).env_clear();
        let hook = self.host.install().join("mig-cdi-hook");
        let hook = format!("{} ldcache --dir=/opt/nvidia/lib", hook.display());
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOOK", hook);
        feed(&mut command, state.as_bytes())
    }

    /// Runs the hook with bounds on time and memory, and copies the cache that the container sees to `seen`.
    fn run(&self) -> Run {
        let script = "/usr/bin/time -o time -f 'kB %M' $HOOK libcuda.so.1 libnvidia-ml.so.1 || exit
            cp rootfs/etc/ld.so.cache seen";
        let before = Instant::now();
        let run = self.script(script, &crun_state(0, &self.path("")));
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
        let time = fs::read_to_string(self.path("time")).unwrap();
        let memory = time.rsplit_once("kB ").unwrap().1.trim().parse::<u64>().unwrap();
        assert!(memory < 64 << 10, "{memory} kB");
        run
    }

    fn canary(&self) -> (Vec<String>, String) {
        let names = fs::read_dir(self.path("canary")).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        (names, fs::read_to_string(self.path("canary/ld.so.cache")).unwrap())
    }

    fn check_canary(&self, what: &str) {
        let expected = (vec!["ld.so.cache".to_owned()], "canary\n".to_owned());
        assert_eq!(self.canary(), expected, "{what}");
    }
}

/// Returns the entries of a cache as glibc's own tool prints them.
fn printed(cache: &Path) -> Vec<String> {
    let run = run(Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(cache));
    let lines = passed(&run).lines().filter(|line| line.starts_with('\t'));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// ldconfig reads the changed cache of this machine, which ldconfig had written.
#[test]
fn ldconfig_reads_the_cache_of_the_hook() {
    let rig = Rig::new();
    rig.run().assert_code(0);
    let ours = [
        "libnvidia-ml.so.1 (libc6,x86-64) => /opt/nvidia/lib/libnvidia-ml.so.1",
        "libcuda.so.1 (libc6,x86-64) => /opt/nvidia/lib/libcuda.so.1",
    ];
    assert_eq!(printed(&rig.path("seen")), ours);
    fs::copy("/etc/ld.so.cache", rig.cache()).unwrap();
    let (before, bytes) = (printed(&rig.cache()), fs::read(rig.cache()).unwrap());
    rig.run().assert_code(0);
    let after = printed(&rig.path("seen"));
    let (new, kept): (Vec<_>, Vec<_>) = after.into_iter().partition(|l| ours.contains(&l.as_str()));
    assert_eq!(new, ours);
    assert_eq!(kept, before);
    assert_eq!(fs::read(rig.cache()).unwrap(), bytes, "the image's is as it was");
    // A second spec, of whole GPUs, adds a second hook.
    let twice = rig.script(
        "for i in 1 2; do $HOOK libcuda.so.1 libnvidia-ml.so.1 <state; done; cp rootfs/etc/ld.so.cache twice; cat >&2",
        "",
    );
    assert_eq!((twice.code, twice.stderr.as_str()), (0, ""));
    assert_eq!(printed(&rig.path("twice")), printed(&rig.path("seen")));
}

#[test]
fn a_link_out_of_the_container_is_not_followed() {
    let magic = |path: &str| format!("/proc/self/root{path}");
    let (canary, up) =
        (|rig: &Rig| rig.path("canary").display().to_string(), "../../../../../../../..");
    for case in 0..12 {
        let rig = Rig::new();
        let (canary, etc, cache) = (canary(&rig), rig.path("rootfs/etc"), rig.cache());
        let file = format!("{canary}/ld.so.cache");
        match case {
            0 => symlink(&file, cache).unwrap(),
            1 => symlink(format!("{up}{file}"), cache).unwrap(),
            2 => symlink(magic(&file), cache).unwrap(),
            3 => symlink("/proc/self/cwd/canary/ld.so.cache", cache).unwrap(),
            4 => symlink("/proc/1/root/etc/ld.so.cache", cache).unwrap(),
            5 => symlink("/proc/self/fd/0", cache).unwrap(),
            6 => symlink("/proc/self/environ", cache).unwrap(),
            7 => symlink("/proc/kmsg", cache).unwrap(),
            8 => symlink("ld.so.cache", cache).unwrap(),
            _ => {
                fs::remove_dir(&etc).unwrap();
                let to = [canary.clone(), format!("{up}{canary}"), magic(&canary)];
                symlink(&to[case - 9], etc).unwrap();
            }
        }
        let run = rig.run();
        assert!(run.code == 1 && run.stderr.contains("rootfs/etc"), "{case}: {}", run.stderr);
        assert!(!rig.path("seen").exists());
        rig.check_canary(&format!("case {case}"));
    }
    // A link inside the container is followed.
    let rig = Rig::new();
    fs::create_dir_all(rig.path("rootfs/usr/etc")).unwrap();
    fs::copy("/etc/ld.so.cache", rig.path("rootfs/usr/etc/ld.so.cache")).unwrap();
    symlink("../usr/etc/ld.so.cache", rig.cache()).unwrap();
    rig.run().assert_code(0);
    assert!(printed(&rig.path("seen")).len() > 2);
    // An image without /etc gets one.
    let rig = Rig::new();
    fs::remove_dir(rig.path("rootfs/etc")).unwrap();
    rig.run().assert_code(0);
    assert_eq!(fs::metadata(rig.cache()).unwrap().len(), 0);
}

/// Returns a cache of this size with as many entries as possible, all with the same name: a long one that begins as
/// one of ours does and goes on with digits.
fn heavy(size: usize) -> Vec<u8> {
    let count = (size - 4200) / 24;
    let (name, mut cache) = (48 + 24 * count, b"glibc-ld.so.cache1.1".to_vec());
    cache.extend((count as u32).to_le_bytes());
    cache.resize(48, 0);
    let entry = [0x0303, name as u32, name as u32, 0, 0, 0].map(u32::to_le_bytes).concat();
    cache.extend(entry.repeat(count));
    cache.extend(b"libnvidia-ml.so.");
    cache.extend([b'0'; 4000]);
    cache.push(0);
    cache
}

#[test]
fn an_invalid_cache_is_refused_in_bounded_time_and_memory() {
    let make = |command: &str| {
        let rig = Rig::new();
        let cache = rig.cache().display().to_string();
        run(Command::new("sh").args(["-c", &command.replace("$CACHE", &cache)])).assert_code(0);
        rig
    };
    for (command, why) in [
        ("mkfifo $CACHE", "it is no regular file"),
        ("mkdir $CACHE", "it is no regular file"),
        ("mknod $CACHE c 1 5", "it is no regular file"),
        ("mknod $CACHE b 7 0", "it is no regular file"),
        ("truncate -s 1G $CACHE", "larger than 2097152 bytes"),
        ("echo text >$CACHE", "no ld.so.cache of glibc; run ldconfig"),
        ("head -c 3000 /etc/ld.so.cache >$CACHE", "cut short"),
        ("head -c 1000000 /dev/zero >$CACHE", "no ld.so.cache"),
    ] {
        let rig = make(command);
        let run = rig.run();
        assert!(run.code == 1 && run.stderr.contains(why), "{command}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        rig.check_canary(command);
    }
    let rig = make(": >$CACHE");
    rig.run().assert_code(0);
    // The largest cache that the hook reads (hook/src/modes/ldcache.rs), as expensive to sort as possible.
    fs::write(rig.cache(), heavy(2 << 20)).unwrap();
    rig.run().assert_code(0);
}

/// Another process with the same root file system swaps its directories while the hook runs.
#[test]
fn a_directory_swapped_during_the_run_is_not_followed() {
    let rig = Rig::new();
    let (etc, link) = (rig.path("rootfs/etc"), rig.path("rootfs/link"));
    symlink(rig.path("canary"), &link).unwrap();
    fs::copy("/etc/ld.so.cache", rig.cache()).unwrap();
    let script = "i=0 good=0; while [ $((i += 1)) -lt 50 ]; do
        $HOOK libcuda.so.1 <state 2>/dev/null && : $((good += 1)); done; echo $good; cat >&2";
    let stop = AtomicBool::new(false);
    let good: u32 = std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            while !stop.load(Relaxed) {
                renameat2(AT_FDCWD, &etc, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let runs = (0..20).map(|_| passed(&rig.script(script, "")).trim().parse::<u32>().unwrap());
        runs.sum()
    });
    assert!(good > 0, "none went through");
    rig.check_canary("race");
}

/// At another stage the mount would be in the machine's namespace.
#[test]
fn outside_a_container_s_mount_namespace_nothing_is_mounted() {
    let rig = Rig::new();
    let run = rig.script("umount rootfs/dev; $HOOK libcuda.so.1", &runc_state(1, &rig.path("")));
    assert!(run.code == 1 && run.stderr.contains("a directory of the image"), "{}", run.stderr);
    // If the namespace of the machine's first process can be read, comparing with it is enough.
    let mut hook = rig.host.hook(&["ldcache", "--dir=/x", "libcuda.so.1"]);
    let run = feed(&mut hook, runc_state(1, &rig.path("")).as_bytes());
    let reasons = ["in the stage createContainer", "a directory of the image"];
    assert!(run.code == 1 && reasons.iter().any(|r| run.stderr.contains(r)), "{}", run.stderr);
    assert!(!rig.cache().exists());
    for state in ["", "{}", &runc_state(1, Path::new("/nonexistent"))] {
        println!("{state}");
        rig.script("$HOOK libcuda.so.1", state).assert_code(1);
    }
    for root in ["/", "..", "a/../..", ""] {
        let config = oci_config(&[], &[], false);
        fs::write(rig.path("config.json"), config.replace("\"rootfs\"", &format!("{root:?}")))
            .unwrap();
        let run = rig.script("$HOOK libcuda.so.1", &runc_state(1, &rig.path("")));
        assert!(run.code == 1 && run.stderr.contains("container's root"), "{root}: {}", run.stderr);
    }
}

#[test]
fn a_dry_run_prints_the_libraries() {
    let rig = Rig::new();
    let run = rig.script("$HOOK --dry-run libcuda.so.1; cat >&2", "");
    let printed: Value = serde_json::from_str(passed(&run)).unwrap();
    assert_eq!(printed["libraries"], serde_json::json!(["libcuda.so.1"]));
    assert_eq!((&printed["door"], &printed["dir"]), (&"ldcache".into(), &"/opt/nvidia/lib".into()));
}
