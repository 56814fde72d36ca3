//! `make install`: the files are where a distribution expects them, and the installed program runs.

use mig_cdi_tests::{build_dir, program, project, run};
use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

fn install(destination: &Path) {
    let mut make = Command::new("make");
    make.arg("-C").arg(project().join("packaging")).args([
        "--no-print-directory",
        "install",
        "PREFIX=/usr",
    ]);
    make.arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("BUILD={}", build_dir().display()))
        .arg(format!("HOOK={}", program("mig-cdi-hook").display()));
    let made = run(&mut make);
    assert_eq!(made.code, 0, "{}", made.stderr);
}

#[test]
fn installed_files_and_program() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for (path, mode) in [
        ("usr/bin/mig-cdi", 0o755),
        ("etc/mig-cdi/config.toml", 0o644),
        ("usr/bin/mig-cdi-hook", 0o755),
        ("usr/bin/mig-cdi-runtime", 0o755),
        ("usr/share/mig-cdi/hooks.d/mig-cdi-precreate.json", 0o644),
        ("usr/share/mig-cdi/hooks.d/mig-cdi-create-runtime.json", 0o644),
        ("usr/share/doc/mig-cdi/spec.md", 0o644),
        ("usr/share/doc/mig-cdi/hook.md", 0o644),
        ("usr/share/doc/mig-cdi/attacks.md", 0o644),
        ("usr/share/doc/mig-cdi/doctor.md", 0o644),
    ] {
        let metadata =
            fs::metadata(dir.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
    }
    let mut program = Command::new(dir.path().join("usr/bin/mig-cdi"));
    program
        .args(["list", "--node=a30", "--config"])
        .arg(dir.path().join("etc/mig-cdi/config.toml"));
    let listed = run(program.env_clear());
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let hook = run(Command::new(dir.path().join("usr/bin/mig-cdi-hook")).arg("--version"));
    assert_eq!(hook.stdout, concat!("mig-cdi-hook ", env!("CARGO_PKG_VERSION"), "\n"));
    let link = fs::read_link(dir.path().join("usr/bin/mig-cdi-runtime")).unwrap();
    assert_eq!(link, Path::new("mig-cdi-hook"));
    // What the administrator has written survives the next installation.
    fs::write(dir.path().join("etc/mig-cdi/config.toml"), "kind = \"example.com/mine\"\n").unwrap();
    install(dir.path());
    let kept = fs::read_to_string(dir.path().join("etc/mig-cdi/config.toml")).unwrap();
    assert_eq!(kept, "kind = \"example.com/mine\"\n");
}
