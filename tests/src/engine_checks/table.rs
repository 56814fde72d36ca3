//! The rows of a root's engines, and the table of them.

use super::{
    CHECKS, Row,
    engines::{ByBundle, ByContainerd, ByDocker, ByPodman, output},
    host, row,
};
use crate::{
    daemon::Setting,
    podman::{Kind, Podman, VARIANTS, Variant},
    root::{Root, version},
};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

type Run = Box<dyn Fn() -> Row + Sync + Send>;

/// How an engine is run, and what its row says of it before the checks.
pub struct Cell {
    engine: String,
    runtime: String,
    cgroup: &'static str,
    run: Run,
}

impl Cell {
    fn new(engine: &str, runtime: &str, variant: Variant, run: Run) -> Cell {
        let cgroup = variant.1;
        Cell { engine: engine.to_owned(), runtime: runtime.to_owned(), cgroup, run }
    }
}

/// All engines of a root, and of the machine's where the root is [`Root::Trixie`]. CRI-O where the environment names
/// one.
///
/// # Panics
/// When an engine does not say its version.
#[must_use]
pub fn cells(root: Root) -> Vec<Cell> {
    let kind = |root, rootless| Kind { root, rootless };
    let mut kinds = vec![kind(root, false), kind(root, true)];
    if root == Root::Trixie {
        kinds.insert(0, Kind::MACHINE);
    }
    let podmans: Vec<_> = kinds.iter().flat_map(|kind| podman_cells(*kind)).collect();
    let bundles = kinds.iter().filter(|kind| !kind.rootless).flat_map(|kind| bundle_cells(*kind));
    podmans.into_iter().chain(daemon_cells(root)).chain(bundles).collect()
}

/// What podman and an OCI runtime of its root say of themselves.
fn versions(kind: Kind, variant: Variant) -> [String; 2] {
    let podman = Podman::of(kind, variant);
    let said = output(podman.script(&host(), "$PODMAN --version; $RUNTIME --version | sed q"));
    let said = said.unwrap_or_else(|e| panic!("{kind:?} {variant:?}: {e}"));
    let (podman, runtime) = said.split_once('\n').expect("two lines");
    [version(podman), format!("{} {}", variant.0, version(runtime))]
}

fn podman_cells(kind: Kind) -> impl Iterator<Item = Cell> {
    VARIANTS.into_iter().map(move |variant| {
        let [podman, runtime] = versions(kind, variant);
        let engine = format!("{}podman {podman}", if kind.rootless { "rootless " } else { "" });
        let run = move || row(&ByPodman::new(kind, variant));
        Cell::new(&engine, &runtime, variant, Box::new(run))
    })
}

/// Bundles with the OCI runtimes of this podman.
fn bundle_cells(kind: Kind) -> impl Iterator<Item = Cell> {
    VARIANTS.into_iter().map(move |variant| {
        let [_, runtime] = versions(kind, variant);
        let run = move || row(&ByBundle::new(kind, variant));
        Cell::new("bundle", &runtime, variant, Box::new(run))
    })
}

fn daemon_cells(root: Root) -> Vec<Cell> {
    let runtimes = VARIANTS.map(|variant| {
        let [_, runtime] =
            versions(Kind { root: root.of_daemons(variant.0), rootless: false }, variant);
        (variant, runtime)
    });
    let mut cells = Vec::new();
    let mut by_cri = |engine: &'static str, name: &str| {
        for (annotated, how) in [(false, "CRI field"), (true, "CRI annotation")] {
            for (variant, runtime) in &runtimes {
                let setting = Setting { engine, root, variant: *variant };
                let engine = format!("{name} {}, {how}", setting.version());
                let run = move || row(&ByContainerd::new(&setting, annotated));
                cells.push(Cell::new(&engine, runtime, *variant, Box::new(run)));
            }
        }
    };
    by_cri("containerd", "containerd");
    if std::env::var_os("CRIO").is_some() {
        by_cri("crio", "CRI-O");
    }
    for (variant, runtime) in &runtimes {
        let setting = Setting { engine: "docker", root, variant: *variant };
        let engine = format!("Docker {}", setting.version());
        let run = move || row(&ByDocker::new(&setting));
        cells.push(Cell::new(&engine, runtime, *variant, Box::new(run)));
    }
    cells
}

/// Runs the cells, a few at a time.
///
/// # Panics
/// When the machine has no thread for it.
#[must_use]
pub fn rows(cells: &[Cell]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(4);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(at) else { return done };
            println!("{}, {}, {}", cell.engine, cell.runtime, cell.cgroup);
            done.push((at, attempt(&cell.run)));
        }
    };
    let mut rows = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("no panic")).collect::<Vec<_>>()
    });
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The row; an engine that does not come up is one in which nothing is as it should be.
fn attempt(run: &Run) -> Row {
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().map_or("it panicked", String::as_str);
        vec![Err(text.to_owned()); CHECKS.len()]
    })
}

/// The table.
#[must_use]
pub fn table(cells: &[Cell], rows: &[Row]) -> String {
    let line = |words: Vec<String>| format!("| {} |\n", words.join(" | "));
    let head = ["engine", "OCI runtime", "cgroup"].iter().chain(&CHECKS);
    let head: Vec<_> = head.copied().map(str::to_owned).collect();
    let rule = head.iter().map(|_| "---".to_owned()).collect();
    let body = cells.iter().zip(rows).map(|(cell, row)| {
        let name = [cell.engine.clone(), cell.runtime.clone(), cell.cgroup.to_owned()];
        let seen = row.iter().map(|cell| cell.as_ref().map_or("**fails**", |word| word).to_owned());
        line(name.into_iter().chain(seen).collect())
    });
    let body: String = body.collect();
    line(head) + &line(rule) + &body
}

/// What is not as it should be, a line each.
#[must_use]
pub fn wrong(cells: &[Cell], rows: &[Row]) -> String {
    let mut wrong = String::new();
    for (cell, row) in cells.iter().zip(rows) {
        for (check, result) in CHECKS.iter().zip(row) {
            if let Err(why) = result {
                let name = [&cell.engine[..], &cell.runtime, cell.cgroup].join(" ");
                wrong += &format!("{name}: {check}: {why}\n");
            }
        }
    }
    wrong
}
