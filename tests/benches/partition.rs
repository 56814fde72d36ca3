//! Cost of partitioning GPUs, of the whole process, on a fake host of 8 GPUs with 7 slices each, with the refresh of
//! spec and device nodes: `cargo bench -p mig-cdi-tests --bench partition`.
//!
//! Quote the ratios to `mig-cdi list` on the same host, which asks NVML for every slice once.
//!
//! The last lines are the search for holders on the machine itself, with 300 cgroups of ten processes that may each use one slice, and
//! 2,000 other processes; with 900,000 open files, and as many descriptors that only name a slice's node; with 300 device programs that cannot be read; with 20,000 processes; and beside
//! 400,000 files in a tmpfs of another mount namespace, which it never reads. It needs root and the `devices` controller of cgroup v1.

use mig_cdi_tests::{deadline::kill_and_wait, partition_host::PartitionHost, podman::compile, run};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 15;

fn main() {
    let host = PartitionHost::new(&"[[gpu]]\nmodel = \"a100-80gb\"\n".repeat(8));
    let file = host.fake.path("/layouts.yaml");
    let text = "version: v1\nmig-configs:\n  all:\n    - devices: all\n      mig-enabled: true\n      mig-devices:\n        1g.10gb: 7\n";
    std::fs::write(&file, text).expect("write the layout file");
    let file = file.display().to_string();
    let layout = ["-f", &file, "-c", "all"];
    let apply = [&["apply"], &layout[..]].concat();
    let mut made = Vec::new();
    let mut destroyed = Vec::new();
    for _ in 0..RUNS {
        made.push(time(&host, &apply));
        destroyed.push(time(&host, &["apply", "all=none"]));
    }
    host.run_ok(&apply);
    let base = median((0..RUNS).map(|_| time(&host, &["list"])).collect());
    let show = |what: &str, times: Vec<Duration>| {
        let ms = median(times);
        println!("{what:<40} {ms:7.2} ms  {:5.2} x list", ms / base);
    };
    println!("{:<40} {base:7.2} ms", "list");
    show("apply, 8 x 7 slices made", made);
    show("apply, 8 x 7 slices destroyed", destroyed);
    let again = |args: &[&str]| (0..RUNS).map(|_| time(&host, args)).collect();
    show("apply, nothing to do", again(&apply));
    show("plan, nothing to do", again(&[&["plan"], &layout[..]].concat()));
    show("plan, all slices recreated", again(&["plan", "all=7g.80gb"]));
    show("assert", again(&[&["assert"], &layout[..]].concat()));
    show("export", again(&["export"]));
    show("profiles", again(&["profiles"]));
    let holders = || (0..RUNS).map(|_| holders(&host)).collect();
    show("search for holders, this machine", holders());
    let containers = Crowd::of_containers(&host);
    show("the same, 300 containers, 5,000 processes", holders());
    drop(containers);
    let files = Crowd::with_files("fileno STDIN");
    show("the same, 900,000 open files", holders());
    drop(files);
    let node = host.fake.path("/dev/nvidia-caps/nvidia-cap66");
    let path_only = "0x200000";
    let names = Crowd::with_files(&format!(
        "do {{ sysopen(N, '{}', {path_only}) or die; fileno N }}",
        node.display()
    ));
    show("the same, 900,000 names of a slice's node", holders());
    drop(names);
    let programs = Crowd::with_unread_programs(&host);
    show("the same, 300 unreadable device programs", holders());
    drop(programs);
    let processes = Crowd::of_processes();
    show("the same, 20,000 processes", holders());
    drop(processes);
    let files = Crowd::beside_files();
    show("the same, 400,000 files in a tmpfs", holders());
    drop(files);
}

/// Time of a plan in which every slice has to be destroyed, with the holders of the machine.
fn holders(host: &PartitionHost) -> Duration {
    let mut command = host.fake.command(&["plan", "all=7g.80gb"]);
    command.arg(format!("--state-dir={}", host.state().display()));
    let begin = Instant::now();
    let ended = run(&mut command);
    assert!([0, 5].contains(&ended.code), "{}", ended.stderr);
    begin.elapsed()
}

/// Many processes, and the cgroups that some of them are in.
struct Crowd {
    processes: Vec<Child>,
    cgroups: Vec<PathBuf>,
}

