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

/// The command for one GPU is named beside the problems of another, and none that would destroy slices which are only omitted.
#[test]
fn a_problem_hides_no_command() {
    const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";
    const NO_MIG: &str = "[[gpu]]\nmodel = \"l40s\"\n";
    let lost = format!("{GPU}lost = true\n");
    let lost = lost.as_str();
    let off = format!("{GPU}mig = false\n");
    let off = off.as_str();
    let omitted = format!("{GPU}instances = [{{ profile = \"2g.20gb\", start = 0 }}]\n");
    let omitted = omitted.as_str();
    let hidden = "faults.hidden-from-nvml = [\"gpu0/gi3/ci0\"]\n";
    for (text, command) in [
        ([lost, GPU].concat(), Some("1=2x3g.40gb creates slices")),
        ([GPU, lost].concat(), Some("0=2x3g.40gb creates slices")),
        ([lost, off].concat(), Some("1=2x3g.40gb turns on mig mode and creates slices")),
        // A GPU in MIG mode needs no reset.
        ([off, GPU].concat(), Some("1=2x3g.40gb creates slices")),
        ([lost, off, GPU].concat(), Some("2=2x3g.40gb creates slices")),
        ([lost, NO_MIG, GPU].concat(), Some("2=2x3g.40gb creates slices")),
        ([NO_MIG, GPU].concat(), Some("1=2x3g.40gb creates slices")),
        ([hidden, omitted, GPU].concat(), Some("1=2x3g.40gb creates slices")),
        ([hidden, omitted].concat(), None),
        (lost.to_owned(), None),
        ([NO_MIG, lost].concat(), None),
    ] {
        let (_dir, node) = node(&text);
        for args in [&["generate", "--output=-"][..], &["list"], &["doctor"], &["show", "all"]] {
            let run = on(&node, args);
            let output = run.stdout + &run.stderr;
            match command {
                Some(command) => {
                    let command = format!("sudo mig-cdi apply {command}");
                    assert!(output.contains(&command), "{text}{args:?}: {output}");
                }
                None => assert!(!output.contains("mig-cdi apply"), "{text}{args:?}: {output}"),
            }
        }
    }
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

/// Not that it is gone, but what the GPU has instead.
#[test]
fn a_name_that_no_slice_can_have_is_answered_so() {
    const SOME: &str =
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\", start = 0 }]\n";
    const NONE: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";
    let profiles = "7g.80gb, 4g.40gb, 3g.40gb, 2g.20gb, 1g.20gb, 1g.10gb, 1g.10gb.me";
    let only = |profile: &str| format!("GPU 0 has no {profile}, only {profiles}; GPU 0 now has");
    let at = |profile: &str, starts: &str| {
        format!("on GPU 0 a {profile} starts only at {starts}; GPU 0 now has")
    };
    let within =
        |profile: &str, slices: &str| format!("a {profile} has {slices}, from 0 on; GPU 0 now has");
    let uuid = "a uuid is MIG- and 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12";
    let gone = || "is gone; GPU 0 now has".to_owned();
    for (name, reason) in [
        ("0:1g.10gb:99", at("1g.10gb", "0, 1, 2, 3, 4, 5, 6")),
        ("0:2g.20gb:1", at("2g.20gb", "0, 2, 4")),
        ("0:1c.3g.40gb:2:0", at("3g.40gb", "0, 4")),
        ("0:1g.10gb.me:7", at("1g.10gb.me", "0, 1, 2, 3, 4, 5, 6")),
        ("0:1g.99gb:0", only("1g.99gb")),
        ("0:1c.9g.40gb:0:0", only("9g.40gb")),
        ("0:2g.20gb:4", gone()),
        ("0:1g.10gb.me:6", gone()),
        ("0:1c.3g.40gb:4:1", gone()),
        ("0:1c.3g.40gb:4:2", gone()),
        ("0:1c.3g.40gb:4:3", within("3g.40gb", "3 compute slices")),
        ("0:2c.3g.40gb:0:2", within("3g.40gb", "3 compute slices")),
        ("0:0c.3g.40gb:0:0", within("3g.40gb", "3 compute slices")),
        ("0:2c.1g.10gb:0:0", within("1g.10gb", "1 compute slice")),
        ("0:3g.40gb:0:1", within("3g.40gb", "3 compute slices")),
        ("0:6", gone()),
        ("0:7", "GPU 0 has at most 7 slices, from 0 on; GPU 0 now has".to_owned()),
        ("MIG-0123", format!("{uuid}; the node now has")),
        ("MIG-01234567-0123-0123-0123-0123456789ag", format!("{uuid}; the node now has")),
        ("MIG-01234567-0123-0123-0123-0123456789ab", "is gone; the node now has".to_owned()),
    ] {
        for (text, now) in [(SOME, "0:3g.40gb:0"), (NONE, "no slice")] {
            let (_dir, node) = node(text);
            let message = match reason.starts_with("is") {
                true => format!("{name} {reason} {now}"),
                false => format!("no slice can be {name}: {reason} {now}"),
            };
            let doctor = on(&node, &["doctor", name]);
            assert!(doctor.code == 1 && doctor.stdout.contains(&message), "{}", doctor.stdout);
            let show = on(&node, &["show", name]);
            // Its error ends with what makes a slice.
            let message = message.replace("; GPU 0 now has no slice", "; GPU 0 now has no slice: ");
            let message =
                message.replace("; the node now has no slice", "; the node now has no slice: ");
            assert!(show.code == 1 && show.stderr.contains(&message), "{message}: {}", show.stderr);
        }
    }
    let (_dir, node) = node(SOME);
    let show = on(&node, &["show", "0:x:1"]);
    assert!(show.stderr.contains("no such device; use one of"), "{}", show.stderr);
}

/// Each cure leads on: to names that there are, to a command for that GPU, or to another node.
#[test]
fn a_name_without_a_slice_is_answered_with_what_its_gpu_is() {
    const SOME: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\", start = 0 }]\n\
        [[gpu]]\nmodel = \"a100-80gb\"\nmig = false\n[[gpu]]\nmodel = \"l40s\"\n\
        [[gpu]]\nmodel = \"a100-80gb\"\nlost = true\n";
    const NONE: &str = "[[gpu]]\nmodel = \"l40s\"\n";
    const OTHER_NODE: &str = "no gpu of this node supports mig: request the device on another node";
    let dir = tempfile::tempdir().unwrap();
    let specs = dir.path().join("cdi");
    fs::create_dir(&specs).unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, format!("spec-dirs = [{specs:?}]\n")).unwrap();
    let stale = specs.join("nvidia.com-mig.json");
    let made =
        run(&mut mig_cdi(["generate", "--output=-", "--config=/dev/null", "--node=a100-80gb"]));
    for (text, name, evidence, cure) in [
        (SOME, "0:2g.20gb:0", "is gone; GPU 0 now has 0:3g.40gb:0", "use one of these names"),
        (
            SOME,
            "1:2g.20gb:0",
            "is gone; GPU 1 now has no slice",
            "run sudo mig-cdi apply 1=2x3g.40gb",
        ),
        (SOME, "1:0", "is gone; GPU 1 now has no slice", "run sudo mig-cdi apply 1=2x3g.40gb"),
        (
            SOME,
            "2:2g.20gb:0",
            "2:2g.20gb:0: GPU 2 does not support mig",
            "use a name that mig-cdi list shows",
        ),
        (SOME, "3:2g.20gb:0", "GPU 3: nvml ", ""),
        (
            SOME,
            "7:2g.20gb:0",
            "7:2g.20gb:0: this node has no GPU 7",
            "use a name that mig-cdi list shows",
        ),
        (NONE, "0:2g.20gb:1", "0:2g.20gb:1: GPU 0 does not support mig", OTHER_NODE),
        (NONE, "MIG-00000000-0000-0000-0000-000000000000", "the node now has no slice", OTHER_NODE),
        (NONE, "no-such-name", "the node has no such device", OTHER_NODE),
    ] {
        let (_dir, described) = node(text);
        for is_stale in [false, true] {
            let _ = fs::remove_file(&stale);
            if is_stale {
                fs::write(&stale, &made.stdout).unwrap();
            }
            let (config, root) = (config.to_str().unwrap(), dir.path().to_str().unwrap());
            let doctor =
                ["doctor", name, "--node", &described, "--config", config, "--host-root", root];
            let found = run(&mut mig_cdi(doctor));
            assert_eq!(found.code, 1, "{text}{name}: {}", found.stdout);
            // A stale spec that defines the name has to go first.
            if is_stale && made.stdout.contains(&format!("\"{name}\"")) {
                continue;
            }
            let lines: Vec<_> = found.stdout.lines().collect();
            assert!(lines[0].contains(evidence), "{text}{name}: {}", found.stdout);
            let cured = lines[1].trim_start();
            let is_right = cured == format!("cure: {cure}") || cure.is_empty();
            assert!(is_right && cured.starts_with("cure: "), "{text}{name}: {}", found.stdout);
        }
    }
    let (_dir, some) = node(SOME);
    for (name, cure) in [
        (
            "1:2g.20gb:0",
            "GPU 1 now has no slice: sudo mig-cdi apply 1=2x3g.40gb turns on mig mode and creates slices\n",
        ),
        (
            "2:2g.20gb:0",
            "\"2:2g.20gb:0\": GPU 2 does not support mig; use a name that mig-cdi list shows\n",
        ),
        ("3:2g.20gb:0", "\"3:2g.20gb:0\": GPU 3 is not confirmed; run mig-cdi doctor\n"),
    ] {
        let show = on(&some, &["show", name]);
        assert!(show.code == 1 && show.stderr.contains(cure), "{}", show.stderr);
    }
    let show = run(&mut mig_cdi(["show", "5:1g.10gb:0", "--node=a100-80gb"]));
    let no_gpu =
        "error: show \"5:1g.10gb:0\": this node has no GPU 5; use a name that mig-cdi list shows\n";
    assert_eq!((show.code, show.stderr.as_str()), (1, no_gpu));
    let (_dir, none) = node(NONE);
    let list = on(&none, &["list"]);
    assert_eq!(list.stderr, "no mig device: no gpu of this node supports mig\n");
}

