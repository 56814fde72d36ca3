//! Writing the spec: on a full disk, and in a directory of another user.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, run};
use std::{fs, os::unix::fs::chown, process::Command};

fn host() -> FakeHost {
    FakeHost::new(preset("a100-80gb").unwrap())
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let host = host();
    chown(host.out(), Some(1234), None).unwrap();
    let run = host.generate(&[]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    let error = run.stderr.lines().last().unwrap();
    assert!(error.contains("TMP/cdi") && error.contains("belongs to user 1234"), "{}", run.stderr);
    assert!(
        fs::read_dir(host.out())
            .unwrap()
            .all(|entry| entry.unwrap().file_name() == ".mig-cdi.lock")
    );
}

/// The same on a full disk of 8 kB.
#[test]
fn a_full_disk_keeps_the_old_spec() {
    let host = host();
    assert_eq!(host.generate(&["--names=uuid"]).code, 0);
    let out = host.out();
    let script = "old=$1; dir=$2; shift 2; cp \"$dir/$old\" \"$dir/../$old\"
        mount -t tmpfs -o size=8k,mode=755 tmpfs \"$dir\"; cp \"$dir/../$old\" \"$dir\"
        \"$@\"; echo $?; cmp \"$dir/../$old\" \"$dir/$old\"; ls -A \"$dir\"";
    let generate = host.command(&["generate", "-o", host.spec().to_str().unwrap()]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", "nvidia.com-mig.json"]).arg(out);
    command.arg(generate.get_program()).args(generate.get_args());
    let run = run(command.env(host.env().0, host.env().1));
    assert!(run.stderr.contains("no space left on device"), "{}", run.stderr);
    assert_eq!(run.stdout, "1\n.mig-cdi.lock\nnvidia.com-mig.json\n", "{}", run.stderr);
}
