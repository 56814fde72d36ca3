//! `mig-cdi configure` of an engine that runs: its command line counts, and files that another program writes stay as they are.
//! Situations from public bug reports.

use mig_cdi_tests::{configure_host::ConfigureHost, mig_cdi, run};
use std::os::unix::fs::symlink;

const MAIN: &str = "/etc/containerd/config.toml";
const CRI: &str = "plugins.'io.containerd.cri.v1.runtime'";

/// A host on which daemons run with these command lines.
fn running(lines: &[&str]) -> ConfigureHost {
    let machine = ConfigureHost::new();
    machine.put("/proc/stat", "btime 1700000000\n");
    for (pid, line) in (100..).zip(lines) {
        put_process(&machine, pid, line, "");
    }
    machine
}

fn put_process(machine: &ConfigureHost, pid: u32, line: &str, status: &str) {
    let name = line.split(' ').next().unwrap();
    let put = |file: &str, text: &str| machine.put(&format!("/proc/{pid}/{file}"), text);
    put("comm", &format!("{name}\n"));
    put("cmdline", &line.replace(' ', "\0"));
    put("status", &format!("Name:\t{name}\nUid:\t0\t0\t0\t0\n{status}"));
    let fields = "S 1 1 1 0 -1 0 1 0 0 0 1 1 0 0 20 0 1 0 1000 1 1";
    put("stat", &format!("{pid} ({name}) {fields}\n"));
}

/// Asserts a refusal that changes nothing and says this.
fn refused(machine: &ConfigureHost, args: &str, words: &[&str]) {
    let before = machine.tree();
    let run = machine.configure(args);
    assert_eq!(run.code, 5, "{args}: {}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{args}: {word}: {}", run.stderr);
    }
    assert_eq!(machine.tree(), before, "{args}");
}

/// dockerd does not start with features on its command line and in its file (moby `daemon/config/config.go`).
#[test]
fn features_of_dockerd_are_set_in_one_place() {
    let other = running(&["dockerd -H fd:// --feature containerd-snapshotter=true"]);
    let start = "start it with --feature cdi=true";
    refused(
        &other,
        "docker --engine-version 28.1.1",
        &["--feature containerd-snapshotter=true", start],
    );
    // dockerd would refuse this file too.
    other.put("/etc/docker/daemon.json", "{\"features\": 7}");
    refused(&other, "docker --engine-version 28.1.1", &[start]);
    std::fs::remove_file(other.path("/etc/docker/daemon.json")).unwrap();
    // The default.
    assert!(other.run_ok("docker --engine-version 28.5.2").stderr.contains("nothing to change\n"));
    let off = running(&["dockerd --feature=cdi=false"]);
    refused(&off, "docker --engine-version 28.5.2", &["--feature cdi=false", start]);
    for on in ["dockerd --feature cdi=true", "dockerd --feature cdi"] {
        let done = running(&[on]).run_ok("docker --engine-version 28.1.1");
        assert!(done.stderr.contains("nothing to change\n"), "{on}: {}", done.stderr);
    }
}

/// A container has files of its own, as Docker in Docker and kind do. Its processes have an id in each PID namespace.
#[test]
fn a_daemon_in_a_container_is_not_that_of_the_host() {
    let machine = running(&[]);
    let line = "dockerd --config-file=/srv/dind/daemon.json";
    put_process(&machine, 100, line, "NSpid:\t100\t1\n");
    machine.run_ok("docker --engine-version 26.1.5");
    assert!(machine.path("/etc/docker/daemon.json").exists());
    put_process(&machine, 101, line, "NSpid:\t101\n");
    let id = "4f08cd7afbc60000000000000000000000000000000000000000000000000000";
    for cgroup in [format!("/machine.slice/libpod-{id}.scope/container"), format!("/docker/{id}")] {
        // In the PID namespace of the machine.
        machine.put("/proc/101/cgroup", &format!("0::{cgroup}\n"));
        machine.run_ok("docker --engine-version 26.1.5");
        assert!(!machine.path("/srv/dind/daemon.json").exists(), "{cgroup}");
    }
    machine.put("/proc/101/cgroup", "0::/system.slice/docker.service\n");
    machine.run_ok("docker --engine-version 26.1.5");
    assert!(machine.path("/srv/dind/daemon.json").exists());
}

