//! The modes of the hook in a real podman, with runc and crun on cgroup v1 and v2. Opening a device node whose major
//! no driver has gives ENXIO when the device cgroup allows it, EPERM when it denies it.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    containerd::Containerd,
    docker::Docker,
    driver::{DistributionLayout, library_dir},
    podman::{Podman, VARIANTS, Variant, compile},
    project, run, script_program,
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

const SHARED: &str = "\
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";
const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

/// Modes of the hook that podman can run.
const MODES: [&str; 3] = ["precreate", "create-runtime", "runtime"];

fn host(podman: &Podman) -> FakeHost {
    host_with(podman, "")
}

fn host_with(podman: &Podman, policy: &str) -> FakeHost {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    host.configure_hook(&format!("runtimes = [{:?}]\n{policy}", podman.runtime()));
    let run = host.generate(&[]);
    run.assert_code(0);
    host
}

fn script(mode: &str, variant: Variant, script: &str) -> (Run, String) {
    let podman = Podman::new(variant);
    let host = host(&podman);
    let run = podman.script(&host, &with_mode(mode, &host, script));
    (run, host.read_log())
}

/// Returns the script with podman running the hook in a mode.
fn with_mode(mode: &str, host: &FakeHost, script: &str) -> String {
    let flag = match mode {
        "runtime" => format!("--runtime {}", host.runtime().display()),
        mode => format!("--hooks-dir {}", host.hooks_dir(mode).display()),
    };
    script.replace("$PODMAN", &format!("$PODMAN {flag}"))
}

fn passed(run: &Run, log: &str, what: &str) -> String {
    assert_eq!(run.code, 0, "{what}: {}{}{log}", run.stdout, run.stderr);
    run.stdout.clone()
}

/// Returns the expected variables: of the process, or in a file, depending on the mode.
fn variables(mode: &str) -> String {
    let variables = format!(
        "env CUDA_VISIBLE_DEVICES={FIRST}\nenv MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}\nenv NVIDIA_VISIBLE_DEVICES=void\n"
    );
    if mode == "create-runtime" { String::new() } else { variables }
}

/// A process that is started in the container later sees the same. Rules of the container's own stay in force.
#[test]
fn a_container_gets_the_requested_slice_and_no_other() {
    for mode in MODES {
        for variant in VARIANTS {
            // The kernel keeps major 42 free for samples (Documentation/admin-guide/devices.txt): the container's own
            // rule allows it.
            let run = "
                $PODMAN run -d --name c --cap-add MKNOD --device-cgroup-rule 'c 42:* rwm' \
                    --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS \
                    sh -c 'probe 508:30 508:39 508:40 508:1 195:1 42:7 > /tmp/output; mv /tmp/output /tmp/done; sleep 100' >/dev/null
                $PODMAN exec c sh -c 'while [ ! -e /tmp/done ]; do sleep 0.1; done; sed -n p /tmp/done'
                echo ---
                $PODMAN exec c sh -c '[ ! -e /run/mig-cdi ] || . /run/mig-cdi/environment; probe 508:31 508:39'
                $PODMAN exec c sh -c 'if [ -e /run/mig-cdi ]; then ! echo x > /run/mig-cdi/environment; fi' 2>&1
                $PODMAN rm -f -t 0 c >/dev/null";
            let (run, log) = script(mode, variant, run);
            let what = format!("{mode} {variant:?}");
            let nodes = format!(
                "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
{SHARED}"
            );
            let first = variables(mode);
            // podman starts a later process with the variables of the container's creation only.
            let sourced =
                if mode == "create-runtime" { variables("precreate") } else { String::new() };
            let mut expected = format!(
                "{nodes}{first}made 508:30 ENXIO
made 508:39 EPERM
made 508:40 EPERM
made 508:1 EPERM
made 195:1 EPERM
made 42:7 ENXIO
---
{nodes}{sourced}made 508:31 ENXIO
made 508:39 EPERM
"
            );
            if mode == "create-runtime" {
                expected += "sh: can't create /run/mig-cdi/environment: Read-only file system\n";
            }
            similar_asserts::assert_eq!(passed(&run, &log, &what), expected, "{what}");
            assert!(log.contains(&format!("{mode}: container ")), "{log}");
            assert!(log.contains("gets 0:2g.20gb:0: 6 device nodes, 0 files"), "{log}");
        }
    }
}

