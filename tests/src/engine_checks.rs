//! What every container engine has to do with the slices of a host. What a container sees is asserted
//! from inside it, and told in one row of a table.
//!
//! The majors have no driver here: a node that the device cgroup allows opens with ENXIO, one that it
//! does not with EPERM.

mod engines;
mod table;

pub use table::{Cell, cells, rows, table, wrong};

use crate::FakeHost;
use mig_cdi_sim::preset;
use std::time::{Duration, Instant};

/// The host after its change: of the preset a100-80gb the third slice is gone, and the small one is another,
/// with the same name.
const AFTER: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [
    { profile = \"2g.20gb\", start = 0, id = 3 }, { profile = \"2g.20gb\", start = 2, id = 4 },
    { profile = \"1g.10gb\", start = 6, id = 8 }]\n";

/// A slice: its name, and the minors of its nodes.
type Slice = (&'static str, [u32; 2]);

const FIRST: Slice = ("0:2g.20gb:0", [30, 31]);
const SECOND: Slice = ("0:2g.20gb:2", [39, 40]);
const THIRD: Slice = ("0:2g.20gb:4", [48, 49]);
const SMALL: Slice = ("0:1g.10gb:6", [66, 67]);
const ANOTHER: Slice = ("0:1g.10gb:6", [75, 76]);

/// The variables of the first two, and what CUDA reads.
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";
const FIRST_UUID: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const SECOND_UUID: &str = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";

/// What a container gets with any slice.
const SHARED: &str = "\
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";

/// What is checked, in the order of the columns.
pub const CHECKS: [&str; 7] = [
    "asked nodes",
    "neighbour's nodes",
    "environment",
    "two slices",
    "unknown name",
    "life with `exec`",
    "refresh",
];

/// Why the nodes of a neighbour are out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    /// Root in the container can make them, and they do not open.
    Cgroup,
    /// There is no device cgroup, and they cannot be made.
    Namespace,
}

/// An engine with a host whose spec it takes.
pub trait Engine {
    /// The host.
    fn host(&self) -> &FakeHost;

    /// Runs the probe in a container with these slices.
    ///
    /// # Errors
    /// How the engine refuses.
    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String>;

    /// Makes a container with a slice whose command does nothing, runs the probe in it twice, ends it:
    /// what the probe printed. Where a container can be started again, it is, before the second time.
    ///
    /// # Errors
    /// How the engine refuses; also when something is left of the container.
    fn life(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String>;

    /// What it says of a name that is not there.
    fn refusal(&self) -> &'static str {
        "unresolvable CDI devices"
    }

    /// How long it may go on with the spec of before: a daemon has to notice.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// See [`Wall`].
    fn wall(&self) -> Wall {
        Wall::Cgroup
    }

    /// Whether a process that is started later has the variables too. Some engines give it those of the
    /// container's configuration, which a spec does not change.
    fn exec_has_variables(&self) -> bool {
        true
    }

    /// What else the document says of it.
    ///
    /// # Errors
    /// When that is not so.
    fn more(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether the hook gives the slice, which adds the variable that CUDA reads.
    fn by_hook(&self) -> bool {
        false
    }
}

/// The cells of a row: what was seen, or why it is not as it should be.
pub type Row = Vec<Result<&'static str, String>>;

/// A host for a row.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn host() -> FakeHost {
    let host = FakeHost::new(preset("a100-80gb").expect("a known preset"));
    let run = host.generate(&[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    host
}

/// All checks, with an engine whose host is as [`host`] made it.
#[must_use]
pub fn row(engine: &impl Engine) -> Row {
    let wall = match engine.wall() {
        Wall::Cgroup => "EPERM",
        Wall::Namespace => "cannot be made",
    };
    // The slice's own, those of its neighbours, the right to divide the GPU, another GPU.
    let numbers =
        ["508:30", "508:31", "508:39", "508:40", "508:48", "508:66", "508:1", "195:1", "511:9"];
    let seen = engine.probe(&[FIRST.0], &numbers);
    let of = |kind: &str| seen.as_ref().map(|text| lines(text, kind)).map_err(Clone::clone);
    let one = variables(engine, &[FIRST_UUID], "");
    let cells = [
        of("node").and_then(|found| same(&found, &nodes(&[FIRST]))).map(|()| "ENXIO"),
        of("made")
            .and_then(|found| same(&found, &made(engine, 2, &numbers)))
            .and_then(|()| engine.more())
            .map(|()| wall),
        of("env").and_then(|found| same(&found, &one)).map(|()| "yes"),
        two_slices(engine).map(|()| "yes"),
        unknown(engine, "0:2g.20gb:6").map(|()| "refused"),
        life(engine),
        // Last, as it changes the host.
        refresh(engine).map(|()| "yes"),
    ];
    cells.into()
}

fn two_slices(engine: &impl Engine) -> Result<(), String> {
    let numbers = ["508:30", "508:39", "508:48", "508:66"];
    let said = engine.probe(&[SECOND.0, FIRST.0], &numbers)?;
    let second = format!("env MIG_CDI_DEVICE_0_4_0={SECOND_UUID},2g.20gb,{GPU}\n");
    same(&lines(&said, "node"), &nodes(&[FIRST, SECOND]))?;
    same(&lines(&said, "env"), &variables(engine, &[SECOND_UUID, FIRST_UUID], &second))?;
    same(&lines(&said, "made"), &made(engine, 2, &numbers))
}

fn life(engine: &impl Engine) -> Result<&'static str, String> {
    let (variables, word) = match engine.exec_has_variables() {
        true => (variables(engine, &[FIRST_UUID], ""), "yes"),
        false => (String::new(), "yes, no variables"),
    };
    let numbers = ["508:30", "508:39", "508:48"];
    for said in engine.life(FIRST.0, &numbers)? {
        same(&lines(&said, "node"), &nodes(&[FIRST]))?;
        same(&lines(&said, "env"), &variables)?;
        same(&lines(&said, "made"), &made(engine, 1, &numbers))?;
    }
    Ok(word)
}

fn unknown(engine: &impl Engine, name: &str) -> Result<(), String> {
    match engine.probe(&[name], &[]) {
        Ok(said) => Err(format!("{name} is given: {said}")),
        Err(why) if why.contains(engine.refusal()) => Ok(()),
        Err(why) => Err(format!("{name} is refused for another reason: {why}")),
    }
}

/// A slice that is gone is refused, and one that is new is given, though its name was another's before.
fn refresh(engine: &impl Engine) -> Result<(), String> {
    let own = |slice: Slice, other: Slice| {
        let numbers = [slice.1[0], other.1[0]].map(|minor| format!("508:{minor}"));
        let numbers = numbers.each_ref().map(String::as_str);
        let said = engine.probe(&[slice.0], &numbers)?;
        same(&lines(&said, "node"), &nodes(&[slice]))?;
        same(&lines(&said, "made"), &made(engine, 1, &numbers))
    };
    own(SMALL, ANOTHER)?;
    engine.probe(&[THIRD.0], &[])?;
    engine.host().become_node(AFTER);
    let run = engine.host().generate(&[]);
    if run.code != 0 {
        return Err(run.stderr);
    }
    let begin = Instant::now();
    let soon = |check: &dyn Fn() -> Result<(), String>| loop {
        let checked = check();
        if checked.is_ok() || begin.elapsed() >= engine.patience() {
            return checked;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    soon(&|| own(ANOTHER, SMALL))?;
    soon(&|| unknown(engine, THIRD.0))
}

/// The lines of the probe that begin with a word.
fn lines(said: &str, kind: &str) -> String {
    said.split_inclusive('\n').filter(|line| line.split(' ').next() == Some(kind)).collect()
}

fn nodes(slices: &[Slice]) -> String {
    let own = slices.iter().flat_map(|slice| slice.1);
    let own =
        own.map(|minor| format!("node /dev/nvidia-caps/nvidia-cap{minor} 444 508:{minor} ENXIO\n"));
    own.collect::<String>() + SHARED
}

/// How nodes open that the container makes: the first `own` are its own.
fn made(engine: &impl Engine, own: usize, numbers: &[&str]) -> String {
    let word = |at| match engine.wall() {
        Wall::Namespace => "FAILED",
        Wall::Cgroup if at < own => "ENXIO",
        Wall::Cgroup => "EPERM",
    };
    numbers.iter().enumerate().map(|(at, n)| format!("made {n} {}\n", word(at))).collect()
}

/// The variables of the first slice, and of the second where there are more; CUDA reads the order.
fn variables(engine: &impl Engine, uuids: &[&str], second: &str) -> String {
    let cuda = match engine.by_hook() {
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
