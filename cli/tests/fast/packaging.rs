//! `make install`: the files are where a distribution expects them, and the installed program runs.

use mig_cdi_tests::{SHIPPED_CRATES, make_install, project, run};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path, process::Command};

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

/// The shipped file shows every key with its default, and an unknown key is refused.
#[test]
fn the_shipped_config_has_every_key_and_its_default() {
    let shipped = fs::read_to_string(project().join("config/config.toml")).unwrap();
    let is_key =
        |line: &&str| line.starts_with("#[") || line.contains(" = ") && !line.contains("# ");
    let keys = shipped.lines().filter(|line| line.starts_with('#')).filter(is_key);
    let text: String = keys.map(|line| format!("{}\n", &line[1..])).collect();
    let read = mig_cdi_config::Settings::parse(&text).unwrap();
    assert_eq!(read, mig_cdi_config::Settings::parse("").unwrap());
    assert_eq!(text.lines().count(), 18, "{text}");
    mig_cdi_config::Settings::parse("unknown = 1\n").unwrap_err();
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

/// The shipped crates could be published: each has the required metadata and names the versions of the others. The
/// project's address is not known here (repository), and `publish` prevents a release by mistake.
#[test]
fn every_crate_has_the_metadata_of_a_registry() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version=1"]);
    let output = run(metadata.current_dir(project()));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let output: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let mut shipped = BTreeSet::new();
    for package in output["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        assert_eq!(package["publish"], serde_json::json!([]), "{name}");
        if ["mig-cdi-tests", "fake-nvml", "xtask"].contains(&name) {
            continue;
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let dir = manifest.parent().unwrap().strip_prefix(project()).unwrap();
        shipped.insert(dir.to_str().unwrap().to_owned());
        for key in ["description", "license", "readme", "rust_version"] {
            assert!(package[key].as_str().is_some_and(|value| !value.is_empty()), "{name}: {key}");
        }
        for key in ["keywords", "categories"] {
            let words = package[key].as_array().unwrap();
            assert!((1..=5).contains(&words.len()), "{name}: {key}");
        }
        let dependencies = package["dependencies"].as_array().unwrap();
        for dependency in dependencies.iter().filter(|it| it["kind"] != "dev") {
            assert_ne!(dependency["req"], "*", "{name}: {}", dependency["name"]);
        }
    }
    assert_eq!(shipped, SHIPPED_CRATES.map(str::to_owned).into());
}
