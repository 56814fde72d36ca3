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
use std::panic::{self, AssertUnwindSafe};

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

impl MatrixRow {
    /// Returns its first cells: `podman 4.3.1, crun 1.8.1, v2`.
    #[must_use]
    pub fn name(&self) -> String {
        [&self.engine[..], &self.runtime, self.cgroup].join(", ")
    }

    /// Runs the engine. If it does not become ready, all its checks fail.
    #[must_use]
    pub fn run_checks(&self) -> CheckResults {
        panic::catch_unwind(AssertUnwindSafe(&self.run)).unwrap_or_else(|why| {
            let text = why.downcast_ref::<String>().map_or("it panicked", String::as_str);
            vec![Err(text.to_owned()); CHECKS.len()]
        })
    }

    /// Returns the failed checks, a line each.
    #[must_use]
    pub fn failures(results: &CheckResults) -> String {
        let checks = CHECKS.iter().zip(results);
        let failed = checks.filter_map(|(check, result)| Some((check, result.as_ref().err()?)));
        failed.map(|(check, why)| format!("{check}: {why}\n")).collect()
    }

    /// Returns its line of the table in Markdown.
    #[must_use]
    pub fn line(&self, results: &CheckResults) -> String {
        let name = [self.engine.clone(), self.runtime.clone(), self.cgroup.to_owned()];
        let cells = results.iter().map(|cell| cell.as_ref().map_or("**fails**", |word| word));
        line(name.into_iter().chain(cells.map(str::to_owned)))
    }
}

/// Returns the head of the table in Markdown.
#[must_use]
pub fn table_head() -> String {
    let head = ["engine", "OCI runtime", "cgroup"].iter().chain(&CHECKS);
    line(head.clone().copied().map(str::to_owned)) + &line(head.map(|_| "---".to_owned()))
}

fn line(words: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", words.collect::<Vec<_>>().join(" | "))
}
