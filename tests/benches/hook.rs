//! Cost of the hook, of the whole process: `cargo bench -p mig-cdi-tests --bench hook`. Each command alternates with
//! the one that it is compared to, since the machine's speed drifts; quote the ratios of medians, and the medians of
//! differences within a pair.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, deadline,
    hook::{oci_config, runc_state},
    podman::Podman,
    program, run,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

const RUNS: usize = 401;
const STARTS: usize = 31;
const SLICES: &str =
    "0:1g.10gb:0,0:1g.10gb:1,0:1g.10gb:2,0:1g.10gb:3,0:1g.10gb:4,0:1g.10gb:5,0:1g.10gb:6";

/// Node with 56 slices and settings for the hook, and programs to compare with.
struct Bench {
    host: FakeHost,
    empty: PathBuf,
    input: PathBuf,
}

fn main() {
    let host = FakeHost::with_nodes(preset("dgx-a100").expect("a preset"));
    let empty = host.out().with_file_name("empty");
    compile_empty(&empty);
    host.configure_hook(&format!("runtimes = [{empty:?}]"));
    host.install();
    let generated = host.generate(&["--verify"]);
    assert_eq!(generated.code, 0, "{}", generated.stderr);
    let input = host.out().with_file_name("input");
    let bench = Bench { host, empty, input };
    let size = fs::metadata(program("mig-cdi-hook")).expect("the hook").len();
    println!("size {:.2} MiB\n", size as f64 / f64::from(1 << 20));
    println!("{RUNS} pairs each, medians in ms, on a node of 8 GPUs with 7 slices each");
    println!("   this   other difference ratio | calls | peak MiB | what, and against what");
    bench.verify();
    bench.modes();
    bench.search();
    bench.pass_through();
    starts();
}

/// Compiles a static program that does nothing, as a base line.
fn compile_empty(path: &Path) {
    let source = path.with_extension("rs");
    fs::write(&source, "fn main() {}\n").expect("write the program");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "--target", &target, "-o"]);
    let built = run(rustc.arg(path).arg(source));
    assert_eq!(built.code, 0, "{}", built.stderr);
}

impl Bench {
    fn verify(&self) {
        fs::write(&self.input, runc_state(1, Path::new("/bundle"))).expect("write the input");
        let [empty, bin_true] = [Command::new(&self.empty), Command::new("/bin/true")];
        self.compare(&bin_true, &empty, "/bin/true, an empty static program");
        for (name, what) in [("0:1g.10gb:0", "one slice"), ("all", "56 slices")] {
            let verify = {
                let words = words_of(&self.host, name);
                self.host.hook(&words.iter().map(String::as_str).collect::<Vec<_>>())
            };
            self.compare(&verify, &empty, &format!("verify {what}, an empty static program"));
        }
    }

    /// Measures the modes on a configuration of 100 KiB.
    fn modes(&self) {
        let config = format!("--config={}", self.host.config().display());
        let empty = Command::new(&self.empty);
        let precreate = self.host.hook(&["precreate", &config]);
        let bundle = self.host.out().with_file_name("bundle");
        fs::create_dir(&bundle).expect("make a bundle");
        let file = bundle.join("config.json");
        let bundle = bundle.display().to_string();
        let create =
            self.host.hook(&["runtime", &config, "--", "create", "--bundle", &bundle, "id"]);
        for (request, what) in
            [(&[("mig-cdi/devices", SLICES)][..], "with 7 slices"), (&[], "without a request")]
        {
            let text = large_config(100 << 10, request);
            fs::write(&self.input, &text).expect("write the input");
            let row = format!("precreate {what}, an empty static program");
            self.compare(&precreate, &empty, &row);
            let fresh = || fs::write(&file, &text).expect("write the configuration");
            let row = format!("the runtime's create {what}, the real runtime alone");
            self.compare_after(fresh, &create, &empty, &row);
        }
    }

    /// Measures the search for other containers with the slices, among few and many processes.
    fn search(&self) {
        let shared = self.host.config();
        let searching = shared.with_file_name("searching.toml");
        let text = fs::read_to_string(&shared).expect("the configuration");
        let text = text.replace("allow-shared = true", "allow-shared = false");
        fs::write(&searching, text).expect("write the configuration");
        let precreate = |config: &Path| {
            self.host.hook(&["precreate", &format!("--config={}", config.display())])
        };
        let text = large_config(100 << 10, &[("mig-cdi/devices", SLICES)]);
        fs::write(&self.input, text).expect("write the input");
        for more in [0, 1000] {
            let sleep = || Command::new("sleep").arg("1000").spawn().expect("it starts");
            let mut processes: Vec<_> = (0..more).map(|_| sleep()).collect();
            let row = format!(
                "precreate with 7 slices among {more} more processes, the same with allow-shared"
            );
            self.compare(&precreate(&searching), &precreate(&shared), &row);
            processes.iter_mut().for_each(deadline::kill_and_wait);
        }
    }

