//! Instances that fit on a GPU: on simulated nodes every profile can be created up to its maximum, and one more is
//! refused with the reason.

use mig_cdi_sim::{MODELS, SimulatedNode};
use mig_cdi_tests::{mig_cdi, run};

fn node(model: &str, instances: &str) -> String {
    format!("[[gpu]]\nmodel = \"{model}\"\ninstances = [{instances}]\n")
}

fn times(profile: &str, count: u32) -> String {
    format!("{{ profile = \"{profile}\" }},").repeat(count as usize)
}

/// The instance counts that nvidia-smi shows, through the command itself.
#[test]
fn an_a100_80gb_has_the_profile_counts_of_nvidia_smi() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let generate = |count, profile| {
        std::fs::write(&file, node("a100-80gb", &times(profile, count))).unwrap();
        run(&mut mig_cdi([
            "generate",
            "--output=-",
            "--names=slot",
            "--node",
            file.to_str().unwrap(),
        ]))
    };
    for (profile, max) in
        [("1g.10gb", 7), ("2g.20gb", 3), ("3g.40gb", 2), ("4g.40gb", 1), ("7g.80gb", 1)]
    {
        let full = generate(max, profile);
        assert_eq!(full.code, 0, "{}", full.stderr);
        let found = full.stdout.matches(&format!("\"name\":\"0:{profile}:")).count();
        assert_eq!(found, max as usize, "{profile}");
        let more = generate(max + 1, profile);
        assert_eq!(more.code, 2);
        assert_eq!(more.stdout, "");
        let reason =
            format!("gpu 0: {} x {profile}; NVIDIA A100-SXM4-80GB holds {max} at most", max + 1);
        assert!(more.stderr.contains(&reason), "{}", more.stderr);
    }
}

#[test]
fn every_profile_reaches_its_maximum_count_and_no_more() {
    for model in &MODELS {
        for row in model.profiles {
            let fits = |count| SimulatedNode::parse(&node(model.key, &times(row.name, count)));
            fits(row.max)
                .unwrap_or_else(|e| panic!("{} {} x {}: {e}", model.key, row.max, row.name));
            fits(row.max + 1).unwrap_err();
        }
    }
}

/// A layout exists when some choice of starts exists.
#[test]
fn placements_are_found_by_search() {
    for instances in [
        "{ profile = \"1g.10gb\" }, { profile = \"3g.40gb\" }, { profile = \"3g.40gb\", start = 0 }",
        "{ profile = \"1g.10gb\" }, { profile = \"4g.40gb\" }, { profile = \"2g.20gb\" }",
        "{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }, { profile = \"1g.10gb\" }, { profile = \"1g.10gb\", start = 0 }",
    ] {
        let fits = SimulatedNode::parse(&node("a100-80gb", instances));
        // 3g + 3g take all eight memory slices; the other two leave room.
        assert_eq!(fits.is_ok(), !instances.contains("3g.40gb"), "{instances}: {fits:?}");
    }
}

#[test]
fn impossible_descriptions_are_refused_with_the_reason() {
    let a100 = |instances: &str| node("a100-80gb", instances);
    let gpu = |keys: &str| format!("[[gpu]]\nmodel = \"a100-80gb\"\n{keys}\n");
    let cases = [
        (
            a100("{ profile = \"9g.90gb\" }"),
            "NVIDIA A100-SXM4-80GB has no profile \"9g.90gb\"; it has 1g.10gb, ",
        ),
        (
            a100("{ profile = \"2g.20gb\", start = 1 }"),
            "2g.20gb cannot start at 1; it can start at [0, 2, 4]",
        ),
        (
            a100("{ profile = \"3g.40gb\", start = 0 }, { profile = \"2g.20gb\", start = 2 }"),
            "no placement fits 3g.40gb + 2g.20gb",
        ),
        (a100(&(times("3g.40gb", 2) + &times("2g.20gb", 1))), "need 10 memory slices of 8"),
        (
            node("a100-80gb", &(times("4g.40gb", 1) + &times("1g.20gb", 2) + &times("1g.10gb", 2))),
            "need 10 memory slices of 8",
        ),
        (
            node("h100-80gb", &(times("1g.10gb+me", 1) + &times("7g.80gb", 1))),
            "need 9 memory slices of 8",
        ),
        (
            node("rtx-pro-6000", &(times("1g.24gb+me.all", 1) + &times("1g.24gb", 1))),
            "need 5 decoders of 4",
        ),
        (
            node("rtx-pro-6000", &(times("1g.24gb+me", 1) + &times("1g.24gb+me.all", 1))),
            "need 5 decoders of 4",
        ),
        (
            a100("{ profile = \"1g.10gb\", id = 3 }"),
            "1g.10gb cannot have id 3; the driver gives it 7 to 14",
        ),
        (
            a100("{ profile = \"1g.10gb\", id = 7 }, { profile = \"1g.10gb\", id = 7 }"),
            "two instances have id 7",
        ),
        (
            a100("{ profile = \"3g.40gb\", compute = [\"2c\", \"2c\"] }"),
            "compute instances of 3g.40gb need 4 slices of 3",
        ),
        (
            a100("{ profile = \"4g.40gb\", compute = [\"3c\"] }"),
            "\"3c\" is not a compute instance of 4g.40gb",
        ),
        (a100("{ profile = \"1g.10gb\", compute = [\"0c\"] }"), "\"0c\" is not a compute instance"),
        (node("gtx-480", ""), "unknown model \"gtx-480\"; known are a30, "),
        (
            gpu("mig = false\ninstances = [{ profile = \"1g.10gb\" }]"),
            "has instances but is not in mig mode",
        ),
        (node("l40s", "{ profile = \"1g.10gb\" }"), "has instances but is not in mig mode"),
        (gpu("minor = 32"), "minor 32 is above 31"),
        (gpu("pci = \"7:0\""), "\"7:0\" is not a PCI address"),
        (gpu("uuid = \"GPU-1\""), "\"GPU-1\" is not a GPU UUID"),
        (gpu("minor = 1") + &gpu("minor = 1"), "two gpus have minor 1"),
        (gpu("").repeat(33), "33 gpus; the driver knows 32 at most"),
        (
            gpu("") + "[faults]\nhidden-from-nvml = [\"gpu0/gi1/ci0\"]\n",
            "hidden-from-nvml names \"gpu0/gi1/ci0\"",
        ),
        (
            gpu("") + "[[faults.files]]\npath = \"/proc/devices\"\nsize = 99999999999\n",
            "a file of 99999999999 bytes; 16777216 at most",
        ),
        (gpu("colour = \"red\""), "line 3: unknown field `colour`"),
        ("gpu = 1".to_owned(), "line 1: invalid type"),
        ("[[gpu]".to_owned(), "line 1: "),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    for (description, reason) in cases {
        std::fs::write(&file, &description).unwrap();
        let refused = run(&mut mig_cdi(["list", "--node", file.to_str().unwrap()]));
        assert_eq!(refused.code, 2, "{description}{}", refused.stderr);
        assert!(refused.stderr.contains(reason), "{description}{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "one line: {}", refused.stderr);
    }
}
