//! Slices that another container may open already: no mode of the hook gives them to a second one, in podman with runc and crun on both
//! versions of cgroups. Each test has nodes with a major number that no other test's have.

use mig_cdi_tests::{
    FakeHost, Run,
    deadline::kill_and_wait,
    hook::{feed, oci_config},
    podman::{Podman, VARIANTS, Variant},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

const MODES: [&str; 3] = ["precreate", "create-runtime", "runtime"];
/// One of two slices, and one of two compute instances of a third GPU instance.
const SLICE: &str = "0:2g.20gb:0";

fn host(major: u32, policy: &str) -> FakeHost {
    let host = FakeHost::with_nodes(&format!(
        "[majors]\nnvidia-caps = {major}\n[[gpu]]\nmodel = \"a100-80gb\"\nuuid = \"GPU-6f1d3a52-0d1c-4e0a-9b53-0d2f2a7d{major:04}\"\n\
         instances = [{{ profile = \"2g.20gb\", start = 0 }}, {{ profile = \"2g.20gb\", start = 2 }},\n\
         {{ profile = \"3g.40gb\", start = 4, compute = [\"1c\", \"1c\"] }}]\n"
    ));
    host.configure_hook(policy);
    host.generate(&[]).assert_code(0);
    host
}

/// Runs a script in which podman runs the hook in a mode, and has a spec for `--device`.
fn script(mode: &str, variant: Variant, major: u32, policy: &str, script: &str) -> (Run, String) {
    let podman = Podman::of_machine(variant);
    let host = host(major, &format!("runtimes = [{:?}]\n{policy}", podman.runtime()));
    let flag = match mode {
        "runtime" => format!("--runtime {}", host.runtime().display()),
        mode => format!("--hooks-dir {}", host.hooks_dir(mode).display()),
    };
    let spec = host.spec().display().to_string();
    let script = format!(
        "mkdir -p /var/run/cdi; cp {spec} /var/run/cdi
        trap '$PODMAN rm -af -t 0 >/dev/null 2>&1' EXIT
        {}",
        script.replace("$PODMAN", &format!("$PODMAN {flag}"))
    );
    (podman.script(&host, &script), host.read_log())
}

/// S20: neither a container that has the slice by `--device` nor one that requested it shares it. A privileged one has been given none, and
/// another slice is free, also one in the same GPU instance.
#[test]
fn a_slice_is_given_to_one_container() {
    let run = "
        run='run --annotation mig-cdi/devices'
        rootfs=\"--rootfs $ROOTFS\"
        privileged=$($PODMAN run -d --privileged $rootfs sleep 1000)
        for first in \"--device nvidia.com/mig=0:2g.20gb:0\" \"--annotation mig-cdi/devices=0:2g.20gb:0\"; do
            id=$($PODMAN run -d $first $rootfs sleep 1000)
            echo ${id%${id#????????????}}
            if $PODMAN $run=0:2g.20gb:0 --rm $rootfs ls /tmp 2>/dev/null; then echo shared; fi
            $PODMAN $run=0:2g.20gb:2 --rm $rootfs ls /tmp
            $PODMAN rm -f -t 0 $id >/dev/null
            $PODMAN $run=0:2g.20gb:0 --rm $rootfs ls /tmp
        done
        a=$($PODMAN $run=0:1c.3g.40gb:4:0 -d $rootfs sleep 1000)
        $PODMAN $run=0:1c.3g.40gb:4:1 --rm $rootfs ls /tmp";
    for mode in MODES {
        for variant in VARIANTS {
            let (run, log) = script(mode, variant, 460, "allow-shared = false", run);
            let what = format!("{mode} {variant:?}: {}{}{log}", run.stdout, run.stderr);
            assert_eq!(run.code, 0, "{what}");
            let holders: Vec<&str> = run.stdout.lines().collect();
            assert_eq!(holders.len(), 2, "{what}");
            let mut refusals = log.lines().filter(|line| line.contains("is refused"));
            for holder in holders {
                let line = refusals.next().unwrap_or_default();
                let expected = format!(
                    "inject {SLICE}: gpu minor 0 gi 3 ci 0 is in use by container {holder} (pid "
                );
                assert!(line.contains(&expected), "{what}");
                assert!(line.contains("; end it, or set hook.allow-shared = true in "), "{what}");
            }
            assert_eq!(refusals.next(), None, "{what}");
        }
    }
}

/// Nor to one whose cgroup its user places in that of the container that has the slice.
#[test]
fn a_container_in_the_cgroup_of_another_gets_no_slice_of_it() {
    let run = "
        id=$($PODMAN run -d --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS sleep 1000)
        $PODMAN run --rm --cgroup-parent /libpod_parent/libpod-$id --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS \
            ls /dev/nvidia-caps 2>/dev/null || echo refused";
    for mode in MODES {
        for variant in VARIANTS {
            let (run, log) = script(mode, variant, 456, "allow-shared = false", run);
            let what = format!("{mode} {variant:?}: {}{}{log}", run.stdout, run.stderr);
            assert_eq!(run.stdout, "refused\n", "{what}");
            assert!(
                log.contains(&format!(
                    "inject {SLICE}: gpu minor 0 gi 3 ci 0 is in use by container "
                )),
                "{what}"
            );
        }
    }
}

/// A container does not keep its own slice from itself: restarted, by its user or by its policy, or with the slice by `--device` too.
#[test]
fn a_container_does_not_hold_its_slice_against_itself() {
    let run = "
        request='--annotation mig-cdi/devices=0:2g.20gb:0'
        $PODMAN run -d --name c $request --rootfs $ROOTFS sleep 1000 >/dev/null
        $PODMAN restart -t 0 c >/dev/null
        $PODMAN exec c ls /dev/nvidia-caps
        $PODMAN rm -f -t 0 c >/dev/null
        rm -f $ROOTFS/again
        $PODMAN run -d --name c --restart on-failure:3 $request --rootfs $ROOTFS \
            sh -c 'if [ -e /again ]; then sleep 1000; fi; : > /again; exit 1' >/dev/null
        i=0
        until [ \"$($PODMAN inspect --format '{{.RestartCount}} {{.State.Status}}' c)\" = '1 running' ] || [ $i = 100 ]; do
            i=$((i+1)); sleep 0.1
        done
        $PODMAN inspect --format '{{.RestartCount}} {{.State.Status}}' c
        $PODMAN rm -f -t 0 c >/dev/null
        $PODMAN run --rm --device nvidia.com/mig=0:2g.20gb:0 $request --rootfs $ROOTFS ls /dev/nvidia-caps";
    for mode in MODES {
        for variant in VARIANTS {
            let (run, log) = script(mode, variant, 461, "allow-shared = false", run);
            let nodes = "nvidia-cap30\nnvidia-cap31\n";
            assert_eq!(
                (run.code, run.stdout),
                (0, format!("{nodes}1 running\n{nodes}")),
                "{mode} {variant:?}: {}{log}",
                run.stderr
            );
        }
    }
}

/// Sharing on purpose.
#[test]
fn containers_share_a_slice_where_root_allows_it() {
    let run = "
        request='--annotation mig-cdi/devices=0:2g.20gb:0'
        $PODMAN run -d $request --rootfs $ROOTFS sleep 1000 >/dev/null
        $PODMAN run --rm $request --rootfs $ROOTFS ls /dev/nvidia-caps";
    for mode in MODES {
        let (run, log) = script(mode, ("runc", "v2"), 462, "allow-shared = true", run);
        let nodes = "nvidia-cap30\nnvidia-cap31\n".to_owned();
        assert_eq!((run.code, run.stdout), (0, nodes), "{mode}: {}{log}", run.stderr);
    }
}

fn request() -> String {
    oci_config(&[], &[("mig-cdi/devices", SLICE)], false)
}

/// Returns `precreate` on this host, through a program with arguments.
fn precreate(host: &FakeHost, through: &[&str]) -> Command {
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).arg(host.install().join("mig-cdi-hook")).arg("precreate");
    command.arg(format!("--config={}", host.config().display())).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn assert_closed(run: &Run, cause: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    let line = format!("error: inject {SLICE}: its holders could not be searched for: {cause}; ");
    assert!(run.stderr.starts_with(&line), "{}", run.stderr);
    let cure = "or set hook.allow-shared = true in /etc/mig-cdi/config.toml to let containers share slices\n";
    assert!(run.stderr.ends_with(cure), "{}", run.stderr);
}

/// Where the containers of the machine cannot be seen, none gets a slice that another one may have, and the message names the setting.
#[test]
fn a_search_that_does_not_see_the_machine_gives_no_slice() {
    let host = host(463, "allow-shared = false");
    let apart = ["unshare", "--pid", "--fork", "--mount-proc"];
    let refused = feed(&mut precreate(&host, &apart), request().as_bytes());
    assert_closed(&refused, "the processes of the whole machine cannot be seen from here");
    host.configure_hook("allow-shared = true");
    feed(&mut precreate(&host, &apart), request().as_bytes()).assert_code(0);
}

/// In a user namespace the programs of other cgroups are not shown, and the mode of the nodes lets each container of the user open them.
#[test]
fn nobody_is_searched_for_in_a_user_namespace() {
    let host = host(464, "allow-shared = false");
    let apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    feed(&mut precreate(&host, &apart), request().as_bytes()).assert_code(0);
}

/// A search that does not end is stopped in time.
#[test]
fn a_search_that_does_not_end_gives_no_slice() {
    let host = host(465, "allow-shared = false");
    // A busy machine may be too late to stop the search.
    let refused = (0..50).find_map(|_| {
        let mut command = precreate(&host, &["env", "-i"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut hook = command.spawn().unwrap();
        hook.stdin.take().unwrap().write_all(request().as_bytes()).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", hook.id());
        let is_search = |pid: &&str| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("device-access")
        };
        let mut is_stopped = false;
        while !is_stopped && hook.try_wait().unwrap().is_none() {
            let pids = fs::read_to_string(&children).unwrap_or_default();
            let search = pids.split(' ').find(is_search).map(|pid| pid.parse().unwrap());
            is_stopped =
                search.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok());
        }
        if is_stopped {
            let output = hook.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            (!output.status.success()).then_some(stderr)
        } else {
            kill_and_wait(&mut hook);
            None
        }
    });
    let stderr = refused.expect("a search that is stopped");
    let run = Run { code: 1, stdout: String::new(), stderr };
    assert_closed(&run, "it takes longer than 1800 ms");
}

/// A container that requests nothing costs no search: the hook starts no process.
#[test]
fn a_container_without_a_request_causes_no_search() {
    let host = host(466, "allow-shared = false");
    let trace = host.out().with_file_name("trace");
    let trace = trace.to_str().unwrap();
    let strace = ["strace", "-f", "-qq", "-e", "trace=process", "-e", "signal=none", "-o", trace];
    let started = |config: &str| {
        feed(&mut precreate(&host, &strace), config.as_bytes()).assert_code(0);
        let calls = fs::read_to_string(trace).unwrap();
        calls.lines().filter(|line| line.contains(" execve(")).count()
    };
    assert_eq!(started(&oci_config(&[], &[], false)), 1);
    assert_eq!(started(&request()), 2);
}
