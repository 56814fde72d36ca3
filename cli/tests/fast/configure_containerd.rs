//! `mig-cdi configure containerd` with files of several versions, empty files and files that containerd rejects. The engines tests hold
//! the rules against the real containerd 1.7 and 2.1; 2.3 is here alone, by its source.

use mig_cdi_tests::configure_host::ConfigureHost;

const MAIN: &str = "/etc/containerd/config.toml";
const OURS: &str = "/etc/containerd/conf.d/50-mig-cdi.toml";
const IMPORTS: &str = "imports = ['conf.d/*.toml']\n";
const CRI_2: &str = "plugins.\"io.containerd.grpc.v1.cri\"";
const CRI_3: &str = "plugins.\"io.containerd.cri.v1.runtime\"";

/// A host with this main file and this drop-in.
fn machine(main: &str, drop_in: &str) -> ConfigureHost {
    let machine = ConfigureHost::new();
    machine.put(MAIN, main);
    machine.put("/etc/containerd/conf.d/10-a.toml", drop_in);
    machine
}

/// Up to 2.2 the version of the last file counts for all files, so that ours must not change it.
#[test]
fn a_drop_in_keeps_the_version_by_which_all_files_are_read() {
    let off = |version: u32, plugin: &str| {
        format!("version = {version}\n{IMPORTS}[{plugin}]\nenable_cdi = false\n")
    };
    let table = |version: u32, plugin: &str| {
        format!("version = {version}\n[{plugin}.containerd]\ndefault_runtime_name = 'nvidia'\n")
    };
    let ours = |version: u32, plugin: &str| {
        Some(format!("version = {version}\n\n[{plugin}]\nenable_cdi = true\n"))
    };
    for (release, main, drop_in, expected) in [
        ("2.1.9", off(3, CRI_3), table(3, CRI_3), ours(3, CRI_3)),
        ("2.1.9", off(2, CRI_2), table(2, CRI_2), ours(2, CRI_2)),
        // The table of version 3 wins over that of version 2, and is read in a file of version 2 too.
        ("2.1.9", off(3, CRI_3), table(2, CRI_2), ours(2, CRI_3)),
        ("2.1.9", off(3, CRI_2), off(2, CRI_2), ours(2, CRI_2)),
        // The table of version 2 is not read.
        ("2.1.9", off(2, CRI_2), table(3, CRI_3), None),
        ("2.1.9", off(3, CRI_2), table(3, CRI_3), None),
        ("2.1.9", "[plugins.cri]\nenable_cdi = false\n".to_owned(), String::new(), None),
        // 2.3 reads all tables.
        ("2.3.0", off(2, CRI_2), table(2, CRI_2), ours(2, CRI_2)),
        ("2.3.0", off(3, CRI_2), table(2, CRI_2), ours(3, CRI_3)),
        ("2.3.0", off(4, CRI_2), table(2, CRI_2), None),
    ] {
        let machine = machine(&main, &drop_in);
        let args = format!("containerd --engine-version {release}");
        machine.run_ok(&args);
        let has_ours = machine.path(OURS).exists();
        assert_eq!(has_ours, expected.is_some(), "{release} {main} {drop_in}");
        if let Some(expected) = expected {
            assert!(machine.read(OURS).ends_with(&expected), "{main}: {}", machine.read(OURS));
        }
        assert!(machine.run_ok(&args).stderr.contains("nothing to change\n"), "{main}");
    }
}