/// A relative path on a command line is one below the directory in which the daemon was started.
#[test]
fn relative_paths_of_a_command_line_are_resolved() {
    use std::os::unix::fs::symlink;
    for (line, args, file, text) in [
        (
            "containerd -c c.toml",
            "containerd --engine-version 1.7.24",
            "/srv/x/c.toml",
            "version = 2\n",
        ),
        (
            "dockerd --config-file=../d.json",
            "docker --engine-version 26.1.5",
            "/srv/d.json",
            "{}\n",
        ),
        (
            "crio --config-dir crio.d",
            "crio --engine-version 1.31.0",
            "/srv/x/crio.d/50-mig-cdi.conf",
            "[crio.runtime]\ncdi_spec_dirs = [\"/etc/cdi\"]\n",
        ),
    ] {
        let machine = running(&[line]);
        machine.put(file, text);
        let unknown = "it was started with the relative path ";
        refused(&machine, args, &[unknown, "/proc/100/cwd", "start it with an absolute path"]);
        symlink("/srv/x", machine.path("/proc/100/cwd")).unwrap();
        machine.put("/srv/x/x", "");
        machine.run_ok(args);
        assert_ne!(machine.read(file), text, "{line}");
        for usual in ["/etc/containerd", "/etc/docker", "/etc/crio"] {
            assert!(!machine.path(usual).exists(), "{line}: {usual}");
        }
    }
    // Directories count as those of an absolute path do.
    let machine = running(&["crio --cdi-spec-dirs site"]);
    symlink("/srv", machine.path("/proc/100/cwd")).unwrap();
    let words = ["--cdi-spec-dirs /srv/site, which counts alone"];
    refused(&machine, "crio --engine-version 1.31.0", &words);
}

/// Files that another program writes: the change would be lost at the next start.
#[test]
fn a_file_that_a_distribution_writes_is_not_edited() {
    let generated =
        "# File generated by k3s. DO NOT EDIT. Use config.toml.tmpl instead.\nversion = 3\n";
    let os = ("/etc/os-release", "NAME=Bottlerocket\nID=bottlerocket\n");
    let template = "config-v3.toml.tmpl (config.toml.tmpl before containerd 2) beside it, and set there enable_cdi = true below [plugins.";
    let default = "/etc/containerd/config.toml";
    for (file, text, mark, words) in [
        ("/data/k3s/agent/etc/containerd/config.toml", generated, None, ["k3s writes", template]),
        (
            "/opt/rke2/agent/etc/containerd/config.toml",
            "version = 3\n",
            None,
            ["rke2 writes", template],
        ),
        (
            "/etc/k0s/containerd.toml",
            "# k0s_managed=true\nversion = 3\n",
            None,
            ["k0s writes", "] in a file of /etc/k0s/containerd.d/"],
        ),
        (
            "/run/k0s/containerd-cri.toml",
            "version = 3\n",
            None,
            ["k0s writes", "] in a file of /etc/k0s/containerd.d/"],
        ),
        (
            "/nix/store/x-containerd.toml",
            "version = 3\n",
            None,
            [
                "nixos writes",
                "virtualisation.containerd.settings in configuration.nix set enable_cdi = true below",
            ],
        ),
        (
            "/usr/share/containerd/config.toml",
            "version = 3\n",
            None,
            [
                "flatcar has this file in its read-only system",
                "copy it to /etc/containerd/config.toml, set there enable_cdi = true below",
            ],
        ),
        (default, "version = 3\n", Some(os), ["bottlerocket writes", "device-list-strategy"]),
        (
            default,
            "version = 3\n",
            Some(("/usr/bin/nodeadm", "")),
            ["eks writes", "] in spec.containerd.config"],
        ),
    ] {
        let machine = running(&[&format!("containerd -c {file}")]);
        machine.put(file, text);
        if let Some((path, text)) = mark {
            machine.put(path, text);
        }
        for version in ["1.7.24", "2.1.5"] {
            let text = text
                .replace("version = 3", if version < "2" { "version = 2" } else { "version = 3" });
            machine.put(file, &(text + &format!("[{CRI}]\nenable_cdi = false\n")));
            let args = format!("containerd --engine-version {version}");
            refused(&machine, &args, &words);
            if !words[1].contains("device-list-strategy") {
                let plugin = if version < "2" {
                    "io.containerd.grpc.v1.cri"
                } else {
                    "io.containerd.cri.v1.runtime"
                };
                let settings = format!("enable_cdi = true below [plugins.\"{plugin}\"]");
                refused(&machine, &args, &[&settings]);
            }
        }
    }
    // dockerd's file on NixOS is a link into its store.
    let machine = running(&["dockerd --config-file=/nix/store/x-daemon.json"]);
    machine.put("/nix/store/x-daemon.json", "{}");
    let settings = "set { \"features\": { \"cdi\": true } }";
    refused(
        &machine,
        "docker --engine-version 26.1.5",
        &["nixos writes", "virtualisation.docker.daemon.settings in configuration.nix", settings],
    );
}

