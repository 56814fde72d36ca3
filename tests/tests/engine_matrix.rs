//! The table of engines in `docs/engines-matrix.md`: this test runs them all and writes it, and holds what
//! it wrote against what the document says. `UPDATE_GOLDEN=1` writes the document.

use mig_cdi_tests::{
    FakeHost, Run,
    containerd::Containerd,
    docker::Docker,
    matrix::{self, Engine, Row, Wall, host},
    podman::{Kind, Podman, VARIANTS, Variant},
    project,
};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// What a daemon needs to notice a change, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn qualified(slices: &[&str]) -> Vec<String> {
    slices.iter().map(|slice| format!("nvidia.com/mig={slice}")).collect()
}

fn output(run: Run) -> Result<String, String> {
    if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
}

/// What a script prints, with a line `---` between the two times.
fn twice(said: &str) -> Result<[String; 2], String> {
    let (first, second) = said.split_once("---\n").ok_or_else(|| format!("half a life: {said}"))?;
    Ok([first.to_owned(), second.to_owned()])
}

/// Any of the podmans, with `--device`.
struct ByPodman {
    podman: Podman,
    kind: Kind,
    host: FakeHost,
}

impl ByPodman {
    fn new(kind: Kind, variant: Variant) -> ByPodman {
        ByPodman { podman: Podman::of(kind, variant), kind, host: host() }
    }

    /// The engine reads the directory that the spec is written to. Nodes that a container takes from the
    /// machine are made as an administrator makes them.
    fn script(&self, script: &str) -> Result<String, String> {
        let dev = self.host.path("/dev");
        let nodes = match self.kind {
            Kind::Rootless => {
                format!("rm -r {}/nvidia*; $MIG_CDI nodes $FLAGS >/dev/null", dev.display())
            }
            _ => String::new(),
        };
        let out = self.host.out();
        let spec = format!("mkdir -p /var/run/cdi; mount --bind {} /var/run/cdi", out.display());
        output(self.podman.script(&self.host, &format!("{nodes}\n{spec}\n{script}")))
    }
}

fn device_flags(slices: &[&str]) -> String {
    qualified(slices).iter().map(|name| format!(" --device {name}")).collect()
}

impl Engine for ByPodman {
    fn host(&self) -> &FakeHost {
        &self.host
    }

    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String> {
        self.script(&format!(
            "$PODMAN run --rm --cap-add MKNOD{} --rootfs $ROOTFS probe {}",
            device_flags(slices),
            numbers.join(" ")
        ))
    }

    fn life(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        let numbers = numbers.join(" ");
        let said = self.script(&format!(
            "$PODMAN run --detach --name life --cap-add MKNOD{} --rootfs $ROOTFS sleep 1000000 >/dev/null
            $PODMAN exec life probe {numbers}
            $PODMAN stop --time 0 life >/dev/null
            echo ---
            $PODMAN start life >/dev/null
            $PODMAN exec life probe {numbers}
            $PODMAN rm --force --time 0 life >/dev/null
            [ -z \"$($PODMAN ps --all --quiet)\" ]",
            device_flags(&[slice])
        ))?;
        twice(&said)
    }

    fn exec_has_variables(&self) -> bool {
        false
    }

    /// Where there is no device cgroup, a user mounts whatever he may open himself.
    fn more(&self) -> Result<(), String> {
        let cap = "/dev/nvidia-caps/nvidia-cap39";
        let (from, opens) = match self.kind {
            Kind::Rootless => (cap.to_owned(), "ENXIO"),
            _ => (self.host.path(cap).display().to_string(), "EPERM"),
        };
        let said =
            self.script(&format!("$PODMAN run --rm -v {from}:{cap} --rootfs $ROOTFS probe"))?;
        let expected = format!("node {cap} 444 508:39 {opens}\n");
        if said == expected { Ok(()) } else { Err(format!("mounted: {said}")) }
    }

    fn wall(&self) -> Wall {
        if self.kind == Kind::Rootless { Wall::Namespace } else { Wall::Cgroup }
    }
}

/// A bundle, whose runtime is the hook's door of that name: no engine is there that knows CDI.
struct ByBundle {
    podman: Podman,
    host: FakeHost,
}

impl ByBundle {
    fn new(kind: Kind, variant: Variant) -> ByBundle {
        let (podman, host) = (Podman::of(kind, variant), host());
        host.configure_hook(&format!("runtimes = [{:?}]", podman.runtime()));
        ByBundle { podman, host }
    }

