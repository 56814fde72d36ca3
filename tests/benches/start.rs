//! Cost of a device at the start of a container: podman with runc, without and with a device alternately: `cargo
//! bench -p mig-cdi-tests --bench start`. Quote the median of the differences within a pair, since the machine's
//! speed drifts; their quartiles show the spread.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, driver::DistributionLayout, podman::Podman};

const ROUNDS: usize = 101;

/// Node, flags of `generate`, description. `--source=proc` is for the driver files that Debian ships, which have no
/// driver behind them; NVIDIA's own installer has more files.
const CASES: [(&str, &str, &str); 8] = [
    ("a100-80gb", "--capabilities=none", "4 slices, nodes alone"),
    ("a100-80gb", "--library-dirs=/usr/lib64", "4 slices, files in one directory"),
    ("a100-80gb", "", "4 slices, files in two directories (default)"),
    (
        "a100-80gb",
        "--source=proc --library-dirs=/usr/lib64",
        "4 slices, Debian's driver in one directory",
    ),
    ("a100-80gb", "--source=proc", "4 slices, Debian's driver in two directories (default)"),
    ("dgx-a100", "--capabilities=none", "56 slices, nodes alone"),
    ("dgx-a100", "", "56 slices, files in two directories (default)"),
    (
        "dgx-a100",
        "--names=slot --library-dirs=/usr/lib64",
        "56 slices, one name each, in one directory",
    ),
];

fn main() {
    println!(
        "container start, podman with runc, {ROUNDS} pairs each: medians in ms, of differences the quartiles"
    );
    println!("no device | device |   difference in ms | ratio | mounts | spec bytes | what");
    for (node, flags, what) in CASES {
        let node = preset(node).unwrap_or_default();
        let host = match flags.starts_with("--source=proc") {
            true => FakeHost::with_real_driver(node),
            false => FakeHost::with_driver(node, DistributionLayout::Debian),
        };
        let pairs = pairs(&host, flags);
        let spec = host
            .run(
                &[
                    &["generate", "--output=-"],
                    flags.split_whitespace().collect::<Vec<_>>().as_slice(),
                ]
                .concat(),
            )
            .stdout;
        let quartiles = |time: fn(&(f64, f64)) -> f64| {
            let mut times: Vec<f64> = pairs.iter().map(time).collect();
            times.sort_by(f64::total_cmp);
            [1, 2, 3].map(|quarter| times[times.len() * quarter / 4])
        };
        let [_, none, _] = quartiles(|(none, _)| *none);
        let [_, device, _] = quartiles(|(_, device)| *device);
        let [low, difference, high] = quartiles(|(none, device)| device - none);
        println!(
            "{none:9.1} | {device:6.1} | {low:5.1} {difference:5.1} {high:5.1} | {:5.3} | {:6} | {:10} | {what}",
            device / none,
            spec.matches("containerPath").count(),
            spec.len()
        );
    }
}

/// Returns start times in milliseconds, without and with a device.
fn pairs(host: &FakeHost, flags: &str) -> Vec<(f64, f64)> {
    let podman = Podman::with_c_library(("runc", "v2"), "debian-root");
    let script = format!(
        "$MIG_CDI generate $FLAGS {flags} 2>/dev/null
        device=$(grep -o '\"name\":\"[^\"]*' /var/run/cdi/nvidia.com-mig.json | head -1 | cut -d'\"' -f4)
        time_of() {{
            start=$(date +%s%N)
            $PODMAN run --rm $1 --rootfs $ROOTFS sh -c :
            echo $((($(date +%s%N) - start) / 1000))
        }}
        time_of --device=nvidia.com/mig=$device >/dev/null
        for round in $(seq {ROUNDS}); do
            time_of ''
            time_of --device=nvidia.com/mig=$device
        done"
    );
    let run = podman.script(host, &script);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let times: Vec<f64> =
        run.stdout.lines().map(|us| us.parse::<f64>().expect("a number") / 1e3).collect();
    times.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
