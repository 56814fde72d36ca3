//! The installed services: systemd accepts them, and their sandbox forbids nothing that the program does. No systemd
//! runs here: the restrictions of the kernel are imposed by other means, or checked in a trace.

use mig_cdi_tests::{
    FakeHost,
    closed_cgroup::ClosedCgroup,
    copy_program,
    deadline::kill_and_wait,
    make_install,
    partition_host::PartitionHost,
    program, run,
    units::{KUBELET, RESTORE, UNITS, unit, words},
    watch::{Watch, until},
};
use nix::sys::signal::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, symlink},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Installs the package, with those files of a distribution that the services name.
fn installed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    make_install(dir.path(), "/usr");
    symlink("usr/bin", dir.path().join("bin")).unwrap();
    symlink("usr/lib", dir.path().join("lib")).unwrap();
    for (from, to) in [
        ("/lib/systemd/system/.", "usr/lib/systemd/system"),
        ("/bin/kill", "usr/bin"),
        ("/bin/mkdir", "usr/bin"),
        ("/usr/bin/systemd-tmpfiles", "usr/bin"),
    ] {
        let copied = run(Command::new("cp").args(["-a", "-n", from]).arg(dir.path().join(to)));
        assert_eq!(copied.code, 0, "{}; run tests/setup.sh", copied.stderr);
    }
    dir
}

fn root(dir: &TempDir) -> String {
    format!("--root={}", dir.path().display())
}

#[test]
fn systemd_analyze_accepts_the_units() {
    let dir = installed();
    let verified = run(Command::new("systemd-analyze")
        // The man pages of systemd are not below this root.
        .args(["verify", "--man=no", &root(&dir)])
        .args(UNITS)
        .arg(KUBELET));
    assert_eq!((verified.code, verified.stdout.as_str(), verified.stderr.as_str()), (0, "", ""));
    // The check is effective: it rejects an unknown word.
    let path = dir.path().join("usr/lib/systemd/system/mig-cdi.service");
    fs::write(&path, unit("mig-cdi.service").replace("ProtectHome", "ProtectHouse")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let verified = run(verify.args(["verify", "--man=no", &root(&dir), UNITS[0]]));
    assert!(verified.stderr.contains("ProtectHouse"), "{}", verified.stderr);
}

#[test]
fn the_services_have_a_low_exposure_level() {
    let dir = installed();
    for name in UNITS.into_iter().chain([KUBELET]) {
        let security = |threshold: &str| {
            let mut analyze = Command::new("systemd-analyze");
            analyze.args(["security", "--offline=yes", "--no-pager", &root(&dir), name]);
            run(analyze.arg(format!("--threshold={threshold}")))
        };
        let found = security("30");
        assert_eq!(found.code, 0, "{name}: {}{}", found.stdout, found.stderr);
        assert_ne!(security("10").code, 0, "{name}: every threshold is accepted");
    }
}

#[test]
fn the_spec_directory_is_created() {
    let dir = installed();
    let create = || {
        let mut tmpfiles = Command::new("systemd-tmpfiles");
        let made = run(tmpfiles.args(["--create", &root(&dir), "mig-cdi.conf"]));
        assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    };
    create();
    let cdi = dir.path().join("run/cdi");
    let metadata = fs::metadata(&cdi).unwrap();
    assert_eq!((metadata.mode(), metadata.uid(), metadata.gid()), (0o40755, 0, 0));
    fs::write(cdi.join("others.json"), "{}").unwrap();
    create();
    assert!(cdi.join("others.json").exists());
    for name in UNITS {
        assert_eq!(words(&unit(name), "ReadWritePaths"), ["-/run/cdi"]);
        let makes = ["+/usr/bin/systemd-tmpfiles", "--create", "mig-cdi.conf"];
        assert_eq!(words(&unit(name), "ExecStartPre"), makes);
    }
}

/// The rule makes the device unit that enables the oneshot, and starts nothing by itself.
#[test]
fn the_udev_rule_makes_a_unit_of_the_module() {
    let path = mig_cdi_tests::project().join("config/udev/60-mig-cdi.rules");
    let text = fs::read_to_string(path).unwrap();
    let rules: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        rules,
        ["ACTION!=\"remove\", SUBSYSTEM==\"module\", KERNEL==\"nvidia_uvm\", TAG+=\"systemd\""]
    );
    let mut escape = Command::new("systemd-escape");
    let device = run(escape.args(["--path", "--suffix=device", "/sys/module/nvidia_uvm"]));
    assert_eq!(words(&unit("mig-cdi-refresh.service"), "WantedBy"), [device.stdout.trim()]);
}

