//! `mig-cdi configure` of files whose keys are written in another letter case, which most engines take all the same. What the real
//! engines make of such files: `podman_settings.rs` and `containerd_settings.rs`.

use mig_cdi_tests::{configure_host::ConfigureHost, mig_cdi, run};

const PODMAN: &str = "podman --engine-version 5.6.0";
const CRIO: &str = "crio --engine-version 1.31.0";
const CONTAINERD_1: &str = "containerd --engine-version 1.7.24";
const CONTAINERD_2: &str = "containerd --engine-version 2.1.5";
const PODMAN_CONF: &str = "/etc/containers/containers.conf";
const PODMAN_OURS: &str = "/etc/containers/containers.conf.d/50-mig-cdi.conf";
const CRIO_CONF: &str = "/etc/crio/crio.conf";
const CRIO_OURS: &str = "/etc/crio/crio.conf.d/50-mig-cdi.conf";
const CONTAINERD_CONF: &str = "/etc/containerd/config.toml";
const CRI_1: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n";
const CRI_2: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n";
const BOTH: &str = "['/etc/cdi', '/srv/slices']\n";

fn machine(path: &str, text: &str) -> ConfigureHost {
    let machine = ConfigureHost::new();
    machine.set_spec_dirs(&["/etc/cdi", "/srv/slices"]);
    machine.put(path, text);
    machine
}

#[test]
fn what_is_in_effect_is_seen_in_any_case() {
    for (args, path, text) in [
        (PODMAN, PODMAN_CONF, format!("[Engine]\nCDI_Spec_Dirs = {BOTH}")),
        (PODMAN, PODMAN_CONF, format!("[engine]\nx = 1\n[ENGINE]\ncdi_spec_dirs = {BOTH}")),
        (CRIO, CRIO_CONF, format!("[Crio.Runtime]\ncdi_spec_Dirs = {BOTH}")),
        (CONTAINERD_2, CONTAINERD_CONF, format!("{CRI_2}Cdi_Spec_Dirs = {BOTH}")),
        (
            CONTAINERD_2,
            CONTAINERD_CONF,
            format!("{CRI_2}CDI_SPEC_DIRS = {BOTH}Enable_CDI = true\n"),
        ),
        (
            CONTAINERD_1,
            CONTAINERD_CONF,
            format!("{CRI_1}CDI_SPEC_DIRS = {BOTH}ENABLE_CDI = true\n"),
        ),
    ] {
        let machine = machine(path, &text);
        let before = machine.tree();
        let done = machine.run_ok(args);
        assert!(done.stderr.contains("nothing to change\n"), "{text}: {}", done.stderr);
        assert_eq!(machine.tree(), before, "{text}");
    }
}

