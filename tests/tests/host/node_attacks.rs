//! Attacks by users of the node on what root runs, reads and removes there. `docs/attacks.md` is the register.

use mig_cdi_model::is_unprintable;
use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run, bare,
    configure_host::ConfigureHost,
    deadline,
    hook::oci_config,
    mig_cdi,
    partition_host::PartitionHost,
    podman::compile,
    run,
    running_plugin::RunningPlugin,
    script_program,
    watch::{Watch, until},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// User and group who attack.
const MALLORY: u32 = 65534;
const LIBRARY_DIR: &str = "/usr/lib/x86_64-linux-gnu";
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path) {
    lchown(path, Some(MALLORY), Some(MALLORY)).unwrap();
}

/// Host whose NVML is a library that makes the returned file when it is loaded.
fn host_with_canary() -> (FakeHost, PathBuf) {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let canary = host.out().with_file_name("loaded");
    let define = format!("-DCANARY=\"{}\"", canary.display());
    compile("evil.c", &host.path(LIBRARY), &["-shared", "-fPIC", &define]);
    (host, canary)
}

fn assert_not_loaded(host: &FakeHost, args: &[&str], canary: &Path, weak: &str) {
    let run = host.run(args);
    assert_eq!((run.code, canary.exists()), (5, false), "{args:?}: {}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(weak), "{args:?}: {weak:?} is not in {}", run.stderr);
    assert!(run.stderr.contains("; run chown root and chmod go-w"), "{}", run.stderr);
}

/// S24: a library of another user, for each program that loads NVML.
#[test]
fn no_program_loads_nvml_of_another_user() {
    let (host, canary) = host_with_canary();
    run(mig_cdi(["list"]).args(host.flags()));
    assert!(canary.exists(), "the library of root is loaded, and shows it");
    fs::remove_file(&canary).unwrap();
    give(&host.path(LIBRARY));
    let weak = format!("TMP/root{LIBRARY} belongs to user {MALLORY}");
    let file = host.out().join("file").display().to_string();
    let spec = format!("--output={}", host.spec().display());
    fs::write(host.spec(), "{}").unwrap();
    let layout = "0=1g.10gb";
    for args in [
        &["generate", &spec][..],
        &["generate", "--output=-"],
        &["generate", &spec, "--source=nvml"],
        &["check", &spec],
        &["list"],
        &["list", "--json"],
        &["map"],
        &["map", "--svg", &file],
        &["show", "0:2g.20gb:0"],
        &["profiles"],
        &["plan", layout],
        &["apply", layout],
        &["assert", layout],
        &["export"],
        &["checkpoint", &file],
    ] {
        assert_not_loaded(&host, args, &canary, &weak);
    }
    // The doctor reports it like any other fault.
    let doctor = host.run(&["doctor"]);
    assert_eq!((doctor.code, canary.exists()), (1, false), "{}", doctor.stdout);
    assert!(doctor.stdout.contains(&weak), "{}", doctor.stdout);
    // The processes that load it for the service and for the device plugin.
    let refused = |status: &str| status.contains("\"exit\": 5") && status.contains("belongs to");
    let watch = Watch::start(&host, &["--driver-events"]);
    until("the watch has refused it", || refused(&watch.status()));
    drop(watch);
    fs::remove_dir_all(host.out().with_file_name("state")).unwrap();
    let plugin = RunningPlugin::start(&host, &[]);
    plugin.until_logged("belongs to user");
    drop(plugin);
    assert!(!canary.exists());
}

/// S24: everything on the path of the library counts, and links lead on to a path that counts too.
#[test]
fn nvml_is_loaded_only_from_directories_that_others_cannot_write() {
    type Weaken = fn(&FakeHost);
    let cases: [(&str, Weaken); 10] = [
        ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 has mode 0666", |host| {
            mode(&host.path(LIBRARY), 0o666);
        }),
        ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 has mode 0775", |host| {
            mode(&host.path(LIBRARY), 0o775);
        }),
        ("/usr/lib/x86_64-linux-gnu has mode 0757", |host| mode(&host.path(LIBRARY_DIR), 0o757)),
        // Group 0 has members other than root, and the group's bits are the mask of an access list.
        ("/usr/lib has mode 0775", |host| mode(&host.path("/usr/lib"), 0o775)),
        ("/usr belongs to user", |host| give(&host.path("/usr"))),
        // The root of the driver, and a directory above it.
        ("root belongs to user", |host| give(&host.root())),
        ("TMP has mode 0777", |host| mode(host.root().parent().unwrap(), 0o777)),
        // Debian's mode for it.
        ("/usr/local/lib has mode 2775", |host| {
            let dir = host.path("/usr/local/lib");
            fs::create_dir_all(&dir).unwrap();
            fs::rename(host.path(LIBRARY), dir.join("libnvidia-ml.so.1")).unwrap();
            chown(&dir, None, Some(50)).unwrap();
            mode(&dir, 0o2775);
        }),
        // The library and its directory are root's, and the link to them is in a directory of the attacker.
        ("/home/mallory belongs to user", |host| {
            let home = host.path("/home/mallory");
            fs::create_dir_all(&home).unwrap();
            fs::rename(host.path(LIBRARY_DIR), host.path("/driver")).unwrap();
            symlink("/driver", home.join("link")).unwrap();
            symlink("/home/mallory/link", host.path(LIBRARY_DIR)).unwrap();
            give(&home);
        }),
        // All may write to the directory, and the link in it is the attacker's.
        ("/tmp/link belongs to user", |host| {
            fs::create_dir_all(host.path("/tmp")).unwrap();
            mode(&host.path("/tmp"), 0o1777);
            fs::rename(host.path(LIBRARY_DIR), host.path("/driver")).unwrap();
            symlink("/driver", host.path("/tmp/link")).unwrap();
            symlink("/tmp/link", host.path(LIBRARY_DIR)).unwrap();
            give(&host.path("/tmp/link"));
        }),
    ];
    for (weak, weaken) in cases {
        let (host, canary) = host_with_canary();
        weaken(&host);
        assert_not_loaded(&host, &["list"], &canary, weak);
    }
    // In a directory with the sticky bit nobody can exchange what is root's.
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    mode(&host.path("/usr"), 0o1777);
    host.run(&["list"]).assert_code(0);
}

