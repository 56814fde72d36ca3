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
    sync::OnceLock,
};

type Run = Box<dyn Fn() -> CheckResults + Sync + Send>;

/// Reads the versions that an engine and its OCI runtime print.
type ReadVersions = Box<dyn Fn() -> [String; 2] + Sync + Send>;

/// Row of an engine with an OCI runtime and a cgroup version.
pub struct MatrixRow {
    /// `podman::debian13::runc::v1`. It has no version of a program, so that listing the rows starts no engine.
    pub name: String,
    cgroup: &'static str,
    read_versions: ReadVersions,
    versions: OnceLock<[String; 2]>,
    run: Run,
}

impl MatrixRow {
    fn new(engine: &str, variant: Variant, read_versions: ReadVersions, run: Run) -> MatrixRow {
        let (runtime, cgroup) = variant;
        let name = format!("{engine}::{runtime}::{cgroup}");
        MatrixRow { name, cgroup, read_versions, versions: OnceLock::new(), run }
    }

    /// Returns the cells before those of the checks: the engine, the OCI runtime and the cgroup version.
    ///
    /// # Panics
    /// When a program does not print its version.
    #[must_use]
    pub fn first_cells(&self) -> [String; 3] {
        let [engine, runtime] = self.versions.get_or_init(&self.read_versions).clone();
        [engine, runtime, self.cgroup.to_owned()]
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
    ///
    /// # Panics
    /// As [`MatrixRow::first_cells`].
    #[must_use]
    pub fn line(&self, results: &CheckResults) -> String {
        let cells = results.iter().map(|cell| cell.as_ref().map_or("**fails**", |word| word));
        line(self.first_cells().into_iter().chain(cells.map(str::to_owned)))
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

/// Returns all engines of a release, with the machine's where it is [`DebianRelease::Trixie`], and CRI-O where the
/// environment names one. No engine is run.
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
    let rootless = if kind.rootless { "rootless-" } else { "" };
    let name = format!("{rootless}podman::{}", kind.release.name());
    VARIANTS.into_iter().map(move |variant| {
        let read_versions = move || {
            let [podman, runtime] = versions(kind, variant);
            [format!("{}podman {podman}", rootless.replace('-', " ")), runtime]
        };
        let run = move || row(&PodmanUnderTest::new(kind, variant));
        MatrixRow::new(&name, variant, Box::new(read_versions), Box::new(run))
    })
}

/// Returns bundles with the OCI runtimes of this podman.
fn bundle_rows(kind: PodmanKind) -> impl Iterator<Item = MatrixRow> {
    let name = format!("bundle::{}", kind.release.name());
    VARIANTS.into_iter().map(move |variant| {
        let read_versions = move || {
            let [_, runtime] = versions(kind, variant);
            ["bundle".to_owned(), runtime]
        };
        let run = move || row(&BundleUnderTest::new(kind, variant));
        MatrixRow::new(&name, variant, Box::new(read_versions), Box::new(run))
    })
}

fn daemon_rows(release: DebianRelease) -> Vec<MatrixRow> {
    let mut rows = cri_rows(release, "containerd", "containerd");
    if std::env::var_os("CRIO").is_some() {
        rows.extend(cri_rows(release, "crio", "CRI-O"));
    }
    rows.extend(VARIANTS.into_iter().map(|variant| {
        let setting = Setting { engine: "docker", release, variant };
        let read_versions = move || daemon_versions(&setting, "Docker", "");
        let run = move || row(&DockerUnderTest::new(&setting));
        MatrixRow::new("docker", variant, Box::new(read_versions), Box::new(run))
    }));
    rows
}

/// Returns the rows of an engine that kubelet asks, for both ways to ask.
fn cri_rows(release: DebianRelease, engine: &'static str, name: &'static str) -> Vec<MatrixRow> {
    let ways = [false, true].into_iter().flat_map(|annotated| VARIANTS.map(|v| (annotated, v)));
    let rows = ways.map(|(annotated, variant)| {
        let setting = Setting { engine, release, variant };
        let way = if annotated { "annotation" } else { "field" };
        let read_versions = move || daemon_versions(&setting, name, &format!(", CRI {way}"));
        let run = move || row(&ContainerdUnderTest::new(&setting, annotated));
        let row_name = format!("{engine}::{way}");
        MatrixRow::new(&row_name, variant, Box::new(read_versions), Box::new(run))
    });
    rows.collect()
}

/// Returns the versions of a daemon and of its OCI runtime.
fn daemon_versions(setting: &Setting<'_>, name: &str, way: &str) -> [String; 2] {
    let Setting { release, variant, .. } = *setting;
    let kind = PodmanKind { release: release.for_daemons(variant.0), rootless: false };
    let [_, runtime] = versions(kind, variant);
    [format!("{name} {}{way}", setting.version()), runtime]
}
