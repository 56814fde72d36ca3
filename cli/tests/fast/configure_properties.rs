//! `mig-cdi configure` neither loses nor reorders anything in an engine's file. Random files are built from pieces as
//! people write them, and afterwards they differ by the requested change only.

use mig_cdi_tests::{
    configure_host::ConfigureHost,
    engine_files::{
        configured, containerd_tables, finish, lines_stay, set, toml_value, with, within,
    },
};
use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};
use std::fs;

const CASES: u32 = 48;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn config_toml_of_containerd_2(
        head in prop::sample::select(vec![
            "version = 3\n", "# c\nversion=2 # two\nimports = [\"/etc/containerd/x.toml\"]\n",
            "version = 3\nimports = [ # these\n  \"a.toml\", # one\n  \"b.toml\",\n]\n",
            "imports = ['conf.d/*.toml']\nversion = 3\n", "version = 3\nimports = []\nroot='/x'\n",
        ]),
        tables in subsequence(containerd_tables(), 0..=8).prop_shuffle(),
        (windows, ends) in any::<(bool, bool)>(),
    ) {
        let text = finish(&format!("{head}{}", tables.concat()), windows, ends);
        let mut expected: Value = toml_value(&text);
        let machine = ConfigureHost::new();
        machine.set_spec_dirs(&["/srv/slices"]);
        for imported in ["a", "b", "x"] {
            machine.put(&format!("/etc/containerd/{imported}.toml"), "version = 2\n");
        }
        let after = configured(&machine, "/etc/containerd/config.toml", &text, "containerd --engine-version 2.1.9");
        if !head.contains("conf.d") {
            let list = with(&expected, &["imports"], &["/etc/containerd/conf.d/*.toml"]);
            set(&mut expected, &["imports"], list);
        } else {
            prop_assert_eq!(&after, &text);
        }
        prop_assert_eq!(toml_value(&after), expected, "{}", after);
        lines_stay(&text, &after, &["imports", "b.toml"]);
        prop_assert!(within(text.trim_end().chars(), after.chars()), "{}", after);
    }

    /// A drop-in of ours to which somebody has added.
    #[test]
    fn drop_ins_of_podman_and_crio(
        own in subsequence(vec![
            "# a note\n", "[engine]\nhooks_dir = [\"/x\"] # x\n", "[containers]\n  pids_limit = 0\n",
            "[crio.runtime]\ncdi_spec_dirs = [\"/var/run/cdi\",\n   \"/y\"]\n", "[crio.image]\npause_image=\"x\"\n",
        ], 0..=5).prop_shuffle(),
        (windows, ends, crio) in any::<(bool, bool, bool)>(),
    ) {
        let text = finish(&own.concat(), windows, ends);
        let (path, args, table) = match crio {
            true => ("/etc/crio/crio.conf.d/50-mig-cdi.conf", "crio --engine-version 1.36.0", vec!["crio", "runtime"]),
            false => ("/etc/containers/containers.conf.d/50-mig-cdi.conf", "podman --engine-version 5.5.2", vec!["engine"]),
        };
        let machine = ConfigureHost::new();
        machine.set_spec_dirs(&["/srv/slices"]);
        let after = configured(&machine, path, &text, args);
        let mut expected = toml_value(&text);
        let keys = [&table[..], &["cdi_spec_dirs"]].concat();
        let is_set = expected.pointer(&format!("/{}", keys.join("/"))).is_some();
        let list = match (is_set, crio) {
            (true, _) => with(&expected, &keys, &["/srv/slices"]),
            (false, true) => json!(["/etc/cdi", "/var/run/cdi", "/srv/slices"]),
            (false, false) => json!(["/etc/cdi", "/srv/slices"]),
        };
        set(&mut expected, &keys, list);
        prop_assert_eq!(toml_value(&after), expected, "{}", after);
        lines_stay(&text, &after, &["cdi_spec_dirs", "/y"]);
        prop_assert!(within(text.trim_end().chars(), after.chars()), "{}", after);
    }
}

/// Checks the generators of this file.
#[test]
fn the_generated_pieces_are_valid_toml() {
    let text = format!("version = 2\n{}", containerd_tables().concat());
    let value = toml_value(&text);
    assert_eq!(value["x"]["list"][1]["a"]["b"], json!([1, 2, 3]));
    assert!(fs::exists("/").unwrap() && within([1, 3], [1, 2, 3]) && !within([3, 1], [1, 2, 3]));
}