#[test]
fn a_container_without_a_request_gets_no_slice() {
    for mode in MODES {
        for variant in VARIANTS {
            let run = "$PODMAN $RUN --cap-add MKNOD -e NVIDIA_VISIBLE_DEVICES=void --rootfs $ROOTFS \
                probe 508:30 195:0 195:255 511:0";
            let (run, log) = script(mode, variant, run);
            let expected = "env NVIDIA_VISIBLE_DEVICES=void\nmade 508:30 EPERM\nmade 195:0 EPERM\nmade 195:255 EPERM\nmade 511:0 EPERM\n";
            similar_asserts::assert_eq!(passed(&run, &log, mode), expected, "{mode} {variant:?}");
            assert!(
                log.ends_with("NVIDIA_VISIBLE_DEVICES=void names no slice, so none is added\n"),
                "{log}"
            );
            assert_eq!(log.matches('\n').count(), 1, "{log}");
        }
    }
}

/// Script that builds the image `evil` with these lines and flags.
fn image(lines: &str, flags: &str) -> String {
    format!(
        "tar -C $ROOTFS -cf $ROOTFS.tar .
        printf 'FROM scratch\\nADD rootfs.tar /\\n{lines}' > $ROOTFS.containerfile
        $PODMAN build -q --no-cache --format oci {flags} -t evil -f $ROOTFS.containerfile $(dirname $ROOTFS) >/dev/null
        "
    )
}

/// An image names slices in every way that it can: podman copies the annotations of its manifest into the container. Neither that
/// nor a capability is a request.
#[test]
fn an_image_requests_no_slice() {
    let environment = image("ENV NVIDIA_VISIBLE_DEVICES=0:2g.20gb:0\\n", "");
    let own = image("", "--annotation mig-cdi/devices=0:2g.20gb:0");
    let cdi = image("", "--annotation cdi.k8s.io/x=nvidia.com/mig=0:2g.20gb:0");
    for (mode, variant) in MODES.iter().flat_map(|mode| VARIANTS.map(|variant| (*mode, variant))) {
        let podman = Podman::new(variant);
        let host = host_with(&podman, "requests = \"privileged\"");
        let run = |image: &str, flags: &str| {
            let _ = fs::remove_file(host.log());
            let script = format!("{image}$PODMAN $RUN {flags} evil probe 508:30");
            let run = podman.script(&host, &with_mode(mode, &host, &script));
            (passed(&run, &host.read_log(), mode), host.read_log())
        };
        for (image, source) in [
            (&environment, "NVIDIA_VISIBLE_DEVICES="),
            (&own, "mig-cdi/devices="),
            (&cdi, "cdi.k8s.io/x="),
        ] {
            let what = format!("{mode} {variant:?} {source}");
            let (output, log) = run(image, "--cap-add MKNOD,SYS_ADMIN");
            let env = match source {
                "NVIDIA_VISIBLE_DEVICES=" => "env NVIDIA_VISIBLE_DEVICES=0:2g.20gb:0\n",
                _ => "",
            };
            similar_asserts::assert_eq!(output, format!("{env}made 508:30 EPERM\n"), "{what}");
            assert_eq!(log.matches('\n').count(), 1, "{what}: {log}");
            assert!(log.contains(&format!("starts without a slice: {source}")), "{what}: {log}");
        }
        // What it may open anyway is a request.
        let (output, log) = run(&own, "--privileged");
        assert!(output.contains("nvidia-cap30 444 508:30 ENXIO"), "{mode} {variant:?}: {output}");
        assert!(log.contains("gets 0:2g.20gb:0"), "{mode} {variant:?}: {log}");
        // A slice that the user gives to the engine does not grow by the image's.
        let spec = host.spec();
        let own = format!("mkdir -p /var/run/cdi; cp {} /var/run/cdi\n{own}", spec.display());
        let (output, _) = run(&own, "--cap-add MKNOD --device nvidia.com/mig=0:2g.20gb:2");
        assert!(output.contains("nvidia-cap39") && !output.contains("nvidia-cap30"), "{output}");
        assert!(output.ends_with("made 508:30 EPERM\n"), "{mode} {variant:?}: {output}");
        // Nor where the image says that the engine has given both.
        let forged = image(
            "ENV MIG_CDI_DEVICE_0_3_0=,2g.20gb,GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4\\n",
            "--annotation mig-cdi/devices=0:2g.20gb:0,0:2g.20gb:2",
        );
        let _ = fs::remove_file(host.log());
        let script = format!(
            "mkdir -p /var/run/cdi; cp {} /var/run/cdi\n{forged}$PODMAN $RUN --privileged --device nvidia.com/mig=0:2g.20gb:2 evil probe",
            spec.display()
        );
        let run = podman.script(&host, &with_mode(mode, &host, &script));
        let log = host.read_log();
        assert_ne!(run.code, 0, "{mode} {variant:?}: {}", run.stdout);
        assert!(log.contains("and not their nodes: nvidia-cap30, nvidia-cap31"), "{mode}: {log}");
    }
}