/// Without k0s's mark its file is the administrator's, and no other is imported.
#[test]
fn a_file_that_its_user_has_taken_over_is_edited() {
    let machine = running(&["containerd --config=/etc/k0s/containerd.toml"]);
    machine.put("/etc/k0s/containerd.toml", "version = 2\n");
    let done = machine.run_ok("containerd --engine-version 1.7.24");
    assert!(machine.read("/etc/k0s/containerd.toml").contains("enable_cdi = true"));
    assert!(done.stderr.contains("has not read the change yet: run "), "{}", done.stderr);
}

/// dockerd starts a containerd of its own, with a file that it writes.
#[test]
fn docker_s_own_containerd_is_not_configured() {
    let own = "containerd --config /var/run/docker/containerd/containerd.toml";
    let alone = running(&["dockerd", own]);
    refused(
        &alone,
        "containerd --engine-version 2.1.5",
        &["docker's own", "run mig-cdi configure docker"],
    );
    let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let machine = running(&[own, &format!("containerd -c {k3s}")]);
    machine.put(k3s, &format!("version = 3\n[{CRI}]\nenable_cdi = true\n"));
    let done = machine.run_ok("containerd --engine-version 2.1.5");
    assert!(
        done.stderr.contains(&format!("the running containerd reads {k3s}")),
        "{}",
        done.stderr
    );
}

/// The doctor of the same host.
fn doctor(machine: &ConfigureHost, args: &[&str]) -> String {
    let root = format!("--host-root={}", machine.path("/").display());
    let mut doctor = mig_cdi(["doctor", "--config=/dev/null", "--node=a100-80gb", &root]);
    machine.tidy(run(doctor.args(args))).stdout
}

/// k3s has a containerd of its own, one of the many names of its program. A package beside it does not run.
#[test]
fn the_engine_is_the_one_that_runs() {
    let (bin, k3s) =
        ("/var/lib/rancher/k3s/data/x/bin", "/var/lib/rancher/k3s/agent/etc/containerd");
    let machine = running(&[&format!("containerd -c {k3s}/config.toml")]);
    machine.put(&format!("{k3s}/config.toml"), "version = 3\n");
    let text = "#!/bin/sh\ncase $0 in */containerd) echo containerd k3s-io/containerd v2.1.5-k3s1;; esac\n";
    machine.program(&format!("root{bin}/k3s"), text);
    symlink("k3s", machine.path(&format!("{bin}/containerd"))).unwrap();
    symlink(format!("{bin}/k3s"), machine.path("/proc/100/exe")).unwrap();
    let line =
        format!("containerd: containerd 2.1.5 at {bin}/containerd, accepts cdi up to 1.0.0\n");
    for has_package in [false, true] {
        if has_package {
            machine.program("root/usr/bin/containerd", "#!/bin/sh\necho containerd x 1.7.24\n");
        }
        // CDI is on in 2.1 unless a file says otherwise.
        let done = machine.run_ok("containerd");
        assert!(done.stderr.contains("nothing to change\n"), "{}", done.stderr);
        let found = doctor(&machine, &[]);
        assert!(found.contains(&line), "{found}");
        assert!(found.contains("ok       config        containerd: it reads /etc/cdi"), "{found}");
    }
}