    /// Runs a script in the bundle, where `$MIG` is the runtime.
    fn script(&self, slices: &[&str], script: &str) -> Result<String, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("mig-cdi-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = project().join("tests/engines/bundle.json");
        output(self.podman.script(
            &self.host,
            &format!(
                "mkdir /run/bundle
                cd /run/bundle
                sed \"s|ROOTFS|$ROOTFS|; s|GROUP|{name}|; s|DEVICES|{}|\" {} >config.json
                MIG='{} --root /run/state'
                {script}",
                slices.join(","),
                config.display(),
                self.host.runtime().display()
            ),
        ))
    }
}

impl Engine for ByBundle {
    fn host(&self) -> &FakeHost {
        &self.host
    }

    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String> {
        let numbers: String = numbers.iter().map(|number| format!(", \"{number}\"")).collect();
        let script = format!(
            "sed -i 's|\"sleep\", \"1000000\"|\"probe\"{numbers}|' config.json
            $MIG run one"
        );
        self.script(slices, &script)
    }

    fn life(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        let numbers = numbers.join(" ");
        let said = self.script(
            &[slice],
            &format!(
                "$MIG create life >/dev/null
                $MIG start life
                $MIG exec life probe {numbers}
                echo ---
                $MIG exec life probe {numbers}
                $MIG kill life KILL
                until $MIG state life | grep -q stopped; do sleep 0.1; done
                $MIG delete life
                [ -z \"$($MIG list -q)\" ]"
            ),
        )?;
        twice(&said)
    }

    fn refusal(&self) -> &'static str {
        "has no such device"
    }

    fn by_hook(&self) -> bool {
        true
    }
}

/// containerd as kubelet asks it.
struct ByContainerd {
    containerd: Containerd,
    annotated: bool,
    host: FakeHost,
}

impl ByContainerd {
    fn new(cgroup: &str, annotated: bool) -> ByContainerd {
        let host = host();
        ByContainerd { containerd: Containerd::start(cgroup, &host), annotated, host }
    }
}

impl Engine for ByContainerd {
    fn host(&self) -> &FakeHost {
        &self.host
    }

    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String> {
        let devices = qualified(slices);
        let devices: Vec<_> = devices.iter().map(String::as_str).collect();
        match self.annotated {
            true => self.containerd.probe_by_annotation(&devices, numbers),
            false => self.containerd.probe(&devices, numbers),
        }
    }

