//! The settings file: a wrong value of any key ends every command with exit code 2, and the message has the file, the
//! line, the key and the cause. Flags of the same meaning are checked by the same rules.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, mig_cdi, run};
use std::fs;

/// Settings with one mistake each, and the message that they give after the file's name.
const WRONG: &[(&str, &str)] = &[
    ("kind = 'mig'", "line 1: kind: \"mig\" is not "),
    ("\n\nspec-dirs = ['relative']", "line 3: spec-dirs: \"relative\" is not an absolute path"),
    ("spec-dirs = ['/etc/cdi',\n'']", "line 2: spec-dirs: an empty path"),
    ("spec-dirs = ['/etc/cdi',\n'/']", "line 2: spec-dirs: \"/\" is no directory for specs"),
    ("spec-dirs = ['/proc/self']", "line 1: spec-dirs: \"/proc/self\" is no directory for specs"),
    ("spec-dirs = ['/etc/../cdi']", "line 1: spec-dirs: \"/etc/../cdi\" contains '..'"),
    (
        "spec-dirs = ['/a', '/b', '/a/']",
        "line 1: spec-dirs: \"/a/\" is the same directory as \"/a\"",
    ),
    ("spec-dirs = []", "line 1: spec-dirs: the list is empty; name at least one"),
    ("names = []", "line 1: names: the list is empty; name at least one"),
    ("names = ['uid']", "line 1: names: \"uid\" is not uuid, slot or index"),
    ("max-cdi-version = '0.5'", "line 1: max-cdi-version: \"0.5\" is not "),
    ("capabilities = 'all,cuda'", "line 1: capabilities: \"all,cuda\" is not "),
    ("library-dirs = ['lib']", "line 1: library-dirs: \"lib\" is not an absolute path"),
    ("library-search-path = ['..']", "line 1: library-search-path: \"..\" is not an absolute path"),
    ("driver-root = ''", "line 1: driver-root: an empty path"),
    ("dev-root = 'dev'", "line 1: dev-root: \"dev\" is not an absolute path"),
    ("proc-root = \"/a\\u001b\"", "line 1: proc-root: "),
    ("driver-events = 1", "line 1: driver-events: invalid type"),
    ("[hook]\nruntimes = ['runc']", "line 2: hook.runtimes: \"runc\" is not an absolute path"),
    ("[hook]\nlog = 'log'", "line 2: hook.log: \"log\" is not \"syslog\" or an absolute path"),
    ("unknown = 1", "line 1: unknown field"),
    ("kind = ", "line 1: "),
];

#[test]
fn a_wrong_value_exits_with_2_and_names_file_line_and_key() {
    let host = FakeHost::new(preset("a30").unwrap());
    for (text, message) in WRONG {
        fs::write(host.config(), text).unwrap();
        for args in [&["generate"][..], &["check"], &["list"], &["watch"], &["configure", "podman"]]
        {
            let run = match args[0] {
                "configure" => run(mig_cdi(args).arg("--config").arg(host.config())),
                _ => host.run(args),
            };
            let stderr = run.stderr.replace(host.config().to_str().unwrap(), "TMP/config.toml");
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?} {text}: {stderr}");
            let message = format!("error: read TMP/config.toml: {message}");
            assert!(stderr.starts_with(&message), "{args:?} {text}: {stderr}");
            assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
        }
    }
}

/// Engines would resolve it against their own working directory.
#[test]
fn configure_refuses_a_relative_spec_directory() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fast/settings/relative.toml");
    for engine in ["podman", "docker", "crio", "containerd"] {
        let run = run(&mut mig_cdi(["--config", file, "configure", engine, "--dry-run"]));
        let message = "relative.toml: line 1: spec-dirs: \"relative\" is not an absolute path";
        assert!(run.stderr.contains(message), "{engine}: {}", run.stderr);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{engine}");
    }
}

#[test]
fn flags_are_checked_as_the_settings_of_the_same_name() {
    for (flag, message) in [
        ("--driver-root=", "an empty path"),
        ("--driver-root=root", "\"root\" is not an absolute path"),
        ("--dev-root=/a/..", "\"/a/..\" contains '..'"),
        ("--proc-root=.", "\".\" is not an absolute path"),
        ("--library-search-path=lib", "\"lib\" is not an absolute path"),
        ("--library-dirs=/usr/lib64,lib", "\"lib\" is not an absolute path"),
        ("--library-dirs=/", "\"/\" is not a directory below the container's root"),
        ("--names=", "a value is required for '--names"),
        ("--kind=mig", "\"mig\" is not "),
    ] {
        let run = run(&mut mig_cdi(["generate", "--output=-", "--node=a30", flag]));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{flag}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{flag}: {}", run.stderr);
    }
}