/// The doctor advises nothing that `configure` refuses.
#[test]
fn the_doctor_says_what_configure_says_of_unclear_daemons() {
    let own = "containerd --config /var/run/docker/containerd/containerd.toml";
    let two = ["containerd -c /a.toml", "containerd -c /b.toml"];
    for (lines, severity, words) in [
        (&["dockerd", own][..], "note   ", "docker's own, and dockerd writes"),
        (&two[..], "warning", "several run, with /a.toml and /b.toml"),
        (&["containerd -c a.toml"], "warning", "started with the relative path a.toml: "),
    ] {
        let machine = running(lines);
        machine.program("root/srv/bin/containerd", "#!/bin/sh\necho containerd x 1.7.24\n");
        for pid in (100..).take(lines.len()) {
            symlink("/srv/bin/containerd", machine.path(&format!("/proc/{pid}/exe"))).unwrap();
        }
        refused(&machine, "containerd", &[words]);
        let found = doctor(&machine, &[]);
        let config: Vec<_> =
            found.lines().filter(|line| line.contains(" config        containerd: ")).collect();
        assert!(config.len() == 1 && config[0].contains(words), "{found}");
        assert!(config[0].starts_with(severity), "{found}");
    }
}

/// `--config-file` may have any name, and an empty file is no error (moby `daemon/config/config.go`).
#[test]
fn the_doctor_reads_the_file_of_dockerd_as_json() {
    for (text, line) in [
        ("", "docker: it reads /etc/cdi, /var/run/cdi"),
        ("{\"features\":{\"cdi\":false}}", "docker: features.cdi is not on"),
    ] {
        let machine = running(&["dockerd --config-file=/srv/docker.conf"]);
        machine.put("/srv/docker.conf", text);
        machine.program("root/usr/bin/dockerd", "#!/bin/sh\necho Docker version 28.5.2,\n");
        let found = doctor(&machine, &[]);
        assert!(found.contains(line) && !found.contains("parse "), "{found}");
    }
}

#[test]
fn another_running_daemon_is_named() {
    let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let machine = running(&["containerd", &format!("containerd -c {k3s}")]);
    let done = machine.run_ok("containerd --engine-version 1.7.24");
    let warning = format!("another running containerd reads {k3s}, which stays as it is");
    assert!(done.stderr.contains(&warning), "{}", done.stderr);
}

#[test]
fn the_restart_is_that_of_the_distribution() {
    let dir = "/var/lib/rancher/k3s/agent/etc/containerd";
    let machine = running(&[&format!("containerd -c {dir}/config.toml")]);
    let text = format!(
        "# File generated by k3s.\nversion = 3\nimports = ['{dir}/config-v3.toml.d/*.toml']\n[{CRI}]\nenable_cdi = false\n"
    );
    machine.put(&format!("{dir}/config.toml"), &text);
    let done = machine.run_ok("containerd --engine-version 2.1.5");
    assert!(done.stderr.contains("run systemctl restart k3s, or k3s-agent\n"), "{}", done.stderr);
    let snap = "/var/snap/docker/current/config/daemon.json";
    let machine = running(&[&format!("dockerd --config-file={snap}")]);
    machine.put(snap, "{}\n");
    let done = machine.run_ok("docker --engine-version 26.1.5");
    assert!(done.stderr.contains("run snap restart docker\n"), "{}", done.stderr);
}

#[test]
fn a_machine_that_a_cloud_replaces_is_named() {
    let machine = running(&[]);
    machine.put("/opt/azure/containers/provision.sh", "");
    let args = "containerd --engine-version 1.7.24";
    let done = machine.run_ok(args);
    assert!(done.stderr.contains("aks replaces this machine"), "{}", done.stderr);
    assert!(!machine.run_ok(args).stderr.contains("aks"), "nothing is changed, so nothing is lost");
    let machine = running(&[]);
    machine.put("/etc/os-release", "NAME=x\nID=cos\n");
    let done = machine.run_ok(args);
    assert!(
        done.stderr.contains("container-optimized os makes /etc anew at each boot"),
        "{}",
        done.stderr
    );
}