/// containerd would not start, and a change of ours would not cure it.
#[test]
fn a_file_that_containerd_rejects_is_named() {
    for (release, main, drop_in, words) in [
        (
            "1.7.24",
            "version = 2\n",
            "[plugins.cri]\nsandbox_image = 'x'\n",
            [
                "conf.d/10-a.toml: the files are of version 2, and its table plugins.cri has a name of version 1",
                "rename the table to plugins.\"io.containerd.grpc.v1.cri\"",
            ],
        ),
        (
            "1.7.24",
            "version = 2\n",
            "version = 3\n",
            ["10-a.toml: its version is 3", "set version = 2 there"],
        ),
        (
            "2.1.9",
            "version = 3\n",
            "version = 4\n",
            ["10-a.toml: its version is 4", "set version = 3 there"],
        ),
        (
            "2.1.9",
            "version = 3\n",
            "version = -1\n",
            ["10-a.toml: its version is -1, and there is none below 1", "set version = 2 there"],
        ),
        (
            "2.3.0",
            "version = 3\n",
            "version = -1\n",
            ["10-a.toml: its version is -1, and there is none below 1", "set version = 2 there"],
        ),
        // 2.3 compares with the first file that has a version.
        (
            "2.3.0",
            "version = 2\n",
            "version = 3\n",
            [
                "10-a.toml: its version is 3, and that of the file that is read first is 2",
                "containerd config migrate",
            ],
        ),
        (
            "1.7.24",
            "version = 2\n",
            "disabled_plugins = ['cri']\n",
            [
                "10-a.toml: its disabled_plugins has \"cri\", a name of version 1",
                "write \"io.containerd.grpc.v1.cri\" in its place",
            ],
        ),
        (
            "2.1.9",
            "version = 3\n",
            "version = 2\nrequired_plugins = ['task']\n",
            [
                "10-a.toml: its required_plugins has \"task\", a name of version 1",
                "write its whole name",
            ],
        ),
        (
            "2.3.0",
            "version = 3\n",
            "plugins = 3\n",
            ["10-a.toml: its plugins is not a table of tables", "correct it"],
        ),
        (
            "1.7.24",
            "version = 2\n",
            "version = '2'\n",
            ["10-a.toml: its version is not a whole number", "correct it"],
        ),
        (
            "2.1.9",
            "version = 3\n",
            "imports = '/x'\n",
            ["10-a.toml: its imports is not a list of strings", "correct it"],
        ),
        // containerd itself ends, and only its `config dump` goes on.
        (
            "1.7.24",
            "version = 2\n",
            "imports = ['/x.toml']\n",
            [
                "10-a.toml: it imports /x.toml, which is not there",
                "create that, or remove it from imports",
            ],
        ),
        (
            "2.1.9",
            "version = 3\n",
            "imports = ['./x.toml']\n",
            ["imports /etc/containerd/conf.d/x.toml, which", "create that"],
        ),
    ] {
        let machine = machine(&format!("{main}{IMPORTS}"), drop_in);
        let before = machine.tree();
        let refused = machine.configure(&format!("containerd --engine-version {release}"));
        assert_eq!(
            (refused.code, machine.tree() == before),
            (5, true),
            "{words:?} {}",
            refused.stderr
        );
        for words in ["it does not start with /etc/containerd/"].iter().chain(&words) {
            assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        }
    }
}

/// 1.7 reads a file of a negative version, with the names of version 2 (measured with 1.7.24).
#[test]
fn a_negative_version_is_that_of_2_to_containerd_1() {
    let machine = ConfigureHost::new();
    machine.put(MAIN, "version = -1\n");
    machine.run_ok("containerd --engine-version 1.7.24");
    assert_eq!(machine.read(MAIN), format!("version = -1\n\n[{CRI_2}]\nenable_cdi = true\n"));
}

/// 1.7 reads a file without a version as one of version 1, in which the plugin has another name.
#[test]
fn a_file_without_keys_gets_a_version() {
    for text in ["", "\n", "# disabled_plugins = [\"cri\"]\n"] {
        let machine = ConfigureHost::new();
        machine.put(MAIN, text);
        machine.run_ok("containerd --engine-version 1.7.24");
        let after = format!("{text}version = 2\n\n[{CRI_2}]\nenable_cdi = true\n");
        assert_eq!(machine.read(MAIN).trim_start(), after.trim_start());
        machine.run_ok("containerd --undo");
        assert_eq!(machine.read(MAIN), text);
    }
}

