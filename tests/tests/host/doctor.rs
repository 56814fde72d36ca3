//! `mig-cdi doctor`: a healthy host has no finding, and for each finding a fault is made that causes it.

use mig_cdi_sim::preset;
use mig_cdi_sys::{LifeLock, TrustedDir};
use mig_cdi_tests::{
    FakeHost, Run, deadline::StopOnDrop, driver::DistributionLayout, podman::Podman, run,
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;
use std::{
    cell::RefCell,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const PODMAN: &str = "/etc/containers/containers.conf";
const CONTAINERD: &str = "/etc/containerd/config.toml";
const DOCKER: &str = "/etc/docker/daemon.json";
const CRIO: &str = "/etc/crio/crio.conf.d/10-cdi.conf";
const HOOKS: &str = "/usr/share/containers/oci/hooks.d";
const ID: &str = "4f08cd7afbc62678a165825ab3df561e4f08cd7afbc62678a165825ab3df561e";
const UUID: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
/// Capability node of an instance that the node does not have: gpu 0 gi 9.
const GONE: (u32, u32) = (508, 84);

/// Host without a fault.
struct Healthy {
    host: FakeHost,
    /// That of its watch.
    lock: RefCell<Option<LifeLock>>,
}

impl Healthy {
    fn new() -> Healthy {
        Healthy::of(preset("a100-80gb").unwrap())
    }

    fn of(description: &str) -> Healthy {
        let host = FakeHost::with_driver(description, DistributionLayout::Fedora);
        let host = Healthy { host, lock: RefCell::default() };
        let etc = host.dir().join("etc-cdi");
        fs::create_dir(&etc).unwrap();
        let dirs = format!("[{etc:?}, {:?}]", host.host.out());
        fs::write(host.host.config(), format!("spec-dirs = {dirs}\n")).unwrap();
        let made = host.host.generate(&[]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        host.engine("podman", "podman version 5.8.6");
        host.engine("containerd", "containerd github.com/containerd/containerd v2.1.9 0123abc");
        host.engine("dockerd", "Docker version 28.5.2, build ecc6942");
        host.engine("crio", "crio version 1.36.0\nVersion: 1.36.0");
        host.engine("runc", "runc version 1.3.6\ncommit: x");
        host.engine("crun", "crun version 1.28\ncommit: x");
        host.write(PODMAN, &format!("[engine]\ncdi_spec_dirs = {dirs}\n"));
        let plugin = "[plugins.\"io.containerd.cri.v1.runtime\"]";
        host.write(CONTAINERD, &format!("version = 3\n{plugin}\ncdi_spec_dirs = {dirs}\n"));
        host.write(DOCKER, &format!("{{\"cdi-spec-dirs\": {dirs}}}"));
        host.write(CRIO, &format!("[crio.runtime]\ncdi_spec_dirs = {dirs}\n"));
        host.write("/usr/bin/good-hook", "#!/bin/sh\n");
        let good = r#"{"version":"1.0.0","hook":{"path":"/usr/bin/good-hook"},"when":{"always":true},"stages":["createContainer"]}"#;
        host.write(&format!("{HOOKS}/good.json"), good);
        host.write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
        fs::create_dir_all(host.host.path("/run/systemd/system")).unwrap();
        host.links();
        host.process(1, "mnt:[1]", "0::/init.scope\n", &[]);
        host.watch("ok", 1);
        host
    }

    fn dir(&self) -> PathBuf {
        self.host.out().parent().unwrap().to_owned()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Installs a program that prints its version, and nothing when it has an environment.
    fn engine(&self, name: &str, output: &str) {
        let path = format!("/usr/bin/{name}");
        self.write(
            &path,
            &format!("#!/bin/sh\n[ -z \"$HOME$LANG\" ] && printf '%s\\n' '{output}'\n"),
        );
        fs::set_permissions(self.host.path(&path), Permissions::from_mode(0o755)).unwrap();
    }

    fn only_podman(&self) {
        for name in ["containerd", "dockerd", "crio"] {
            self.remove(&format!("/usr/bin/{name}"));
        }
    }

    /// Makes `/dev/char` as nvidia-modprobe does.
    fn links(&self) {
        let dir = self.host.path("/dev/char");
        fs::create_dir_all(&dir).unwrap();
        let spec: Value = serde_json::from_str(&self.host.read_spec().unwrap()).unwrap();
        let edits = spec["devices"].as_array().unwrap().iter().map(|d| &d["containerEdits"]);
        for edits in edits.chain([&spec["containerEdits"]]) {
            for node in edits["deviceNodes"].as_array().into_iter().flatten() {
                let path = node["path"].as_str().unwrap().trim_start_matches("/dev");
                let link = dir.join(format!("{}:{}", node["major"], node["minor"]));
                let _ = symlink(format!("..{path}"), link);
            }
        }
    }

    /// Makes a process below the fake `/proc`.
    fn process(&self, pid: u32, namespace: &str, cgroup: &str, environ: &[&str]) {
        let proc = format!("/proc/{pid}");
        self.write(&format!("{proc}/cgroup"), cgroup);
        self.write(&format!("{proc}/environ"), &environ.join("\0"));
        fs::create_dir_all(self.host.path(&format!("{proc}/ns"))).unwrap();
        fs::create_dir_all(self.host.path(&format!("{proc}/root"))).unwrap();
        symlink(namespace, self.host.path(&format!("{proc}/ns/mnt"))).unwrap();
    }

    /// Makes a container that holds a capability node and has these variables.
    fn container(&self, (major, minor): (u32, u32), environ: &[&str]) {
        let path = format!("/machine.slice/libpod-{ID}.scope");
        self.process(77, "mnt:[2]", &format!("5:devices:{path}\n0::/\n"), environ);
        let list = format!("c *:* m\nc {major}:{minor} rw\n");
        self.write(&format!("/sys/fs/cgroup/devices{path}/devices.list"), &list);
    }

    /// As with `NVreg_ModifyDeviceFiles=0`.
    fn leave_nodes_to_the_administrator(&self) {
        let params = self.host.path("/proc/driver/nvidia/params");
        let text = fs::read_to_string(&params).unwrap();
        fs::write(params, text.replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0")).unwrap();
    }

    /// Writes a lease, in which `UUID` stands for that of the GPU.
    fn lease(&self, text: &str) {
        let text = text.replace("UUID", "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4");
        self.write("/run/mig-cdi/leases/mine", &text);
    }

    /// Writes the journal of an apply, in a boot with the id `b`.
    fn journal(&self, text: &str) {
        self.write("/proc/sys/kernel/random/boot_id", "b\n");
        self.write("/var/lib/mig-cdi/apply.json", text);
    }

    /// Writes the state of a watch.
    fn watch(&self, state: &str, pid: u32) {
        let error = r#"{"time":1,"exit":4,"message":"query nvml: no"}"#;
        let text = format!(
            r#"{{"version":"0.1.0","pid":{pid},"started":1,"state":"{state}","spec":"/x","refreshed":1,
                "succeeded":1,"changed":1,"seconds":0.01,"refreshes":1,"changes":1,"failures":0,"wakeups":1,
                "error":{error},"devices":[],"left_out":0,"file_dirs":[],"marks":[]}}"#
        );
        self.write("/run/mig-cdi/status.json", &text);
        let dir = TrustedDir::open_existing(&self.host.path("/run/mig-cdi")).unwrap().unwrap();
        self.lock.replace(Some(LifeLock::take(&dir, "watch.lock").unwrap()));
    }

    fn remove(&self, path: &str) {
        let path = self.host.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    fn replace(&self, path: &Path, from: &str, to: &str) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Writes another spec with one device beside ours.
    fn spec(&self, name: &str, kind: &str, device: &str, edits: &str) {
        let edits = if edits.is_empty() { r#""env":["A=b"]"# } else { edits };
        let text = format!(
            r#"{{"cdiVersion":"0.5.0","kind":"{kind}","devices":[{{"name":"{device}","containerEdits":{{{edits}}}}}]}}"#
        );
        fs::write(self.dir().join(name), text).unwrap();
    }

    /// Runs doctor with a time limit of some seconds: it must not wait for anything.
    fn bounded(&self) -> Run {
        let root = format!("--host-root={}", self.host.root().display());
        let doctor = self.host.command(&["doctor", &root]);
        let mut command = Command::new("timeout");
        command.env_clear().arg("10").arg(doctor.get_program()).args(doctor.get_args());
        let (key, value) = self.host.env();
        run(command.env(key, value))
    }

    fn doctor(&self, args: &[&str]) -> Run {
        let root = format!("--host-root={}", self.host.root().display());
        self.host.run(&[&["doctor", &root], args].concat())
    }
}

fn node(path: &Path, major: u32, minor: u32) {
    let numbers = makedev(major.into(), minor.into());
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o444), numbers).unwrap();
}

const HEALTHY: &str = "\
ok       settings      spec directories TMP/etc-cdi, TMP/cdi
ok       driver        580.105.08, module and libraries agree
ok       capabilities  device nodes, major 508
ok       nvml          TMP/root/usr/lib64/libnvidia-ml.so.580.105.08, 1 gpu
ok       mig           gpu 0: mig mode is on, 4 mig devices
ok       devices       4 mig devices, all confirmed
ok       nodes         12 nodes, with the driver's numbers and modes
ok       links         /dev/char leads to 12 nodes
ok       directories   TMP/etc-cdi: 0 spec files
ok       directories   TMP/cdi: 1 spec file
ok       specs         TMP/cdi/nvidia.com-mig.json: nvidia.com/mig, 9 devices, cdi 0.5.0
ok       versions      every engine here accepts every spec, as far as is known
ok       names         9 names, each defined once
ok       stale         no spec names a node that the driver does not have
ok       drift         TMP/cdi/nvidia.com-mig.json: it is what mig-cdi generate would write now
ok       files         every file and program that a spec names exists
ok       watch         pid 1 keeps the spec current, 0 slices
ok       leases        no slice has a lease
ok       journal       no change of a gpu was interrupted
ok       engines       podman: podman 5.8.6 at /usr/bin/podman, accepts cdi up to 1.0.0
ok       engines       containerd: containerd 2.1.9 at /usr/bin/containerd, accepts cdi up to 1.0.0
ok       engines       docker: docker 28.5.2 at /usr/bin/dockerd, accepts cdi up to 1.0.0
ok       engines       crio: crio 1.36.0 at /usr/bin/crio, accepts cdi up to 1.1.0
ok       engines       runc: runc 1.3.6 at /usr/bin/runc, an oci runtime: it reads no specs
ok       engines       crun: crun 1.28.0 at /usr/bin/crun, an oci runtime: it reads no specs
ok       config        podman: it reads TMP/etc-cdi, TMP/cdi
ok       config        containerd: it reads TMP/etc-cdi, TMP/cdi
ok       config        docker: it reads TMP/etc-cdi, TMP/cdi
ok       config        crio: it reads TMP/etc-cdi, TMP/cdi
note     config        crio: it gives a container the devices that an annotation cdi.k8s.io/... of its pod names: anyone who may create pods can take any slice of the spec, unless admission refuses such annotations
ok       hooks         1 file in hooks.d, none that breaks an engine
ok       host          cgroup: version 2
ok       host          systemd: runs
ok       host          selinux: off
ok       containers    0 hold slices, all of which exist
ok       privilege     running as root: every check is complete
";

#[test]
fn a_healthy_host_has_no_finding() {
    let host = Healthy::new();
    let before = run(Command::new("find").arg(host.dir()).args(["-printf", "%p %T@ %m\n"]));
    let run_ = host.doctor(&[]);
    similar_asserts::assert_eq!(run_.stdout, HEALTHY);
    assert_eq!((run_.code, run_.stderr.as_str()), (0, "0 errors, 0 warnings, 1 note\n"));
    let after = run(Command::new("find").arg(host.dir()).args(["-printf", "%p %T@ %m\n"]));
    assert_eq!(before, after, "it changes nothing");
    let json: Value = serde_json::from_str(&host.doctor(&["--json"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), HEALTHY.lines().count());
    assert_eq!(json[1]["check"], "driver");
    assert_eq!(json[1]["severity"], "ok");
    assert_eq!(json[1]["cure"], Value::Null);
}

/// Makes a test of each fault: what is done to the healthy host, and the expected finding, which is a severity, a check,
/// and a part of the line.
macro_rules! faults {
    ($group:ident {
        $($name:ident: $fault:expr => $severity:literal, $check:literal, $part:expr;)*
    }) => {
        mod $group {
            use super::*;
            $(
                #[test]
                fn $name() {
                    check_fault($fault, ($severity, $check, $part));
                }
            )*
        }
    };
}

fn check_fault(fault: fn(&Healthy), expected: (&str, &str, &str)) {
    let host = Healthy::new();
    fault(&host);
    expect(&host, expected);
}

/// Asserts that doctor has this finding. Below warnings and errors stands a line with the cure.
fn expect(host: &Healthy, (severity, check, part): (&str, &str, &str)) {
    let run = host.doctor(&[]);
    let start = format!("{severity:<7}  {check:<12}  ");
    let is = |line: &&str| line.starts_with(&start) && line.contains(part);
    assert!(!HEALTHY.lines().any(|line| is(&line)), "the healthy host has this line too");
    let mut lines = run.stdout.lines().skip_while(|line| !is(line));
    assert!(lines.next().is_some(), "{start}…{part} in\n{}{}", run.stdout, run.stderr);
    let cured = lines.next().is_some_and(|line| line.starts_with("         cure: "));
    assert_eq!(cured, matches!(severity, "warning" | "error"), "{}", run.stdout);
    let errors = run.stdout.lines().any(|line| line.starts_with("error"));
    assert_eq!(run.code, i32::from(errors), "{}", run.stderr);
    assert!(ends_with_counts(&run), "{}", run.stderr);
}

fn ends_with_counts(run: &Run) -> bool {
    [" note\n", " notes\n"].iter().any(|end| run.stderr.ends_with(end))
}

faults! {
    faults_of_watch {
        never: |h| h.remove("/run/mig-cdi/status.json") => "note", "watch", "mig-cdi watch has not run";
        stopped: |h| h.watch("stopped", 1) => "warning", "watch", "mig-cdi watch has stopped";
        // The id belongs to another process.
        killed: |h| { h.watch("ok", 1); h.remove("/run/mig-cdi/watch.lock"); } => "warning", "watch", "mig-cdi watch has stopped";
        failing: |h| h.watch("failing", 1) => "error", "watch", "its last refresh failed: query nvml: no";
        lease_of_no_slice: |h| h.lease("{\"gpu\": \"UUID\", \"gi\": 9, \"holder\": \"job 17\"}")
            => "warning", "leases", "mine of job 17 holds nothing: gpu GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4 has no gi 9";
        lease_of_no_compute_instance: |h| h.lease("{\"gpu\": \"UUID\", \"gi\": 3, \"ci\": 1, \"holder\": \"job 17\"}")
            => "warning", "leases", "has no gi 3 ci 1";
        lease_of_no_gpu: |h| h.lease("{\"gpu\": \"GPU-x\", \"gi\": 3, \"holder\": \"job 17\"}")
            => "warning", "leases", "mine of job 17 holds nothing: this node has no gpu GPU-x";
        lease_of_a_slice: |h| h.lease("{\"gpu\": \"UUID\", \"gi\": 3, \"ci\": 0, \"holder\": \"job 17\"}")
            => "ok", "leases", "1 lease, each of a slice";
        interrupted: |h| h.journal("{\"boot\":\"b\",\"gpus\":[{\"gpu\":\"GPU-x\",\"before\":\"none\",\"after\":\"off\"}]}")
            => "error", "journal", "an apply was interrupted at GPU-x, as /var/lib/mig-cdi/apply.json records";
        a_broken_journal: |h| h.journal("{") => "error", "journal", "not a journal";
        a_broken_lease: |h| h.lease("{") => "warning", "leases", "read lease ";
        garbage: |h| h.write("/run/mig-cdi/status.json", "{") => "warning", "watch", "parse /run/mig-cdi";
    }
}

faults! {
    faults_of_the_driver {
        no_driver: |h| h.remove("/proc/driver") => "error", "driver", "no nvidia driver is loaded";
        no_driver_nvml: |h| h.remove("/proc/driver") => "note", "nvml", "not queried: the driver";
        no_driver_devices: |h| h.remove("/proc/driver") => "note", "devices", "without a driver";
        no_driver_nodes: |h| h.remove("/proc/driver") => "note", "nodes", "without a driver";
        no_driver_mig: |h| h.remove("/proc/driver") => "note", "mig", "not known without nvml";
        no_driver_stale: |h| h.remove("/proc/driver") => "note", "stale", "without a driver";
        no_driver_drift: |h| h.remove("/proc/driver") => "note", "drift", "not checked";
        no_driver_links: |h| h.remove("/proc/driver") => "note", "links", "without a driver";
        no_driver_containers: |h| h.remove("/proc/driver") => "note", "containers", "not checked without a driver";
        no_driver_capabilities: |h| h.remove("/proc/driver") => "note", "capabilities", "no gpu has been opened";
        not_registered: |h| h.replace(&h.host.path("/proc/devices"), "195 nvidia\n", "")
            => "error", "driver", "no character device \"nvidia\"";
        half_updated: |h| {
            let (old, new) =
                ("/usr/lib64/libcuda.so.580.105.08", "/usr/lib64/libcuda.so.590.1.1");
            fs::rename(h.host.path(old), h.host.path(new)).unwrap();
        } => "error", "driver", "driver 580.105.08 is loaded and TMP/root/usr/lib64 has the files of 590.1.1";
        a_library_that_is_none: |h| h.write("/usr/lib64/libnvidia-nvvm.so.580.105.08", "garbage")
            => "warning", "driver", "is omitted";
        no_libraries_wanted: |h| h.replace(&h.host.config(), "spec-dirs", "capabilities = \"none\"\nspec-dirs")
            => "ok", "driver", "capabilities is none";
        empty_capability_files: |h| h.write("/proc/driver/nvidia/capabilities/gpu0/mig/gi3/access", "")
            => "error", "capabilities", "the driver is in the old proc mode: /proc/driver/nvidia/capabilities/gpu0/mig/gi3/access is empty";
        no_table_of_minors: |h| h.remove("/proc/driver/nvidia-caps/mig-minors")
            => "error", "capabilities", "old proc mode: /proc/driver/nvidia-caps/mig-minors does not exist";
        no_major: |h| h.replace(&h.host.path("/proc/devices"), "508 nvidia-caps\n", "")
            => "error", "capabilities", "no character device nvidia-caps";
        two_versions_in_memory: |h| h.replace(&h.host.path("/proc/driver/nvidia/version"), "580.105.08", "580.95.05")
            => "error", "devices", "/proc/driver/nvidia/version has driver 580.95.05, nvml reports 580.105.08";
        no_nvml: |h| {
            for dir in ["/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu"] {
                for name in ["libnvidia-ml.so.580.105.08", "libnvidia-ml.so.1"] {
                    let _ = fs::remove_file(h.host.path(&format!("{dir}/{name}")));
                }
            }
        } => "error", "nvml", "libnvidia-ml.so.1 not found";
    }
}

const A100: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";
const SLICE: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"2g.20gb\" }]\n";

faults! {
    faults_of_the_node {
        no_gpu: |h| h.host.replace_node("") => "warning", "mig", "nvml lists no gpu";
        a_lost_gpu: |h| h.host.replace_node(&format!("{A100}lost = true")) => "error", "mig", "gpu 0: nvml";
        mig_mode_off: |h| h.host.replace_node(&format!("{A100}mig = false"))
            => "note", "mig", "mig mode is off; sudo mig-cdi apply 0=2x3g.40gb turns on mig mode";
        no_slice: |h| h.host.replace_node(A100) => "note", "mig", "mig mode is on, without a mig device; sudo mig-cdi apply 0=2x3g.40gb";
        a_gpu_without_mig: |h| h.host.replace_node("[[gpu]]\nmodel = \"l40s\"") => "note", "mig", "does not support mig";
        a_pending_mode: |h| h.host.replace_node(&format!("{A100}mig = false\nmig-pending = true"))
            => "warning", "mig", "mig mode is off, and on after a reset; sudo mig-cdi apply 0=2x3g.40gb turns on mig mode";
        a_hidden_slice: |h| h.host.replace_node(&format!("faults.hidden-from-nvml = [\"gpu0/gi3/ci0\"]\n{SLICE}"))
            => "error", "devices", "nvml does not list it";
        fewer_slices: |h| h.host.replace_node(SLICE)
            => "error", "stale", "/dev/nvidia-caps/nvidia-cap39 belongs to no instance";
        fewer_slices_than_the_spec: |h| h.host.replace_node(A100) => "error", "drift", "the node has no nvidia.com/mig device";
        a_moved_major: |h| h.host.replace_node(&format!("majors.nvidia-caps = 234\n{SLICE}"))
            => "error", "stale", "nvidia-cap30 has major 508, the driver has 234";
        an_unconfirmed_slice: |h| h.host.replace_node(&unconfirmed(SLICE))
            => "note", "stale", "while some instances are not confirmed";
        an_unconfirmed_slice_and_containers: |h| h.host.replace_node(&unconfirmed(SLICE))
            => "note", "containers", "while some instances are not confirmed";
        uvm_not_loaded: |h| h.host.replace_node(&format!("majors.nvidia-uvm = 0\n{SLICE}"))
            => "warning", "nodes", "nvidia-uvm is not loaded";
        another_version_of_nvml: |h| h.host.replace_node(&format!("faults.nvml = \"version-mismatch\"\n{SLICE}"))
            => "error", "nvml", "different driver versions";
    }
}

/// Returns the node with an unreadable capability file.
fn unconfirmed(node: &str) -> String {
    format!(
        "{node}[[faults.files]]\npath = \"/proc/driver/nvidia/capabilities/gpu0/mig/gi3/access\"\ntext = \"x\"\n"
    )
}

const NODE: &str = "/dev/nvidia-caps/nvidia-cap30";

faults! {
    faults_of_nodes_and_links {
        missing: |h| h.remove(NODE) => "warning", "nodes", "missing: /dev/nvidia-caps/nvidia-cap30";
        of_an_earlier_load: |h| {
            h.remove(NODE);
            node(&h.host.path(NODE), 510, 30);
        } => "error", "nodes", "nvidia-cap30 is 510:30, should be 508:30";
        a_file: |h| {
            h.remove(NODE);
            h.write(NODE, "");
        } => "error", "nodes", "nvidia-cap30 is not a character device";
        closed: |h| fs::set_permissions(h.host.path(NODE), Permissions::from_mode(0o400)).unwrap()
            => "warning", "nodes", "nvidia-cap30 has mode 0400 of 0:0, should have 0444 of 0:0";
        closed_directory: |h| {
            fs::set_permissions(h.host.path("/dev/nvidia-caps"), Permissions::from_mode(0o700)).unwrap();
        } => "warning", "nodes", "/dev/nvidia-caps has mode 0700: other users and rootless containers reach no node in it";
        a_loop_of_links: |h| {
            h.remove(NODE);
            symlink("nvidia-cap30", h.host.path(NODE)).unwrap();
        } => "warning", "nodes", "too many";
        no_link: |h| h.remove("/dev/char/508:30")
            => "warning", "links", "missing or wrong: /dev/char/508:30; systemd needs them";
        a_link_elsewhere: |h| {
            h.remove("/dev/char/508:30");
            symlink("../nvidia0", h.host.path("/dev/char/508:30")).unwrap();
        } => "warning", "links", "missing or wrong: /dev/char/508:30";
        no_link_no_systemd: |h| {
            h.remove("/dev/char/508:30");
            h.remove("/run/systemd/system");
        } => "ok", "links", "nothing needs /dev/char";
    }
}

faults! {
    faults_of_specs {
        no_directory: |h| fs::remove_dir(h.dir().join("etc-cdi")).unwrap() => "note", "directories", "does not exist";
        a_file_for_a_directory: |h| {
            fs::remove_dir(h.dir().join("etc-cdi")).unwrap();
            symlink("etc-cdi", h.dir().join("etc-cdi")).unwrap();
        } => "error", "directories", "etc-cdi";
        a_closed_directory: |h| fs::set_permissions(h.host.out(), Permissions::from_mode(0o750)).unwrap()
            => "warning", "directories", "TMP/cdi: mode 0750: rootless";
        a_closed_file: |h| fs::set_permissions(h.host.spec(), Permissions::from_mode(0o640)).unwrap()
            => "warning", "specs", "mode 0640: rootless";
        no_spec: |h| fs::remove_file(h.host.spec()).unwrap() => "note", "specs", "there is no spec file";
        no_spec_of_ours: |h| fs::remove_file(h.host.spec()).unwrap() => "error", "drift", "the node has devices";
        no_json: |h| fs::write(h.host.spec(), "{").unwrap()
            => "error", "specs", "nvidia.com-mig.json: not a cdi spec in json or yaml";
        no_device: |h| {
            fs::write(
                h.dir().join("cdi/a.yaml"),
                "cdiVersion: 0.5.0\nkind: a.com/bb\ndevices: []\n",
            )
            .unwrap();
        } => "error", "specs", "a.yaml: it has no device";
        a_short_kind: |h| h.spec("cdi/a.json", "nvidia.com/m", "x", "") => "error", "specs", "\"nvidia.com/m\" is not";
        too_new: |h| h.replace(&h.host.spec(), "\"0.5.0\"", "\"1.1.0\"")
            => "error", "versions", "cdi 1.1.0, and podman 5.8.6 accepts up to 1.0.0";
        too_new_for_an_old_podman: |h| {
            h.engine("podman", "podman version 4.3.1");
            h.replace(&h.host.spec(), "\"0.5.0\"", "\"0.6.0\"");
        } => "error", "versions", "cdi 0.6.0, and podman 4.3.1 accepts up to 0.5.0";
        // A file without slices, so that nothing but the version is wrong.
        too_new_of_nvidia_ctk: |h| ctk(h, "") => "error", "versions", "cdi 0.7.0, and podman 4.3.1 accepts up to 0.5.0";
        no_version: |h| h.replace(&h.host.spec(), "\"0.5.0\"", "\"5\"")
            => "error", "specs", "cdiVersion \"5\" is not a version";
        twice: |h| {
            fs::copy(h.host.spec(), h.dir().join("cdi/b.json")).unwrap();
        } => "error", "names", "defined twice, by TMP/cdi/b.json, TMP/cdi/nvidia.com-mig.json, so that engines resolve neither";
        hidden: |h| {
            fs::copy(h.host.spec(), h.dir().join("etc-cdi/b.json")).unwrap();
        } => "note", "names", "TMP/etc-cdi/b.json: hidden by TMP/cdi/nvidia.com-mig.json";
        stale_of_another_tool: |h| {
            let caps = r#""deviceNodes":[{"path":"/dev/nvidia-caps/nvidia-cap84"}]"#;
            h.spec("cdi/nvidia.json", "nvidia.com/gpu", "0:9", caps);
        } => "error", "stale", "TMP/cdi/nvidia.json: /dev/nvidia-caps/nvidia-cap84 belongs to no instance that exists";
        stale_minor: |h| h.replace(&h.host.spec(), "\"minor\":30", "\"minor\":32")
            => "error", "stale", "nvidia-cap30 has minor 32, the driver has 30";
        drifted: |h| {
            h.replace(&h.host.spec(), "NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=x")
        } => "warning", "drift", "variable NVIDIA_VISIBLE_DEVICES is x, should be void";
        drifted_much: |h| h.replace(&h.host.spec(), "0:2g.20gb:", "0:3g.20gb:") => "warning", "drift", "more differences";
        a_file_that_went: |h| {
            h.spec(
                "cdi/a.json",
                "a.com/bb",
                "x",
                r#""mounts":[{"hostPath":"/no/such","containerPath":"/a"}]"#,
            )
        } => "error", "files", "TMP/cdi/a.json: it mounts files that do not exist, so that no container starts: /no/such";
        a_hook_that_went: |h| {
            h.spec(
                "cdi/a.json",
                "a.com/bb",
                "x",
                r#""hooks":[{"hookName":"prestart","path":"/no/such"}]"#,
            )
        } => "error", "files", "TMP/cdi/a.json: it runs programs that do not exist, so that no container starts: /no/such";
        settings: |h| fs::write(h.host.config(), "kindd = 1").unwrap() => "error", "settings", "unknown field `kindd`";
    }
}

/// Writes a spec as nvidia-ctk does, for podman 4.3, which accepts CDI up to 0.5.0. `units` is the directory of the unit
/// that refreshes it.
fn ctk(host: &Healthy, units: &str) {
    host.engine("podman", "podman version 4.3.1");
    host.write("/usr/bin/nvidia-cdi-hook", "");
    if !units.is_empty() {
        host.write(&format!("{units}/nvidia-cdi-refresh.service"), "");
    }
    let text = "cdiVersion: 0.7.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n\
                \x20   - path: /dev/nvidia0\n    additionalGids: [44]\n";
    fs::write(host.dir().join("cdi/nvidia.yaml"), text).unwrap();
}

/// Case 10: a cure is one that the tool which wrote the file knows.
#[test]
fn cures_for_a_new_version_are_those_of_its_writer() {
    const FLAG: &str = "no-additional-gids-for-device-nodes";
    let host = Healthy::new();
    ctk(&host, "");
    let cures = |host: &Healthy| {
        let run = host.doctor(&[]);
        let cures = run.stdout.lines().filter(|line| line.starts_with("         cure: "));
        cures.map(|line| line["         cure: ".len()..].to_owned()).collect::<Vec<_>>()
    };
    let command = format!(
        "update podman, or install nvidia-container-toolkit and run nvidia-ctk cdi generate --feature-flag={FLAG} --output=TMP/cdi/nvidia.yaml"
    );
    assert!(cures(&host).contains(&command), "{:?}", cures(&host));
    // The service would undo it.
    let host = Healthy::new();
    let (run_cdi, cdi) = (host.host.path("/var/run/cdi"), host.dir().join("cdi"));
    fs::create_dir_all(&run_cdi).unwrap();
    ctk(&host, "/usr/lib/systemd/system");
    fs::rename(cdi.join("nvidia.yaml"), run_cdi.join("nvidia.yaml")).unwrap();
    host.write(PODMAN, &format!("[engine]\ncdi_spec_dirs = [\"/var/run/cdi\", {cdi:?}]\n"));
    let command = format!(
        "update podman, or add NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS={FLAG} to \
         /etc/nvidia-container-toolkit/nvidia-cdi-refresh.env and run systemctl restart nvidia-cdi-refresh"
    );
    assert!(cures(&host).contains(&command), "{:?}", cures(&host));
    let run = host.doctor(&["nvidia.com/gpu=0"]);
    assert!(run.stdout.contains(&command) && run.code == 1, "{}", run.stdout);
    // nvidia-ctk writes no lower version than the content needs.
    let host = Healthy::new();
    ctk(&host, "");
    host.replace(&cdi_file(&host), "    additionalGids: [44]\n", "");
    let neutral = "update podman, or have the tool that wrote the spec write cdi 0.5.0 or lower";
    assert!(cures(&host).contains(&neutral.to_owned()), "{:?}", cures(&host));
    // Our own file, and ours in another place.
    let host = Healthy::new();
    host.engine("podman", "podman version 4.3.1");
    host.replace(&host.host.spec(), "\"0.5.0\"", "\"0.6.0\"");
    let own = "update podman, or run mig-cdi generate --max-cdi-version=0.5.0".to_owned();
    assert!(cures(&host).contains(&own), "{:?}", cures(&host));
    fs::rename(host.host.spec(), host.dir().join("etc-cdi/a.json")).unwrap();
    let own = "update podman, or run mig-cdi generate --output=TMP/etc-cdi/a.json --max-cdi-version=0.5.0";
    assert!(cures(&host).contains(&own.to_owned()), "{:?}", cures(&host));
}

/// Nodes that udev makes have the mode and the group that its rules give them.
#[test]
fn the_modes_of_the_administrator_s_nodes_are_theirs() {
    let host = Healthy::new();
    host.leave_nodes_to_the_administrator();
    let node = host.host.path("/dev/nvidia0");
    fs::set_permissions(&node, Permissions::from_mode(0o660)).unwrap();
    std::os::unix::fs::chown(&node, None, Some(44)).unwrap();
    let lines = host.doctor(&[]).stdout;
    assert!(lines.contains("ok       nodes         "), "{lines}");
    // mig-cdi nodes would leave a missing one too.
    fs::remove_file(&node).unwrap();
    let lines = host.doctor(&[]).stdout;
    assert!(lines.contains("the driver has NVreg_ModifyDeviceFiles=0"), "{lines}");
}

/// Releases of the CDI library before 0.5.4 do not compare the version with the content, and take no `v`
/// (`pkg/cdi/spec.go`, `validateVersion`). podman 4.3.1 has such a release.
#[test]
fn a_version_is_judged_as_the_engine_does() {
    let host_path = r#""deviceNodes":[{"path":"/dev/null","hostPath":"/dev/null"}]"#;
    for (version, edits, old, new) in [
        ("0.5.0", host_path, "", ""),
        (
            "0.4.0",
            host_path,
            "",
            "cdiVersion is 0.4.0, and device x has a node with a hostPath, which needs 0.5.0",
        ),
        ("v0.5.0", host_path, "cdiVersion \"v0.5.0\" starts with a v", ""),
        ("0.5.0", r#""additionalGids":[44]"#, "which needs 0.7.0", "which needs 0.7.0"),
    ] {
        for (podman, reason) in [("4.3.1", old), ("4.4.4", old), ("4.5.0", new), ("5.8.6", new)] {
            let host = Healthy::new();
            host.only_podman();
            host.engine("podman", &format!("podman version {podman}"));
            let dir = host.host.path("/etc/cdi");
            fs::create_dir_all(&dir).unwrap();
            host.write(PODMAN, "");
            let text = format!(
                r#"{{"cdiVersion":"{version}","kind":"a.com/bb","devices":[{{"name":"x","containerEdits":{{{edits}}}}}]}}"#
            );
            fs::write(dir.join("a.json"), text).unwrap();
            let run = host.doctor(&["a.com/bb=x"]);
            let sees = format!("podman {podman} sees it");
            assert_eq!(
                (run.code == 0, run.stdout.contains(&sees)),
                (reason.is_empty(), reason.is_empty()),
                "{version} {podman}: {}",
                run.stdout
            );
            assert!(run.stdout.contains(reason), "{version} {podman}: {}", run.stdout);
        }
    }
}

/// By the library in the `go.mod` of the release.
#[test]
fn a_release_accepts_what_its_cdi_library_does() {
    let host = Healthy::new();
    for (program, engine, version, accepts) in [
        ("podman", "podman", "4.2.1", "0.4.0"),
        ("podman", "podman", "4.6.2", "0.5.0"),
        ("podman", "podman", "4.8.3", "0.6.0"),
        ("podman", "podman", "5.0.3", "0.6.0"),
        ("podman", "podman", "5.3.2", "0.8.0"),
        ("podman", "podman", "5.5.0", "1.0.0"),
        ("containerd", "containerd", "1.7.23", "0.7.0"),
        ("containerd", "containerd", "2.0.0", "0.8.0"),
        ("containerd", "containerd", "2.2.0", "1.0.0"),
        ("dockerd", "docker", "27.5.1", "0.8.0"),
        ("dockerd", "docker", "28.1.1", "1.0.0"),
        ("dockerd", "docker", "29.1.5", "1.0.0"),
        ("dockerd", "docker", "29.2.0", "1.1.0"),
        ("crio", "crio", "1.24.6", "0.3.0"),
        ("crio", "crio", "1.30.1", "0.7.0"),
        ("crio", "crio", "1.34.0", "1.0.0"),
    ] {
        host.engine(program, &format!("{engine} version {version}"));
        let run = host.doctor(&[]);
        let line =
            format!("{engine} {version} at /usr/bin/{program}, accepts cdi up to {accepts}\n");
        assert!(run.stdout.contains(&line), "{line} in {}", run.stdout);
    }
}

/// What engines make of the files is what the doctor says of it.
#[test]
fn podman_refuses_what_doctor_says_it_refuses() {
    let node = r#""deviceNodes":[{"path":"/dev/mig-cdi-test","hostPath":"/dev/null"}]"#;
    let lower = r#""DeviceNodes":[{"path":"/dev/mig-cdi-test","hostpath":"/dev/null"}]"#;
    for (version, edits) in [
        ("0.5.0", node),
        ("0.4.0", node),
        ("0.5.0", lower),
        ("v0.5.0", node),
        ("0.5.0", r#""env":["A=b"],"foo":1"#),
        ("0.5.0", r#""env":["A=b"],"additionalGids":[44]"#),
        ("0.6.0", node),
        ("0.5.0", ""),
    ] {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let text = format!(
            r#"{{"cdiVersion":"{version}","kind":"a.com/bb","devices":[{{"name":"x","containerEdits":{{{edits}}}}}]}}"#
        );
        let file = host.root().join("a.json");
        fs::write(&file, text).unwrap();
        let script = format!(
            "mkdir /var/run/cdi && cp {} /var/run/cdi
            $PODMAN $RUN --device a.com/bb=x --rootfs $ROOTFS sh -c : >&2 && echo started || echo refused
            $MIG_CDI doctor $FLAGS a.com/bb=x | grep podman",
            file.display()
        );
        let run = Podman::new(("crun", "v2")).script(&host, &script);
        let (engine, doctor) = run.stdout.split_once('\n').unwrap_or_default();
        let sees = doctor.contains("podman 4.3.1 sees it");
        assert_eq!(sees, engine == "started", "{version} {edits}: {}{}", run.stdout, run.stderr);
    }
}

/// The library does not follow a link in the place of a directory.
#[test]
fn podman_looks_into_no_link_to_a_directory() {
    let text = r#"{"cdiVersion":"0.5.0","kind":"a.com/bb","devices":[{"name":"x","containerEdits":{"env":["A=b"]}}]}"#;
    for (place, sees) in
        [("mkdir /run/cdi", true), ("mkdir /run/real && ln -s real /run/cdi", false)]
    {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let file = host.root().join("a.json");
        fs::write(&file, text).unwrap();
        let script = format!(
            "{place} && cp {} /var/run/cdi
            $PODMAN $RUN --device a.com/bb=x --rootfs $ROOTFS sh -c : >&2 && echo started || echo refused
            $MIG_CDI doctor $FLAGS a.com/bb=x | grep podman
            $MIG_CDI configure podman --dry-run 2>&1",
            file.display()
        );
        let run = Podman::new(("crun", "v2")).script(&host, &script);
        let expected = if sees { "started" } else { "refused" };
        assert!(run.stdout.starts_with(expected), "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.contains("podman 4.3.1 sees it"), sees, "{}", run.stdout);
        let link = "does not look into /var/run/cdi: a link is there";
        assert_eq!(run.stdout.matches(link).count(), if sees { 0 } else { 2 }, "{}", run.stdout);
    }
}

fn cdi_file(host: &Healthy) -> PathBuf {
    host.dir().join("cdi/nvidia.yaml")
}

const OLD: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n";

faults! {
    faults_of_engines {
        none: |h| {
            ["podman", "containerd", "dockerd", "crio", "runc", "crun"]
                .iter()
                .for_each(|name| h.remove(&format!("/usr/bin/{name}")))
        } => "note", "engines", "none in /usr/bin, /usr/sbin, /usr/local/bin";
        none_to_configure: |h| {
            ["podman", "containerd", "dockerd", "crio", "runc", "crun"]
                .iter()
                .for_each(|name| h.remove(&format!("/usr/bin/{name}")))
        } => "note", "config", "no engine with cdi support";
        no_cdi: |h| h.engine("containerd", "containerd x 1.6.20~ds1")
            => "warning", "engines", "containerd 1.6.20 at /usr/bin/containerd has no cdi support";
        prints_no_version: |h| h.engine("podman", "hello") => "warning", "engines", "its output contains no version";
        somebody_else_s: |h| {
            fs::set_permissions(h.host.path("/usr/bin/podman"), Permissions::from_mode(0o777))
                .unwrap()
        } => "warning", "engines", "its version is not known: not run: ";
        no_program: |h| {
            h.remove("/usr/bin/podman");
            fs::create_dir(h.host.path("/usr/bin/podman")).unwrap();
        } => "warning", "engines", "podman: its version is not known: run";
        podman_5_5: |h| {
            h.engine("podman", "podman version 5.5.2");
            h.remove(PODMAN);
        } => "warning", "config", "podman: it reads /etc/cdi, and not TMP/cdi";
        podman_5_6: |h| h.remove(PODMAN) => "warning", "config", "podman: it reads /etc/cdi, /var/run/cdi, and not TMP/cdi";
        podman_4_3_knows_no_key: |h| h.engine("podman", "podman version 4.3.1")
            => "warning", "config", "podman: it reads /etc/cdi, /var/run/cdi, and not TMP/cdi";
        a_drop_in_of_podman: |h| {
            h.write("/etc/containers/containers.conf.d/a.conf", "engine.cdi_spec_dirs = ['/x']")
        } => "warning", "config", "podman: it reads /x, and not TMP/cdi";
        no_toml: |h| h.write(PODMAN, "=") => "warning", "config", "podman: parse /etc/containers/containers.conf:";
        no_json: |h| h.write(DOCKER, "{") => "warning", "config", "docker: parse /etc/docker/daemon.json:";
        docker_26: |h| h.engine("dockerd", "Docker version 26.1.5") => "warning", "config", "docker: features.cdi is not on";
        docker_without: |h| h.write(DOCKER, r#"{"features":{"cdi":false}}"#)
            => "warning", "config", "docker: features.cdi is not on";
        docker_switched_off_by_its_list: |h| h.write(DOCKER, r#"{"cdi-spec-dirs":[""]}"#)
            => "warning", "config", "docker: cdi-spec-dirs is one empty path";
        podman_with_one_setting_twice: |h| h.write(PODMAN, "[engine]\ncdi_spec_dirs = ['/a']\nCDI_spec_dirs = ['/b']\n")
            => "warning", "config", "podman: /etc/containers/containers.conf: it has both CDI_spec_dirs and cdi_spec_dirs";
        docker_26_with: |h| {
            h.engine("dockerd", "Docker version 26.1.5");
            h.write(DOCKER, r#"{"features":{"cdi":true},"cdi-spec-dirs":["/x"]}"#);
        } => "warning", "config", "docker: it reads /x, and not";
        containerd_1_7: |h| {
            h.engine("containerd", "containerd x 1.7.24");
            h.write(CONTAINERD, OLD);
        } => "warning", "config", "containerd: enable_cdi is not true";
        containerd_1_7_with: |h| {
            h.engine("containerd", "containerd x 1.7.24");
            h.write(CONTAINERD, &format!("{OLD}enable_cdi = true\n"));
        } => "warning", "config", "containerd: it reads /etc/cdi, /var/run/cdi, and not TMP/cdi";
        containerd_2_without: |h| {
            h.replace(
                &h.host.path(CONTAINERD),
                "cdi_spec_dirs",
                "enable_cdi = false\ncdi_spec_dirs",
            )
        } => "warning", "config", "containerd: enable_cdi is not true";
        the_first_form_of_containerd_s_file: |h| {
            h.engine("containerd", "containerd x 2.3.0");
            h.write(CONTAINERD, "[plugins.cri]\ncdi_spec_dirs = [\"/x\"]\n");
        } => "warning", "config", "containerd: it reads /x, and not TMP/cdi";
        // 2.1 does not read the table of version 2 then.
        containerd_of_two_versions: |h| {
            h.write(CONTAINERD, &format!("imports = ['conf.d/*.toml']\n{OLD}enable_cdi = false\n"));
            let table = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n";
            h.write("/etc/containerd/conf.d/a.toml", &format!("{table}cdi_spec_dirs = ['/x']\n"));
        } => "warning", "config", "containerd: it reads /x, and not TMP/cdi";
        a_file_that_containerd_rejects: |h| {
            h.engine("containerd", "containerd x 1.7.24");
            h.write(CONTAINERD, "version = 2\nimports = ['conf.d/*.toml']\n");
            h.write("/etc/containerd/conf.d/a.toml", "[plugins.cri]\n");
        } => "warning", "config", "containerd: it does not start with /etc/containerd/conf.d/a.toml: the files are of version 2";
        containerd_with_a_byte_order_mark: |h| h.write(CONTAINERD, "\u{feff}version = 3\n")
            => "warning", "config", "it begins with a byte order mark, with which containerd 2 does not start";
        containerd_of_a_negative_version: |h| h.write(CONTAINERD, "version = -1\n")
            => "warning", "config", "containerd: it does not start with /etc/containerd/config.toml: its version is -1";
        containerd_without_cri: |h| h.write(CONTAINERD, "disabled_plugins = [\"cri\"]\n")
            => "note", "config", "containerd: its cri plugin is disabled";
        imports: |h| {
            h.replace(
                &h.host.path(CONTAINERD),
                "version = 3",
                "version = 3\nimports = [\"/etc/[ab]*.toml\"]",
            )
        } => "note", "config", "imports files that are not examined";
        a_missing_import: |h| {
            h.replace(
                &h.host.path(CONTAINERD),
                "version = 3",
                "version = 3\nimports = [\"/etc/x\"]",
            )
        } => "warning", "config", "config.toml: it imports /etc/x, which is not there";
        an_import_that_switches_it_off: |h| {
            let path = h.host.path(CONTAINERD);
            h.replace(&path, "version = 3", "version = 3\nimports = [\"conf.d/*.toml\"]");
            let table = "[plugins.\"io.containerd.cri.v1.runtime\"]\nenable_cdi = false\n";
            h.write("/etc/containerd/conf.d/a.toml", &format!("version = 3\n{table}"));
        } => "warning", "config", "containerd: enable_cdi is not true";
        cri_o: |h| h.remove(CRIO) => "warning", "config", "crio: it reads /etc/cdi, /var/run/cdi, and not TMP/cdi";
    }
}

faults! {
    engines_that_hang_are_reported_in_time {
        hangs: |h| h.write("/usr/bin/podman", "#!/bin/sh\nexec sleep 600\n")
            => "warning", "engines", "podman: its version is not known: wait for";
        hangs_with_its_ends_closed: |h| h.write("/usr/bin/podman", "#!/bin/sh\nexec sleep 600 >&- 2>&-\n")
            => "warning", "engines", "podman: its version is not known: wait for";
    }
}

faults! {
    faults_of_hooks_and_the_machine {
        no_json: |h| h.write(&format!("{HOOKS}/a.json"), "{") => "error", "hooks", "a.json: not valid json";
        precreate_where_cri_o_reads: |h| {
            h.write(
                &format!("{HOOKS}/a.json"),
                r#"{"hook":{"path":"/usr/bin/good-hook"},"stages":["precreate"]}"#,
            )
        } => "error", "hooks", "a.json: only podman accepts the stage precreate";
        unknown_stage: |h| {
            h.write(
                &format!("{HOOKS}/a.json"),
                r#"{"hook":{"path":"/usr/bin/good-hook"},"stages":["start"]}"#,
            )
        } => "error", "hooks", "a.json: unknown stage \"start\"";
        no_path: |h| h.write(&format!("{HOOKS}/a.json"), "{}") => "error", "hooks", "a.json: it has no hook.path";
        no_program: |h| {
            h.write(
                &format!("{HOOKS}/a.json"),
                r#"{"hook":{"path":"/no/such"},"stages":["prestart"]}"#,
            )
        } => "warning", "hooks", "a.json: its hook /no/such does not exist";
        a_directory_for_a_file: |h| fs::create_dir(h.host.path(&format!("{HOOKS}/a.json"))).unwrap()
            => "error", "hooks", "a.json: read TMP/root/usr/share/containers/oci/hooks.d/a.json: is a directory";
        a_loop_for_a_directory: |h| {
            h.remove(HOOKS);
            symlink("hooks.d", h.host.path(HOOKS)).unwrap();
        } => "warning", "hooks", "hooks.d: open TMP";
        cgroup_v1: |h| {
            h.remove("/sys/fs/cgroup/cgroup.controllers");
            h.write("/sys/fs/cgroup/devices/x", "");
        } => "ok", "host", "cgroup: version 1";
        hybrid: |h| {
            h.remove("/sys/fs/cgroup/cgroup.controllers");
            h.write("/sys/fs/cgroup/unified/x", "");
        } => "warning", "host", "on which crun starts no container";
        no_cgroup: |h| h.remove("/sys/fs/cgroup") => "note", "host", "neither version 1 nor 2";
        no_systemd: |h| h.remove("/run/systemd") => "ok", "host", "systemd: does not run";
        enforcing: |h| h.write("/sys/fs/selinux/enforce", "1") => "note", "host", "setsebool -P container_use_devices on";
        permissive: |h| h.write("/sys/fs/selinux/enforce", "0") => "ok", "host", "selinux: permissive";
        odd: |h| h.write("/sys/fs/selinux/enforce", "?") => "note", "host", "neither 0 nor 1";
        unreadable: |h| fs::create_dir_all(h.host.path("/sys/fs/selinux/enforce")).unwrap() => "note", "host", "is a directory";
    }
}

#[test]
fn other_sources_than_nvml_are_reported() {
    let host = Healthy::new();
    let proc = host.doctor(&["--source=proc"]);
    for line in
        ["note     nvml          not queried, by --source", "note     mig  ", "note     drift  "]
    {
        assert!(proc.stdout.contains(line), "{line} in {}", proc.stdout);
    }
    assert_eq!(proc.code, 0, "{}", proc.stdout);
    let simulated = host.doctor(&["--node=a100-80gb"]);
    for line in [
        "note     driver        580.105.08; a simulated node has no libraries",
        "note     links         a simulated node has none",
    ] {
        assert!(simulated.stdout.contains(line), "{line} in {}", simulated.stdout);
    }
    fs::remove_file(host.host.spec()).unwrap();
    host.host.replace_node("[[gpu]]\nmodel = \"a100-80gb\"\n");
    let run = host.doctor(&[]);
    let line = "ok       drift         no nvidia.com/mig device, and no spec of one";
    assert!(run.stdout.contains(line), "{}", run.stdout);
}

/// The package podman-docker installs podman as `docker`.
#[test]
fn podman_under_the_name_docker_is_not_docker() {
    let host = Healthy::new();
    host.engine("dockerd", "podman version 4.3.1");
    let run = host.doctor(&[]);
    assert!(!run.stdout.contains("docker"), "{}", run.stdout);
    assert_eq!(run.code, 0, "{}", run.stdout);
}

/// podman reads only drop-ins that end in .conf (containers.conf(5)), and an editor leaves others beside them.
#[test]
fn files_that_podman_does_not_read_are_not_judged() {
    let host = Healthy::new();
    for name in ["a.conf~", "b.conf.dpkg-old"] {
        let path = format!("/etc/containers/containers.conf.d/{name}");
        host.write(&path, "engine.cdi_spec_dirs = ['/x']");
    }
    let run = host.doctor(&[]);
    similar_asserts::assert_eq!(run.stdout, HEALTHY);
}

/// Only podman runs precreate hooks, and CRI-O fails on them: without CRI-O the same file is correct.
#[test]
fn precreate_hooks_are_ok_without_crio() {
    let host = Healthy::new();
    host.remove("/usr/bin/crio");
    let hook = r#"{"hook":{"path":"/usr/bin/good-hook"},"stages":["precreate"]}"#;
    host.write(&format!("{HOOKS}/a.json"), hook);
    let run = host.doctor(&[]);
    assert!(run.stdout.contains("2 files in hooks.d, none that breaks"), "{}", run.stdout);
    assert_eq!(run.code, 0);
}

#[test]
fn containers_that_hold_a_vanished_slice_are_named() {
    const GPU: &str = "GPU-00000000-0000-0000-0000-000000000000";
    let other_profile = format!("MIG_CDI_DEVICE_0_3_0={UUID},3g.40gb,");
    let other = format!("MIG_CDI_DEVICE_0_3_0=MIG-{},2g.20gb,", &GPU[4..]);
    let moved = format!("MIG_CDI_DEVICE_0_3_0={UUID},2g.20gb,{GPU}");
    for (numbers, variable, severity, part) in [
        (
            GONE,
            "A=b",
            "error",
            "container 4f08cd7afbc6: it may open nodes of instances that do not exist: /dev/nvidia-caps/nvidia-cap84",
        ),
        (
            (508, 31),
            &other_profile,
            "error",
            "gi 3 ci 0 has become another slice: profile is 2g.20gb, the container was given 3g.40gb",
        ),
        ((508, 31), &other, "error", "has become another slice: uuid is MIG-b3c02e6f"),
        ((508, 31), &moved, "error", "has become another slice: gpu is"),
    ] {
        let host = Healthy::new();
        host.container(numbers, &["PATH=/bin", variable, "\u{fffd}=x"]);
        expect(&host, (severity, "containers", part));
    }
    // Correct containers: with the slice, with the capabilities of no instance, a service with the host's /dev.
    let right = format!("MIG_CDI_DEVICE_0_3_0={UUID},2g.20gb,");
    for (count, minor, variable) in
        [(1, 31, &*right), (0, 1, "A=b"), (1, 31, "MIG_CDI_DEVICE_0_3_0=?")]
    {
        let host = Healthy::new();
        host.container((508, minor), &[variable]);
        let run = host.doctor(&[]);
        let holds = if count == 1 { "holds" } else { "hold" };
        let line = format!("ok       containers    {count} {holds} slices, all of which exist\n");
        assert!(run.stdout.contains(&line), "{}", run.stdout);
    }
    let host = Healthy::new();
    host.process(78, "mnt:[3]", "", &[]);
    node(&host.host.path("/dev/nvidia-caps/nvidia-cap84"), 508, 84);
    assert_eq!(host.doctor(&[]).stdout, HEALTHY);
    host.remove("/proc/78");
    host.remove("/proc/1");
    expect(&host, ("note", "containers", "/proc does not show the processes"));
}

/// A container of the real podman is named by the id that podman gives it.
#[test]
fn a_real_container_is_named_by_its_id() {
    for variant in [("runc", "v1"), ("crun", "v2")] {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let instance = host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi3");
        let script = format!(
            "$MIG_CDI generate $FLAGS >&2
            id=$($PODMAN run -d --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS sleep 600)
            trap '$PODMAN rm -f -t 0 $id >&2' EXIT
            short=${{id%${{id#????????????}}}}
            $MIG_CDI doctor $FLAGS | grep -c \"container $short\" || :
            rm -r {}
            $MIG_CDI doctor $FLAGS | grep -A1 \"container $short\" | sed \"s/container $short/ID/\"",
            instance.display()
        );
        let run = Podman::new(variant).script(&host, &script);
        let (before, after) = run.stdout.split_once('\n').unwrap_or_default();
        assert_eq!(before, "0", "{variant:?}: {}{}", run.stdout, run.stderr);
        let gone = "ID: it may open nodes of instances that do not exist: /dev/nvidia-caps/nvidia-cap30, \
            /dev/nvidia-caps/nvidia-cap31\n         cure: stop the container, and start it again with a slice";
        assert!(after.contains(gone), "{variant:?}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn a_device_name_is_explained() {
    let host = Healthy::new();
    for name in ["0:2g.20gb:0", "nvidia.com/mig=0:2g.20gb:0"] {
        let run = host.doctor(&[name]);
        let expected = "\
ok       name  TMP/cdi/nvidia.com-mig.json: defines nvidia.com/mig, cdi 0.5.0
ok       name  podman: podman 5.8.6 sees it
ok       name  containerd: containerd 2.1.9 sees it
ok       name  docker: docker 28.5.2 sees it
ok       name  crio: crio 1.36.0 sees it
";
        similar_asserts::assert_eq!(run.stdout, expected);
        assert_eq!(run.code, 0);
    }
    type Fault = fn(&Healthy);
    let cases: [(Fault, &str, i32, &str); 9] = [
        (
            |_| (),
            "0:2g.20gb:9",
            1,
            "no slice can be 0:2g.20gb:9: on GPU 0 a 2g.20gb starts only at 0, 2, 4; GPU 0 now has 0:2g.20gb:0",
        ),
        (
            |_| (),
            "nvidia.com/gpu=0:2g.20gb:0",
            1,
            "no spec file defines it, and the node has no such device",
        ),
        (
            |h| fs::remove_file(h.host.spec()).unwrap(),
            "0:2g.20gb:0",
            1,
            "the node has it, no spec file defines it",
        ),
        (
            |h| {
                fs::copy(h.host.spec(), h.dir().join("cdi/b.json")).unwrap();
            },
            "0:2g.20gb:0",
            1,
            "in the same directory defines it too: engines resolve neither",
        ),
        (
            |h| {
                fs::copy(h.host.spec(), h.dir().join("etc-cdi/b.json")).unwrap();
            },
            "0:2g.20gb:0",
            0,
            "note     name  TMP/etc-cdi/b.json: defines it, but is hidden by TMP/cdi/nvidia.com-mig.json",
        ),
        (
            |h| h.replace(&h.host.path("/proc/devices"), "508 nvidia-caps", "234 nvidia-caps"),
            "0:2g.20gb:0",
            1,
            "nvidia-cap30 has major 508, the driver has 234",
        ),
        (
            |h| h.engine("podman", "podman version 4.0.0"),
            "0:2g.20gb:0",
            0,
            "podman: does not see it: podman 4.0.0 has no cdi support",
        ),
        (
            |h| h.remove(PODMAN),
            "0:2g.20gb:0",
            0,
            "podman: does not see it: it does not read TMP/cdi",
        ),
        (
            |h| h.replace(&h.host.spec(), "\"0.5.0\"", "\"1.1.0\""),
            "0:2g.20gb:0",
            1,
            "podman: does not see it: cdi 1.1.0, and podman 5.8.6 accepts up to 1.0.0",
        ),
    ];
    for (fault, name, code, part) in cases {
        let host = Healthy::new();
        assert!(!host.doctor(&["0:2g.20gb:0"]).stdout.contains(part));
        fault(&host);
        let run = host.doctor(&[name]);
        assert!(run.stdout.contains(part), "{part} in {}", run.stdout);
        assert_eq!(run.code, code, "{}", run.stdout);
    }
    let empty =
        Healthy::of("[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"2g.20gb\" }]\n");
    empty.host.replace_node("");
    fs::remove_file(empty.host.spec()).unwrap();
    let none = empty.doctor(&["x"]).stdout;
    assert!(none.contains("nvml lists no gpu: run lspci -d 10de:"), "{none}");
}

/// For every unexpected file in the place of one that is read: a finding for each check, no panic and no wait.
#[test]
fn invalid_files_become_findings() {
    type Replace = fn(&Path);
    let garbage: [(&str, Replace); 5] = [
        ("garbage", |path| fs::write(path, [0xff, 0, b'{', b'=', 0x1b, b'\n']).unwrap()),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a pipe", |path| nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap()),
        ("a loop", |path| symlink(path.file_name().unwrap(), path).unwrap()),
        ("64 MiB", |path| fs::File::create(path).unwrap().set_len(64 << 20).unwrap()),
    ];
    let host = Healthy::new();
    host.container((508, 31), &["A=b"]);
    host.write("/sys/fs/selinux/enforce", "0");
    let capabilities = "/proc/driver/nvidia/capabilities";
    let files = [
        PODMAN,
        CONTAINERD,
        DOCKER,
        CRIO,
        "/usr/bin/podman",
        "/sys/fs/selinux/enforce",
        "/proc/devices",
        "/proc/driver/nvidia/version",
        "/proc/driver/nvidia/params",
        "/proc/driver/nvidia-caps/mig-minors",
        "/proc/77/environ",
        "/proc/77/cgroup",
    ];
    let more = [
        format!("{HOOKS}/good.json"),
        format!("{capabilities}/mig/config"),
        format!("{capabilities}/gpu0/mig/gi3/access"),
        format!("{capabilities}/gpu0/mig/gi3/ci0/access"),
        "/proc/driver/nvidia/gpus/0000:07:00.0/information".to_owned(),
        "/usr/lib64/libcuda.so.580.105.08".to_owned(),
        "/usr/lib64/libnvidia-ml.so.580.105.08".to_owned(),
    ];
    let paths = files.map(str::to_owned).into_iter().chain(more).map(|path| host.host.path(&path));
    let paths: Vec<PathBuf> = paths.chain([host.host.spec(), host.host.config()]).collect();
    let aside = host.dir().join("aside");
    for path in &paths {
        fs::rename(path, &aside).unwrap();
        for (what, replace) in garbage {
            replace(path);
            let start = Instant::now();
            let run = host.bounded();
            assert!(start.elapsed() < Duration::from_secs(9), "{what} at {path:?}");
            assert!(matches!(run.code, 0 | 1), "{what} at {path:?}: {}", run.stderr);
            assert!(ends_with_counts(&run), "{what} at {path:?}: {}", run.stderr);
            assert!(!run.stdout.contains('\x1b'), "{what} at {path:?}");
            for check in ["settings", "stale", "containers", "privilege"] {
                let found = run.stdout.lines().any(|line| line[9..].starts_with(check));
                assert!(found, "{what} at {path:?}: {check} in {}", run.stdout);
            }
            if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
        }
        fs::rename(&aside, path).unwrap();
    }
}

#[test]
fn without_root_it_reports_what_it_could_not_read() {
    let host = Healthy::new();
    host.spec("cdi/closed.json", "a.com/bb", "x", "");
    let closed = host.dir().join("cdi/closed.json");
    fs::set_permissions(closed, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(host.dir(), Permissions::from_mode(0o755)).unwrap();
    let program = host.host.install().join("mig-cdi");
    let root = format!("--host-root={}", host.host.root().display());
    let (key, value) = host.host.env();
    let mut command = Command::new("setpriv");
    command.env_clear().args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    let mut real = command_like(&command);
    command.args(["doctor", &root]).args(host.host.flags()).env(key, value);
    let real = run(real.arg("doctor").args(host.host.flags()));
    assert!(
        real.stdout.contains("processes could not be examined: run mig-cdi doctor as root"),
        "{}",
        real.stdout
    );
    let run = run(&mut command);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("note     privilege     without root, "), "{}", run.stdout);
    assert!(run.stdout.contains("accepts cdi up to 1.0.0"), "{}", run.stdout);
    let closed = "cdi/closed.json: permission denied\n         cure: run mig-cdi doctor as root\n";
    assert!(run.stdout.contains(closed), "{}", run.stdout);
}

/// What `configure --rootless` writes is what the doctor of that user reads, and what it advises.
#[test]
fn a_user_is_told_of_the_podman_that_they_run() {
    let host = Healthy::new();
    host.only_podman();
    host.write(PODMAN, "");
    let home = host.host.path("/home/u");
    fs::create_dir_all(&home).unwrap();
    chown(&home, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(host.dir(), Permissions::from_mode(0o755)).unwrap();
    let program = host.host.install().join("mig-cdi");
    let root = format!("--host-root={}", host.host.root().display());
    let config = format!("--config={}", host.host.config().display());
    let as_user = |args: &[&str], flags: &[String]| {
        let mut command = Command::new("setpriv");
        command.env_clear().args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let (key, value) = host.host.env();
        command
            .arg(&program)
            .args(args)
            .arg(&root)
            .args(flags)
            .env(key, value)
            .env("HOME", "/home/u");
        let Run { code, stdout, stderr } = run(&mut command);
        Run { code, stdout: stdout.replace(&host.dir().display().to_string(), "TMP"), stderr }
    };
    let doctor = |args: &[&str]| as_user(&[&["doctor"], args].concat(), &host.host.flags());
    let all = doctor(&[]);
    let line = "podman: rootless, it reads /etc/cdi, /var/run/cdi, and not TMP/cdi\n         cure: run mig-cdi configure podman --rootless\n";
    assert!(all.stdout.contains(line), "{}", all.stdout);
    let named = doctor(&["0:2g.20gb:0"]);
    assert!(
        named.code == 1 && named.stdout.contains("run mig-cdi configure podman --rootless"),
        "{}",
        named.stdout
    );
    let configure = as_user(&["configure", "podman", "--rootless"], &[config]);
    assert_eq!(configure.code, 0, "{}", configure.stderr);
    let named = doctor(&["0:2g.20gb:0"]);
    assert!(named.code == 0 && named.stdout.contains("podman 5.8.6 sees it"), "{}", named.stdout);
    // Root's podman does not read it.
    let named = host.doctor(&["0:2g.20gb:0"]);
    assert!(
        named.code == 1 && named.stdout.contains("run mig-cdi configure podman\n"),
        "{}",
        named.stdout
    );
}

/// podman of this shell reads the file that the variable names, and no other.
#[test]
fn the_variables_of_podman_count_on_this_machine() {
    let host = Healthy::new();
    let hooks = host.dir().join("hooks");
    fs::create_dir(&hooks).unwrap();
    fs::write(hooks.join("bad.json"), "{").unwrap();
    let conf = host.dir().join("containers.conf");
    fs::write(&conf, format!("[engine]\nhooks_dir = [{hooks:?}]\n")).unwrap();
    let line = "error    hooks         TMP/hooks/bad.json: ";
    for name in ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"] {
        let with = |args: &[&str]| {
            let run = run(host.host.command(args).env(name, &conf));
            run.stdout.replace(&host.dir().display().to_string(), "TMP").contains(line)
        };
        assert!(with(&["doctor"]), "{name}");
        let root = format!("--host-root={}", host.host.root().display());
        assert!(!with(&["doctor", &root]), "{name}");
    }
}

/// The command knows which file wins and what has to stay in its lists; a change by hand would be a guess.
#[test]
fn the_cure_for_a_configuration_is_the_command() {
    type Fault = fn(&Healthy);
    let faults: [(&str, Fault); 7] = [
        ("podman", |h| h.remove(PODMAN)),
        ("podman", |h| {
            h.write(
                "/etc/containers/containers.conf.d/99-site.conf",
                "[engine]\ncdi_spec_dirs = [\"/etc/cdi\"]\n",
            );
        }),
        ("containerd", |h| h.remove(CONTAINERD)),
        ("containerd", |h| {
            h.engine("containerd", "containerd x 1.7.24");
            h.write(CONTAINERD, OLD);
        }),
        ("docker", |h| h.remove(DOCKER)),
        ("docker", |h| h.write(DOCKER, r#"{"features":{"cdi":false}}"#)),
        ("crio", |h| h.remove(CRIO)),
    ];
    for (engine, fault) in faults {
        let host = Healthy::new();
        fault(&host);
        let run = host.doctor(&[]);
        let mut lines = run.stdout.lines();
        let start = format!("warning  config        {engine}: ");
        assert!(lines.any(|line| line.starts_with(&start)), "{engine}: {}", run.stdout);
        let cure = format!("         cure: run mig-cdi configure {engine}");
        assert_eq!(lines.next(), Some(&*cure), "{}", run.stdout);
    }
}

fn command_like(command: &Command) -> Command {
    let mut like = Command::new(command.get_program());
    like.env_clear().args(command.get_args());
    like
}

/// openat2(2): with RESOLVE_IN_ROOT a `..` fails with EAGAIN while anything on the machine is renamed. The call is
/// then repeated.
#[test]
fn links_upwards_resolve_during_concurrent_renames() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("there"), "").unwrap();
    symlink("../there", dir.path().join("a/link")).unwrap();
    let root = mig_cdi_sys::Root::open(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (from, to) = (dir.path().join("x"), dir.path().join("y"));
            fs::write(&from, "").unwrap();
            while !done.load(Ordering::Relaxed) {
                fs::rename(&from, &to).unwrap();
                fs::rename(&to, &from).unwrap();
            }
        });
        let stop = StopOnDrop(&done);
        let lookups = (0..20_000).map(|_| root.identity("/a/link"));
        let failed: Vec<_> = lookups.filter(|lookup| !matches!(lookup, Ok(Some(_)))).collect();
        drop(stop);
        assert!(failed.is_empty(), "{} of 20000, such as {:?}", failed.len(), failed[0]);
    });
}
