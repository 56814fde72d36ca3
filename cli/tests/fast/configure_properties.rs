//! `mig-cdi configure` neither loses nor reorders anything in an engine's file. Random files are built from pieces as
//! people write them, and afterwards they differ by the requested change only.

use mig_cdi_tests::configure_host::ConfigureHost;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use serde_json::{Map, Value, json};
use std::fs;

const CASES: u32 = 48;

/// Returns whether `a` is `b` with some items removed.
fn within<T: PartialEq>(a: impl IntoIterator<Item = T>, b: impl IntoIterator<Item = T>) -> bool {
    let mut b = b.into_iter();
    a.into_iter().all(|wanted| b.any(|one| one == wanted))
}

/// Sets the value at these keys.
fn set(value: &mut Value, keys: &[&str], to: Value) {
    let (last, path) = keys.split_last().unwrap();
    let mut at = value;
    for key in path {
        at = at.as_object_mut().unwrap().entry(*key).or_insert_with(|| json!({}));
    }
    at.as_object_mut().unwrap().insert((*last).to_owned(), to);
}

/// Returns the list at these keys with the missing texts added.
fn with(value: &Value, keys: &[&str], texts: &[&str]) -> Value {
    let mut list = keys
        .iter()
        .try_fold(value, |value, key| value.get(key))
        .map_or(Vec::new(), |list| list.as_array().unwrap().clone());
    for text in texts {
        if !list.contains(&json!(text)) {
            list.push(json!(text));
        }
    }
    Value::Array(list)
}

/// Returns the text with these line ends, and with or without one at the end of the file.
fn finish(text: &str, windows: bool, last_line_ends: bool) -> String {
    let text = if last_line_ends { text } else { text.trim_end_matches('\n') };
    if windows { text.replace('\n', "\r\n") } else { text.to_owned() }
}

/// Asserts that the lines of all other keys are unchanged and in the same order.
fn lines_stay(before: &str, after: &str, changed: &[&str]) {
    // The last line may get a line end that it did not have.
    let lines = |text: &str| -> Vec<String> {
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r').to_owned());
        lines.filter(|line| !changed.iter().any(|key| line.contains(key))).collect()
    };
    let ends =
        |text: &str| (text.matches("\r\n").count() > 0, text.replace("\r\n", "").contains('\n'));
    assert!(within(lines(before.trim_end()), lines(after)), "{before:?}\n{after:?}");
    if ends(before) != (false, false) {
        assert_eq!(ends(after), ends(before), "{after:?}");
    }
}

/// Runs configure and returns the file. Also asserts that the undo restores the same bytes.
fn configured(path: &str, text: &str, args: &str) -> String {
    let machine = ConfigureHost::new();
    machine.put(path, text);
    let before = machine.tree();
    machine.run_ok(args);
    let after = machine.read(path);
    let tree = machine.tree();
    machine.run_ok(args);
    assert_eq!(machine.tree(), tree, "twice: {text:?}");
    machine.run_ok(&format!("{} --undo", args.split(' ').next().unwrap()));
    assert_eq!(machine.tree(), before, "back: {text:?}");
    after
}

const CRI: &str = "io.containerd.grpc.v1.cri";

/// Returns tables of config.toml of containerd 1.7, as people write them.
fn containerd_tables() -> Vec<&'static str> {
    vec![
        "[grpc]\n  address = \"/run/containerd/containerd.sock\" # the usual\n  uid=0\n",
        "\n\n[debug]\nlevel = 'info'\n\n# [metrics]\n#   address = \"\"\n",
        "[plugins.\"io.containerd.internal.v1.opt\"]\n\tpath = \"/opt/x\"\n",
        "[plugins.\"io.containerd.gc.v1.scheduler\"]\npause_threshold = 0.02\ndeletion_threshold = 0\nmutation_threshold = 100\n",
        "[timeouts]\n\"io.containerd.timeout.shim.load\" = \"5s\"\nold = 1979-05-27T07:32:00Z\n",
        "[proxy_plugins]\n[proxy_plugins.stargz]\n  type = \"snapshot\"\n  address = \"\"\"\n/run/\\\n   x.sock\"\"\"\n",
        "[[x.list]]\na = 1\n[[x.list]]\na = { b = [1, 2, # three\n  3], c = '''\n''' }\n",
        "[stream_processors.\"io.x\"] # odd\n    accepts = [ \"a\" ,\"b\", ]\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = [\"https://a\"]\n",
        "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir=\"/usr/lib/cni\"\n",
    ]
}

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
        let after = configured("/etc/containerd/config.toml", &text, &args);
        let mut now = toml_value(&after);
        let dirs = ["plugins", CRI, "cdi_spec_dirs"];
        let list = with(&expected, &dirs, &["/etc/cdi", "/var/run/cdi"]);
        set(&mut expected, &dirs, list);
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
    fn config_toml_of_containerd_2(
        head in prop::sample::select(vec![
            "version = 3\n", "# c\nversion=2 # two\nimports = [\"/etc/containerd/x.toml\"]\n",
            "version = 3\nimports = [ # these\n  \"a.toml\", # one\n  \"b.toml\",\n]\n",
            "imports = ['conf.d/*.toml']\nversion = 3\n", "version = 4\nimports = []\nroot='/x'\n",
        ]),
        tables in subsequence(containerd_tables(), 0..=8).prop_shuffle(),
        (windows, ends) in any::<(bool, bool)>(),
    ) {
        let text = finish(&format!("{head}{}", tables.concat()), windows, ends);
        let mut expected: Value = toml_value(&text);
        let after = configured("/etc/containerd/config.toml", &text, "containerd --engine-version 2.1.9");
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
        let after = configured(path, &text, args);
        let mut expected = toml_value(&text);
        let keys = [&table[..], &["cdi_spec_dirs"]].concat();
        let list = with(&expected, &keys, &["/etc/cdi", "/var/run/cdi"]);
        set(&mut expected, &keys, list);
        prop_assert_eq!(toml_value(&after), expected, "{}", after);
        lines_stay(&text, &after, &["cdi_spec_dirs", "/y"]);
        prop_assert!(within(text.trim_end().chars(), after.chars()), "{}", after);
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
        let args = format!("docker --engine-version 28.5.2{}", if runtime { " --runtime" } else { "" });
        let after = configured("/etc/docker/daemon.json", &text, &args);
        let now: Value = serde_json::from_str(&after).unwrap();
        let list = with(&expected, &["cdi-spec-dirs"], &["/etc/cdi", "/var/run/cdi"]);
        set(&mut expected, &["cdi-spec-dirs"], list);
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

fn toml_value(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Checks the generators of this file.
#[test]
fn the_generated_pieces_are_valid_toml() {
    let text = format!("version = 2\n{}", containerd_tables().concat());
    let value = toml_value(&text);
    assert_eq!(value["x"]["list"][1]["a"]["b"], json!([1, 2, 3]));
    assert!(fs::exists("/").unwrap() && within([1, 3], [1, 2, 3]) && !within([3, 1], [1, 2, 3]));
}