/// The file and the key that are named are those in the way.
#[test]
fn what_overrides_ours_is_named_truly() {
    let import = "imports = ['/etc/containerd/conf.d/*.toml']\n";
    let machine = running(&[]);
    machine.set_spec_dirs(&["/etc/cdi", "/srv/slices"]);
    machine.put(MAIN, &format!("version = 3\n{import}"));
    let site = "/etc/containerd/conf.d/60-site.toml";
    machine.put(site, &format!("version = 3\n[{CRI}]\ncdi_spec_dirs = ['/etc/cdi']\n"));
    machine.put(
        "/etc/containerd/conf.d/99-log.toml",
        &format!("version = 3\n[{CRI}]\nmax_container_log_line_size = 7\n"),
    );
    let key = "its plugins.io.containerd.cri.v1.runtime.cdi_spec_dirs would override ours";
    refused(
        &machine,
        "containerd --engine-version 2.1.5",
        &[&format!("{site} is read after"), key],
    );
    // 1.7 replaces the table.
    let machine = running(&[]);
    machine.put(MAIN, &format!("version = 2\n{import}"));
    machine.put(
        site,
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nmax_container_log_line_size = 7\n",
    );
    let table = "its table plugins.io.containerd.grpc.v1.cri would override ours";
    refused(
        &machine,
        "containerd --engine-version 1.7.24",
        &[&format!("{site} is read after"), table],
    );
}

/// Drop-ins that nobody imports do not come into effect by our import.
#[test]
fn drop_ins_that_are_not_imported_stay_so() {
    let machine = running(&[]);
    machine.put(MAIN, &format!("version = 3\n[{CRI}]\nenable_cdi = false\n"));
    machine.put("/etc/containerd/conf.d/10-old.toml", "version = 3\n[debug]\nlevel = 'debug'\n");
    let before = machine.tree();
    machine.run_ok("containerd --engine-version 2.1.5");
    let imports = "imports = [\"/etc/containerd/conf.d/50-mig-cdi.toml\"]";
    assert!(machine.read(MAIN).contains(imports), "{}", machine.read(MAIN));
    let again = machine.run_ok("containerd --engine-version 2.1.5");
    assert!(again.stderr.contains("nothing to change\n"), "{}", again.stderr);
    machine.run_ok("containerd --undo");
    assert_eq!(machine.tree(), before);
}

/// CRI-O's command line counts alone, and so do the variables that it takes in its place.
#[test]
fn directories_of_crio_s_command_line_count_alone() {
    let args = "crio --engine-version 1.31.0";
    let words =
        ["--cdi-spec-dirs /srv/site, which counts alone", "start it with --cdi-spec-dirs /etc/cdi"];
    refused(&running(&["crio --cdi-spec-dirs /srv/site"]), args, &words);
    let machine = running(&["crio"]);
    machine.put("/proc/100/environ", "HOME=/root\0CONTAINER_CDI_SPEC_DIRS=/srv/site\0");
    refused(&machine, args, &words);
}

/// dockerd takes a null for an absent value.
#[test]
fn null_is_no_value() {
    let machine = running(&[]);
    machine.set_spec_dirs(&["/etc/cdi", "/srv/slices"]);
    let text = "{\n  \"features\": null,\n  \"cdi-spec-dirs\": null\n}\n";
    machine.put("/etc/docker/daemon.json", text);
    let before = machine.tree();
    machine.run_ok("docker --engine-version 26.1.5");
    let text = machine.read("/etc/docker/daemon.json");
    assert!(text.contains("\"features\": {\"cdi\":true}"), "{text}");
    assert!(text.contains("\"/etc/cdi\",\"/var/run/cdi\",\"/srv/slices\""), "{text}");
    machine.run_ok("docker --undo");
    assert_eq!(machine.tree(), before);
}
