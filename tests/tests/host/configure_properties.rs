//! `mig-cdi configure` with and without the runtime, which has to be root's, neither loses nor reorders anything in an
//! engine's file.

use mig_cdi_tests::{
    configure_host::ConfigureHost,
    engine_files::{
        configured, containerd_tables, finish, lines_stay, set, toml_value, with, within,
    },
};
use proptest::{collection::vec, prelude::*, sample::subsequence};
use serde_json::{Map, Value, json};

const CASES: u32 = 48;
const CRI: &str = "io.containerd.grpc.v1.cri";

/// Table of the CRI plugin itself.
fn cri_tables() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\n",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"x:1\"  # here\n    # and there\n",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = false # not yet\n\n\nmax = 3\n",
        "[ plugins . \"io.containerd.grpc.v1.cri\" ]\nenable_cdi=true\ncdi_spec_dirs = [\"/srv/cdi\"]\n",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\ncdi_spec_dirs = [\n  \"/srv/cdi\", # ours\n  \"/etc/cdi\" # theirs\n]\ncontainerd.snapshotter = \"native\"\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n    SystemdCgroup = true\n",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\ncontainerd = { snapshotter = \"native\", runtimes = { runc = { runtime_type = \"io.containerd.runc.v2\" } } }\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn config_toml_of_containerd_1_7(
        head in prop::sample::select(vec!["version = 2\n", "# c\nversion=2 # two\nroot = \"/x\"\n", "\"version\" = 0x2\nimports = []\n"]),
        tables in subsequence(containerd_tables(), 0..=8).prop_shuffle(),
        cri in cri_tables(), place in 0_usize..9, tail in prop::sample::select(vec!["", "# end\n", "\n\n"]),
        (windows, ends, runtime) in any::<(bool, bool, bool)>(),
    ) {
        let mut pieces = tables;
        pieces.insert(place.min(pieces.len()), cri);
        let text = finish(&format!("{head}{}{tail}", pieces.concat()), windows, ends);
        let mut expected: Value = toml_value(&text);
        let args = format!("containerd --engine-version 1.7.24{}", if runtime { " --runtime" } else { "" });
        let after = configured(&ConfigureHost::trusted(), "/etc/containerd/config.toml", &text, &args);
        let mut now = toml_value(&after);
        let dirs = ["plugins", CRI, "cdi_spec_dirs"];
        // Without the list, containerd reads both.
        if expected["plugins"][CRI].get("cdi_spec_dirs").is_some() {
            let list = with(&expected, &dirs, &["/etc/cdi", "/var/run/cdi"]);
            set(&mut expected, &dirs, list);
        }
        set(&mut expected, &["plugins", CRI, "enable_cdi"], json!(true));
        if runtime {
            let runtimes = now["plugins"][CRI]["containerd"]["runtimes"].as_object_mut().unwrap();
            let ours = runtimes.remove("mig-cdi").unwrap();
            prop_assert_eq!(&ours["container_annotations"], &json!(["mig-cdi/*"]));
            let runc = &["plugins", CRI, "containerd", "runtimes", "runc", "runtime_type"];
            set(&mut expected, runc, json!("io.containerd.runc.v2"));
            let options = &expected["plugins"][CRI]["containerd"]["runtimes"]["runc"]["options"];
            prop_assert_eq!(ours["options"].get("SystemdCgroup"), options.get("SystemdCgroup"));
        }
        prop_assert_eq!(now, expected, "{}", after);
        let changed = ["enable_cdi", "cdi_spec_dirs", "\"/etc/cdi\"", "containerd = {"];
        lines_stay(&text, &after, &changed);
        let removed = text.replace("enable_cdi = false", "enable_cdi = ");
        prop_assert!(within(removed.trim_end().chars(), after.chars()), "{}", after);
    }

    #[test]
    fn daemon_json(
        members in subsequence(vec![
            ("log-driver", json!("json-file")), ("log-opts", json!({"max-size": "10m", "labels": "a,b{\"[\\"})),
            ("insecure-registries", json!(["a:5000", "ü"])), ("features", json!({"buildkit": true, "containerd-snapshotter": false})),
            ("max-concurrent-downloads", json!(3)), ("runtimes", json!({"nvidia": {"path": "nvidia-container-runtime", "args": []}})),
            ("cdi-spec-dirs", json!(["/srv/cdi"])), ("debug", json!(null)), ("x", json!(-1.5e-7)), ("", json!({})),
        ], 0..=10).prop_shuffle(),
        style in 0_usize..5, spaces in vec(0_usize..3, 1..6), (windows, ends, runtime, empty) in any::<(bool, bool, bool, bool)>(),
    ) {
        let mut text = written(&members, style, &spaces) + "\n";
        if empty && members.is_empty() {
            text = " \n".to_owned();
        }
        let text = finish(&text, windows, ends);
        let mut expected: Value = if text.trim().is_empty() { json!({}) } else { serde_json::from_str(&text).unwrap() };
        let args = format!("docker --engine-version 26.1{}", if runtime { " --runtime" } else { "" });
        let after = configured(&ConfigureHost::trusted(), "/etc/docker/daemon.json", &text, &args);
        let now: Value = serde_json::from_str(&after).unwrap();
        if expected.get("cdi-spec-dirs").is_some() {
            let list = with(&expected, &["cdi-spec-dirs"], &["/etc/cdi", "/var/run/cdi"]);
            set(&mut expected, &["cdi-spec-dirs"], list);
        }
        set(&mut expected, &["features", "cdi"], json!(true));
        if runtime {
            set(&mut expected, &["runtimes", "mig-cdi"], now["runtimes"]["mig-cdi"].clone());
        }
        prop_assert_eq!(&now, &expected, "{}", after);
        prop_assert!(within(text.trim().chars(), after.chars()), "{}", after);
        // Also the order, which a parsed value does not keep.
        let order: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        let at = |name: &&str| after.find(&format!("{}", json!(name))).unwrap();
        prop_assert!(order.iter().filter(|n| !n.is_empty()).map(at).is_sorted() , "{}", after);
    }
}

/// Returns JSON in one of several styles of white space.
fn written(members: &[(&str, Value)], style: usize, spaces: &[usize]) -> String {
    let mut spaces = spaces.iter().cycle().map(|n| " ".repeat(*n));
    let mut space = || spaces.next().unwrap();
    let all: Map<String, Value> =
        members.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let between = match style {
        0 => String::new(),
        1 => "\n  ".to_owned(),
        2 => "\n\t".to_owned(),
        3 => "\n\n    ".to_owned(),
        _ => space(),
    };
    let members: Vec<String> = members
        .iter()
        .map(|(name, _)| {
            let value = &all[*name];
            let value = if style == 3 {
                serde_json::to_string_pretty(value).unwrap()
            } else {
                value.to_string()
            };
            format!("{between}{}{}:{}{value}{}", json!(name), space(), space(), space())
        })
        .collect();
    let end = if between.contains('\n') { "\n" } else { "" };
    format!("{{{}{end}}}", members.join(","))
}