/// Script of the sandbox. Its arguments are a file for the trace, the capabilities, a number of directories, these
/// directories, and the command, which can write in these directories only, as with ProtectSystem=strict.
const SANDBOX: &str = r#"
set -eu
trace=$1 capabilities=$2 count=$3
shift 3
umask 077
mount --make-rprivate /
writable=
while [ "$count" -gt 0 ]; do
    mount --bind "$1" "$1"
    writable="$writable $1 "
    count=$((count - 1))
    shift
done
while read -r _ _ _ _ target _; do
    case $target in /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) continue ;; esac
    case $writable in *" $target "*) continue ;; esac
    mount -o remount,bind,ro "$target"
done </proc/self/mountinfo
# The tracer is a grandchild: the process stays the one that was started. It can make system calls fail.
exec strace -D -f ${INJECT:+-e "inject=$INJECT"} -o "$trace" setpriv --no-new-privs --inh-caps=-all --bounding-set="$capabilities" "$@"
"#;

/// Command in the sandbox of a service, with a trace of its system calls.
struct Sandbox<'a> {
    host: &'a FakeHost,
    unit: String,
    /// More paths that may be written.
    more: Vec<PathBuf>,
}

impl Sandbox<'_> {
    fn trace(&self) -> PathBuf {
        self.host.out().with_file_name("trace").join("calls")
    }

    fn wrap(&self, command: &Command) -> Command {
        let state = self.host.out().with_file_name("state");
        let trace = self.trace();
        let dirs = [self.host.out(), state, self.host.path("/dev"), trace.parent().unwrap().into()];
        let dirs: Vec<_> = dirs.into_iter().chain(self.more.clone()).collect();
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        let capabilities = words(&self.unit, "CapabilityBoundingSet").into_iter();
        let capabilities = capabilities.map(|cap| cap.strip_prefix("CAP_").unwrap().to_lowercase());
        let set = capabilities.fold("-all".to_owned(), |set, cap| format!("{set},+{cap}"));
        let mut sandbox = Command::new("unshare");
        sandbox.args(["--mount", "--net", "sh", "-c", SANDBOX, "sandbox"]).arg(trace);
        sandbox.arg(set).arg(dirs.len().to_string()).args(dirs);
        sandbox.arg(command.get_program()).args(command.get_args()).env_clear();
        let given = command.get_envs().filter_map(|(key, value)| Some((key, value?)));
        sandbox.envs(given).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        sandbox
    }

    /// Returns the names of the system calls and the whole trace, when the trace is complete.
    fn calls(&self) -> (BTreeSet<String>, String) {
        let read = || fs::read_to_string(self.trace()).unwrap_or_default();
        let first = read().split_whitespace().next().expect("a trace").to_owned();
        let end = format!("{first} +++ exited with ");
        until("the trace is complete", || {
            read()
                .lines()
                .any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&end))
        });
        let text = read();
        let name = |line: &str| {
            let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            let call = call.strip_prefix("<... ").unwrap_or(call);
            let length = call.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
            let is_call = length > 0 && matches!(call.as_bytes()[length], b'(' | b' ');
            is_call.then(|| call[..length].to_owned())
        };
        (text.lines().filter_map(name).collect(), text)
    }

    /// Asserts that the system calls are allowed by the service.
    fn check(&self) {
        let (calls, text) = self.calls();
        assert!(["execve", "mknodat", "fchownat"].iter().all(|c| calls.contains(*c)), "{calls:?}");
        let filter = words(&self.unit, "SystemCallFilter");
        let allowed = expand(&filter);
        let denied: Vec<_> = calls.difference(&allowed).collect();
        assert!(denied.is_empty(), "{filter:?} denies {denied:?}");
        let sockets = text.lines().filter(|line| line.contains(" socket("));
        for line in sockets {
            assert!(line.contains("socket(AF_UNIX"), "{line}");
        }
        assert_eq!(words(&self.unit, "RestrictAddressFamilies"), ["AF_UNIX"]);
        // MemoryDenyWriteExecute would deny this: docs/watch.md explains why it is not set.
        let maps = text.lines().filter(|line| line.contains("PROT_EXEC"));
        assert!(
            !maps.clone().any(|line| line.contains("PROT_WRITE") || line.contains("mprotect("))
        );
        for refused in ["CLONE_NEW", "S_ISUID", "S_ISGID"] {
            assert!(!text.contains(refused), "{refused}");
        }
    }
}