/// `..` in a pattern is resolved as containerd does it.
#[test]
fn a_pattern_with_the_parent_directory_is_followed() {
    let machine = ConfigureHost::new();
    machine.set_spec_dirs(&["/srv/slices"]);
    machine.put(MAIN, "version = 3\nimports = [\"a/x.toml\"]\n");
    machine.put("/etc/containerd/a/x.toml", "version = 3\nimports = [\"./../b/*.toml\"]\n");
    machine.run_ok("containerd --engine-version 2.1.9");
    assert!(machine.read("/etc/containerd/b/50-mig-cdi.toml").contains("\"/srv/slices\"]\n"));
}

/// In 1.7 a later file replaces the table of the plugin. The advice keeps what the file has besides.
#[test]
fn a_table_that_replaces_ours_is_completed_and_not_removed() {
    let nvidia = format!(
        "version = 2\n[{CRI_2}]\nenable_cdi = true\ncdi_spec_dirs = ['/etc/cdi']\n[{CRI_2}.containerd]\ndefault_runtime_name = 'nvidia'\n"
    );
    let machine = machine(&format!("version = 2\n{IMPORTS}"), &nvidia);
    let refused = machine.configure("containerd --engine-version 1.7.24");
    let advice = format!(
        "10-a.toml is read after /etc/containerd/config.toml, and its table plugins.io.containerd.grpc.v1.cri would override ours; \
         set in /etc/containerd/conf.d/10-a.toml: cdi_spec_dirs = [\"/etc/cdi\", \"/var/run/cdi\"] below [{CRI_2}]\n"
    );
    assert!(refused.code == 5 && refused.stderr.ends_with(&advice), "{}", refused.stderr);
}

/// A table of the newer name would hide that of the older one.
#[test]
fn settings_to_make_by_hand_have_the_form_of_the_file() {
    let main = format!(
        "version = 2\nimports = ['conf.d/*.toml', '/etc/x/*.toml']\n[{CRI_2}.containerd]\ndefault_runtime_name = 'nvidia'\n"
    );
    let machine =
        machine(&main, &format!("version = 2\n[{CRI_2}]\nenable_cdi = 3\ncdi_spec_dirs = 'x'\n"));
    machine.set_spec_dirs(&["/srv/slices"]);
    let refused = machine.configure("containerd --engine-version 2.1.9");
    assert!(
        refused.stderr.contains("set by hand: ")
            && refused.stderr.contains(&format!("below [{CRI_2}]")),
        "{}",
        refused.stderr
    );
}

/// Advice is one line, and names what is there too.
#[test]
fn settings_to_make_by_hand_are_complete() {
    for (args, path, text, advice) in [
        (
            "docker --engine-version 28.5.2",
            "/etc/docker/daemon.json",
            "{\"cdi-spec-dirs\": \"/srv/cdi\"}\n",
            "set by hand: { \"features\": { \"cdi\": true }, \"cdi-spec-dirs\": [\"/srv/cdi\", \"/etc/cdi\", \"/var/run/cdi\"] }\n",
        ),
        (
            "podman --engine-version 5.5.0",
            "/etc/containers/containers.conf",
            "engine = 3\n",
            "set by hand: cdi_spec_dirs = [\"/etc/cdi\", \"/var/run/cdi\"] below [engine]\n",
        ),
        (
            "podman --engine-version 5.6.0",
            "/etc/containers/containers.conf.d/99-x.conf",
            "[engine]\ncdi_spec_dirs = [\"/srv/cdi\"]\n",
            "or set there: cdi_spec_dirs = [\"/srv/cdi\", \"/etc/cdi\", \"/var/run/cdi\"] below [engine]\n",
        ),
    ] {
        let machine = ConfigureHost::new();
        machine.put(path, text);
        let refused = machine.configure(args);
        assert!(refused.stderr.ends_with(advice), "{}", refused.stderr);
    }
}
