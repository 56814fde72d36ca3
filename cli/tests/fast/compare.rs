//! `mig-cdi compare`: what it says of a spec that is wrong, and how. Driver files are compared in the tier host.

use mig_cdi_tests::{Run, mig_cdi, run};
use serde_json::Value;
use std::{fs, path::Path};

/// The node of case 15: one slice, whose capability nodes are 511:120 and 511:121.
const NODE: &str = "driver = \"570.172.08\"\nmajors.nvidia-caps = 511\n[[gpu]]\nmodel = \"h100-80gb\"\n\
    instances = [{ profile = \"1g.10gb\", id = 13 }]\n";
const THEIRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fast/cases/15/theirs.yaml");

fn compare(node: &str, file: &Path, args: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let description = dir.path().join("node.toml");
    fs::write(&description, node).unwrap();
    let node = format!("--node={}", description.display());
    let config = "--config=/dev/null";
    run(mig_cdi(["compare", file.to_str().unwrap(), &node, config]).args(args))
}

fn compare_text(text: &str, args: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("theirs.yaml");
    fs::write(&file, text).unwrap();
    let tidy = |text: String| text.replace(&dir.path().display().to_string(), "TMP");
    let Run { code, stdout, stderr } = compare(NODE, &file, args);
    Run { code, stdout: tidy(stdout), stderr: tidy(stderr) }
}

/// Returns device, side, item and reason of each row.
fn rows(run: &Run) -> Vec<[String; 4]> {
    run.assert_code(0);
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("both").to_owned();
    let row = |row: Value| ["device", "only_in", "what", "reason"].map(|key| text(&row[key]));
    rows.into_iter().map(row).collect()
}

#[test]
fn wrong_numbers_are_named_and_every_device_is_listed() {
    let run = compare(NODE, Path::new(THEIRS), &["--json"]);
    let rows = rows(&run);
    for expected in [
        ["1", "theirs", "the device", "it has no capability node: a whole gpu, no slice"],
        ["2", "theirs", "the device", "it has no capability node: a whole gpu, no slice"],
        [
            "0:1g.10gb:0",
            "both",
            "node /dev/nvidia0",
            "wrong major: it is 100:0 there, the driver has 195:0",
        ],
        [
            "0:1g.10gb:0",
            "both",
            "node /dev/nvidia-caps/nvidia-cap120",
            "wrong major: it is 100:120 there, the driver has 511:120",
        ],
        [
            "0:1g.10gb:0",
            "both",
            "node /dev/nvidia-caps/nvidia-cap121",
            "wrong major: it is 100:121 there, the driver has 511:121",
        ],
    ] {
        assert!(rows.contains(&expected.map(str::to_owned)), "{expected:?} in {rows:#?}");
    }
}

#[test]
fn numbers_are_judged_on_every_node_of_every_device() {
    const CAPS: &str =
        "{path: /dev/nvidia-caps/nvidia-cap120}, {path: /dev/nvidia-caps/nvidia-cap121";
    for (common, first, second, expected) in [
        ("{path: /dev/nvidiactl, major: 195, minor: 255}", "", "", &[][..]),
        ("{path: /dev/nvidiactl}", ", major: 511, minor: 121", "", &[]),
        (
            "{path: /dev/nvidiactl, major: 195, minor: 254}",
            "",
            "",
            &[(
                "every",
                "/dev/nvidiactl",
                "wrong minor: it is 195:254 there, the driver has 195:255",
            )],
        ),
        (
            "{path: /dev/nvidiactl}",
            ", major: 510, minor: 9",
            ", major: 7, minor: 0",
            &[
                (
                    "0:1g.10gb:0",
                    "/dev/nvidia-caps/nvidia-cap121",
                    "wrong major and minor: it is 510:9 there, the driver has 511:121",
                ),
                ("gpu", "/dev/nvidia0", "wrong major: it is 7:0 there, the driver has 195:0"),
            ],
        ),
    ] {
        let run = compare_text(
            &format!(
                "kind: nvidia.com/gpu\ncontainerEdits: {{deviceNodes: [{common}]}}\ndevices:\n\
                 - {{name: \"0:0\", containerEdits: {{deviceNodes: [{CAPS}{first}}}]}}}}\n\
                 - {{name: gpu, containerEdits: {{deviceNodes: [{{path: /dev/nvidia0{second}}}]}}}}\n"
            ),
            &["--json"],
        );
        let wrong: Vec<_> =
            rows(&run).into_iter().filter(|row| row[3].starts_with("wrong")).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(device, path, reason)| {
                [*device, "both", &format!("node {path}"), *reason].map(str::to_owned)
            })
            .collect();
        for row in &expected {
            assert!(wrong.contains(row), "{row:?} in {wrong:#?}");
        }
        assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
    }
}