/// Returns the system calls of a filter, with sets resolved recursively.
fn expand(filter: &[&str]) -> BTreeSet<String> {
    let listed = run(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter"]));
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = String::new();
    for line in listed.stdout.lines() {
        match line.strip_prefix("    ") {
            None => set = line.to_owned(),
            Some(word) if word.starts_with('#') => {}
            Some(word) => sets.entry(set.clone()).or_default().push(word.to_owned()),
        }
    }
    // The manager adds the calls that a program needs to start: systemd.exec(5).
    let mut left: Vec<String> = filter.iter().map(|word| (*word).to_owned()).collect();
    left.push("@default".to_owned());
    let mut calls = BTreeSet::new();
    while let Some(word) = left.pop() {
        match word.starts_with('@') {
            true => left.extend(sets.remove(&word).unwrap_or_default()),
            false => _ = calls.insert(word),
        }
    }
    calls
}

const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\n";

fn node(instances: &str) -> String {
    format!("{GPU}instances = [{instances}]\n")
}

fn is_node(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// Makes a host without device nodes whose driver sets a group for them, so that they have to be chowned.
fn host() -> FakeHost {
    let host = FakeHost::new(&node("{ profile = \"2g.20gb\" }"));
    host.install();
    fs::remove_dir_all(host.path("/dev")).unwrap();
    fs::create_dir(host.path("/dev")).unwrap();
    let params = host.path("/proc/driver/nvidia/params");
    let text = fs::read_to_string(&params).unwrap();
    let of_group = text.replace("GID: 0\nDeviceFileMode: 438", "GID: 44\nDeviceFileMode: 432");
    assert_ne!(text, of_group);
    fs::write(params, of_group).unwrap();
    host
}

/// Watch runs through all its states in the sandbox: nodes are created and removed, a spec is written, pruned and
/// removed, systemd is notified, a reload, and the stop.
#[test]
fn watch_works_in_its_sandbox() {
    let host = host();
    let sandbox = Sandbox { host: &host, unit: unit("mig-cdi.service"), more: Vec::new() };
    assert_eq!(words(&sandbox.unit, "RuntimeDirectory"), ["mig-cdi"]);
    let path = host.out().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let watch = Watch::start_through(&host, &["--driver-events"], |mut command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
        sandbox.wrap(&command)
    });
    let status = |what: &str| watch.status().contains(what);
    let until_spec_current = |what: &str| {
        let current = host.current_spec();
        until(what, || host.read_spec() == current);
    };
    let cap = |minor: u32| is_node(&host.path(&format!("/dev/nvidia-caps/nvidia-cap{minor}")));
    until("the first spec", || status("\"state\": \"ok\""));
    until_spec_current("the first spec");
    assert!(
        is_node(&host.path("/dev/nvidiactl")) && cap(1),
        "made with the service's capabilities"
    );
    assert_eq!(fs::metadata(host.spec()).unwrap().mode(), 0o100_644);
    let refreshes = |n: u32| format!("\"refreshes\": {n},");
    assert!(status(&refreshes(1)));
    watch.signal(Signal::SIGHUP);
    until("a reload", || status(&refreshes(2)));
    host.change_to(&node("{ profile = \"2g.20gb\" }, { profile = \"3g.40gb\" }"));
    until_spec_current("a slice more");
    host.change_to(&format!(
        "driver = \"590.48.01\"\n{}\n[faults]\nnvml = \"version-mismatch\"\n",
        node("{ profile = \"3g.40gb\", start = 4 }")
    ));
    until("a failure", || status("\"state\": \"failing\""));
    until("the destroyed slice is pruned", || {
        host.read_spec().is_some_and(|spec| !spec.contains("2g.20gb"))
    });
    host.change_to(&node(""));
    until("no spec", || host.read_spec().is_none());
    host.change_to(&node("{ profile = \"1g.10gb\" }"));
    until_spec_current("a slice");
    // The driver sends no events for an A100, and sends some for this model.
    host.change_to(
        &node("{ profile = \"1g.10gb\" }")
            .replace("a100-80gb\"\npci = \"0000:07", "h100-80gb\"\npci = \"0000:08"),
    );
    until("driver events cover all gpus", || status("\"driver_events\": \"all\""));
    host.change_to(
        &node("{ profile = \"3g.40gb\" }")
            .replace("a100-80gb\"\npci = \"0000:07", "h100-80gb\"\npci = \"0000:08"),
    );
    until_spec_current("a slice that an event reports");
    assert_eq!(watch.stop(), Some(0));
    let mut bytes = [0; 64];
    assert!(socket.recv(&mut bytes).is_ok(), "the socket of systemd can be reached");
    sandbox.check();
}

#[test]
fn the_refresh_works_in_its_sandbox() {
    let host = host();
    let sandbox = Sandbox { host: &host, unit: unit("mig-cdi-refresh.service"), more: Vec::new() };
    assert_eq!(
        words(&sandbox.unit, "ExecStart"),
        ["-/usr/bin/mig-cdi", "nodes", "/usr/bin/mig-cdi", "generate"]
    );
    let nodes = run(&mut sandbox.wrap(&host.command(&["nodes"])));
    assert_eq!(nodes.code, 0, "{}", nodes.stderr);
    sandbox.check();
    let output = format!("--output={}", host.spec().display());
    let generate = run(&mut sandbox.wrap(&host.command(&["generate", &output])));
    assert_eq!(generate.code, 0, "{}", generate.stderr);
    let (calls, _) = sandbox.calls();
    let denied: Vec<_> = calls.difference(&expand(&["@system-service"])).cloned().collect();
    assert_eq!(denied, Vec::<String>::new());
    // Slot names are in the spec: the sandbox did not keep NVML from reporting placements, which needs privileges.
    assert!(host.read_spec().unwrap().contains("0:2g.20gb:0"));
    // The imitated sandbox is effective.
    for (command, what) in [
        (vec!["touch".to_owned(), host.path("/etc").display().to_string()], "Read-only"),
        (vec!["chroot".to_owned(), "/".to_owned()], "not permitted"),
    ] {
        let mut refused = Command::new(&command[0]);
        refused.args(&command[1..]);
        let refused = run(&mut sandbox.wrap(&refused));
        assert!(refused.code != 0 && refused.stderr.contains(what), "{}", refused.stderr);
    }
}

/// Before a slice is allocated, the plugin finds a container that may open it: in its sandbox, with what that denies denied. On a machine
/// with both versions of cgroups the container's rules are those of version 1, and the programs of version 2 are listed.
#[test]
fn the_search_of_the_plugin_works_in_its_sandbox() {
    let host = host();
    let sandbox = Sandbox { host: &host, unit: unit(KUBELET), more: Vec::new() };
    let kubelet = host.install().join("mig-cdi-kubelet");
    copy_program(&program("mig-cdi-kubelet"), &kubelet);
    let cgroup = ClosedCgroup::new("sandbox", &["c 1:3 rwm", "c 459:30 rw"]);
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.add(sleep.id());
    let query = "[{\"host_root\":\"/\",\"devices\":[[459,30]],\"nodes\":[\"nvidia-caps/nvidia-cap30\"],\"dev_root\":\"/\",\
                 \"config\":null,\"kinds\":\"Cgroup\",\"describe\":[],\"has_hints\":false},{\"secs\":10,\"nanos\":0}]";
    let allowed = expand(&words(&sandbox.unit, "SystemCallFilter"));
    // Without these the search uses the mounts and the namespace that there are.
    let denied = ["fsopen", "mount", "setns"];
    let mut search = Command::new(&kubelet);
    let mut search = sandbox.wrap(search.arg("device-access").arg(query));
    let found = run(search.env("INJECT", format!("{}:error=EPERM", denied.join(","))));
    kill_and_wait(&mut sleep);
    let pid = sleep.id();
    let holder =
        format!("{{\"pid\":{pid},\"container\":null,\"devices\":[0],\"access\":\"Cgroup\"");
    assert!(found.stdout.contains(&holder), "{}{}", found.stdout, found.stderr);
    assert!(!found.stdout.contains("Unknown"), "{}", found.stdout);
    let (calls, _) = sandbox.calls();
    assert!(calls.contains("bpf"), "{calls:?}");
    let mut others = calls.difference(&allowed).filter(|call| !denied.contains(&call.as_str()));
    assert_eq!(others.next(), None);
}

/// The same for a restore that an instance is in the way of: it sees the open files and mounts of processes of other users as well.
#[test]
fn the_search_of_the_restore_works_in_its_sandbox() {
    let host = host();
    let sandbox = Sandbox { host: &host, unit: unit(RESTORE), more: Vec::new() };
    let cgroup = ClosedCgroup::new("restore", &["c 1:3 rwm", "c 458:30 rw"]);
    let mut holder = Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.add(holder.id());
    let mut user = Command::new("setpriv");
    user.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "1000"]);
    let mut user = user.spawn().unwrap();
    let query = "[{\"host_root\":\"/\",\"devices\":[[458,30]],\"nodes\":[\"nvidia-caps/nvidia-cap30\"],\"dev_root\":\"/\",\
                 \"config\":null,\"kinds\":\"All\",\"describe\":[],\"has_hints\":false,\"is_for_machine\":true},{\"secs\":10,\"nanos\":0}]";
    let allowed = expand(&words(&sandbox.unit, "SystemCallFilter"));
    let denied = ["fsopen", "mount", "setns"];
    let mut search = Command::new(host.install().join("mig-cdi"));
    let mut search = sandbox.wrap(search.arg("device-access").arg(query));
    let found = run(search.env("INJECT", format!("{}:error=EPERM", denied.join(","))));
    for process in [&mut holder, &mut user] {
        kill_and_wait(process);
    }
    let pid = holder.id();
    let holder =
        format!("{{\"pid\":{pid},\"container\":null,\"devices\":[0],\"access\":\"Cgroup\"");
    assert!(found.stdout.contains(&holder), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains("\"forbidden\":0"), "{}", found.stdout);
    let (calls, _) = sandbox.calls();
    let mut others = calls.difference(&allowed).filter(|call| !denied.contains(&call.as_str()));
    assert_eq!(others.next(), None);
}