impl Crowd {
    fn of_containers(host: &PartitionHost) -> Crowd {
        let mut crowd = Crowd { processes: Vec::new(), cgroups: Vec::new() };
        let parent = Path::new("/sys/fs/cgroup/devices/mig-cdi-bench");
        let minors = host.node().gpus.len() as u32 * 14;
        for container in 0..300_u32 {
            let dir = parent.join(format!("libpod-{container:064x}.scope"));
            fs::create_dir_all(&dir).expect("the devices controller of cgroup v1");
            let write = |file: &str, text: &str| fs::write(dir.join(file), text).expect("a cgroup");
            write("devices.deny", "a");
            for rule in ["c *:* m", "c 1:3 rwm", "c 136:* rwm"] {
                write("devices.allow", rule);
            }
            write("devices.allow", &format!("c 508:{} rw", 3 + container % minors));
            for _ in 0..10 {
                let process = sleeper(&mut Command::new("sleep"));
                write("cgroup.procs", &process.id().to_string());
                crowd.processes.push(process);
            }
            crowd.cgroups.push(dir);
        }
        crowd.cgroups.push(parent.to_owned());
        crowd.processes.extend((0..2000).map(|_| sleeper(&mut Command::new("sleep"))));
        crowd
    }

    /// 300 cgroups of version 2, each with a device program of its own that cannot be interpreted.
    fn with_unread_programs(host: &PartitionHost) -> Crowd {
        let helper = host.fake.out().with_file_name("device-program");
        compile("device-program.c", &helper, &[]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = mount.and_then(|line| line.split(' ').nth(4)).expect("a unified hierarchy");
        let mut crowd = Crowd { processes: Vec::new(), cgroups: Vec::new() };
        for container in 0..300 {
            let dir = Path::new(mount).join(format!("mig-cdi-bench-{container}"));
            fs::create_dir_all(&dir).expect("a cgroup");
            let process = sleeper(&mut Command::new("sleep"));
            fs::write(dir.join("cgroup.procs"), process.id().to_string()).expect("a cgroup");
            let mut allow = Command::new(&helper);
            run(allow.arg("allow").arg(&dir).arg("481")).assert_code(0);
            crowd.processes.push(process);
            crowd.cgroups.push(dir);
        }
        crowd
    }

    /// 20,000 processes of one program, in a PID namespace, so that they end with its first.
    fn of_processes() -> Crowd {
        let script = "for (1..20000) { fork // die or exit sleep 1000 } print 'x'; sleep 1000";
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--pid",
            "--fork",
            "--kill-child",
            "perl",
            "-e",
            &format!("$| = 1; {script}"),
        ]);
        Crowd { processes: vec![ready(&mut unshare)], cgroups: Vec::new() }
    }

    /// A process in a mount namespace with 400,000 files.
    fn beside_files() -> Crowd {
        let script =
            "mount -t tmpfs tmpfs /mnt; cd /mnt; seq 400000 | xargs touch; echo; exec sleep 1000";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-euc", script]);
        Crowd { processes: vec![ready(&mut unshare)], cgroups: Vec::new() }
    }

    /// 60 processes with 15,000 descriptors each, of a file that Perl opens by this expression.
    fn with_files(file: &str) -> Crowd {
        let script = format!(
            "$^F = 20000; use POSIX; $file = {file}; POSIX::dup($file) for 1..15000; exec 'sleep', '1000'"
        );
        let start = |_| sleeper(Command::new("perl").args(["-e", &script]));
        let crowd = Crowd { processes: (0..60).map(start).collect(), cgroups: Vec::new() };
        // They open files for a second or two.
        std::thread::sleep(Duration::from_secs(5));
        crowd
    }
}

/// Starts a program and waits until it has written something.
fn ready(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a process");
    let output = child.stdout.as_mut().expect("a pipe");
    output.read_exact(&mut [0]).expect("it is prepared");
    child
}

fn sleeper(command: &mut Command) -> Child {
    let is_sleep = command.get_program() == "sleep";
    let command = if is_sleep { command.arg("1000") } else { command };
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a process")
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(|process| drop(process.kill()));
        self.processes.iter_mut().for_each(kill_and_wait);
        for dir in &self.cgroups {
            // An ended process may be in it for a moment.
            for _ in 0..100 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn time(host: &PartitionHost, args: &[&str]) -> Duration {
    let mut command = host.command(args);
    let begin = Instant::now();
    let ended = run(&mut command);
    let time = begin.elapsed();
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    time
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}
