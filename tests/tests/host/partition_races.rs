//! What happens on the node while `apply` runs: it stops before a call of NVML, and the test changes the node meanwhile.

use mig_cdi_tests::{
    deadline::{kill_and_wait, wait},
    partition_host::PartitionHost,
    watch::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Read,
    process::{Child, Stdio},
};

const CREATE: &str = "nvmlDeviceCreateGpuInstanceWithPlacement";

/// An apply that stops before it creates the first GPU instance, or another one by `FAKE_NVML_STOP`.
struct StoppedApply(Child);

impl StoppedApply {
    fn start(host: &PartitionHost, layouts: &[&str], faults: &[(&str, &str)]) -> StoppedApply {
        let mut command = host.command(&[&["apply"], layouts].concat());
        command.env("FAKE_NVML_STOP", CREATE).envs(faults.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut apply = StoppedApply(child);
        let stat = format!("/proc/{}/stat", apply.0.id());
        until("it is stopped", || {
            let is_running = apply.0.try_wait().unwrap().is_none();
            assert!(is_running, "it ended");
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
        apply
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

impl Drop for StoppedApply {
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
    let apply = StoppedApply::start(&host, &["0=3g.40gb@0,2g.20gb@4"], &[]);
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
            drop(StoppedApply::start(&host, &["0=3g.40gb@0,2g.20gb@4"], &[]));
        } else {
            host.run_ok(&["apply", "0=none"]);
        }
        fs::write(host.fake.spec(), spec).unwrap();
        assert!(host.fake.read_spec().unwrap().contains("0:2g.20gb:0"));
        let args: &[&str] = if is_resumed { &["--resume"] } else { &["0=3g.40gb@0"] };
        let apply = StoppedApply::start(&host, args, &[]);
        let spec = host.fake.read_spec().unwrap_or_default();
        assert!(!spec.contains("0:2g.20gb:0"), "{is_resumed}: {spec}");
        let (code, messages) = apply.end();
        assert_eq!(code, Some(0), "{messages}");
    }
}

/// A container that starts while one GPU is partitioned keeps its slice of the next one.
#[test]
fn a_container_that_starts_meanwhile_keeps_its_slice() {
    let host = host(&TWO_SLICES.repeat(2));
    let apply = StoppedApply::start(&host, &["0=7g.80gb", "1=7g.80gb"], &[]);
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

/// So does a program that only NVML shows: what it has shown before is old then.
#[test]
fn a_program_that_starts_meanwhile_keeps_its_slice() {
    let host = host(&TWO_SLICES.repeat(2));
    let apply = StoppedApply::start(&host, &["0=7g.80gb", "1=7g.80gb"], &[]);
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
        StoppedApply::start(&host, &["0=7g.80gb"], &[("FAKE_NVML_FAIL", &format!("{CREATE}:23"))]);
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
    let apply = StoppedApply::start(
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
