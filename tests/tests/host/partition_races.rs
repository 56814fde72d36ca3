//! What happens on the node while `apply` runs: it stops before a call of NVML, and the test changes the node meanwhile.

use mig_cdi_tests::{deadline::wait, partition_host::PartitionHost, watch::until};
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

/// An apply that stops before it creates the first GPU instance.
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
        let _ = self.0.kill();
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