/// An image that may request slices gets none beside those that the user has named to the engine, by a path or by a spec of another
/// tool.
#[test]
fn a_request_adds_nothing_to_devices_of_another_source() {
    let image = image("ENV NVIDIA_VISIBLE_DEVICES=0:2g.20gb:0\\n", "");
    for (mode, variant) in MODES.iter().flat_map(|mode| VARIANTS.map(|variant| (*mode, variant))) {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let node = |minor: u32| {
            let path = format!("/dev/nvidia-caps/nvidia-cap{minor}");
            (host.path(&path).display().to_string(), path)
        };
        let device = |name: &str, minors: [u32; 2]| {
            let nodes = minors.map(node).map(|(from, to)| json!({"path": to, "hostPath": from}));
            json!({"name": name, "containerEdits": {"deviceNodes": nodes}})
        };
        let other = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
            "devices": [device("0:0", [30, 31]), device("0:1", [39, 40])]});
        fs::write(host.root().join("other.json"), other.to_string()).unwrap();
        let cdi = format!(
            "mkdir -p /var/run/cdi; cp {}/other.json /var/run/cdi\n",
            host.root().display()
        );
        let run = |flags: &str| {
            let _ = fs::remove_file(host.log());
            let script = format!(
                "{cdi}{image}$PODMAN $RUN --cap-add MKNOD {flags} evil probe 508:30 508:39"
            );
            let run = podman.script(&host, &with_mode(mode, &host, &script));
            (run, host.read_log())
        };
        let (from, to) = node(39);
        for flags in [&*format!("--device {from}:{to}"), "--device nvidia.com/gpu=0:1"] {
            let what = format!("{mode} {variant:?} {flags}");
            let (refused, log) = run(flags);
            assert!(refused.code != 0 && refused.stdout.is_empty(), "{what}: {}", refused.stdout);
            assert!(
                log.contains("the engine has given the container nvidia-cap39"),
                "{what}: {log}"
            );
            // The user takes back what the image says.
            let (own, log) = run(&format!("{flags} -e NVIDIA_VISIBLE_DEVICES=void"));
            let output = passed(&own, &log, &what);
            assert!(output.ends_with("made 508:30 EPERM\nmade 508:39 ENXIO\n"), "{what}: {output}");
        }
        let (same, log) = run("--device nvidia.com/gpu=0:0");
        let output = passed(&same, &log, mode);
        assert!(output.ends_with("made 508:30 ENXIO\nmade 508:39 EPERM\n"), "{mode}: {output}");
        assert!(log.contains("gets 0:2g.20gb:0: 6 device nodes"), "{mode} {variant:?}: {log}");
    }
}

/// Without its slice the container does not start. The message is in the log, whatever the engine shows.
#[test]
fn a_container_that_requests_an_unknown_slice_does_not_start() {
    for mode in MODES {
        for variant in VARIANTS {
            let run =
                "$PODMAN $RUN --annotation mig-cdi/devices=0:2g.20gb:6 --rootfs $ROOTFS probe";
            let (run, log) = script(mode, variant, run);
            assert_ne!(run.code, 0, "{mode} {variant:?}");
            assert_eq!(run.stdout, "", "no container ran");
            assert!(log.contains("has no such device"), "{mode} {variant:?}: {log}");
            // crun and podman's filter print nothing of a hook's output.
            let shown = mode == "runtime" || (mode == "create-runtime" && variant.0 == "runc");
            assert!(!shown || run.stderr.contains("has no such device"), "{mode}: {}", run.stderr);
        }
    }
}

