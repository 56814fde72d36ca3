//! Engines under test.

use super::checks::{EngineUnderTest, Isolation, host};
use crate::{
    FakeHost, Run,
    containerd::Containerd,
    daemon::Setting,
    debian_release::DebianRelease,
    docker::Docker,
    podman::{Podman, PodmanKind, Variant},
    project,
};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Directory of specs of a podman that can be configured.
const SPECS: &str = "/run/specs";

/// Time in which a daemon has to notice a change, on the slowest machine.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(30);

fn qualified(slices: &[&str]) -> Vec<String> {
    slices.iter().map(|slice| format!("nvidia.com/mig={slice}")).collect()
}

pub(super) fn output(run: Run) -> Result<String, String> {
    if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
}

/// Splits the output of a script at the line `---` between its two runs.
fn both_runs(printed: &str) -> Result<[String; 2], String> {
    let (first, second) = printed
        .split_once("---\n")
        .ok_or_else(|| format!("no line --- between two runs: {printed}"))?;
    Ok([first.to_owned(), second.to_owned()])
}

/// Podman with `--device`.
pub(super) struct PodmanUnderTest {
    podman: Podman,
    kind: PodmanKind,
    host: FakeHost,
}

impl PodmanUnderTest {
    pub(super) fn new(kind: PodmanKind, variant: Variant) -> PodmanUnderTest {
        let (mut podman, host) = (Podman::of(kind, variant), host());
        if kind.release == DebianRelease::Sid {
            podman.configure(&host, SPECS);
        }
        PodmanUnderTest { podman, kind, host }
    }

    /// Runs a script with the spec in the directory that the engine reads: a configured one if possible, else the
    /// default.
    fn script(&self, script: &str) -> Result<String, String> {
        if self.kind.rootless {
            self.make_nodes()?;
        }
        let specs = if self.kind.release == DebianRelease::Sid { SPECS } else { "/var/run/cdi" };
        let out = self.host.out();
        let spec = format!("mkdir -p {specs}; mount --bind {} {specs}", out.display());
        output(self.podman.script(&self.host, &format!("{spec}\n{script}")))
    }

    /// Makes the nodes that a container takes from the machine, as an administrator makes them. That is before the
    /// script mounts an overlay above them: its behaviour is undefined when they change later
    /// (Documentation/filesystems/overlayfs.rst).
    fn make_nodes(&self) -> Result<(), String> {
        let dev = self.host.path("/dev");
        fs::remove_dir_all(&dev).and_then(|()| fs::create_dir(&dev)).map_err(|e| e.to_string())?;
        output(self.host.run(&["nodes"])).map(drop)
    }
}

fn device_flags(slices: &[&str]) -> String {
    qualified(slices).iter().map(|name| format!(" --device {name}")).collect()
}

impl EngineUnderTest for PodmanUnderTest {
    fn host(&self) -> &FakeHost {
        &self.host
    }

    fn probe(&self, slices: &[&str], numbers: &[&str]) -> Result<String, String> {
        self.script(&format!(
            "$PODMAN $RUN --cap-add MKNOD{} --rootfs $ROOTFS probe {}",
            device_flags(slices),
            numbers.join(" ")
        ))
    }

    fn lifecycle(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        let numbers = numbers.join(" ");
        let printed = self.script(&format!(
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
        both_runs(&printed)
    }

    fn exec_has_variables(&self) -> bool {
        false
    }

    /// Without a device cgroup, a user can mount any node that they can open themselves.
    fn other_checks(&self) -> Result<(), String> {
        let cap = "/dev/nvidia-caps/nvidia-cap39";
        let (from, opens) = match self.kind.rootless {
            true => (cap.to_owned(), "ENXIO"),
            false => (self.host.path(cap).display().to_string(), "EPERM"),
        };
        let printed =
            self.script(&format!("$PODMAN $RUN -v {from}:{cap} --rootfs $ROOTFS probe"))?;
        let expected = format!("node {cap} 444 508:39 {opens}\n");
        if printed == expected { Ok(()) } else { Err(format!("mounted: {printed}")) }
    }

    fn isolation(&self) -> Isolation {
        if self.kind.rootless { Isolation::Namespace } else { Isolation::Cgroup }
    }
}

/// OCI bundle whose runtime is the hook's mode `runtime`: no engine that knows CDI takes part.
pub(super) struct BundleUnderTest {
    podman: Podman,
    host: FakeHost,
}

impl BundleUnderTest {
    pub(super) fn new(kind: PodmanKind, variant: Variant) -> BundleUnderTest {
        let (podman, host) = (Podman::of(kind, variant), host());
        host.configure_hook(&format!("runtimes = [{:?}]", podman.runtime()));
        BundleUnderTest { podman, host }
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

impl EngineUnderTest for BundleUnderTest {
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

    fn lifecycle(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        let numbers = numbers.join(" ");
        let printed = self.script(
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
        both_runs(&printed)
    }

    fn refusal(&self) -> &'static str {
        "has no such device"
    }

    fn is_injected_by_hook(&self) -> bool {
        true
    }
}

/// containerd or CRI-O as kubelet asks it.
pub(super) struct ContainerdUnderTest {
    containerd: Containerd,
    annotated: bool,
    host: FakeHost,
}

impl ContainerdUnderTest {
    pub(super) fn new(setting: &Setting<'_>, annotated: bool) -> ContainerdUnderTest {
        let host = host();
        ContainerdUnderTest { containerd: Containerd::of(setting, &host), annotated, host }
    }
}

impl EngineUnderTest for ContainerdUnderTest {
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

    fn lifecycle(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        self.containerd.exec(&[&qualified(&[slice])[0]], self.annotated, numbers)
    }

    fn refresh_timeout(&self) -> Duration {
        REFRESH_TIMEOUT
    }
}

/// Docker with `--device`.
pub(super) struct DockerUnderTest {
    docker: Docker,
    host: FakeHost,
}

impl DockerUnderTest {
    pub(super) fn new(setting: &Setting<'_>) -> DockerUnderTest {
        let host = host();
        DockerUnderTest { docker: Docker::of(setting, &host), host }
    }
}

impl EngineUnderTest for DockerUnderTest {
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

    fn lifecycle(&self, slice: &str, numbers: &[&str]) -> Result<[String; 2], String> {
        self.docker.exec(&[&qualified(&[slice])[0]], numbers)
    }

    fn refresh_timeout(&self) -> Duration {
        REFRESH_TIMEOUT
    }
}
