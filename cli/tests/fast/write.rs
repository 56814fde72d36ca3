//! Writing the spec: atomically, only in a directory that no other user can write, and never beside a spec that it
//! would conflict with.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, run};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::{Command, Stdio},
};

fn host() -> FakeHost {
    FakeHost::new(preset("a100-80gb").unwrap())
}

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns the lines of standard error, without the warning that this host has no device nodes.
fn lines(run: &Run) -> Vec<&str> {
    let warning = "warning: missing on the host: /dev/nvidiactl and ";
    run.stderr.lines().filter(|line| !line.starts_with(warning)).collect()
}

/// Asserts that a run was refused in one line, with these words.
fn refused(run: &Run, words: &[&str]) {
    assert_eq!(run.code, 5, "{}", run.stderr);
    let [line] = lines(run)[..] else { panic!("one line: {}", run.stderr) };
    assert!(line.starts_with("error: "), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} in {}", run.stderr);
    }
}

/// Returns the names in the directory of specs without the lock.
fn names(host: &FakeHost) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(host.out())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".mig-cdi.lock")
        .collect();
    names.sort();
    names
}

#[test]
fn the_spec_is_world_readable_and_the_only_file() {
    let host = host();
    assert_eq!(host.generate(&[]).code, 0);
    assert_eq!(fs::metadata(host.spec()).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(names(&host), ["nvidia.com-mig.json"]);
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let outcome = |host: &FakeHost| {
        let run = host.generate(&[]);
        let [line] = lines(&run)[..] else { panic!("one line: {}", run.stderr) };
        line.split(' ').next().unwrap().to_owned()
    };
    let host = host();
    assert_eq!(outcome(&host), "wrote");
    let before = fs::metadata(host.spec()).unwrap();
    assert_eq!(outcome(&host), "unchanged");
    let after = fs::metadata(host.spec()).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // A file that other users cannot read is rewritten, though its bytes are current.
    mode(&host.spec(), 0o600);
    assert_eq!(outcome(&host), "wrote");
    assert_eq!(fs::metadata(host.spec()).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn a_missing_directory_is_created_with_any_umask() {
    for umask in ["000", "077"] {
        let host = host();
        fs::remove_dir(host.out()).unwrap();
        let generate = host.command(&["generate", "-o", host.spec().to_str().unwrap()]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command
            .arg(generate.get_program())
            .args(generate.get_args())
            .env(host.env().0, host.env().1);
        assert_eq!(run(&mut command).code, 0);
        assert_eq!(fs::metadata(host.out()).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(host.spec()).unwrap().mode() & 0o7777, 0o644);
    }
}

#[test]
fn directories_that_other_users_can_change_are_refused() {
    for (bits, cure) in [(0o775, "mode 0775"), (0o757, "mode 0757"), (0o1777, "mode 1777")] {
        let host = host();
        mode(&host.out(), bits);
        refused(&host.generate(&[]), &["trust TMP/cdi", cure, "chmod go-w"]);
        assert_eq!(names(&host), [""; 0]);
    }
}

#[test]
fn a_linked_directory_is_refused() {
    let host = host();
    let real = host.root().join("real");
    fs::create_dir(&real).unwrap();
    fs::remove_dir(host.out()).unwrap();
    symlink(&real, host.out()).unwrap();
    refused(&host.generate(&[]), &["TMP/cdi", "symbolic link"]);
    let slash = format!("{}//nvidia.com-mig.json", host.out().display());
    refused(&host.run(&["generate", "-o", &slash]), &["symbolic link"]);
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}

/// A symlink at the file's own path is replaced, and its target is not touched.
#[test]
fn a_symlink_in_place_of_the_file_is_replaced() {
    let host = host();
    let victim = host.root().join("victim");
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, host.spec()).unwrap();
    assert_eq!(host.generate(&[]).code, 0);
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(host.spec()).unwrap().is_file());
}

#[test]
fn a_spec_that_defines_the_same_device_is_named_and_nothing_is_written() {
    let json = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/mig","devices":[{"name":"0:2g.20gb:4","containerEdits":{"env":["A=1"]}}]}"#;
    let yaml = "cdiVersion: 0.5.0\nkind: nvidia.com/mig\ndevices:\n- name: all\n  containerEdits:\n    env: [A=1]\n";
    // As Go's libraries write and read specs: null for empty, unknown fields, and a version that an engine may
    // refuse. The name counts as defined all the same.
    let nulls = "cdiVersion: 9.9.9\nkind: nvidia.com/mig\ncontainerEdits: null\nannotations:\n  a: 1\ndevices:\n- name: all\n  containerEdits:\n    env: null\n    deviceNodes: [{major: x}]\n    netDevices: []\n";
    for (name, text, device) in
        [("a.json", json, "0:2g.20gb:4"), ("b.yaml", yaml, "all"), ("c.yaml", nulls, "all")]
    {
        let host = host();
        fs::write(host.out().join(name), text).unwrap();
        let culprit = format!("TMP/cdi/{name} defines nvidia.com/mig={device} too");
        refused(&host.generate(&[]), &["write TMP/cdi/nvidia.com-mig.json", &culprit]);
        assert_eq!(host.read_spec(), None);
        // Under another kind the same names do not conflict.
        assert_eq!(host.generate(&["--kind=example.com/slice"]).code, 0);
    }
}

#[test]
fn conflicts_in_other_spec_directories_are_found() {
    let host = host();
    let etc = host.root().join("etc-cdi");
    fs::create_dir(&etc).unwrap();
    fs::write(
        etc.join("old.json"),
        r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/mig","devices":[{"name":"all"}]}"#,
    )
    .unwrap();
    let config = host.root().join("config.toml");
    let dirs = format!("capabilities = \"none\"\nspec-dirs = [{:?}, {:?}]\n", etc, host.out());
    fs::write(&config, dirs).unwrap();
    let config = config.to_str().unwrap();
    let generate = || host.run(&["generate", "--config", config]);
    refused(&generate(), &["TMP/root/etc-cdi/old.json defines nvidia.com/mig=all"]);
    // A file that no engine reads or can parse causes no conflict.
    fs::rename(etc.join("old.json"), etc.join("old.json.bak")).unwrap();
    fs::write(etc.join("broken.json"), "{").unwrap();
    fs::write(etc.join("list.yaml"), "- 1\n").unwrap();
    assert_eq!(generate().code, 0);
    assert!(host.read_spec().is_some(), "the last directory is written to");
}

#[test]
fn without_a_slice_the_spec_is_removed() {
    let host = host();
    assert_eq!(host.generate(&[]).code, 0);
    fs::write(host.env().1, "[[gpu]]\nmodel = \"a100-80gb\"\n").unwrap();
    fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig")).unwrap();
    let gone = host.generate(&[]);
    assert_eq!((gone.code, host.read_spec()), (0, None));
    assert!(
        gone.stderr
            .contains("no nvidia.com/mig device on this node: removed TMP/cdi/nvidia.com-mig.json"),
        "{}",
        gone.stderr
    );
    // A file that is no spec of ours is not removed.
    for foreign in ["not a spec", "{\"kind\":\"nvidia.com/gpu\",\"devices\":[]}"] {
        fs::write(host.spec(), foreign).unwrap();
        refused(&host.generate(&[]), &["remove TMP/cdi/nvidia.com-mig.json"]);
        assert_eq!(host.read_spec().as_deref(), Some(foreign));
    }
}

/// `--remove`, for the removal of mig-cdi: the spec is removed, with or without a driver; files of others stay.
#[test]
fn generate_remove_removes_the_spec() {
    let host = host();
    assert_eq!(host.generate(&["--gpus"]).code, 0);
    let gpus = host.out().join("nvidia.com-gpu.json");
    fs::write(&gpus, "{\"kind\":\"nvidia.com/gpu\",\"devices\":[]}").unwrap();
    fs::remove_dir_all(host.path("/proc")).unwrap();
    fs::create_dir(host.path("/proc")).unwrap();
    let removed = host.generate(&["--remove"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (0, ""), "{}", removed.stderr);
    assert_eq!(removed.stderr, "removed TMP/cdi/nvidia.com-mig.json\n");
    assert_eq!(names(&host), ["nvidia.com-gpu.json"], "nobody has asked for that");
    let removed = host.generate(&["--remove", "--gpus"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert_eq!(
        removed.stderr,
        "nothing to remove: TMP/cdi/nvidia.com-mig.json is not there\nremoved TMP/cdi/nvidia.com-gpu.json\n"
    );
    fs::write(host.spec(), "not a spec").unwrap();
    refused(&host.generate(&["--remove"]), &["remove TMP/cdi/nvidia.com-mig.json"]);
    assert_eq!(host.read_spec().as_deref(), Some("not a spec"));
    let printed = host.run(&["generate", "--remove", "--output=-"]);
    assert_eq!(printed.code, 2);
    assert!(
        printed.stderr.contains("remove the spec: --output - is standard output"),
        "{}",
        printed.stderr
    );
}

#[test]
fn a_failure_keeps_the_old_spec() {
    let host = host();
    assert_eq!(host.generate(&[]).code, 0);
    let old = host.read_spec();
    let access = host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi7/access");
    let whole = fs::read(&access).unwrap();
    fs::write(&access, &whole[..5]).unwrap();
    let strict = host.generate(&["--strict"]);
    assert_eq!((strict.code, host.read_spec()), (3, old.clone()), "{}", strict.stderr);
    assert!(strict.stderr.contains("gpu 0 gi 7"), "{}", strict.stderr);
    let fatal = host.path("/proc/driver/nvidia-caps/mig-minors");
    fs::rename(&fatal, host.root().join("kept")).unwrap();
    assert_eq!(host.generate(&[]).code, 1);
    assert_eq!(host.read_spec(), old);
    fs::rename(host.root().join("kept"), &fatal).unwrap();
    let partial = host.generate(&[]);
    assert_eq!(partial.code, 3);
    assert!(!host.read_spec().unwrap().contains("1g.10gb"), "the good devices are written");
}

/// Files of others are untrusted input: neither a deeply nested one nor one that grows without end stops generate,
/// and files that engines cannot read cause no conflict.
#[test]
fn huge_specs_of_other_tools_do_no_harm() {
    let host = host();
    let mut bomb = String::from("a0: &a0 [x]\n");
    for i in 1..40 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    bomb += "kind: nvidia.com/mig\ndevices: *a39\n";
    fs::write(host.out().join("bomb.yaml"), bomb).unwrap();
    for (name, open) in
        [("deep.json", "["), ("deep.yaml", "["), ("deeper.yaml", "- "), ("map.json", "{\"a\":")]
    {
        fs::write(host.out().join(name), open.repeat(200_000)).unwrap();
    }
    // Nor does a pipe without a writer.
    let pipe = host.out().join("pipe.json");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let run = host.generate(&[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// A process that is killed while it writes leaves the old spec, and no other file that engines read.
#[test]
fn a_writer_killed_half_way_leaves_the_old_spec() {
    let host = host();
    assert_eq!(host.generate(&["--names=uuid"]).code, 0);
    let old = host.read_spec();
    let generate = host.command(&["generate", "-o", host.spec().to_str().unwrap()]);
    let mut command = Command::new("sh");
    // setrlimit(2): SIGXFSZ kills the process when the file would become larger than two blocks of 512 bytes.
    command.args(["-c", "ulimit -c 0; ulimit -f 2; exec \"$@\"", "sh"]);
    command.arg(generate.get_program()).args(generate.get_args());
    let died = run(command.env(host.env().0, host.env().1));
    assert_ne!(died.code, 0);
    assert_eq!(host.read_spec(), old);
    let left = names(&host);
    assert!(
        left.iter().all(|name| name == "nvidia.com-mig.json" || name.ends_with(".tmp")),
        "{left:?}"
    );
    assert_eq!(host.generate(&[]).code, 0);
    assert_ne!(host.read_spec(), old);
}

/// CDI's Go library does not watch for `IN_CREATE` or `IN_MOVED_TO`: only a rename within the directory makes a running
/// engine read it again.
#[test]
fn engines_that_watch_the_directory_see_a_rename() {
    let host = host();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let mask = AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MODIFY;
    inotify.add_watch(&host.out(), mask).unwrap();
    assert_eq!(host.generate(&[]).code, 0);
    let events = inotify.read_events().unwrap();
    assert!(
        events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_MOVED_FROM)),
        "{events:?}"
    );
}

/// Concurrent writers of different specs: a reader sees one of them, whole.
#[test]
fn readers_never_see_a_partial_file() {
    let host = host();
    assert_eq!(host.generate(&[]).code, 0);
    let long = host.read_spec().unwrap();
    assert_eq!(host.generate(&["--names=uuid"]).code, 0);
    let short = host.read_spec().unwrap();
    let spec = host.spec();
    let mut writers: Vec<_> = (0..40)
        .map(|i| {
            let names = if i % 2 == 0 { "--names=uuid" } else { "--names=uuid,slot" };
            let mut command = host.command(&["generate", "-o", spec.to_str().unwrap(), names]);
            command.stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    while !writers.is_empty() {
        let seen = host.read_spec().expect("there is a file at every moment");
        assert!(seen == long || seen == short, "half a file: {} bytes", seen.len());
        writers.retain_mut(|writer| match writer.try_wait().unwrap() {
            None => true,
            Some(status) => {
                assert!(status.success());
                false
            }
        });
    }
    assert_eq!(names(&host), ["nvidia.com-mig.json"]);
}

#[test]
fn file_names_that_no_engine_reads_are_refused() {
    let host = host();
    for name in ["spec", "spec.yml", ".json", ".hidden.json", "..", "spec.yaml/"] {
        let path = format!("{}/{name}", host.out().display());
        let run = host.run(&["generate", "--format=json", "-o", &path]);
        assert_eq!(run.code, 2, "{name}: {}", run.stderr);
    }
    let yaml = format!("{}/spec.yaml", host.out().display());
    assert_eq!(host.run(&["generate", "-o", &yaml]).code, 0, "the suffix chooses the format");
    assert!(fs::read_to_string(yaml).unwrap().starts_with("cdiVersion: \"0.5.0\"\n"));
    let nowhere = format!("{}/a/b/spec.json", host.out().display());
    let run = host.run(&["generate", "-o", &nowhere]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("create directory TMP/cdi/a/b: no such file"), "{}", run.stderr);
}