/// The driver's files are mounted too, also in a container whose root is read-only, and the container cannot change
/// them.
#[test]
fn programs_in_the_container_load_the_driver_s_libraries() {
    let script = "
        $PODMAN $RUN --read-only --annotation mig-cdi/devices=0:2g.20gb:0 -e FAKE_NVML_NODE=/node.toml \
            -v $NODE:/node.toml:ro --rootfs $ROOTFS sh -c 'loader libcuda.so.1 libcuda.so libnvidia-ml.so.1 && nvidia-smi'
        $PODMAN $RUN --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS \
            sh -c 'echo x >> /usr/lib/x86_64-linux-gnu/libcuda.so.1' 2>&1 || echo refused";
    let expected = "\
libcuda.so.1 /usr/lib/x86_64-linux-gnu/libcuda.so.1
libcuda.so /usr/lib/x86_64-linux-gnu/libcuda.so.1 is libcuda.so.1
libnvidia-ml.so.1 /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
cuInit 100
driver 580.105.08
sh: can't create /usr/lib/x86_64-linux-gnu/libcuda.so.1: Read-only file system
refused
";
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Fedora);
    let cuda =
        host.path(&format!("{}/libcuda.so.580.105.08", library_dir(DistributionLayout::Fedora)));
    compile("fake-libcuda.c", &cuda, &["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]);
    compile("fake-nvidia-smi.c", &host.path("/usr/bin/nvidia-smi"), &[]);
    for mode in MODES {
        for variant in VARIANTS {
            let podman = Podman::with_c_library(variant, "debian-root");
            host.configure_hook(&format!("runtimes = [{:?}]", podman.runtime()));
            host.generate(&["--capabilities=compute,utility"]).assert_code(0);
            let run = podman.script(&host, &with_mode(mode, &host, script));
            let log = host.read_log();
            similar_asserts::assert_eq!(passed(&run, &log, mode), expected, "{mode} {variant:?}");
        }
    }
}

/// In the driver's capability tree a container sees its own slice only. A tree of files stands in for the driver's;
/// only crun mounts it into the container's /proc.
#[test]
fn other_slices_are_hidden_from_the_capability_tree() {
    let podman = Podman::new(("crun", "v2"));
    let host = host(&podman);
    let script = "
        $PODMAN $RUN --annotation mig-cdi/devices=0:2g.20gb:2 -v $TREE:/proc/driver:ro --rootfs $ROOTFS \
            sh -c 'cd /proc/driver/nvidia/capabilities; find . -name access | sort; ls mig; find ../gpus -type f'";
    let tree = host.path("/proc/driver").display().to_string();
    for mode in ["precreate", "runtime"] {
        let run = podman.script(&host, &with_mode(mode, &host, &script.replace("$TREE", &tree)));
        let expected =
            "./gpu0/mig/gi4/access\n./gpu0/mig/gi4/ci0/access\n../gpus/0000:07:00.0/information\n";
        similar_asserts::assert_eq!(passed(&run, &host.read_log(), mode), expected);
    }
}

/// Under this name the program is a runtime, which reads its settings in /etc.
#[test]
fn under_the_name_mig_cdi_runtime_the_hook_is_a_runtime() {
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let etc = host.path("/etc-of-this-test");
        std::fs::create_dir_all(etc.join("mig-cdi")).unwrap();
        std::fs::copy(host.config(), etc.join("mig-cdi/config.toml")).unwrap();
        let script = format!(
            "mount -t overlay overlay -o lowerdir={}:/etc /etc
            $PODMAN --runtime {}/mig-cdi-runtime run --rm --annotation mig-cdi/devices=0:2g.20gb:2 --rootfs $ROOTFS ls /dev/nvidia-caps",
            etc.display(),
            host.install().display()
        );
        let run = podman.script(&host, &script);
        assert_eq!(passed(&run, &host.read_log(), "runtime"), "nvidia-cap39\nnvidia-cap40\n");
    }
}

