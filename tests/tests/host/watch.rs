//! `mig-cdi watch` with device nodes that it makes, and on disks that are full or read-only.

use mig_cdi_tests::{
    FakeHost,
    watch::{Watch, until},
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\n";

fn node(instances: &str) -> String {
    format!("{GPU}instances = [{instances}]\n")
}

fn status(watch: &Watch) -> Value {
    serde_json::from_str(&watch.status()).unwrap_or_default()
}

/// Waits until the spec equals the output of `generate`.
fn until_spec_current(host: &FakeHost, what: &str) {
    let current = host.current_spec();
    until(what, || host.read_spec() == current);
}

fn host(instances: &str) -> FakeHost {
    let host = FakeHost::with_nodes(&node(instances));
    host.install();
    host
}

/// Nodes as `mig-cdi nodes` makes them: at once for a new slice, and removed with it.
#[test]
fn device_nodes_of_the_host_follow_every_change() {
    let host = host("{ profile = \"2g.20gb\" }");
    let nodes = || {
        let entries = fs::read_dir(host.path("/dev/nvidia-caps")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // A node that is being made has a temporary name.
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    };
    let two = node("{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }");
    let before = nodes();
    let watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    host.change_to(&two);
    until("nodes of the second", || nodes().len() == before.len() + 2);
    let both = nodes();
    fs::remove_file(host.path("/dev/nvidia-caps").join(both.last().unwrap())).unwrap();
    until("the node is restored", || nodes() == both);
    fs::remove_file(host.path("/dev/nvidiactl")).unwrap();
    until("the driver's own node is restored", || host.path("/dev/nvidiactl").exists());
    // Nodes that watch creates cause no refresh. No event shows that none follows, hence a wait of several polls.
    // Four: the start, the second slice, and one for each removed node.
    until("the refresh is counted", || status(&watch)["refreshes"] == 4);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(status(&watch)["refreshes"], 4, "{}", watch.status());
    host.change_to(&node("{ profile = \"2g.20gb\" }"));
    until("its nodes are removed", || nodes() == before);
    assert_eq!(watch.stop(), Some(0));
    let watch = Watch::start(&host, &["--leave-nodes"]);
    host.change_to(&two);
    until_spec_current(&host, "a spec");
    assert_eq!(nodes(), before);
    assert_eq!(watch.stop(), Some(0));
}

/// The directory of specs is a file system of its own, seen through the process that watches.
#[test]
fn watch_recovers_from_a_full_or_read_only_disk() {
    let host = host("{ profile = \"2g.20gb\" }");
    let out = host.out();
    let out = out.display();
    let watch = Watch::start_with(&host, &[], |command| {
        let script = format!("mount -t tmpfs -o size=64k,mode=755 tmpfs {out} && exec \"$@\"");
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "sh", "-c", &script, "sh"]);
        outer.arg(command.get_program()).args(command.get_args()).env_clear();
        outer.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env(host.env().0, host.env().1);
        *command = outer;
    });
    let dir = PathBuf::from(format!("/proc/{}/root{out}", watch.pid()));
    let spec = || fs::read_to_string(dir.join("nvidia.com-mig.json")).ok();
    until("the first spec", || spec().is_some());
    let full = dir.join("full");
    let remount = |how: &str| {
        let mut mount = Command::new("nsenter");
        mount.args(["--mount", "--target", &watch.pid().to_string()]);
        mount.args(["mount", "-o", &format!("remount,{how}")]).arg(host.out());
        // The file system is busy until a refresh that has written ends.
        until("the remount succeeds", || mount.status().unwrap().success());
    };
    for (why, slices, break_disk, repair) in [
        (
            "no space left",
            "{ profile = \"3g.40gb\" }",
            &(|| fill(&full)) as &dyn Fn(),
            &(|| fs::remove_file(&full).unwrap()) as &dyn Fn(),
        ),
        ("read-only file system", "{ profile = \"1g.10gb\" }", &|| remount("ro"), &|| {
            remount("rw")
        }),
    ] {
        let old = spec();
        let slices = format!("{{ profile = \"2g.20gb\" }}, {slices}");
        break_disk();
        host.change_to(&node(&slices));
        until(why, || status(&watch)["error"]["message"].as_str().is_some_and(|e| e.contains(why)));
        assert_eq!(spec(), old, "{why}");
        repair();
        let current = host.current_spec();
        until("the spec is current again", || spec() == current);
    }
    assert_eq!(watch.stop(), Some(0));
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}