#[test]
fn a_variable_with_another_value_is_a_difference() {
    let run = compare_text(
        "kind: nvidia.com/gpu\ncontainerEdits: {env: [NVIDIA_VISIBLE_DEVICES=all]}\ndevices:\n- name: \"0:0\"\n  containerEdits:\n    \
         deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap120}, {path: /dev/nvidia-caps/nvidia-cap121}]\n",
        &["--json"],
    );
    let reason = r#"it is "all" there, and "void" in ours"#;
    let row = ["every", "both", "variable NVIDIA_VISIBLE_DEVICES", reason].map(str::to_owned);
    assert!(rows(&run).contains(&row), "{}", run.stdout);
}

#[test]
fn the_table_fits_a_hundred_columns() {
    let long = "/very/long/directory/name".repeat(20);
    let hooks =
        format!("hooks: [{{hookName: createContainer, path: {long}, args: [a, \"b  c\\e[2J\"]}}]");
    let run = compare_text(
        &format!(
            "kind: nvidia.com/gpu\ncontainerEdits: {{{hooks}}}\ndevices:\n- name: \"0:0\"\n  containerEdits:\n    \
             deviceNodes: [{{path: /dev/nvidia-caps/nvidia-cap120}}, {{path: /dev/nvidia-caps/nvidia-cap121}}]\n    \
             mounts: [{{hostPath: {long}, containerPath: /x}}]\n"
        ),
        &[],
    );
    run.assert_code(0);
    assert!(run.stdout.starts_with("DEVICE  IN "), "{}", run.stdout);
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "{}", run.stdout);
    assert!(run.stdout.contains("it does not exist"), "{}", run.stdout);
}

