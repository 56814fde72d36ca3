//! Checks of what every container engine does with the slices of a host. The view of a container is asserted from
//! inside it, and the results are a row of a table.
//!
//! No driver has these majors: opening a node that the device cgroup allows gives ENXIO, one that it denies EPERM.

use crate::FakeHost;
use mig_cdi_sim::preset;
use std::time::{Duration, Instant};

/// Host after its change: the third slice of the preset a100-80gb is destroyed, and the small one is recreated with
/// the same name.
const AFTER: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [
    { profile = \"2g.20gb\", start = 0, id = 3 }, { profile = \"2g.20gb\", start = 2, id = 4 },
    { profile = \"1g.10gb\", start = 6, id = 8 }]\n";

/// Slice: its name, and the minors of its nodes.
type Slice = (&'static str, [u32; 2]);

const FIRST: Slice = ("0:2g.20gb:0", [30, 31]);
const SECOND: Slice = ("0:2g.20gb:2", [39, 40]);
const THIRD: Slice = ("0:2g.20gb:4", [48, 49]);
const SMALL: Slice = ("0:1g.10gb:6", [66, 67]);
const ANOTHER: Slice = ("0:1g.10gb:6", [75, 76]);

/// UUIDs in the variables of the first two slices, and in the one that CUDA reads.
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";
const FIRST_UUID: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const SECOND_UUID: &str = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";

/// Nodes that a container gets with any slice.
const SHARED: &str = "\
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";

/// Names of the checks, in the order of the columns.
pub const CHECKS: [&str; 7] = [
    "requested nodes",
    "other slices' nodes",
    "environment",
    "two slices",
    "unknown name",
    "lifecycle with `exec`",
    "refresh",
];

/// Mechanism that keeps a container from the nodes of other slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Root in the container can make them, and the device cgroup denies opening them.
    Cgroup,
    /// There is no device cgroup, and they cannot be made in a user namespace.
    Namespace,
}

/// Engine with a host whose spec it reads.
pub trait EngineUnderTest {
    /// Returns the host.
    fn host(&self) -> &FakeHost;

    /// Runs the probe in a container with these slices.
    ///
    /// # Errors
    /// The message with which the engine refuses.
    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String>;

    /// Makes a container with a slice whose command does nothing, runs the probe in it twice, removes it, and returns
    /// the outputs. A container that can be restarted is restarted before the second run.
    ///
    /// # Errors
    /// The message with which the engine refuses; also when something is left of the container.
    fn lifecycle(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String>;

    /// Returns the message for an unknown name.
    fn refusal(&self) -> &'static str {
        "unresolvable CDI devices"
    }

    /// Returns the time that it may keep using the old spec: a daemon has to notice the new one.
    fn refresh_timeout(&self) -> Duration {
        Duration::ZERO
    }

    /// See [`Isolation`].
    fn isolation(&self) -> Isolation {
        Isolation::Cgroup
    }

    /// Returns whether a process that is started later has the variables too. Some engines start it with those of the
    /// container's configuration, which a spec does not change.
    fn exec_has_variables(&self) -> bool {
        true
    }

    /// Checks the other statements of the document about it.
    ///
    /// # Errors
    /// The failed check.
    fn other_checks(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns whether the hook injects the slice, which adds the variable that CUDA reads.
    fn is_injected_by_hook(&self) -> bool {
        false
    }
}

/// Cells of a row: the result of each check, or the reason of its failure.
pub type CheckResults = Vec<Result<&'static str, String>>;

/// Makes a host for a row.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn host() -> FakeHost {
    let host = FakeHost::with_nodes(preset("a100-80gb").expect("a known preset"));
    host.generate(&[]).assert_code(0);
    host
}

/// Runs all checks with an engine whose host is as [`host`] made it.
#[must_use]
pub fn row(engine: &impl EngineUnderTest) -> CheckResults {
    let refusal_word = match engine.isolation() {
        Isolation::Cgroup => "EPERM",
        Isolation::Namespace => "cannot be made",
    };
    // The nodes of the slice, those of other slices, the config capability, another GPU.
    let numbers =
        ["508:30", "508:31", "508:39", "508:40", "508:48", "508:66", "508:1", "195:1", "511:9"];
    let seen = engine.probe(&[FIRST.0], &numbers);
    let of = |kind: &str| seen.as_ref().map(|text| lines(text, kind)).map_err(Clone::clone);
    let one = variables(engine, &[FIRST_UUID], "");
    let cells = [
        of("node").and_then(|found| same(&found, &nodes(&[FIRST]))).map(|()| "ENXIO"),
        of("made")
            .and_then(|found| same(&found, &made(engine, 2, &numbers)))
            .and_then(|()| engine.other_checks())
            .map(|()| refusal_word),
        of("env").and_then(|found| same(&found, &one)).map(|()| "yes"),
        two_slices(engine).map(|()| "yes"),
        unknown(engine, "0:2g.20gb:6").map(|()| "refused"),
        lifecycle(engine),
        // Last, as it changes the host.
        refresh(engine).map(|()| "yes"),
    ];
    cells.into()
}

fn two_slices(engine: &impl EngineUnderTest) -> Result<(), String> {
    let numbers = ["508:30", "508:39", "508:48", "508:66"];
    let output = engine.probe(&[SECOND.0, FIRST.0], &numbers)?;
    let second = format!("env MIG_CDI_DEVICE_0_4_0={SECOND_UUID},2g.20gb,{GPU}\n");
    same(&lines(&output, "node"), &nodes(&[FIRST, SECOND]))?;
    same(&lines(&output, "env"), &variables(engine, &[SECOND_UUID, FIRST_UUID], &second))?;
    same(&lines(&output, "made"), &made(engine, 2, &numbers))
}

fn lifecycle(engine: &impl EngineUnderTest) -> Result<&'static str, String> {
    let (variables, word) = match engine.exec_has_variables() {
        true => (variables(engine, &[FIRST_UUID], ""), "yes"),
        false => (String::new(), "yes, no variables"),
    };
    let numbers = ["508:30", "508:39", "508:48"];
    for output in engine.lifecycle(FIRST.0, &numbers)? {
        same(&lines(&output, "node"), &nodes(&[FIRST]))?;
        same(&lines(&output, "env"), &variables)?;
        same(&lines(&output, "made"), &made(engine, 1, &numbers))?;
    }
    Ok(word)
}

fn unknown(engine: &impl EngineUnderTest, name: &str) -> Result<(), String> {
    match engine.probe(&[name], &[]) {
        Ok(output) => Err(format!("{name} is injected: {output}")),
        Err(why) if why.contains(engine.refusal()) => Ok(()),
        Err(why) => Err(format!("{name} is refused for another reason: {why}")),
    }
}

/// A destroyed slice is refused, and a new one is injected, though its name was another's before.
fn refresh(engine: &impl EngineUnderTest) -> Result<(), String> {
    let own = |slice: Slice, other: Slice| {
        let numbers = [slice.1[0], other.1[0]].map(|minor| format!("508:{minor}"));
        let numbers = numbers.each_ref().map(String::as_str);
        let output = engine.probe(&[slice.0], &numbers)?;
        same(&lines(&output, "node"), &nodes(&[slice]))?;
        same(&lines(&output, "made"), &made(engine, 1, &numbers))
    };
    own(SMALL, ANOTHER)?;
    engine.probe(&[THIRD.0], &[])?;
    engine.host().replace_node(AFTER);
    let run = engine.host().generate(&[]);
    if run.code != 0 {
        return Err(run.stderr);
    }
    let begin = Instant::now();
    let soon = |check: &dyn Fn() -> Result<(), String>| loop {
        let checked = check();
        if checked.is_ok() || begin.elapsed() >= engine.refresh_timeout() {
            return checked;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    soon(&|| own(ANOTHER, SMALL))?;
    soon(&|| unknown(engine, THIRD.0))
}

/// Returns the lines of the probe that begin with a word.
fn lines(output: &str, kind: &str) -> String {
    output.split_inclusive('\n').filter(|line| line.split(' ').next() == Some(kind)).collect()
}

fn nodes(slices: &[Slice]) -> String {
    let own = slices.iter().flat_map(|slice| slice.1);
    let own =
        own.map(|minor| format!("node /dev/nvidia-caps/nvidia-cap{minor} 444 508:{minor} ENXIO\n"));
    own.collect::<String>() + SHARED
}

/// Returns the expected results of opening nodes that the container makes: the first `own` are its own.
fn made(engine: &impl EngineUnderTest, own: usize, numbers: &[&str]) -> String {
    let word = |at| match engine.isolation() {
        Isolation::Namespace => "FAILED",
        Isolation::Cgroup if at < own => "ENXIO",
        Isolation::Cgroup => "EPERM",
    };
    numbers.iter().enumerate().map(|(at, n)| format!("made {n} {}\n", word(at))).collect()
}

/// Returns the variables of the first slice, and of the second if there is one; CUDA reads the order.
fn variables(engine: &impl EngineUnderTest, uuids: &[&str], second: &str) -> String {
    let cuda = match engine.is_injected_by_hook() {
        true => format!("env CUDA_VISIBLE_DEVICES={}\n", uuids.join(",")),
        false => String::new(),
    };
    format!(
        "{cuda}env MIG_CDI_DEVICE_0_3_0={FIRST_UUID},2g.20gb,{GPU}\n{second}env NVIDIA_VISIBLE_DEVICES=void\n"
    )
}

fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("got {found:?}, expected {expected:?}"))
}
