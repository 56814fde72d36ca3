//! No dead ends: a node without slices is answered with a command that creates some, and a name that is gone with
//! those that there are.

use mig_cdi_sim::{MODELS, preset};
use mig_cdi_tests::{FakeHost, Run, mig_cdi, run};
use std::fs;

fn node(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (dir, path)
}

fn on(node: &str, args: &[&str]) -> Run {
    run(&mut mig_cdi([args, &["--config=/dev/null", "--node", node]].concat()))
}

/// Returns the layout of the command that an output advises.
fn advised(output: &str) -> &str {
    let (_, rest) = output.split_once("sudo mig-cdi apply ").unwrap_or_else(|| panic!("{output}"));
    rest.split_whitespace().next().unwrap()
}

/// Every command names one that creates slices, and that command works on this GPU.
#[test]
fn a_node_without_slices_gets_a_command_for_its_gpu() {
    for model in MODELS.iter().filter(|model| !model.profiles.is_empty()) {
        for mig in [true, false] {
            let text = format!("[[gpu]]\nmodel = \"{}\"\nmig = {mig}\n", model.key);
            let (_dir, node) = node(&text);
            for args in [
                &["generate", "--output=-"][..],
                &["list"],
                &["doctor"],
                &["doctor", "0:1g.1gb:0"],
                &["show", "all"],
            ] {
                let run = on(&node, args);
                let output = run.stdout + &run.stderr;
                let layout = advised(&output);
                let plan = on(&node, &["plan", layout]);
                assert_eq!(plan.code, 0, "{} {args:?} {layout}: {}", model.key, plan.stderr);
                assert!(plan.stdout.contains("create compute instance"), "{}", plan.stdout);
                let says_mode = output.contains("turns on mig mode");
                let names_mode = args != ["doctor", "0:1g.1gb:0"];
                assert_eq!(says_mode, !mig && names_mode, "{args:?}: {output}");
            }
        }
    }
    let (_dir, node) = node("[[gpu]]\nmodel = \"a100-80gb\"\n");
    let list = on(&node, &["list"]);
    assert_eq!(list.stderr, "no mig device: sudo mig-cdi apply 0=2x3g.40gb creates slices\n");
}

#[test]
fn a_name_that_is_gone_is_answered_with_the_current_ones() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    let config = format!("capabilities = \"none\"\nspec-dirs = [{:?}]\n", host.out());
    fs::write(host.config(), config).unwrap();
    assert_eq!(host.generate(&[]).code, 0);
    let uuid = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
    host.replace_node(
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\", start = 0 }, \
         { profile = \"3g.40gb\", start = 4 }]\n",
    );
    let now = "0:3g.40gb:0, 0:3g.40gb:4";
    let slot = format!("0:2g.20gb:0 is gone; GPU 0 now has {now}");
    let by_uuid = format!("{uuid} is gone; the node now has {now}");
    for (name, message) in [("0:2g.20gb:0", &slot), (uuid, &by_uuid)] {
        let show = host.run(&["show", name]);
        assert!(show.code == 1 && show.stderr.contains(message), "{}", show.stderr);
        let check = host.run(&["check", "--output", host.spec().to_str().unwrap()]);
        assert!(check.code == 6 && check.stdout.contains(message), "{}", check.stdout);
        // With the stale spec, with a current one, and without one.
        let stale = host.run(&["doctor", name]);
        assert!(stale.code == 1 && stale.stdout.contains(message), "{}", stale.stdout);
    }
    assert_eq!(host.generate(&[]).code, 0);
    for (name, message) in [("0:2g.20gb:0", &slot), (uuid, &by_uuid)] {
        for name in [name.to_owned(), format!("nvidia.com/mig={name}")] {
            let doctor = host.run(&["doctor", &name]);
            assert!(doctor.code == 1 && doctor.stdout.contains(message), "{}", doctor.stdout);
        }
    }
}
