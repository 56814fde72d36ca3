//! A MIG mode that waits for a reset is described in one way by every command.

use mig_cdi_tests::{Run, mig_cdi, run};
use std::fs;

fn on(node: &str, args: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, node).unwrap();
    run(&mut mig_cdi([args, &["--config=/dev/null", "--node", file.to_str().unwrap()]].concat()))
}

/// Ampere changes its mode in a reset, Hopper without one.
#[test]
fn every_command_says_the_same() {
    const RESET: &str = "nvidia-smi --gpu-reset -i 0, or reboot";
    for (model, is_on, mode, cure) in [
        ("a100-80gb", true, "on, and off after a reset", RESET),
        ("a100-80gb", false, "off, and on after a reset", RESET),
        ("h100-80gb", true, "on, and off is pending", "nvidia-smi -i 0 -mig 0"),
        ("h100-80gb", false, "off, and on is pending", "nvidia-smi -i 0 -mig 1"),
    ] {
        let node =
            format!("[[gpu]]\nmodel = \"{model}\"\nmig = {is_on}\nmig-pending = {}\n", !is_on);
        let said = format!("gpu 0: mig mode is {mode}");
        let cure = format!("stop all programs that use the gpu and run {cure}");
        for args in [&["generate", "--output=-"][..], &["list"], &["map"], &["profiles"]] {
            let run = on(&node, args);
            let warning = format!("warning: {said}; {cure}\n");
            assert!(run.stderr.contains(&warning), "{args:?}: {}", run.stderr);
        }
        let doctor = on(&node, &["doctor"]).stdout;
        assert!(doctor.contains(&said) && doctor.contains(&format!("cure: {cure}\n")), "{doctor}");
        for command in ["map", "profiles"] {
            let text =
                on(&node, &[command]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!("; MIG mode is {mode}")), "{text}");
        }
        // The first layout takes back what is pending, or makes it.
        let effect = if is_on { "keeps mig mode on" } else { "turns on mig mode" };
        for args in [&["generate", "--output=-"][..], &["list"], &["doctor"]] {
            let run = on(&node, args);
            let output = run.stdout + &run.stderr;
            let advice = format!("sudo mig-cdi apply 0=2x3g.40gb {effect} and creates slices");
            assert!(output.contains(&advice), "{args:?}: {output}");
        }
        let (same, current) = if is_on { ("0=none", "none") } else { ("0=off", "off") };
        let row = |layout: &str| {
            let plan = on(&node, &["plan", layout]).stdout;
            plan.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row(same), format!("0 1 take back the pending MIG mode it is {mode}"));
        let change = match is_on {
            true => "0 1 disable MIG mode the requested layout is off".to_owned(),
            false => format!("0 1 enable MIG mode it is {mode}"),
        };
        assert_eq!(row(if is_on { "0=off" } else { "0=none" }), change);
        let assert = on(&node, &["assert", same]);
        let differs = format!("gpu 0: the layout is {current}, but mig mode is {mode}\n");
        assert_eq!((assert.code, assert.stdout), (6, differs));
        let apply = on(&node, &["apply", same, "--verbose"]);
        let operation = "detail: take back the pending mig mode of gpu 0\n";
        assert!(apply.code == 0 && apply.stderr.contains(operation), "{}", apply.stderr);
    }
    // A mode that waits for nothing is not mentioned.
    let list = on("[[gpu]]\nmodel = \"a100-80gb\"\n", &["list"]);
    assert!(!list.stderr.contains("mig mode"), "{}", list.stderr);
}