    fn life(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        self.containerd.exec(&[&qualified(&[slice])[0]], self.annotated, numbers)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// Docker with `--device`.
struct ByDocker {
    docker: Docker,
    host: FakeHost,
}

impl ByDocker {
    fn new(cgroup: &str) -> ByDocker {
        let host = host();
        ByDocker { docker: Docker::start(cgroup, &host), host }
    }
}

impl Engine for ByDocker {
    fn host(&self) -> &FakeHost {
        &self.host
    }

    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String> {
        let devices = qualified(slices);
        self.docker.probe(&devices.iter().map(String::as_str).collect::<Vec<_>>(), numbers)
    }

    fn exec_has_variables(&self) -> bool {
        false
    }

    fn life(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        self.docker.exec(&[&qualified(&[slice])[0]], numbers)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

type Check = Box<dyn Fn() -> Row + Sync + Send>;

/// How an engine is run, and what its row says of it before the checks.
struct Cell {
    engine: String,
    runtime: String,
    cgroup: &'static str,
    run: Check,
}

/// The first word that begins with a digit is the version in what all of them print.
fn version(said: &str) -> String {
    let mut words = said.split_whitespace().map(|word| word.trim_end_matches(','));
    let found = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    found.unwrap_or_else(|| panic!("no version: {said}")).to_owned()
}

/// The versions of podman and of an OCI runtime.
fn versions(kind: Kind, variant: Variant) -> (String, String) {
    let podman = Podman::of(kind, variant);
    let said = output(podman.script(&host(), "$PODMAN --version; $RUNTIME --version | sed q"));
    let said = said.unwrap_or_else(|e| panic!("{kind:?} {variant:?}: {e}"));
    let (podman, runtime) = said.split_once('\n').expect("two lines");
    (version(podman), format!("{} {}", variant.0, version(runtime)))
}

/// The cells of podman, and those of bundles with the same OCI runtimes.
fn podman_cells() -> (Vec<Cell>, Vec<Cell>) {
    let (mut podmans, mut bundles) = (Vec::new(), Vec::new());
    for kind in [Kind::Machine, Kind::Debian13, Kind::Rootless] {
        for variant in VARIANTS {
            let (podman, runtime) = versions(kind, variant);
            let cell = |engine: String, run| Cell {
                engine,
                runtime: runtime.clone(),
                cgroup: variant.1,
                run,
            };
            let rootless = if kind == Kind::Rootless { "rootless " } else { "" };
            let run = move || matrix::row(&ByPodman::new(kind, variant));
            podmans.push(cell(format!("{rootless}podman {podman}"), Box::new(run)));
            if kind != Kind::Rootless {
                let run = move || matrix::row(&ByBundle::new(kind, variant));
                bundles.push(cell("bundle".into(), Box::new(run)));
            }
        }
    }
    (podmans, bundles)
}

fn daemon_cells() -> Vec<Cell> {
    let (_, runtime) = versions(Kind::Machine, ("runc", "v1"));
    let of = |program: &str| {
        let mut command = mig_cdi_tests::daemon::command(program, &project());
        version(&mig_cdi_tests::run(command.arg("--version")).stdout)
    };
    let (containerd, docker) = (of("containerd"), of("dockerd"));
    let mut cells = Vec::new();
    for cgroup in ["v1", "v2"] {
        let mut cell = |engine: String, run: Check| {
            cells.push(Cell { engine, runtime: runtime.clone(), cgroup, run });
        };
        for (annotated, how) in [(false, "CRI field"), (true, "CRI annotation")] {
            cell(
                format!("containerd {containerd}, {how}"),
                Box::new(move || matrix::row(&ByContainerd::new(cgroup, annotated))),
            );
        }
        let run = move || matrix::row(&ByDocker::new(cgroup));
        cell(format!("Docker {docker}"), Box::new(run));
    }
    cells
}

/// Runs the cells, a few at a time.
fn rows(cells: &[Cell]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(4);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(at) else { return done };
            println!("{}, {}, {}", cell.engine, cell.runtime, cell.cgroup);
            done.push((at, (cell.run)()));
        }
    };
    let mut rows = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("no panic")).collect::<Vec<_>>()
    });
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn table(cells: &[Cell], rows: &[Row]) -> String {
    let line = |words: Vec<String>| format!("| {} |\n", words.join(" | "));
    let head = ["engine", "OCI runtime", "cgroup"].iter().chain(&matrix::CHECKS);
    let head: Vec<_> = head.copied().map(str::to_owned).collect();
    let rule = head.iter().map(|_| "---".to_owned()).collect();
    let body = cells.iter().zip(rows).map(|(cell, row)| {
        let name = [cell.engine.clone(), cell.runtime.clone(), cell.cgroup.to_owned()];
        let seen = row.iter().map(|cell| cell.as_ref().map_or("**fails**", |word| word).to_owned());
        line(name.into_iter().chain(seen).collect())
    });
    let body: String = body.collect();
    include_str!("../engines/matrix.md").replace("TABLE\n", &(line(head) + &line(rule) + &body))
}

#[test]
fn every_engine_gives_what_is_asked_and_the_document_says_so() {
    let (podmans, bundles) = podman_cells();
    let cells: Vec<_> = podmans.into_iter().chain(daemon_cells()).chain(bundles).collect();
    let rows = rows(&cells);
    let written = table(&cells, &rows);
    fs::write(project().join("target/engines-matrix.md"), &written).unwrap();
    let mut wrong = String::new();
    for (cell, row) in cells.iter().zip(&rows) {
        for (check, result) in matrix::CHECKS.iter().zip(row) {
            if let Err(why) = result {
                wrong +=
                    &format!("{} {} {}: {check}: {why}\n", cell.engine, cell.runtime, cell.cgroup);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let document = project().join("docs/engines-matrix.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&document, &written).unwrap();
    }
    similar_asserts::assert_eq!(fs::read_to_string(&document).unwrap_or_default(), written);
}
