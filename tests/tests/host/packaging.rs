//! `make install`: the files are where a distribution expects them, and the installed program runs.

use mig_cdi_tests::{make_install, project, run};
use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

#[test]
fn the_installed_files_are_complete_and_the_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    make_install(dir.path(), "/usr");
    for (path, mode) in [
        ("usr/bin/mig-cdi", 0o755),
        ("etc/mig-cdi/config.toml", 0o644),
        ("usr/bin/mig-cdi-kubelet", 0o755),
        ("usr/bin/mig-cdi-hook", 0o755),
        ("usr/bin/mig-cdi-runtime", 0o755),
        ("usr/share/mig-cdi/hooks.d/mig-cdi-precreate.json", 0o644),
        ("usr/share/mig-cdi/hooks.d/mig-cdi-create-runtime.json", 0o644),
        ("usr/lib/systemd/system/mig-cdi.service", 0o644),
        ("usr/lib/systemd/system/mig-cdi-refresh.service", 0o644),
        ("usr/lib/systemd/system/mig-cdi-restore.service", 0o644),
        ("usr/lib/systemd/system/mig-cdi-kubelet.service", 0o644),
        ("usr/lib/udev/rules.d/60-mig-cdi.rules", 0o644),
        ("usr/lib/tmpfiles.d/mig-cdi.conf", 0o644),
        ("usr/share/mig-cdi/engines/mig-cdi-example.container", 0o644),
        ("usr/share/mig-cdi/engines/containerd-1.7/etc/containerd/config.toml", 0o644),
        ("usr/share/mig-cdi/kubernetes/mig-cdi.yaml", 0o644),
        ("usr/share/doc/mig-cdi/picture.svg", 0o644),
        ("usr/share/man/man1/mig-cdi-generate.1", 0o644),
        ("usr/share/man/man5/mig-cdi.toml.5", 0o644),
        ("usr/share/man/man8/mig-cdi-hook.8", 0o644),
        ("usr/share/bash-completion/completions/mig-cdi", 0o644),
        ("usr/share/zsh/site-functions/_mig-cdi", 0o644),
        ("usr/share/fish/vendor_completions.d/mig-cdi.fish", 0o644),
    ] {
        let metadata =
            fs::metadata(dir.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
    }
    pages_are_whole(&dir.path().join("usr/share/doc/mig-cdi"));
    let mut program = Command::new(dir.path().join("usr/bin/mig-cdi"));
    program
        .args(["list", "--node=a30", "--config"])
        .arg(dir.path().join("etc/mig-cdi/config.toml"));
    let listed = run(program.env_clear());
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let hook = run(Command::new(dir.path().join("usr/bin/mig-cdi-hook")).arg("--version"));
    assert_eq!(hook.stdout, concat!("mig-cdi-hook ", env!("CARGO_PKG_VERSION"), "\n"));
    let kubelet = run(Command::new(dir.path().join("usr/bin/mig-cdi-kubelet")).arg("--version"));
    assert_eq!(kubelet.stdout, concat!("mig-cdi-kubelet ", env!("CARGO_PKG_VERSION"), "\n"));
    let link = fs::read_link(dir.path().join("usr/bin/mig-cdi-runtime")).unwrap();
    assert_eq!(link, Path::new("mig-cdi-hook"));
    // The administrator's settings survive the next installation.
    fs::write(dir.path().join("etc/mig-cdi/config.toml"), "kind = \"example.com/mine\"\n").unwrap();
    make_install(dir.path(), "/usr");
    let kept = fs::read_to_string(dir.path().join("etc/mig-cdi/config.toml")).unwrap();
    assert_eq!(kept, "kind = \"example.com/mine\"\n");
}

/// Asserts that every page is installed unchanged.
fn pages_are_whole(installed: &Path) {
    let pages = fs::read_dir(project().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let copy = installed.join(page.file_name().unwrap());
        let metadata = fs::metadata(&copy).unwrap_or_else(|e| panic!("{copy:?}: {e}"));
        assert_eq!(metadata.mode() & 0o7777, 0o644, "{copy:?}");
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&page).unwrap(), "{copy:?}");
    }
}

/// Files below another prefix name the paths of that prefix, and no service or hook is enabled.
#[test]
fn another_prefix_is_written_into_the_files() {
    let dir = tempfile::tempdir().unwrap();
    make_install(dir.path(), "/usr/local");
    let read = |path: &str| fs::read_to_string(dir.path().join("usr/local").join(path)).unwrap();
    for (path, names) in [
        ("share/mig-cdi/hooks.d/mig-cdi-precreate.json", "\"/usr/local/bin/mig-cdi-hook\""),
        (
            "share/mig-cdi/engines/docker-runtime/etc/docker/daemon.json",
            "\"/usr/local/bin/mig-cdi-runtime\"",
        ),
        ("lib/systemd/system/mig-cdi.service", "ExecStart=/usr/local/bin/mig-cdi watch\n"),
        ("lib/systemd/system/mig-cdi-refresh.service", "ExecStart=/usr/local/bin/mig-cdi generate"),
        (
            "lib/systemd/system/mig-cdi-restore.service",
            "ExecStart=/usr/local/bin/mig-cdi restore\n",
        ),
        (
            "lib/systemd/system/mig-cdi-kubelet.service",
            "ExecStart=/usr/local/bin/mig-cdi-kubelet\n",
        ),
        ("lib/systemd/system/mig-cdi.service", "file:///usr/local/share/doc/mig-cdi/watch.md"),
        ("share/man/man1/mig-cdi-plan.1", "/usr/local/share/doc/mig\\-cdi/partition.md"),
    ] {
        let text = read(path);
        assert!(text.contains(names) && !text.contains("/usr/bin/mig-cdi"), "{path}: {text}");
    }
    let links = run(Command::new("find").arg(dir.path()).args(["-type", "l", "-printf", "%f\n"]));
    assert_eq!(links.stdout, "mig-cdi-runtime\n", "no unit is enabled");
}

/// `make install` installs the files that `make build` builds.
#[test]
fn make_builds_what_it_installs() {
    let make = |target: &str| {
        let mut make = Command::new("make");
        let output = run(make.args(["-n", "-C", "packaging", target]).current_dir(project()));
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stdout
    };
    let (build, install) = (make("build"), make("install"));
    for (package, profile) in
        [("mig-cdi", "release"), ("mig-cdi-kubelet", "kubelet"), ("mig-cdi-hook", "hook")]
    {
        let line = build
            .lines()
            .find(|line| format!("{line} ").contains(&format!("--package {package} ")));
        let line = line.unwrap_or_else(|| panic!("{package} is not built: {build}"));
        assert!(
            line.contains("--release") && profile == "release"
                || line.contains(&format!("--profile {profile}")),
            "{line}"
        );
        assert!(install.contains(&format!("{profile}/{package} ")), "{install}");
    }
}
