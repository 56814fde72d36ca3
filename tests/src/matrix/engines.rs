//! The engines, each with what makes its row.

use super::{Engine, Wall, host};
use crate::{
    FakeHost, Run,
    containerd::Containerd,
    daemon::Setting,
    docker::Docker,
    podman::{Kind, Podman, Variant},
    project,
    root::Root,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Where a podman that can be told reads specs.
const SPECS: &str = "/run/specs";

/// What a daemon needs to notice a change, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn qualified(slices: &[&str]) -> Vec<String> {
    slices.iter().map(|slice| format!("nvidia.com/mig={slice}")).collect()
}

pub(super) fn output(run: Run) -> Result<String, String> {
    if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
}

/// What a script prints, with a line `---` between the two times.
fn twice(said: &str) -> Result<[String; 2], String> {
    let (first, second) = said.split_once("---\n").ok_or_else(|| format!("half a life: {said}"))?;
    Ok([first.to_owned(), second.to_owned()])
}

/// Any of the podmans, with `--device`.
pub(super) struct ByPodman {
    podman: Podman,
    kind: Kind,
    host: FakeHost,
}

impl ByPodman {
    pub(super) fn new(kind: Kind, variant: Variant) -> ByPodman {
        let (mut podman, host) = (Podman::of(kind, variant), host());
        if kind.root == Root::Sid {
            podman.configure(&host, SPECS);
        }
        ByPodman { podman, kind, host }
    }

    /// The engine reads the directory that the spec is written to: as it is told to where it can be, by itself elsewhere. Nodes that a container takes from the
    /// machine are made as an administrator makes them.
    fn script(&self, script: &str) -> Result<String, String> {
        let dev = self.host.path("/dev");
        let nodes = match self.kind.rootless {
            true => format!("rm -r {}/nvidia*; $MIG_CDI nodes $FLAGS >/dev/null", dev.display()),
            false => String::new(),
        };
        let specs = if self.kind.root == Root::Sid { SPECS } else { "/var/run/cdi" };
        let out = self.host.out();
        let spec = format!("mkdir -p {specs}; mount --bind {} {specs}", out.display());
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
        let (from, opens) = match self.kind.rootless {
            true => (cap.to_owned(), "ENXIO"),
            false => (self.host.path(cap).display().to_string(), "EPERM"),
        };
        let said =
            self.script(&format!("$PODMAN run --rm -v {from}:{cap} --rootfs $ROOTFS probe"))?;
        let expected = format!("node {cap} 444 508:39 {opens}\n");
        if said == expected { Ok(()) } else { Err(format!("mounted: {said}")) }
    }

    fn wall(&self) -> Wall {
        if self.kind.rootless { Wall::Namespace } else { Wall::Cgroup }
    }
}

/// A bundle, whose runtime is the hook's mode of that name: no engine is there that knows CDI.
pub(super) struct ByBundle {
    podman: Podman,
    host: FakeHost,
}

impl ByBundle {
    pub(super) fn new(kind: Kind, variant: Variant) -> ByBundle {
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

/// containerd or CRI-O as kubelet asks it.
pub(super) struct ByContainerd {
    containerd: Containerd,
    annotated: bool,
    host: FakeHost,
}

impl ByContainerd {
    pub(super) fn new(setting: &Setting<'_>, annotated: bool) -> ByContainerd {
        let host = host();
        ByContainerd { containerd: Containerd::of(setting, &host), annotated, host }
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
pub(super) struct ByDocker {
    docker: Docker,
    host: FakeHost,
}

impl ByDocker {
    pub(super) fn new(setting: &Setting<'_>) -> ByDocker {
        let host = host();
        ByDocker { docker: Docker::of(setting, &host), host }
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