/// On GPUs of which one has to enter MIG mode first. The fake driver writes files where a kernel would not have to,
/// and the journal is beside them.
#[test]
fn the_restore_works_in_its_sandbox() {
    let site =
        PartitionHost::new("[[gpu]]\nmodel = \"a100-80gb\"\n[[gpu]]\nmodel = \"h100-80gb\"\n");
    site.run_ok(&["apply", "0=3g.40gb@4(1c@2,1c@0),2g.20gb", "1=7g.80gb"]);
    let before = site.layouts();
    let file = site.fake.out().with_file_name("layout.yaml").display().to_string();
    site.run_ok(&["checkpoint", &file]);
    site.run_ok(&["apply", "0=none", "1=off"]);
    let more = vec![site.fake.out().parent().unwrap().to_owned()];
    let sandbox = Sandbox { host: &site.fake, unit: unit(RESTORE), more };
    assert_eq!(
        words(&sandbox.unit, "ExecStart"),
        ["-/usr/bin/mig-cdi", "nodes", "/usr/bin/mig-cdi", "restore"]
    );
    let restored = run(&mut sandbox.wrap(&site.command(&["restore", &file])));
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(site.layouts(), before);
    sandbox.check();
    // The spec and the nodes exist for the services that start next.
    assert!(site.fake.read_spec().is_some_and(|spec| spec.contains("1:7g.80gb:0")));
    assert!(is_node(&site.fake.path("/dev/nvidia-caps/nvidia-cap138")));
}