#[test]
fn a_spec_that_does_not_parse_gets_its_reason() {
    for (text, reason) in [
        (
            "{\"kind\":\"a.com/bb\",\n\"devices\":7}",
            "invalid type: integer `7`, expected a sequence at line 2 column 11",
        ),
        ("{\"kind\":\"a.com/bb\",\n", "EOF while parsing"),
        ("kind: a.com/bb\ndevices:\n- {}\n", "missing field `name` at line 3, column 3"),
        ("kind: a.com/bb\ndevices: [\n", "line "),
        ("cdiVersion: 0.5.0\n", "missing field `kind`"),
        ("", "it is empty"),
        ("\u{1b}[2J", "line 1"),
    ] {
        let run = compare_text(text, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{text:?}: {}", run.stderr);
        let start = "error: read TMP/theirs.yaml: not a cdi spec in json or yaml: ";
        assert!(
            run.stderr.starts_with(start) && run.stderr.contains(reason),
            "{text:?}: {}",
            run.stderr
        );
        assert!(
            run.stderr.ends_with("; correct it, or name a file that an engine reads\n"),
            "{}",
            run.stderr
        );
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    }
}

/// A container gets another device, or may not use it: whatever a spec states of a node counts.
#[test]
fn a_node_that_is_another_or_is_used_otherwise_is_a_difference() {
    let right = "type: c, major: 511, minor: 121";
    for (node, reason) in [
        (right, ""),
        ("type: u, major: 511, minor: 121, uid: 0, gid: 0, permissions: wr", ""),
        ("fileMode: 292, permissions: rwm", ""),
        ("hostPath: /dev/nvidia-caps/nvidia-cap121", ""),
        ("hostPath: \"\"", ""),
        // The stated numbers count, whatever the path is.
        ("type: c, major: 511, minor: 121, hostPath: /dev/null", ""),
        (
            "hostPath: /dev/nvidia-caps/nvidia-cap120",
            "wrong minor: it is 511:120 there, of /dev/nvidia-caps/nvidia-cap120, the driver has 511:121",
        ),
        (
            "hostPath: /dev/null",
            "wrong major and minor: it is 1:3 there, of /dev/null, the driver has 511:121",
        ),
        (
            "hostPath: /dev/nvidia-caps/nvidia-cap39",
            "its hostPath /dev/nvidia-caps/nvidia-cap39 is no device node",
        ),
        ("permissions: r", "its permissions are r there, and rw in ours"),
        ("permissions: none", "its permissions are none there, and rw in ours"),
        ("fileMode: 384", "its mode is 0600 there, and 0444 in ours"),
        // A mode that is stated, unlike null and none.
        ("fileMode: 0", "its mode is 0000 there, and 0444 in ours"),
        ("fileMode: null", ""),
        ("uid: 1000", "its owner is 1000 there, and 0 in ours"),
        ("gid: 44", "its group is 44 there, and 0 in ours"),
        ("type: b, major: 511, minor: 121", "its type is b there, and c in ours"),
    ] {
        let run = compare_text(
            &format!(
                "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0:0\"\n  containerEdits:\n    deviceNodes:\n    \
                 - {{path: /dev/nvidia-caps/nvidia-cap120}}\n    - {{path: /dev/nvidia-caps/nvidia-cap121, {node}}}\n"
            ),
            &["--json"],
        );
        let rows = rows(&run);
        let of_node: Vec<_> =
            rows.iter().filter(|row| row[2].starts_with("node /dev/nvidia-caps")).collect();
        let expected = ["0:1g.10gb:0", "both", "node /dev/nvidia-caps/nvidia-cap121", reason];
        let expected: Vec<_> =
            if reason.is_empty() { vec![] } else { vec![expected.map(str::to_owned)] };
        assert_eq!(of_node, expected.iter().collect::<Vec<_>>(), "{node}");
        assert!(rows.iter().all(|row| row[2] != "the file"), "{rows:?}");
    }
}

/// A container gets nothing from a file that engines refuse, however much it is like ours.
#[test]
fn a_file_that_engines_refuse_is_a_difference() {
    let mut generate = mig_cdi(["generate", "--output=-", "--config=/dev/null", "--node"]);
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.toml");
    fs::write(&node, NODE).unwrap();
    let ours = run(generate.arg(&node)).stdout;
    assert_eq!(compare_text(&ours, &[]).stdout, "no difference\n");
    let device = "\"name\":\"MIG-";
    let copy =
        ours.lines().find(|line| line.contains(device)).unwrap().trim_end_matches(&[',', ']'][..]);
    for (from, to, reason) in [
        ("\"0.5.0\"", "\"v0.5.0\"", ""),
        ("\"0.5.0\"", "\"9.0.0\"", "engines refuse it: cdiVersion \"9.0.0\" is not a version"),
        (
            "\"0.5.0\"",
            "\"0.4.0\"",
            "current engines refuse it: cdiVersion is 0.4.0, and the device name",
        ),
        ("\"nvidia.com/mig\"", "\"nvidia.com\"", "engines refuse it: kind: \"nvidia.com\" is not"),
        ("\"devices\":[", "\"foo\":1,\"devices\":[", "engines refuse it: unknown field `foo`"),
        (
            "\"devices\":[",
            &*format!("\"devices\":[{copy},"),
            "engines refuse it: it defines device MIG-",
        ),
    ] {
        assert!(ours.contains(from), "{from} in {ours}");
        let run = compare_text(&ours.replace(from, to), &["--json"]);
        let rows = rows(&run);
        match rows.first() {
            None => assert_eq!(reason, "", "{to}"),
            Some([device, side, what, why]) => {
                let place = [device, side, what].map(String::as_str);
                assert_eq!(place, ["every", "theirs", "the file"], "{to}: {rows:?}");
                assert!(!reason.is_empty() && why.starts_with(reason), "{to}: {why}");
            }
        }
    }
    // A field that mig-cdi never writes is a difference too.
    let foreign = ours.replace("\"0.5.0\"", "\"0.7.0\"");
    let foreign = foreign.replacen("\"env\":", "\"additionalGids\":[44],\"env\":", 1);
    let rows = rows(&compare_text(&foreign, &["--json"]));
    assert!(rows.iter().any(|row| row[1] == "theirs" && row[2] == "additionalGids 44"), "{rows:?}");
}