/// S24: the dynamic loader is not asked for a library of this name.
#[test]
fn nvml_is_not_searched_for_by_the_loader() {
    let (host, canary) = host_with_canary();
    let flags = host.flags().into_iter().filter(|flag| !flag.starts_with("--driver-root"));
    let mut list = mig_cdi(["list"]);
    list.args(flags).env("LD_LIBRARY_PATH", host.path(LIBRARY_DIR));
    let found = run(&mut list);
    assert_eq!((found.code, canary.exists()), (4, false), "{}", found.stderr);
    assert!(found.stderr.contains("libnvidia-ml.so.1 not found in"), "{}", found.stderr);
}

/// Directories of root's own and of the attacker, and a file of root that the attacker wants removed.
struct Homes {
    machine: ConfigureHost,
    home: PathBuf,
    mallory: PathBuf,
    victim: PathBuf,
}

impl Homes {
    fn new() -> Homes {
        let machine = ConfigureHost::trusted();
        let [home, mallory] = ["home", "mallory"].map(|name| machine.dir().join(name));
        for dir in [&home, &mallory] {
            fs::create_dir_all(dir.join(".local/state/mig-cdi/configure")).unwrap();
        }
        let victim = machine.dir().join("victim");
        fs::write(&victim, "root's").unwrap();
        Homes { machine, home, mallory, victim }
    }

    fn record_path(home: &Path) -> PathBuf {
        home.join(".local/state/mig-cdi/configure/podman.json")
    }

