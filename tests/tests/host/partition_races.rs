//! What happens on the node while `apply` runs: it stops before a call of NVML, and the test changes the node meanwhile.

use mig_cdi_tests::{
    deadline::{kill_and_wait, wait},
    partition_host::PartitionHost,
    run,
    watch::{Watch, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Sender, TryRecvError},
    thread::{self, JoinHandle},
    time::Duration,
};

const CREATE: &str = "nvmlDeviceCreateGpuInstanceWithPlacement";

/// A program that stops before the call of NVML in `FAKE_NVML_STOP`.
struct Stopped(Child);

impl Stopped {
    fn start(command: &mut Command) -> Stopped {
        Stopped(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts an apply that stops before it creates the first GPU instance, or at another call by `faults`, and waits until it does.
    fn apply(host: &PartitionHost, layouts: &[&str], faults: &[(&str, &str)]) -> Stopped {
        let mut command = host.command(&[&["apply"], layouts].concat());
        command.env("FAKE_NVML_STOP", CREATE).envs(faults.iter().copied());
        Stopped::start(&mut command).until_stopped()
    }

    fn until_stopped(mut self) -> Stopped {
        let stat = format!("/proc/{}/stat", self.0.id());
        until("it is stopped", || {
            let is_running = self.0.try_wait().unwrap().is_none();
            assert!(is_running, "it ended");
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
        self
    }

    /// Lets it go on, and returns its exit code and its messages.
    fn end(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGCONT).unwrap();
        let code = wait(&mut self.0).code();
        let mut messages = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
        (code, messages)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_and_wait(&mut self.0);
    }
}

fn host(gpus: &str) -> PartitionHost {
    let host = PartitionHost::new(gpus);
    host.fake.generate(&[]).assert_code(0);
    host
}

const TWO_SLICES: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n\
    instances = [{ profile = \"2g.20gb\", start = 0 }, { profile = \"2g.20gb\", start = 2 }]\n";

/// The next instance has the ids, and so the nodes, of one that is gone: no name of that one is left when it is created.
#[test]
fn no_name_leads_to_an_instance_that_is_still_to_be_assigned() {
    let host = host(TWO_SLICES);
    assert!(host.fake.read_spec().unwrap().contains("0:2g.20gb:0"));
    let apply = Stopped::apply(&host, &["0=3g.40gb@0,2g.20gb@4"], &[]);
    let spec = host.fake.read_spec().unwrap_or_default();
    assert!(!spec.contains("0:2g.20gb:"), "{spec}");
    let (code, messages) = apply.end();
    assert_eq!(code, Some(0), "{messages}");
    let spec = host.fake.read_spec().unwrap();
    assert!(spec.contains("0:3g.40gb:0") && spec.contains("0:2g.20gb:4"), "{spec}");
}

/// The same, where an apply was killed between the two, and where another program has destroyed the instance.
#[test]
fn a_run_that_only_creates_withdraws_old_names_too() {
    for is_resumed in [true, false] {
        let host = host(TWO_SLICES);
        let spec = host.fake.read_spec().unwrap();
        if is_resumed {
            drop(Stopped::apply(&host, &["0=3g.40gb@0,2g.20gb@4"], &[]));
        } else {
            host.run_ok(&["apply", "0=none"]);
        }
        fs::write(host.fake.spec(), spec).unwrap();
        assert!(host.fake.read_spec().unwrap().contains("0:2g.20gb:0"));
        let args: &[&str] = if is_resumed { &["--resume"] } else { &["0=3g.40gb@0"] };
        let apply = Stopped::apply(&host, args, &[]);
        let spec = host.fake.read_spec().unwrap_or_default();
        assert!(!spec.contains("0:2g.20gb:0"), "{is_resumed}: {spec}");
        let (code, messages) = apply.end();
        assert_eq!(code, Some(0), "{messages}");
    }
}

/// A resumed run completes the second GPU although the first cannot be.
#[test]
fn one_gpu_that_fails_keeps_no_other_from_being_resumed() {
    let host =
        PartitionHost::new("[[gpu]]\nmodel = \"a100-80gb\"\n[[gpu]]\nmodel = \"a100-80gb\"\n");
    drop(Stopped::apply(&host, &["0=3g.40gb@0", "1=3g.40gb@4"], &[]));
    let mut command = host.command(&["apply", "--resume"]);
    let resumed = host.tidy(run(command.env("FAKE_NVML_FAIL", format!("{CREATE}:15"))));
    assert_eq!(resumed.code, 1, "{}", resumed.stderr);
    let failure = "gpu 0: cannot create the gpu instance: the gpu has fallen off the bus";
    assert!(resumed.stderr.contains(failure), "{}", resumed.stderr);
    assert_eq!(host.layouts(), ["none", "3g.40gb@4"]);
    host.run_ok(&["apply", "0=3g.40gb@0"]);
}

/// The same, where another run is about to write the first spec, from what it has read of the node before.
#[test]
fn a_spec_that_is_being_written_brings_back_no_old_name() {
    for has_dir in [true, false] {
        let host = PartitionHost::new(TWO_SLICES);
        if !has_dir {
            fs::remove_dir(host.fake.out()).unwrap();
        }
        let output = format!("--output={}", host.fake.spec().display());
        let mut generate = host.fake.command(&["generate", &output]);
        let generate =
            Stopped::start(generate.env("FAKE_NVML_STOP", "nvmlShutdown")).until_stopped();
        let trace = host.fake.out().with_file_name("trace");
        let mut apply = host.command(&["apply", "0=3g.40gb@0,2g.20gb@4"]);
        apply.env("FAKE_NVML_STOP", CREATE).env("FAKE_NVML_TRACE", &trace);
        let apply = Stopped::start(&mut apply);
        until("it has destroyed both", || {
            let calls = fs::read_to_string(&trace).unwrap_or_default();
            calls.matches("nvmlGpuInstanceDestroy 0").count() == 2
        });
        // An apply that does not wait for the other run is about to create the first instance by then.
        thread::sleep(Duration::from_millis(500));
        let (code, messages) = generate.end();
        assert_eq!(code, Some(0), "{messages}");
        let apply = apply.until_stopped();
        let spec = host.fake.read_spec().unwrap_or_default();
        assert!(!spec.contains("0:2g.20gb:"), "{has_dir}: {spec}");
        let (code, messages) = apply.end();
        assert_eq!(code, Some(0), "{messages}");
    }
}

/// Reads a spec all the time, until it is asked for the versions.
struct SpecReader {
    stop: Sender<()>,
    thread: JoinHandle<Vec<SpecVersion>>,
}

/// Inode of a file and its text; neither where there is no file.
type SpecVersion = (u64, String);

impl SpecReader {
    fn start(path: PathBuf) -> SpecReader {
        let (stop, is_stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut versions = Vec::new();
            // Without its other end, where the test fails, it is disconnected.
            while is_stopped.try_recv() == Err(TryRecvError::Empty) {
                let version = SpecReader::read(&path).unwrap_or_default();
                if versions.last() != Some(&version) {
                    versions.push(version);
                }
                thread::sleep(Duration::from_millis(1));
            }
            versions
        });
        SpecReader { stop, thread }
    }

    fn read(path: &Path) -> io::Result<SpecVersion> {
        let mut file = File::open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((file.metadata()?.ino(), text))
    }

    /// Returns the names of the devices in each version.
    fn names(self) -> Vec<BTreeSet<String>> {
        drop(self.stop);
        let names = |(_, text): SpecVersion| {
            let spec: Value = serde_json::from_str(&text).unwrap_or_default();
            let devices = spec["devices"].as_array().cloned().unwrap_or_default();
            devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
        };
        self.thread.join().unwrap().into_iter().map(names).collect()
    }
}

/// A running watch writes the spec as well, whenever an instance comes or goes. A slice that stays is in it at all times, none that is
/// gone comes back, and nothing is written twice.
#[test]
fn a_running_watch_and_an_apply_do_not_disturb_each_other() {
    let host = host(
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"2g.20gb\", start = 0 }, \
         { profile = \"2g.20gb\", start = 2 }, { profile = \"2g.20gb\", start = 4 }]\n",
    );
    let watch = Watch::start(&host.fake, &[]);
    let status = || serde_json::from_str::<Value>(&watch.status()).unwrap_or_default();
    until("watch has refreshed", || status()["state"] == "ok");
    let reader = SpecReader::start(host.fake.spec());
    let apply = Stopped::apply(&host, &["0=3g.40gb@0,2g.20gb@4"], &[]);
    let spec = host.fake.read_spec().unwrap_or_default();
    assert!(!spec.contains("0:2g.20gb:0") && !spec.contains("0:2g.20gb:2"), "{spec}");
    let (code, messages) = apply.end();
    assert_eq!(code, Some(0), "{messages}");
    assert!(!messages.contains("warning"), "{messages}");
    assert_eq!(host.fake.read_spec(), host.fake.current_spec());
    let ended = status();
    assert_eq!((ended["state"].as_str(), ended["failures"].as_u64()), (Some("ok"), Some(0)));
    assert_eq!(watch.stop(), Some(0));
    let versions = reader.names();
    assert!(versions.iter().all(|names| names.contains("0:2g.20gb:4")), "{versions:?}");
    for pair in versions.windows(2) {
        assert_ne!(pair[0], pair[1], "written twice: {versions:?}");
    }
    for gone in ["0:2g.20gb:0", "0:2g.20gb:2"] {
        let mut later = versions.iter().skip_while(|names| names.contains(gone));
        assert!(!later.any(|names| names.contains(gone)), "{versions:?}");
    }
}

/// A container that starts while one GPU is partitioned keeps its slice of the next one.
#[test]
fn a_container_that_starts_meanwhile_keeps_its_slice() {
    let host = host(&TWO_SLICES.repeat(2));
    let apply = Stopped::apply(&host, &["0=7g.80gb", "1=7g.80gb"], &[]);
    // GPU instance 3 of GPU 1, and its compute instance.
    host.container(&[165, 166]);
    let (code, messages) = apply.end();
    assert_eq!(code, Some(5), "{messages}");
    assert!(
        messages.contains("gpu instance 3 (2g.20gb at 0:2) is in use by container "),
        "{messages}"
    );
    assert_eq!(host.layouts(), ["7g.80gb@0", "2g.20gb@0,2g.20gb@2"]);
}

/// NVML's processes are read again before each GPU: a program that only NVML shows keeps its slice too.
#[test]
fn a_program_that_starts_meanwhile_keeps_its_slice() {
    let host = host(&TWO_SLICES.repeat(2));
    let apply = Stopped::apply(&host, &["0=7g.80gb", "1=7g.80gb"], &[]);
    host.computes(78, "python train.py", 1, 3);
    let (code, messages) = apply.end();
    assert_eq!(code, Some(5), "{messages}");
    let holder = "gpu instance 3 (2g.20gb at 0:2) is in use by pid 78, python train.py";
    assert!(messages.contains(holder), "{messages}");
    assert_eq!(host.layouts(), ["7g.80gb@0", "2g.20gb@0,2g.20gb@2"]);
}

/// So does one that has come while another apply was waited for, also by an open file, for which no rule of a cgroup speaks.
#[test]
fn what_comes_while_the_lock_is_waited_for_is_seen() {
    let host = host(&format!("[[gpu]]\nmodel = \"a100-80gb\"\ninstances = []\n{TWO_SLICES}"));
    // The first apply fails, so that the slices are those that the second one has looked at.
    let first =
        Stopped::apply(&host, &["0=7g.80gb"], &[("FAKE_NVML_FAIL", &format!("{CREATE}:23"))]);
    let trace = host.fake.out().with_file_name("trace");
    let mut second = host.command(&["apply", "1=7g.80gb"]);
    second.env("FAKE_NVML_TRACE", &trace).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut second = second.spawn().unwrap();
    until("it has looked", || {
        fs::read_to_string(&trace).is_ok_and(|calls| calls.contains("nvmlShutdown"))
    });
    host.opens(78, "python train.py", "/dev/nvidia-caps/nvidia-cap166");
    let (code, messages) = first.end();
    assert_eq!(code, Some(1), "{messages}");
    let code = wait(&mut second).code();
    let mut messages = String::new();
    second.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
    assert_eq!(code, Some(5), "{messages}");
    assert!(messages.contains("in use by pid 78, python train.py"), "{messages}");
}

/// A running watch gives a new instance its name at once. A container that has started with it keeps it when a later step fails.
#[test]
fn an_apply_that_fails_destroys_no_instance_that_somebody_has_by_now() {
    let host = host(TWO_SLICES);
    let second = format!("{CREATE}:2");
    let fail = format!("{CREATE}:23:2");
    let apply = Stopped::apply(
        &host,
        &["0=3g.40gb@0,2g.20gb@4"],
        &[("FAKE_NVML_STOP", &second), ("FAKE_NVML_FAIL", &fail)],
    );
    let made = host.node().gpus[0].instances[0].id;
    // `mig-minors` has nine capabilities for each GPU instance, itself and eight compute instances, from 3 on (`nv-caps.c`).
    host.container(&[3 + 9 * made, 4 + 9 * made]);
    let (code, messages) = apply.end();
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.contains("in use by container "), "{messages}");
    assert!(messages.contains("run mig-cdi apply --resume"), "{messages}");
    assert!(host.layouts()[0].starts_with("3g.40gb@0"), "{:?}", host.layouts());
    host.end(77);
    host.run_ok(&["apply", "--resume"]);
    assert_eq!(host.layouts(), ["3g.40gb@0,2g.20gb@4"]);
}
