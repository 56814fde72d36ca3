//! Rows of the engines of a Debian release, and the table of them.

use super::{
    checks::{CHECKS, CheckResults, host, row},
    engines::{BundleUnderTest, ContainerdUnderTest, DockerUnderTest, PodmanUnderTest, output},
};
use crate::{
    daemon::Setting,
    debian_release::{DebianRelease, version},
    podman::{Podman, PodmanKind, VARIANTS, Variant},
};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

type Run = Box<dyn Fn() -> CheckResults + Sync + Send>;

/// Engine with the first columns of its row.
pub struct MatrixRow {
    engine: String,
    runtime: String,
    cgroup: &'static str,
    run: Run,
}

impl MatrixRow {
    fn new(engine: &str, runtime: &str, variant: Variant, run: Run) -> MatrixRow {
        let cgroup = variant.1;
        MatrixRow { engine: engine.to_owned(), runtime: runtime.to_owned(), cgroup, run }
    }
}

/// Returns all engines of a release, with the machine's where it is [`DebianRelease::Trixie`], and CRI-O where the
/// environment names one.
///
/// # Panics
/// When an engine does not print its version.
#[must_use]
pub fn table_rows(release: DebianRelease) -> Vec<MatrixRow> {
    let kind = |release, rootless| PodmanKind { release, rootless };
    let mut kinds = vec![kind(release, false), kind(release, true)];
    if release == DebianRelease::Trixie {
        kinds.insert(0, PodmanKind::MACHINE);
    }
    let podmans: Vec<_> = kinds.iter().flat_map(|kind| podman_rows(*kind)).collect();
    let bundles = kinds.iter().filter(|kind| !kind.rootless).flat_map(|kind| bundle_rows(*kind));
    podmans.into_iter().chain(daemon_rows(release)).chain(bundles).collect()
}

/// Returns the versions that podman and an OCI runtime of its release print.
fn versions(kind: PodmanKind, variant: Variant) -> [String; 2] {
    let podman = Podman::of(kind, variant);
    let printed = output(podman.script(&host(), "$PODMAN --version; $RUNTIME --version | sed q"));
    let printed = printed.unwrap_or_else(|e| panic!("{kind:?} {variant:?}: {e}"));
    let (podman, runtime) = printed.split_once('\n').expect("two lines");
    [version(podman), format!("{} {}", variant.0, version(runtime))]
}

fn podman_rows(kind: PodmanKind) -> impl Iterator<Item = MatrixRow> {
    VARIANTS.into_iter().map(move |variant| {
        let [podman, runtime] = versions(kind, variant);
        let engine = format!("{}podman {podman}", if kind.rootless { "rootless " } else { "" });
        let run = move || row(&PodmanUnderTest::new(kind, variant));
        MatrixRow::new(&engine, &runtime, variant, Box::new(run))
    })
}

/// Returns bundles with the OCI runtimes of this podman.
fn bundle_rows(kind: PodmanKind) -> impl Iterator<Item = MatrixRow> {
    VARIANTS.into_iter().map(move |variant| {
        let [_, runtime] = versions(kind, variant);
        let run = move || row(&BundleUnderTest::new(kind, variant));
        MatrixRow::new("bundle", &runtime, variant, Box::new(run))
    })
}

fn daemon_rows(release: DebianRelease) -> Vec<MatrixRow> {
    let runtimes = VARIANTS.map(|variant| {
        let [_, runtime] = versions(
            PodmanKind { release: release.for_daemons(variant.0), rootless: false },
            variant,
        );
        (variant, runtime)
    });
    let mut cells = Vec::new();
    let mut by_cri = |engine: &'static str, name: &str| {
        for (annotated, how) in [(false, "CRI field"), (true, "CRI annotation")] {
            for (variant, runtime) in &runtimes {
                let setting = Setting { engine, release, variant: *variant };
                let engine = format!("{name} {}, {how}", setting.version());
                let run = move || row(&ContainerdUnderTest::new(&setting, annotated));
                cells.push(MatrixRow::new(&engine, runtime, *variant, Box::new(run)));
            }
        }
    };
    by_cri("containerd", "containerd");
    if std::env::var_os("CRIO").is_some() {
        by_cri("crio", "CRI-O");
    }
    for (variant, runtime) in &runtimes {
        let setting = Setting { engine: "docker", release, variant: *variant };
        let engine = format!("Docker {}", setting.version());
        let run = move || row(&DockerUnderTest::new(&setting));
        cells.push(MatrixRow::new(&engine, runtime, *variant, Box::new(run)));
    }
    cells
}

/// Runs the engines, a few at a time.
///
/// # Panics
/// When a thread cannot be started.
#[must_use]
pub fn run_checks(cells: &[MatrixRow]) -> Vec<CheckResults> {
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

/// Returns the row; if an engine does not become ready, all its checks fail.
fn attempt(run: &Run) -> CheckResults {
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().map_or("it panicked", String::as_str);
        vec![Err(text.to_owned()); CHECKS.len()]
    })
}

/// Returns the table in Markdown.
#[must_use]
pub fn table(cells: &[MatrixRow], rows: &[CheckResults]) -> String {
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

/// Returns the failed checks, a line each.
#[must_use]
pub fn failures(cells: &[MatrixRow], rows: &[CheckResults]) -> String {
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
