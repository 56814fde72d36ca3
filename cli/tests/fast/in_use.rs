//! `--in-use` on a simulated node: as on a real one, a slice that is declared in use stays, and a mistyped name is reported.

use mig_cdi_tests::{Run, mig_cdi, run};

fn on_a100(args: &[&str]) -> Run {
    run(&mut mig_cdi([args, &["--config=/dev/null", "--node=a100-80gb"]].concat()))
}

#[test]
fn a_declared_slice_of_a_simulated_node_stays() {
    for name in [
        "0:2g.20gb:2",
        "0:1",
        "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b",
        "0",
        "nvidia.com/mig=0:2g.20gb:2",
        "nvidia.com/gpu=0",
    ] {
        for command in ["plan", "apply"] {
            let run =
                on_a100(&[command, "0=7g.80gb", &format!("--in-use={name}=pod default/train")]);
            assert_eq!(run.code, 5, "{command} {name}: {}", run.stdout);
            assert!(run.stderr.contains("in use by pod default/train"), "{}", run.stderr);
            assert!(!run.stderr.contains("holds nothing"), "{}", run.stderr);
        }
    }
}

const UNKNOWN: [&str; 5] =
    ["0:2g.20gb:1", "0:9", "1", "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708c", "gpu"];

#[test]
fn a_mistyped_slice_is_warned_of() {
    for name in UNKNOWN {
        for args in [&["plan", "0=7g.80gb"][..], &["map"]] {
            let run = on_a100(&[args, &[&format!("--in-use={name}=x")]].concat());
            let warning = format!(
                "warning: --in-use {name}=x holds nothing: no slice or gpu has this name; mig-cdi list shows the names\n"
            );
            assert_eq!(
                (run.code, run.stderr.matches(&warning).count()),
                (0, 1),
                "{args:?}: {}",
                run.stderr
            );
        }
    }
}

/// The slice that the user means to keep would be destroyed.
#[test]
fn nothing_is_changed_for_a_mistyped_slice() {
    for name in UNKNOWN {
        let in_use = format!("--in-use={name}=x");
        for args in [&["apply", "0=7g.80gb"][..], &["apply", "--resume"], &["restore", "/dev/null"]]
        {
            let run = on_a100(&[args, &[&in_use]].concat());
            let expected = format!(
                "error: accept --in-use {name}=x: no slice or gpu has this name; mig-cdi list shows the names\n"
            );
            assert_eq!((run.code, run.stderr), (2, expected), "{args:?}");
        }
    }
    // A name with its kind is no holder of a slice that is called as the kind.
    let run = on_a100(&["apply", "0=7g.80gb", "--in-use=nvidia.com/mig=0:2g.20gb:2"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("write SLICE=HOLDER"), "{}", run.stderr);
}

/// The unit that restores a layout at boot reads this file.
#[test]
fn a_simulated_node_does_not_replace_the_checkpoint_of_the_machine() {
    let run = on_a100(&["checkpoint"]);
    let expected = "error: write /var/lib/mig-cdi/layout.yaml: it is the checkpoint of this machine, \
                    and --node simulates another; name another FILE\n";
    assert_eq!((run.code, run.stderr.as_str()), (2, expected));
}
