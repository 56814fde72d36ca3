//! `mig-cdi watch` in real engines: a new slice can be used at once without a restart of anything, and a destroyed
//! one is refused. The view of a container is asserted from inside it.
//!
//! No driver has these majors: opening a node that the device cgroup allows gives ENXIO, one that it denies EPERM.

use mig_cdi_tests::{
    FakeHost,
    containerd::Containerd,
    docker::Docker,
    podman::{Podman, VARIANTS},
    watch::{Watch, until},
};
use std::time::{Duration, Instant};

/// Two slices: their starts on the GPU, which are the last part of their names, and the minors of their nodes.
const FIRST: (u32, [u32; 2]) = (0, [30, 31]);
const SECOND: (u32, [u32; 2]) = (2, [39, 40]);
type Slice = (u32, [u32; 2]);

fn name(slice: Slice) -> String {
    format!("0:2g.20gb:{}", slice.0)
}

/// Returns a node description with these slices.
fn node(slices: &[Slice]) -> String {
    let instances = slices.iter().map(|(start, _)| {
        format!("{{ profile = \"2g.20gb\", start = {start}, id = {} }}", 3 + start / 2)
    });
    let instances = instances.collect::<Vec<_>>().join(", ");
    format!("[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\ninstances = [{instances}]\n")
}

/// Returns the expected output of the probe in a container that has one slice and tries to make the nodes of the
/// other.
fn expected_output(slice: Slice, other: Slice) -> String {
    let nodes = slice
        .1
        .map(|minor| format!("node /dev/nvidia-caps/nvidia-cap{minor} 444 508:{minor} ENXIO\n"));
    let made = slice.1.map(|minor| format!("made 508:{minor} ENXIO\n")).concat()
        + &other.1.map(|minor| format!("made 508:{minor} EPERM\n")).concat();
    format!(
        "{}node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
{made}",
        nodes.concat()
    )
}

/// Changes the slices under a running watch, and waits for the spec only.
fn change(host: &FakeHost, slices: &[Slice]) {
    host.change_to(&node(slices));
    until("the spec names the slices that there are", || {
        let spec = host.read_spec().unwrap_or_default();
        let named = |slice| spec.contains(&format!("\"{}\"", name(slice)));
        [FIRST, SECOND].iter().all(|&slice| named(slice) == slices.contains(&slice))
    });
}

/// Requests a container with a device until the answer is the expected one, or the time that the engine has to notice
/// a new spec is over.
fn request_until(
    engine: &impl Fn(&str, [u32; 4]) -> Result<String, String>,
    time: Duration,
    (slice, other): (Slice, Slice),
    is_expected: impl Fn(&Result<String, String>) -> bool,
) -> Result<String, String> {
    let minors = [slice.1[0], slice.1[1], other.1[0], other.1[1]];
    let begin = Instant::now();
    loop {
        let answer = engine(&format!("nvidia.com/mig={}", name(slice)), minors);
        if is_expected(&answer) || begin.elapsed() >= time {
            println!("{} after {:?}", name(slice), begin.elapsed());
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Replaces a slice while one watch and one engine run.
fn slices_come_and_go(
    host: &FakeHost,
    time: Duration,
    engine: &impl Fn(&str, [u32; 4]) -> Result<String, String>,
) {
    let accepted = |slice: Slice, other: Slice| {
        let answer = request_until(engine, time, (slice, other), Result::is_ok);
        // Another test checks the variables.
        let answer = answer.unwrap_or_else(|e| panic!("{} is refused: {e}", name(slice)));
        let nodes: String =
            answer.split_inclusive('\n').filter(|l| !l.starts_with("env ")).collect();
        similar_asserts::assert_eq!(nodes, expected_output(slice, other));
    };
    let refused = |slice: Slice, other: Slice| {
        let answer = request_until(engine, time, (slice, other), Result::is_err);
        let why = answer.expect_err("it is not there");
        assert!(why.contains("unresolvable CDI devices"), "{why}");
    };
    change(host, &[FIRST]);
    accepted(FIRST, SECOND);
    refused(SECOND, FIRST);
    change(host, &[FIRST, SECOND]);
    accepted(SECOND, FIRST);
    accepted(FIRST, SECOND);
    change(host, &[SECOND]);
    refused(FIRST, SECOND);
    accepted(SECOND, FIRST);
}

#[test]
fn podman_sees_a_change_at_once() {
    for variant in VARIANTS {
        println!("{variant:?}");
        let host = FakeHost::with_nodes(&node(&[]));
        let watch = Watch::start(&host, &[]);
        let podman = Podman::new(variant);
        slices_come_and_go(&host, Duration::ZERO, &|device, minors| {
            let minors = minors.map(|minor| format!("508:{minor}")).join(" ");
            let run = podman.script(
                &host,
                &format!(
                    "mkdir -p /var/run/cdi
                    mount --bind {} /var/run/cdi
                    $PODMAN $RUN --cap-add MKNOD --device {device} --rootfs $ROOTFS probe {minors}",
                    host.out().display()
                ),
            );
            if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
        });
        assert_eq!(watch.stop(), Some(0));
    }
}

/// The same with one daemon, which watches the directory itself and has some time to notice a change.
fn daemon_follows<E>(
    start: impl Fn(&'static str, &FakeHost) -> E,
    probe: impl Fn(&E, &[&str], &[&str]) -> Result<String, String>,
) {
    for cgroup in ["v1", "v2"] {
        println!("{cgroup}");
        let host = FakeHost::with_nodes(&node(&[]));
        let watch = Watch::start(&host, &[]);
        let engine = start(cgroup, &host);
        slices_come_and_go(&host, Duration::from_secs(10), &|device, minors| {
            let numbers = minors.map(|minor| format!("508:{minor}"));
            probe(&engine, &[device], &numbers.each_ref().map(String::as_str))
        });
        assert_eq!(watch.stop(), Some(0));
    }
}

#[test]
fn containerd_sees_a_change_without_a_restart() {
    daemon_follows(Containerd::start, Containerd::probe);
}

#[test]
fn docker_sees_a_change_without_a_restart() {
    daemon_follows(Docker::start, Docker::probe);
}
