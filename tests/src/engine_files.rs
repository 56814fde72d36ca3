//! Configuration files of engines as people write them, and what a change of them must keep.

use crate::configure_host::ConfigureHost;
use serde_json::{Value, json};

/// Returns whether `a` is `b` with some items removed.
#[must_use]
pub fn within<T: PartialEq>(
    a: impl IntoIterator<Item = T>,
    b: impl IntoIterator<Item = T>,
) -> bool {
    let mut b = b.into_iter();
    a.into_iter().all(|wanted| b.any(|one| one == wanted))
}

/// Sets the value at these keys.
///
/// # Panics
/// When a value at one of the keys is no object.
pub fn set(value: &mut Value, keys: &[&str], to: Value) {
    let (last, path) = keys.split_last().expect("a key");
    let mut at = value;
    for key in path {
        at = at.as_object_mut().expect("an object").entry(*key).or_insert_with(|| json!({}));
    }
    at.as_object_mut().expect("an object").insert((*last).to_owned(), to);
}

/// Returns the list at these keys with the missing texts added.
///
/// # Panics
/// When the value at the keys is no list.
#[must_use]
pub fn with(value: &Value, keys: &[&str], texts: &[&str]) -> Value {
    let mut list = keys
        .iter()
        .try_fold(value, |value, key| value.get(key))
        .map_or(Vec::new(), |list| list.as_array().expect("a list").clone());
    for text in texts {
        if !list.contains(&json!(text)) {
            list.push(json!(text));
        }
    }
    Value::Array(list)
}

/// Returns the text with these line ends, and with or without one at the end of the file.
#[must_use]
pub fn finish(text: &str, windows: bool, last_line_ends: bool) -> String {
    let text = if last_line_ends { text } else { text.trim_end_matches('\n') };
    if windows { text.replace('\n', "\r\n") } else { text.to_owned() }
}

/// Asserts that the lines of all other keys are unchanged and in the same order.
///
/// # Panics
/// When one is changed.
pub fn lines_stay(before: &str, after: &str, changed: &[&str]) {
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

/// Runs configure on an empty host and returns the file. Also asserts that the undo restores the same bytes.
///
/// # Panics
/// When a run fails, a second one changes something, or the undo restores other bytes.
pub fn configured(machine: &ConfigureHost, path: &str, text: &str, args: &str) -> String {
    machine.put(path, text);
    let before = machine.tree();
    machine.run_ok(args);
    let after = machine.read(path);
    let tree = machine.tree();
    machine.run_ok(args);
    assert_eq!(machine.tree(), tree, "twice: {text:?}");
    machine.run_ok(&format!("{} --undo", args.split(' ').next().expect("an engine")));
    assert_eq!(machine.tree(), before, "back: {text:?}");
    after
}

/// Returns tables of config.toml of containerd 1.7, as people write them.
#[must_use]
pub fn containerd_tables() -> Vec<&'static str> {
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

/// Parses a file.
///
/// # Panics
/// When it is no TOML.
#[must_use]
pub fn toml_value(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}