/// If a parent cgroup of the container denies a device that spec and driver agree on, the injection is undone and the
/// container does not start.
#[test]
fn a_device_denied_by_a_parent_cgroup_is_not_injected() {
    // Allows all devices of a container and the GPU, but not its slices.
    // rmdir of a cgroup fails while a process in it still exits, hence the loop.
    let script = "
        group=/sys/fs/cgroup/devices/mig-cdi-test
        mkdir -p $group
        echo a > $group/devices.deny
        for rule in 'c *:* m' 'b *:* m' 'c 1:* rwm' 'c 5:* rwm' 'c 10:* rwm' 'c 136:* rwm' 'c 195:* rw' 'c 511:* rw'; do
            echo \"$rule\" > $group/devices.allow
        done
        status=0
        $PODMAN $RUN --cgroup-parent /mig-cdi-test --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS ls /dev \
            2>/dev/null || status=$?
        [ ! -e $ROOTFS/run/mig-cdi ]
        until find /sys/fs/cgroup/*/mig-cdi-test -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.1; done
        [ $status != 0 ]";
    for variant in [("runc", "v1"), ("crun", "v1")] {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let run = podman.script(&host, &with_mode("create-runtime", &host, script));
        assert_eq!(passed(&run, &host.read_log(), "denied"), "");
        let log = host.read_log();
        assert!(log.contains("/devices.allow: operation not permitted"), "{variant:?}: {log}");
    }
}

/// Container in a cgroup of this name, with `create-runtime` in the stage createRuntime, and a program in the place of
/// systemd's tool, which records its calls.
struct InUnit<'a> {
    podman: &'a Podman,
    host: &'a FakeHost,
    group: &'a str,
    /// What systemctl shows of a unit, and its exit code for other commands.
    systemctl: (&'a str, i32),
    /// Device rules after those that deny all and allow 42:7.
    rules: &'a [Value],
    /// Script before the container.
    before: &'a str,
}

impl InUnit<'_> {
    /// Returns whether the container ran, and the calls of systemctl.
    fn run(&self) -> (bool, String) {
        let dir = self.host.root().join("in-unit");
        fs::create_dir_all(&dir).unwrap();
        let text = fs::read_to_string(project().join("tests/engines/bundle.json")).unwrap();
        let text = text.replace("GROUP", self.group).replace("DEVICES", "0:2g.20gb:0");
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["args"] = json!(["probe", "42:7"]);
        let rules = config["linux"]["resources"]["devices"].as_array_mut().unwrap();
        rules.push(json!({"allow": true, "type": "c", "major": 42, "minor": 7, "access": "rw"}));
        rules.extend(self.rules.iter().cloned());
        let settings = format!("--config={}", self.host.config().display());
        config["hooks"]["createRuntime"] = json!([{
            "path": self.host.install().join("mig-cdi-hook"), "args": ["hook", "create-runtime", settings], "env": ["A=b"],
        }]);
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let (shown, code) = self.systemctl;
        fs::write(dir.join("shown"), shown).unwrap();
        let systemctl = format!(
            "echo \"$*\" >>/run/calls; env >>/run/calls\n[ $1 != show ] || exec cat {}/shown\n\
             [ {code} = 0 ] || echo no such unit >&2\nexit {code}",
            dir.display()
        );
        fs::create_dir_all(dir.join("tools")).unwrap();
        script_program(&dir.join("tools/systemctl"), &systemctl);
        let script = "
            mkdir -p /run/systemd/system /run/bundle
            mount -t overlay overlay -o lowerdir=$DIR/tools:/usr/bin /usr/bin
            group=/sys/fs/cgroup/devices
            [ -d $group ] || group=/sys/fs/cgroup
            $BEFORE
            sed \"s|\\\"ROOTFS|\\\"$ROOTFS|\" $DIR/config.json >/run/bundle/config.json
            $RUNTIME run --bundle /run/bundle test </dev/null >/run/output 2>/run/error || cat /run/error >&2
            $RUNTIME delete --force test 2>/dev/null || true
            kill ${other:-} 2>/dev/null || true
            for group in /sys/fs/cgroup /sys/fs/cgroup/*; do
                while [ -d $group/$UNIT ] && ! find $group/$UNIT -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.1; done
            done
            grep made /run/output || true
            cat /run/calls 2>/dev/null || true";
        let unit = self.group.split('/').next().unwrap();
        let script = script
            .replace("$BEFORE", self.before)
            .replace("$DIR", &dir.display().to_string())
            .replace("$UNIT", unit);
        let run = self.podman.script(self.host, &script);
        let out = passed(&run, &self.host.read_log(), "in a unit");
        match out.strip_prefix("made 42:7 ENXIO\n") {
            Some(calls) => (true, calls.to_owned()),
            None => (false, out),
        }
    }
}

/// S23: only a scope that holds nothing but the container, and has a closed device policy, is changed: with everything
/// that the container's configuration allows, and back when the container is refused.
#[test]
fn only_a_closed_scope_of_the_container_alone_is_changed() {
    let id = std::process::id();
    let (scope, service) =
        (format!("mig-cdi-test-{id}.scope"), format!("mig-cdi-test-{id}.service"));
    let closed =
        "DevicePolicy=strict\nDeviceAllow=/dev/char/1:3 rwm\nDeviceAllow=/dev/char/195:0 m\n";
    let show = format!("show --property=DevicePolicy,DeviceAllow -- {scope}\nPWD=/\n");
    let set = |rules: &[&str]| {
        let rules: String =
            rules.iter().map(|rule| format!(" DeviceAllow=/dev/char/{rule}")).collect();
        format!("set-property --runtime -- {scope} DeviceAllow={rules}\nPWD=/\n")
    };
    let slice = ["195:255 rw", "511:0 rw", "511:1 rw", "508:30 rw", "508:31 rw"];
    let changed = set(&[&["1:3 rwm", "195:0 mrw", "42:7 rw"], &slice[..]].concat());
    let restored = set(&["1:3 rwm", "195:0 m"]);
    // conmon, or a program of the user's.
    let other = format!(
        "mkdir -p $group/{scope}/other; sleep 1000 & other=$!; echo $other >$group/{scope}/other/cgroup.procs"
    );
    // All devices of the container and the GPU, and no slice.
    let deny = format!(
        "mkdir $group/{scope}; echo a >$group/{scope}/devices.deny
        for rule in 'c *:* m' 'b *:* m' 'c 1:* rwm' 'c 5:* rwm' 'c 10:* rwm' 'c 136:* rwm' 'c 42:* rw' 'c 195:* rw' 'c 511:* rw'; do
            echo \"$rule\" >$group/{scope}/devices.allow
        done"
    );
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let run = |unit: &str, shown, code, before: &str| {
            let group = format!("{unit}/container");
            let (podman, host, group) = (&podman, &host, &*group);
            InUnit { podman, host, group, systemctl: (shown, code), rules: &[], before }.run()
        };
        let what = format!("{variant:?}");
        assert_eq!(run(&scope, closed, 0, ""), (true, format!("{show}{changed}")), "{what}");
        assert_eq!(run(&scope, "DevicePolicy=auto\n", 0, ""), (true, show.clone()), "{what}");
        assert_eq!(run(&service, closed, 0, ""), (true, String::new()), "{what}");
        assert_eq!(run(&scope, closed, 0, &other), (true, String::new()), "{what}");
        let calls = format!("{show}{changed}{restored}");
        assert_eq!(run(&scope, closed, 1, ""), (false, calls.clone()), "{what}");
        let log = host.read_log();
        assert!(log.contains(&format!("allow devices in the systemd unit {scope}: ")), "{log}");
        assert!(log.trim_end().ends_with("no such unit"), "{log}");
        assert_eq!(run(&scope, "", 0, ""), (false, show.clone()), "{what}");
        if variant.1 == "v1" {
            // The kernel refuses what the parent cgroup denies.
            assert_eq!(run(&scope, closed, 0, &deny), (false, calls), "{what}");
        }
    }
}

/// systemd has no rule for what the container's configuration denies after it was allowed. A scope that was not changed would lose
/// the slice at the next `daemon-reload`, so the container does not start.
#[test]
fn a_slice_that_systemd_would_take_away_is_not_injected() {
    let id = std::process::id();
    let (scope, service) =
        (format!("mig-cdi-test-{id}.scope"), format!("mig-cdi-test-{id}.service"));
    let show = format!("show --property=DevicePolicy,DeviceAllow -- {scope}\nPWD=/\n");
    let closed = "DevicePolicy=strict\nDeviceAllow=/dev/char/42:7 rw\n";
    let rule = json!({"allow": false, "type": "c", "major": 42, "minor": 8, "access": "rwm"});
    // A systemctl that everybody can write to.
    let weak = "cp $DIR/tools/systemctl /run/systemctl
        chmod 777 /run/systemctl
        mount --bind /run/systemctl /usr/bin/systemctl";
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let run = |unit: &str, shown, rules: &[Value], before: &str| {
            let group = format!("{unit}/container");
            let (podman, host, group) = (&podman, &host, &*group);
            InUnit { podman, host, group, systemctl: (shown, 0), rules, before }.run()
        };
        let what = format!("{variant:?}");
        let rules = std::slice::from_ref(&rule);
        assert_eq!(run(&scope, closed, rules, ""), (false, show.clone()), "{what}");
        let why = format!("allow devices in the systemd unit {scope}: systemd cannot express");
        assert!(host.read_log().contains(&why), "{what}: {}", host.read_log());
        // Where systemd has no list, it takes nothing away.
        assert_eq!(run(&scope, "DevicePolicy=auto\n", rules, ""), (true, show.clone()), "{what}");
        assert_eq!(run(&service, closed, rules, ""), (true, String::new()), "{what}");
        assert_eq!(run(&scope, closed, &[], weak), (false, String::new()), "{what}");
        let why = "another user could exchange systemctl: /usr/bin/systemctl has mode 0777; run chown root";
        assert!(host.read_log().contains(why), "{what}: {}", host.read_log());
    }
}

/// The mode `runtime` in engines that are daemons: as a runtime of Docker, and as a handler of containerd. The engine
/// shows the reason of a refusal.
fn a_daemon_s_runtime<E>(
    start: impl Fn(&'static str, &FakeHost) -> E,
    probe: impl Fn(&E, &str, &[&str]) -> Result<String, String>,
) {
    for cgroup in ["v1", "v2"] {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        host.configure_hook("runtimes = [\"/usr/bin/runc\", \"/usr/sbin/runc\"]");
        host.generate(&[]).assert_code(0);
        let engine = start(cgroup, &host);
        let numbers = ["508:30", "508:31", "508:39", "508:40"];
        let output = probe(&engine, "0:2g.20gb:0", &numbers);
        let output = output.unwrap_or_else(|e| panic!("{cgroup}: {e}{}", host.read_log()));
        let expected = format!(
            "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
{SHARED}{}made 508:30 ENXIO
made 508:31 ENXIO
made 508:39 EPERM
made 508:40 EPERM
",
            variables("runtime")
        );
        similar_asserts::assert_eq!(output, expected, "{cgroup}");
        let refused = probe(&engine, "0:2g.20gb:6", &numbers).expect_err("it is not there");
        assert!(refused.contains("has no such device"), "{cgroup}: {refused}");
    }
}

#[test]
fn docker_injects_a_slice_with_the_runtime_mig_cdi() {
    a_daemon_s_runtime(Docker::start, Docker::probe_by_runtime);
}

#[test]
fn containerd_injects_a_slice_with_the_handler_mig_cdi() {
    a_daemon_s_runtime(Containerd::start, Containerd::probe_by_runtime);
}

/// podman as `mig-cdi configure` sets it up: the hook by a drop-in and a directory of its own, and the runtime by its
/// name.
#[test]
fn podman_injects_a_slice_as_configured() {
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman);
        let root = host.out().with_file_name("machine");
        let copy = |from: &Path, to: &str| {
            let to = root.join("etc").join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        };
        copy(&project().join("tests/engines/containers.conf"), "containers/containers.conf");
        copy(&host.config(), "mig-cdi/config.toml");
        let version = run(Command::new("podman").arg("--version")).stdout;
        let mut configure = Command::new(host.install().join("mig-cdi"));
        configure.env_clear().args(["configure", "podman", "--hook", "--runtime"]);
        configure.arg(format!("--engine-version={}", version.split_whitespace().last().unwrap()));
        let configured = run(configure.arg(format!("--host-root={}", root.display())));
        configured.assert_code(0);
        for (how, runtime) in [("the hook", ""), ("the runtime", "--runtime mig-cdi")] {
            let machine = root.join("etc").display().to_string();
            let script = format!(
                "mkdir -p /run/upper/x /run/work
                mount -t overlay overlay -o lowerdir={machine}:/etc,upperdir=/run/upper,workdir=/run/work /etc
                unset CONTAINERS_CONF
                {}
                $PODMAN {runtime} run --rm --cap-add MKNOD --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS \\
                    probe 508:30 508:39",
                if runtime.is_empty() { "" } else { "sed -i /hooks_dir/d /etc/containers/containers.conf.d/50-mig-cdi.conf" }
            );
            let run = podman.script(&host, &script);
            let out = passed(&run, &host.read_log(), how);
            assert!(
                out.starts_with("node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO\n"),
                "{how}: {out}"
            );
            assert!(
                out.ends_with("made 508:30 ENXIO\nmade 508:39 EPERM\n"),
                "{how} {variant:?}: {out}"
            );
        }
    }
}