/// Such a name is not gone: its slice is there.
#[test]
fn a_name_of_another_style_is_answered_with_the_usual_one() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    for (name, flag) in [("0:0", "--names=index"), ("0:3:0", "--source=proc")] {
        let show = host.run(&["show", name]);
        let message = format!(
            "error: show \"{name}\": 0:2g.20gb:0 has this name only with {flag}; use 0:2g.20gb:0, or add {flag}\n"
        );
        assert_eq!((show.code, show.stderr), (1, message));
        let with_flag = host.run(&["show", name, flag]);
        assert_eq!(with_flag.code, 0, "{}", with_flag.stderr);
        let doctor = host.run(&["doctor", name]);
        let verdict = format!(
            "error    name  {name}: no spec file defines it: 0:2g.20gb:0 has this name only with {flag}\n         \
             cure: use 0:2g.20gb:0\n"
        );
        assert_eq!((doctor.code, doctor.stdout), (1, verdict));
    }
    let by_slot = host.run(&["show", "0:2g.20gb:0", "--names=index"]);
    let circle = "its slice has this name only with --names=slot; add --names=slot\n";
    assert!(by_slot.stderr.ends_with(circle), "{}", by_slot.stderr);
    // By UUIDs alone, it is not known which slices are those of the GPU.
    let gone = host.run(&["show", "0:7g.80gb:0", "--names=uuid"]);
    assert!(gone.stderr.contains("0:7g.80gb:0 is gone; the node now has MIG-"), "{}", gone.stderr);
    let by_proc = host.run(&["show", "0:2g.20gb:0", "--source=proc"]);
    assert!(by_proc.stderr.ends_with("; add --source=nvml\n"), "{}", by_proc.stderr);
    let admin = host.run(&["show", "config"]);
    assert!(admin.stderr.ends_with("is a device only with --admin; add --admin=config\n"));
}

/// `generate` keeps a spec while devices are not confirmed: to send the reader there would lead back here.
#[test]
fn a_spec_is_not_called_stale_while_no_device_is_confirmed() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    let config = format!("capabilities = \"none\"\nspec-dirs = [{:?}]\n", host.out());
    fs::write(host.config(), config).unwrap();
    assert_eq!(host.generate(&[]).code, 0);
    host.replace_node(
        "[[gpu]]\nmodel = \"a100-80gb\"\nmig = false\nmig-pending = true\n[[gpu]]\nmodel = \"h100-80gb\"\nlost = true\n",
    );
    assert_eq!(host.generate(&[]).code, 3);
    let run = host.run(&["doctor"]);
    let drift: Vec<_> = run.stdout.lines().filter(|line| line.contains(" drift ")).collect();
    let line = "note     drift         not compared until a nvidia.com/mig device is confirmed: see devices";
    assert_eq!(drift, [line], "{}", run.stdout);
}
