//! `mig-cdi map` with holders of slices, and for users other than root.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, copy_program, drawing::check_svg, partition_host::PartitionHost, program, run,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

const A100: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";

#[test]
fn holders_are_drawn_at_their_slices() {
    let site = PartitionHost::new(A100);
    site.run_ok(&["apply", "0=2g.20gb@0,2g.20gb@4,1g.10gb@6"]);
    site.container(&[30, 31]);
    let node = site.node();
    let gi = node.gpus[0].instances.iter().find(|gi| gi.placement.start == 6).unwrap().id;
    // Compute instance 0 of this GPU instance on GPU 0 (`nv-caps.c:57-148`).
    let cap = 3 + 9 * gi + 1;
    // The command of a foreign process can control neither the terminal nor the document.
    let evil = "x<b>&\"\x1b[2Jé";
    site.opens(99, evil, &format!("/dev/nvidia-caps/nvidia-cap{cap}"));
    let map = site.run_ok(&["map"]).stdout;
    let lines: Vec<_> = map.lines().collect();
    let below = |device: &str| {
        let at = lines.iter().position(|line| line.split_whitespace().nth(1) == Some(device));
        lines[at.unwrap_or_else(|| panic!("{device} in {map}")) + 1].trim()
    };
    let held = "* in use by container 4f08cd7afbc6 (pid 77, sleep inf)";
    let holder = |start: u32| {
        node.gpus[0].instances.iter().find(|gi| gi.id == 3).unwrap().placement.start == start
    };
    for start in [0, 4] {
        let map_line = below(&format!("0:2g.20gb:{start}"));
        assert_eq!(map_line == held, holder(start), "{map}");
    }
    assert_eq!(below("0:1g.10gb:6"), "* in use by pid 99, x<b>&\"?[2J?", "{map}");
    assert_eq!(map.matches("| A* 2g").count() + map.matches("| B* 2g").count(), 1, "{map}");
    assert!(map.is_ascii() && map.contains("* is in use."), "{map}");
    let svg = site.run_ok(&["map", "--svg=-"]).stdout;
    check_svg(&svg, &map);
    assert!(svg.contains("x&lt;b&gt;&amp;&quot;\u{fffd}[2Jé"), "{svg}");
    assert_eq!(svg.matches("class=\"busy\"").count(), 3, "three compute slices: {svg}");
    let map = site.run_ok(&["map", "--in-use=0=pod default/train"]).stdout;
    assert!(map.contains("* in use as a whole by pod default/train\n"), "{map}");
}

/// NVML reports placements to root only.
#[test]
fn placements_that_nvml_withholds_are_reported() {
    let host = FakeHost::new(preset("a30").unwrap());
    for dir in host.root().ancestors().take(2) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let copy = host.root().join("mig-cdi");
    copy_program(&program("mig-cdi"), &copy);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("map");
    let ordinary = run(command.args(host.flags()).env(host.env().0, host.env().1));
    assert_eq!(ordinary.code, 3, "{}", ordinary.stderr);
    assert!(
        ordinary.stdout.contains("NVML does not report the placements of its instances"),
        "{}",
        ordinary.stdout
    );
    assert_eq!(ordinary.stdout.matches("  MIG-").count(), 7, "{}", ordinary.stdout);
    assert!(ordinary.stderr.contains("it is listed, not drawn"), "{}", ordinary.stderr);
}