    /// Record by which an undo removes a file with the content of the victim, and a directory.
    fn record(file: &Path, dir: &Path) -> String {
        let file = json!({"path": file, "text": "root's", "made": true, "foreign": false});
        json!({"files": [file], "dirs": [dir]}).to_string()
    }

    fn give_mallory(&self) {
        run(Command::new("chown").args(["-hR", "65534:65534"]).arg(&self.mallory)).assert_code(0);
    }

    fn configure(&self, home: &Path, args: &[&str], variables: &[(&str, &Path)]) -> Run {
        let mut command = Command::new(self.machine.dir().join("bin/mig-cdi"));
        bare(&mut command).args(["configure", "podman", "--rootless", "--config=/dev/null"]);
        run(command.args(args).env("HOME", home).envs(variables.iter().copied()))
    }

    fn assert_refused(&self, run: &Run, why: &str) {
        assert_eq!(run.code, 5, "{}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(why), "{why:?} is not in {}", run.stderr);
        assert_eq!(fs::read_to_string(&self.victim).unwrap(), "root's", "{}", run.stderr);
    }
}

/// S27: a HOME that is another user's, which su and sudo -E leave to root.
#[test]
fn root_undoes_no_record_of_another_user() {
    let homes = Homes::new();
    let record = Homes::record(&homes.victim, &homes.machine.dir().join("none"));
    let path = Homes::record_path(&homes.mallory);
    fs::write(&path, &record).unwrap();
    homes.give_mallory();
    let why = format!("mallory belongs to user {MALLORY}, and this runs as root");
    for args in [&["--undo"][..], &["--undo", "--dry-run"], &["--engine-version=4.3.1"]] {
        homes.assert_refused(&homes.configure(&homes.mallory, args, &[]), &why);
    }
    // Either of its directories.
    let (state, config) = (homes.mallory.join(".local/state"), homes.mallory.join(".config"));
    for variable in [("XDG_STATE_HOME", &*state), ("XDG_CONFIG_HOME", &*config)] {
        homes.assert_refused(&homes.configure(&homes.home, &["--undo"], &[variable]), &why);
    }
    assert!(!config.exists());
    // In a directory that is root's again.
    let inner = homes.mallory.join("inner");
    fs::create_dir(&inner).unwrap();
    homes.assert_refused(&homes.configure(&inner, &["--undo"], &[]), &why);
}

/// S27: a record in root's own directory that is not root's, or is only a link.
#[test]
fn root_undoes_only_records_that_it_wrote() {
    let homes = Homes::new();
    let path = Homes::record_path(&homes.home);
    let none = homes.machine.dir().join("none");
    let undo = || homes.configure(&homes.home, &["--undo"], &[]);
    fs::write(&path, Homes::record(&homes.victim, &none)).unwrap();
    give(&path);
    homes.assert_refused(&undo(), "podman.json belongs to user");
    lchown(&path, Some(0), Some(0)).unwrap();
    mode(&path, 0o666);
    homes.assert_refused(&undo(), "podman.json has mode 0666");
    // A link to the attacker's, and one through a process to a file that is open there.
    mode(&path, 0o600);
    let theirs = Homes::record_path(&homes.mallory);
    fs::rename(&path, &theirs).unwrap();
    homes.give_mallory();
    lchown(&theirs, Some(0), Some(0)).unwrap();
    symlink(&theirs, &path).unwrap();
    homes.assert_refused(&undo(), &format!("mallory belongs to user {MALLORY}"));
    fs::remove_file(&path).unwrap();
    let own = homes.machine.dir().join("record");
    fs::write(&own, Homes::record(&homes.victim, &none)).unwrap();
    let mut holder = Command::new("sleep");
    let mut holder = holder.arg("1000").stdin(fs::File::open(&own).unwrap()).spawn().unwrap();
    symlink(format!("/proc/{}/fd/0", holder.id()), &path).unwrap();
    homes.assert_refused(&undo(), "lead to an open file through /proc");
    deadline::kill_and_wait(&mut holder);
}

/// S27: a record of root that names files and directories which the attacker has exchanged since.
#[test]
fn an_undo_follows_no_directory_of_another_user() {
    let homes = Homes::new();
    let (outside, none) = (homes.machine.dir().join("outside"), homes.machine.dir().join("none"));
    fs::create_dir_all(outside.join("dir")).unwrap();
    symlink(homes.machine.dir(), homes.mallory.join("link")).unwrap();
    homes.give_mallory();
    let path = Homes::record_path(&homes.home);
    let through = homes.mallory.join("link");
    let weak = format!("mallory belongs to user {MALLORY}");
    for (file, dir) in
        [(through.join("victim"), &none), (none.clone(), &through.join("outside/dir"))]
    {
        fs::write(&path, Homes::record(&file, dir)).unwrap();
        homes.assert_refused(&homes.configure(&homes.home, &["--undo"], &[]), &weak);
        assert!(outside.join("dir").exists());
    }
}

/// S28: the id of a watch that was killed belongs to a process of another user now.
#[test]
fn the_pid_of_a_dead_watch_proves_nothing() {
    let host = PartitionHost::new("[[gpu]]\nmodel = \"a100-80gb\"\n");
    let watch = Watch::start(&host.fake, &["--names=slot"]);
    until("watch has refreshed", || watch.status().contains("\"state\": \"ok\""));
    let state = format!("--state-dir={}", host.state().display());
    let status = |args: &[&str]| host.run(&[&["status", &state], args].concat());
    assert_eq!(status(&[]).code, 0);
    let (pid, path) = (watch.pid(), watch.state_dir().join("status.json"));
    watch.signal(Signal::SIGKILL);
    drop(watch);
    // As if the kernel had given the id to it.
    let mut other = Command::new("sleep");
    let other = other.arg("1000").uid(MALLORY).gid(MALLORY).stdout(Stdio::null());
    let mut other = other.spawn().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let own = format!("\"pid\": {pid},");
    assert!(text.contains(&own), "{text}");
    fs::write(&path, text.replace(&own, &format!("\"pid\": {},", other.id()))).unwrap();
    // Nor does a lock that any user can take on a file that any user can read.
    let mut reader = Command::new("flock");
    reader
        .arg("--no-fork")
        .arg(host.state().join("watch.lock"))
        .args(["sleep", "1000"])
        .uid(MALLORY)
        .gid(MALLORY)
        .stdout(Stdio::null());
    let mut reader = reader.spawn().unwrap();
    let ended = status(&[]);
    ended.assert_code(1);
    assert!(ended.stderr.contains("watch is not running"), "{}", ended.stderr);
    assert!(status(&["--json"]).stdout.contains("\"running\": false"));
    let applied = host.run_ok(&["apply", "0=7g.80gb"]);
    assert!(!applied.stderr.contains("has not refreshed"), "{}", applied.stderr);
    let spec = host.fake.read_spec().expect("apply writes it");
    assert!(spec.contains("0:7g.80gb:0"), "{spec}");
    deadline::kill_and_wait(&mut reader);
    deadline::kill_and_wait(&mut other);
    // The next watch is seen although a reader has the old file.
    let watch = Watch::start(&host.fake, &["--names=slot"]);
    until("status reports it", || status(&[]).code == 0);
    drop(watch);
}

/// S30: a process chooses its command line, and a tool the content of its files. What a terminal would act on is
/// replaced, in each output; in JSON it is escaped, which keeps the value.
#[test]
fn foreign_text_does_not_drive_a_terminal() {
    let host = PartitionHost::new(
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"7g.80gb\" }]\n\
         processes = [{ pid = 4711, gi = 0, ci = 0 }]\n",
    );
    let evil = "a\u{1b}[2J\u{7f}\u{85}\u{ad}\u{61c}\u{200b}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}b\n";
    host.process(4711, "mnt:[1]", "0::/user.slice\n", evil);
    let foreign = json!({"cdiVersion": "0.6.0", "kind": format!("x.com/{evil}"), "devices": [
        {"name": evil, "containerEdits": {"env": [evil]}}]});
    let other = host.fake.out().join(format!("{}.json", evil.trim_end()));
    fs::write(&other, foreign.to_string()).unwrap();
    fs::create_dir_all(host.fake.path("/run/mig-cdi")).unwrap();
    host.write("/usr/share/containers/oci/hooks.d/a\u{202e}.json", evil);
    let other = other.to_str().unwrap();
    let doctor_root = format!("--host-root={}", host.fake.root().display());
    let mut shown = 0;
    for args in [
        &["map"][..],
        &["map", "--json"],
        &["plan", "0=2x3g.40gb"],
        &["apply", "0=2x3g.40gb"],
        &["apply", "0=2x3g.40gb", "--verbose"],
        &["show", evil],
        &["compare", other],
        &["check"],
        &["generate", "--output", other],
        &["doctor", &doctor_root],
        &["doctor", "--json", &doctor_root],
        &["status", "--state-dir", other],
        &["list", "--config", other],
        &["configure", "podman", "--host-root", other],
    ] {
        let run = host.run(args);
        for text in [&run.stdout, &run.stderr] {
            let bad = text.chars().find(|c| *c != '\n' && is_unprintable(*c));
            assert_eq!(bad, None, "{args:?}: {text}");
            shown += usize::from(text.contains('\u{fffd}') || text.contains("\\u202e"));
        }
    }
    assert!(shown >= 8, "the text was in {shown} of the outputs");
}

/// Directories above that of a spec count: who owns one can exchange what is below it.
#[test]
fn directories_above_a_spec_are_checked() {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let above = host.out().with_file_name("srv");
    let dir = above.join("x/cdi");
    fs::create_dir_all(&dir).unwrap();
    let spec = dir.join("nvidia.com-mig.json");
    let output = format!("--output={}", spec.display());
    let refused = |args: &[&str], weak: &str| {
        let run = host.run(args);
        assert_eq!((run.code, spec.exists()), (5, false), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(weak), "{args:?}: {weak:?} is not in {}", run.stderr);
    };
    let weak = format!("TMP/srv belongs to user {MALLORY}");
    give(&above);
    refused(&["generate", &output], &weak);
    // One that does not exist yet is not made there either.
    let new = format!("--output={}", above.join("new/spec.json").display());
    refused(&["generate", &new], &weak);
    assert!(!above.join("new").exists());
    lchown(&above, Some(0), Some(0)).unwrap();
    mode(&above.join("x"), 0o775);
    refused(&["generate", &output], "TMP/srv/x has mode 0775");
    mode(&above.join("x"), 0o755);
    // A link on the way to it.
    let mallory = host.out().with_file_name("mallory");
    fs::create_dir(&mallory).unwrap();
    symlink(&above, mallory.join("link")).unwrap();
    give(&mallory);
    let linked = format!("--output={}", mallory.join("link/x/cdi/spec.json").display());
    refused(&["generate", &linked], &format!("TMP/mallory belongs to user {MALLORY}"));
    // With the sticky bit nobody exchanges what is root's: /tmp.
    mode(&above, 0o1777);
    host.run(&["generate", &output]).assert_code(0);
    assert!(spec.exists());
    give(&above.join("x"));
    let run = host.run(&["generate", "--remove", &output]);
    assert_eq!((run.code, spec.exists()), (5, true), "{}", run.stderr);
}

/// The hook gives no slice by a spec that another user could have put there: its directory, or one above it, is theirs.
#[test]
fn the_hook_reads_no_spec_of_another_user() {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let above = host.out().with_file_name("srv");
    let dir = above.join("cdi");
    fs::create_dir_all(&dir).unwrap();
    host.configure_hook("");
    let config = fs::read_to_string(host.config()).unwrap();
    let out = host.out().display().to_string();
    fs::write(host.config(), config.replace(&out, &dir.display().to_string())).unwrap();
    host.run(&["generate", &format!("--output={}", dir.join("nvidia.com-mig.json").display())])
        .assert_code(0);
    let request = oci_config(&[], &[("mig-cdi/devices", "0:2g.20gb:0")], false);
    host.precreate(&request, &[]).assert_code(0);
    for weak in [&above, &dir] {
        give(weak);
        let run = host.precreate(&request, &[]);
        let why = format!("belongs to user {MALLORY}");
        assert!(run.code == 1 && run.stderr.contains(&why), "{}: {}", run.code, run.stderr);
        lchown(weak, Some(0), Some(0)).unwrap();
    }
}

/// The mode `runtime` becomes a program that root runs: none that another user could have put there, by its file, by a directory or by
/// a link on the way.
#[test]
fn root_becomes_no_runtime_of_another_user() {
    type Weaken = fn(&Path);
    let cases: [(&str, Weaken); 6] = [
        ("local/sbin/runc belongs to user", |local| give(&local.join("sbin/runc"))),
        ("local/sbin/runc has mode 0775", |local| mode(&local.join("sbin/runc"), 0o775)),
        ("local/sbin belongs to user", |local| give(&local.join("sbin"))),
        // Debian's mode for it.
        ("local/sbin has mode 2775", |local| {
            chown(local.join("sbin"), None, Some(50)).unwrap();
            mode(&local.join("sbin"), 0o2775);
        }),
        ("local has mode 0777", |local| mode(local, 0o777)),
        ("local/home/link belongs to user", |local| {
            fs::create_dir(local.join("home")).unwrap();
            mode(&local.join("home"), 0o1777);
            fs::rename(local.join("sbin/runc"), local.join("real")).unwrap();
            symlink(local.join("real"), local.join("home/link")).unwrap();
            give(&local.join("home/link"));
            symlink(local.join("home/link"), local.join("sbin/runc")).unwrap();
        }),
    ];
    for (weak, weaken) in cases {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let local = host.out().with_file_name("local");
        let (runc, ran) = (local.join("sbin/runc"), host.out().with_file_name("ran"));
        fs::create_dir_all(local.join("sbin")).unwrap();
        script_program(&runc, &format!("echo ran >{}", ran.display()));
        host.configure_hook(&format!("runtimes = [{runc:?}]"));
        let config = format!("--config={}", host.config().display());
        let state = || run(&mut host.hook(&["runtime", &config, "state", "id"]));
        state().assert_code(0);
        assert!(ran.exists(), "{weak}");
        fs::remove_file(&ran).unwrap();
        weaken(&local);
        let run = state();
        assert_eq!((run.code, ran.exists()), (1, false), "{weak}: {}", run.stderr);
        assert!(run.stderr.contains(weak), "{weak}: {}", run.stderr);
        assert!(run.stderr.contains("; run chown root and chmod go-w on it"), "{}", run.stderr);
    }
}

/// `configure --runtime` says so before an engine is configured, below any root.
#[test]
fn no_engine_is_configured_for_a_runtime_of_another_user() {
    let machine = ConfigureHost::trusted();
    machine.program("root/usr/local/sbin/runc", "#!/bin/sh\n");
    let docker = "docker --engine-version 26.1 --runtime";
    machine.run_ok(&format!("{docker} --dry-run"));
    mode(&machine.path("/usr/local/sbin"), 0o2775);
    let run = machine.configure(docker);
    let why = "mig-cdi-runtime would not run /usr/local/sbin/runc: /usr/local/sbin has mode 2775; run chown root";
    assert!(run.code == 5 && run.stderr.contains(why), "{}", run.stderr);
    machine.program("root/usr/bin/crun", "#!/bin/sh\n");
    let run = machine.run_ok(docker);
    let warning = "mig-cdi-runtime runs /usr/bin/crun, and docker runs /usr/local/sbin/runc; another user could \
                   exchange that: /usr/local/sbin has mode 2775";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}