/// No key of another file is lost, and none is written beside another spelling.
#[test]
fn a_key_is_changed_as_it_is_spelled() {
    for (args, path, text, ours, changed) in [
        (
            PODMAN,
            PODMAN_CONF,
            "[Engine]\nCDI_Spec_Dirs = ['/x']\n",
            PODMAN_OURS,
            "[\"/x\", \"/etc/cdi\", \"/srv/slices\"]",
        ),
        (
            PODMAN,
            PODMAN_OURS,
            "[Engine]\nCDI_Spec_Dirs = ['/etc/cdi']\n",
            PODMAN_OURS,
            "CDI_Spec_Dirs = ['/etc/cdi', \"/srv/slices\"]",
        ),
        (
            CRIO,
            CRIO_OURS,
            "[Crio.Runtime]\nCDI_Spec_Dirs = ['/etc/cdi']\n",
            CRIO_OURS,
            "CDI_Spec_Dirs = ['/etc/cdi', \"/srv/slices\"]",
        ),
        (
            CONTAINERD_1,
            CONTAINERD_CONF,
            &format!("{CRI_1}ENABLE_CDI = false\nCDI_SPEC_DIRS = {BOTH}"),
            CONTAINERD_CONF,
            "ENABLE_CDI = true\n",
        ),
        // 1.7 ignores this spelling.
        (
            CONTAINERD_1,
            CONTAINERD_CONF,
            &format!("{CRI_1}Enable_CDI = true\ncdi_spec_dirs = {BOTH}"),
            CONTAINERD_CONF,
            "Enable_CDI = true\ncdi_spec_dirs = ['/etc/cdi', '/srv/slices']\nenable_cdi = true\n",
        ),
        (
            CONTAINERD_2,
            CONTAINERD_CONF,
            &format!(
                "imports = ['conf.d/*.toml']\n{CRI_2}Enable_CDI = false\ncdi_spec_dirs = {BOTH}"
            ),
            "/etc/containerd/conf.d/50-mig-cdi.toml",
            "enable_cdi = true\n",
        ),
    ] {
        let machine = machine(path, text);
        let before = machine.tree();
        machine.run_ok(args);
        let after = machine.read(ours);
        assert!(after.contains(changed), "{text}{after}");
        let spellings =
            after.lines().filter(|line| line.to_lowercase().starts_with("cdi_spec_dirs"));
        assert!(spellings.count() <= 1, "{after}");
        let again = machine.run_ok(args);
        assert!(again.stderr.contains("nothing to change\n"), "{text}: {}", again.stderr);
        machine.run_ok(&format!("{} --undo", args.split(' ').next().unwrap()));
        assert_eq!(machine.tree(), before, "{text}");
    }
}

#[test]
fn a_file_that_overrides_ours_is_named_in_any_case() {
    let site = "/etc/containers/containers.conf.d/99-site.conf";
    let machine = machine(site, "[ENGINE]\nCdi_Spec_Dirs = ['/etc/cdi']\n");
    let before = machine.tree();
    let refused = machine.configure(PODMAN);
    assert!(
        refused.code == 5 && refused.stderr.contains(&format!("{site} is read after")),
        "{}",
        refused.stderr
    );
    assert_eq!(machine.tree(), before);
}

/// Go visits the keys of a map in random order; of two in the outermost table of containerd 2 the later one in the file counts.
#[test]
fn two_spellings_with_different_values_are_refused() {
    let versions = machine(CONTAINERD_CONF, "Version = 2\nversion = 3\n").configure(CONTAINERD_2);
    assert!(versions.stderr.contains("both Version and version"), "{}", versions.stderr);
    assert_eq!(versions.code, 5);
    for (args, path, table) in [(PODMAN, PODMAN_CONF, "engine"), (CRIO, CRIO_CONF, "crio.runtime")]
    {
        let text = format!("[{table}]\ncdi_spec_dirs = ['/a']\nCDI_spec_dirs = ['/b']\n");
        let tables = format!(
            "[{table}]\ncdi_spec_dirs = ['/a']\n[{}]\ncdi_spec_dirs = ['/b']\n",
            table.to_uppercase()
        );
        assert_eq!(machine(path, &tables).configure(args).code, 5, "{tables}");
        let refused = machine(path, &text).configure(args);
        let cause = format!(
            "read {path}: it has both CDI_spec_dirs and cdi_spec_dirs, which are one setting to the engine; remove one of the two\n"
        );
        assert!(refused.code == 5 && refused.stderr.contains(&cause), "{}", refused.stderr);
    }
}

#[test]
fn the_doctor_sees_a_key_in_any_case() {
    let machine = machine(PODMAN_CONF, &format!("[Engine]\nCDI_Spec_Dirs = {BOTH}"));
    machine.program("root/usr/bin/podman", "#!/bin/sh\necho podman version 5.6.0\n");
    let root = format!("--host-root={}", machine.path("/").display());
    let found = run(&mut mig_cdi(["doctor", "--config=/dev/null", "--node=a100-80gb", &root]));
    assert!(found.stdout.contains("it reads /etc/cdi, /srv/slices"), "{}", found.stdout);
}