    fn pass_through(&self) {
        let config = format!("--config={}", self.host.config().display());
        let words = ["runtime", &config, "--", "--version"];
        let other_command = self.host.hook(&words);
        let empty = Command::new(&self.empty);
        self.compare(
            &other_command,
            &empty,
            "another command, an empty program as the real runtime",
        );
        self.host.configure_hook("runtimes = [\"/usr/bin/runc\"]");
        let mut both = Command::new("/bin/sh");
        both.arg("-c").arg(format!("{}; exec /usr/bin/runc --version", self.empty.display()));
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!(
            "exec {} runtime {config} -- --version",
            self.host.install().join("mig-cdi-hook").display()
        ));
        self.compare(&shell, &both, "another command, an empty program and then runc");
    }

    fn compare(&self, this: &Command, other: &Command, what: &str) {
        self.compare_after(|| (), this, other, what);
    }

    fn compare_after(&self, before: impl Fn(), this: &Command, other: &Command, what: &str) {
        let mut pairs = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            before();
            pairs.push((self.time(this), self.time(other)));
        }
        before();
        let peak = self.peak(this);
        before();
        let calls = self.calls(this);
        let row = Row::of(pairs);
        println!("{row} | {calls:5} | {peak:8.2} | {what}");
    }

    /// Returns a command with the input.
    fn command(&self, of: &Command, before: &[&str]) -> Command {
        let mut command = match before {
            [] => Command::new(of.get_program()),
            [tool, args @ ..] => {
                let mut command = Command::new(tool);
                command.args(args).arg(of.get_program());
                command
            }
        };
        let input = fs::File::open(&self.input).expect("the input");
        command.args(of.get_args()).env_clear().stdin(input).stdout(Stdio::null());
        command
    }

    fn time(&self, of: &Command) -> f64 {
        let mut command = self.command(of, &[]);
        let start = Instant::now();
        let status = command.status().expect("it starts");
        let time = start.elapsed();
        assert!(status.success(), "{command:?}");
        time.as_secs_f64() * 1e3
    }

    /// Returns the largest resident set in MiB, as the kernel accounts it.
    fn peak(&self, of: &Command) -> f64 {
        let ran = run_output(self.command(of, &["/usr/bin/time", "-f", "%M"]));
        ran.lines().last().and_then(|line| line.parse::<f64>().ok()).expect("a number") / 1024.0
    }

    fn calls(&self, of: &Command) -> usize {
        let log = self.input.with_extension("strace").display().to_string();
        run_output(self.command(of, &["/usr/bin/strace", "-f", "-o", &log]));
        fs::read_to_string(&log).expect("a log").lines().count()
    }
}

fn run_output(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Returns the hook's arguments in the spec of a device, without the program's name.
fn words_of(host: &FakeHost, name: &str) -> Vec<String> {
    let spec: serde_json::Value =
        serde_json::from_str(&host.read_spec().expect("a spec")).expect("JSON");
    let devices = spec["devices"].as_array().expect("a list");
    let device = devices.iter().find(|device| device["name"] == name).expect("the device");
    let args = device["containerEdits"]["hooks"][0]["args"].as_array().expect("a list");
    args.iter().skip(1).map(|arg| arg.as_str().expect("a text").to_owned()).collect()
}

/// Returns a configuration with these annotations that is as long as that of a pod with many variables.
fn large_config(size: usize, annotations: &[(&str, &str)]) -> String {
    // With quotes and a comma each is 100 bytes.
    let variables: Vec<_> = (0..size / 100).map(|i| format!("SERVICE_{i:05}={i:083}")).collect();
    let env: Vec<_> = variables.iter().map(String::as_str).collect();
    let text = oci_config(&env, annotations, false);
    assert!(text.len() >= size, "{} bytes", text.len());
    text
}

/// Medians of pairs.
struct Row {
    this: f64,
    other: f64,
    difference: f64,
}

impl Row {
    fn of(pairs: Vec<(f64, f64)>) -> Row {
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<_> = pairs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Row {
            this: median(|(this, _)| *this),
            other: median(|(_, other)| *other),
            difference: median(|(this, other)| this - other),
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { this, other, difference } = self;
        write!(f, "{this:7.3} {other:7.3} {difference:10.3} {:5.2}", this / other)
    }
}

/// Measures the start of a whole container, for scale.
fn starts() {
    println!("\n{STARTS} container starts each, podman with runc: medians in ms");
    println!("   this   other difference ratio | what, and against none of it");
    let podman = Podman::new(("runc", "v2"));
    let host = FakeHost::with_nodes(preset("a100-80gb").expect("a preset"));
    host.configure_hook("runtimes = [\"/usr/bin/runc\"]");
    host.install();
    let request = "--annotation mig-cdi/devices=0:2g.20gb:0";
    let cases = [
        ("precreate", format!("--hooks-dir {}", host.hooks_dir("precreate").display()), request),
        (
            "create-runtime",
            format!("--hooks-dir {}", host.hooks_dir("create-runtime").display()),
            request,
        ),
        ("runtime", format!("--runtime {}", host.runtime().display()), request),
        ("a cdi device", String::new(), "--device nvidia.com/mig=0:2g.20gb:0"),
        ("a cdi device with verify", String::new(), "--device nvidia.com/mig=0:2g.20gb:0"),
    ];
    for (what, global, local) in cases {
        let verify = if what.ends_with("verify") { "--verify" } else { "" };
        assert_eq!(host.generate(&[verify][usize::from(verify.is_empty())..]).code, 0);
        let spec = host.spec().display().to_string();
        let script = format!(
            "mkdir -p /var/run/cdi; cp {spec} /var/run/cdi
            time_of() {{
                start=$(date +%s%N)
                $PODMAN $1 run --rm $2 --rootfs $ROOTFS sh -c :
                echo $((($(date +%s%N) - start) / 1000))
            }}
            time_of '' '' >/dev/null
            for round in $(seq {STARTS}); do time_of '{global}' '{local}'; time_of '' ''; done"
        );
        let ran = podman.script(&host, &script);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let times: Vec<_> =
            ran.stdout.lines().map(|us| us.parse::<f64>().expect("a number") / 1e3).collect();
        println!("{} | {what}", Row::of(times.chunks_exact(2).map(|p| (p[0], p[1])).collect()));
    }
}
