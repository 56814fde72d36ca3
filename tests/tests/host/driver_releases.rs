//! The drivers of other release branches: functions that their libraries lack, and profiles that are newer than ours.

use mig_cdi_tests::partition_host::PartitionHost;

/// Drivers by release branch; nobody has seen the last.
const DRIVERS: [&str; 8] = [
    "470.57.02",
    "525.60.13",
    "550.54.14",
    "570.86.15",
    "580.65.06",
    "595.45.04",
    "610.43.01",
    "700.10.01",
];

fn host(driver: &str) -> PartitionHost {
    PartitionHost::new(&format!("driver = \"{driver}\"\n[[gpu]]\nmodel = \"a100-80gb\"\n"))
}

/// Everything that partitioning does gives the same result with each driver, but for profiles that it does not have yet.
#[test]
fn gpus_are_partitioned_with_every_driver() {
    const NEWER_PROFILE: &str = "1g.20gb     15";
    let mut first = None;
    for driver in DRIVERS {
        let host = host(driver);
        let without = host.run_ok(&["profiles"]).stdout;
        assert_eq!(without.contains(NEWER_PROFILE), driver >= "525", "{driver}: {without}");
        host.run_ok(&["apply", "0=3g.40gb(1c,2c),2g.20gb,1g.10gb+me"]);
        let views = [&["list"][..], &["export"], &["map"], &["profiles"]];
        let views = views.map(|args| host.run_ok(args).stdout);
        let views = views.map(|view| {
            let lines = view.lines().filter(|line| !line.starts_with(NEWER_PROFILE));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        });
        assert_eq!(first.get_or_insert_with(|| views.clone()), &views, "{driver}");
        // With instances of the profile, the driver is asked for their compute instances.
        host.run_ok(&["apply", "0=3g.40gb(2c),2g.20gb(1c,1c)"]);
        host.run_ok(&["assert", "0=3g.40gb(2c),2g.20gb(1c,1c)"]);
    }
}

/// Who computes on a slice is known with each driver.
#[test]
fn a_slice_in_use_stays_with_every_driver() {
    for driver in DRIVERS {
        let host = host(driver);
        host.run_ok(&["apply", "0=3g.40gb"]);
        host.computes(88, "python", 0, 1);
        let refused = host.run(&["apply", "0=7g.80gb"]);
        assert_eq!(refused.code, 5, "{driver}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("in use by pid 88, python"),
            "{driver}: {}",
            refused.stderr
        );
        host.run_ok(&["apply", "0=3g.40gb,2g.20gb"]);
    }
}
