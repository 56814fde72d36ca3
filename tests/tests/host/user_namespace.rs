//! An unprivileged container of LXC, in which the files of the host belong to nobody (nvidia-container-toolkit issue 290;
//! user_namespaces(7), "Unmapped user and group IDs").

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, copy_program, driver::DistributionLayout, program, run};
use std::{
    fs::{self, Permissions, set_permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

/// User outside of the namespace who is its root.
const OWNER: u32 = 65534;

/// Runs mig-cdi on a host as root of a user namespace that maps no other user.
fn in_namespace(host: &FakeHost, args: &[&str]) -> Run {
    let copy = host.root().join("mig-cdi");
    if !copy.exists() {
        copy_program(&program("mig-cdi"), &copy);
        let above = host.root().parent().unwrap().to_owned();
        set_permissions(above, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    let owner = OWNER.to_string();
    command.args(["--reuid", &owner, "--regid", &owner, "--clear-groups"]);
    command.args(["unshare", "--user", "--map-root-user"]).arg(&copy).args(args);
    // The user may not write where coverage is recorded.
    command.env("LLVM_PROFILE_FILE", "/dev/null");
    run(command.args(host.flags()).env(host.env().0, host.env().1))
}

fn host() -> FakeHost {
    FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Debian)
}

#[test]
fn the_message_says_what_works_in_a_user_namespace() {
    let host = host();
    let generate =
        |args: &[&str]| in_namespace(&host, &[&["generate", "--output=-"], args].concat());
    let refused = generate(&[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""), "{}", refused.stderr);
    let cure = "this is a user namespace, whose root does not own the host's files: generate on the host, or set \
                capabilities to none";
    assert!(refused.stderr.contains(cure), "{}", refused.stderr);
    assert!(!refused.stderr.contains("chown"), "{}", refused.stderr);
    let without_files = generate(&["--capabilities=none"]);
    without_files.assert_code(0);
    assert!(without_files.stdout.contains("\"name\":\"0:2g.20gb:4\""), "{}", without_files.stdout);
}

/// A directory of the host cannot be trusted there, one that was made there can.
#[test]
fn a_spec_is_written_to_a_directory_of_the_namespace() {
    let host = host();
    let generate = |dir: &Path| {
        let output = format!("--output={}/x.json", dir.display());
        in_namespace(&host, &["generate", "--capabilities=none", &output])
    };
    let dir = host.root().join("specs");
    fs::create_dir(&dir).unwrap();
    let refused = generate(&dir);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let message = "it belongs to user 65534, not to root or user 0; this is a user namespace, whose root does not own the \
                   host's files: run it on the host, or on a directory that was made in the namespace\n";
    assert!(refused.stderr.ends_with(message), "{}", refused.stderr);
    chown(&dir, Some(OWNER), Some(OWNER)).unwrap();
    generate(&dir).assert_code(0);
}

/// No capability helps: mknod(2) of a device takes CAP_MKNOD in the initial user namespace.
#[test]
fn nodes_says_once_that_no_node_can_be_made() {
    let host = host();
    fs::remove_dir_all(host.path("/dev/nvidia-caps")).unwrap();
    for path in ["/dev", "/dev/char"] {
        fs::create_dir_all(host.path(path)).unwrap();
        chown(host.path(path), Some(OWNER), Some(OWNER)).unwrap();
    }
    let nodes = in_namespace(&host, &["nodes"]);
    assert_eq!(nodes.code, 1, "{}", nodes.stderr);
    let errors: Vec<_> = nodes.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("one line: {}", nodes.stderr) };
    let cure = ": operation not permitted; the kernel makes no device node in a user namespace: run mig-cdi nodes on the \
                host, and bind its nodes here";
    assert!(error.starts_with("error: make ") && error.ends_with(cure), "{error}");
}

#[test]
fn doctor_says_once_what_it_cannot_see() {
    let host = host();
    for engine in ["podman", "runc"] {
        let path = host.path(&format!("/usr/bin/{engine}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\necho 4.3.1\n").unwrap();
        set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let settings = host.path("/etc/containers/containers.conf");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "").unwrap();
    set_permissions(&settings, Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(host.path("/dev/nvidia-caps")).unwrap();
    let root = format!("--host-root={}", host.root().display());
    let doctor = in_namespace(&host, &["doctor", &root]);
    for line in [
        "warning  engines       podman, runc: version not known: not run in a user namespace, which does not show whose \
         program it is\n         cure: run mig-cdi doctor outside of this user namespace\n",
        "containers.conf: permission denied\n         cure: run mig-cdi doctor outside of this user namespace\n",
        "note     privilege     as root of a user namespace: files, programs and containers of users outside of it are not \
         checked\n",
    ] {
        assert!(doctor.stdout.contains(line), "{line}: {}", doctor.stdout);
    }
    let nodes = doctor.stdout.lines().filter(|line| line.contains("mig-cdi nodes"));
    let nodes: std::collections::BTreeSet<_> = nodes.collect();
    let cure =
        "         cure: run mig-cdi nodes on the host, and bind its nodes into this user namespace";
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [cure], "{}", doctor.stdout);
    // Owners that are not mapped are no fault of the host's nodes.
    for wrong in [
        "should have 0666 of 0:0",
        "every check is complete",
        "writable by root alone",
        "correct the file",
    ] {
        assert!(!doctor.stdout.contains(wrong), "{wrong}: {}", doctor.stdout);
    }
}

/// It cannot see who has a slice, and says so in the place of holders that there are not.
#[test]
fn nobody_is_said_to_have_a_slice_who_cannot_be_examined() {
    let host = host();
    for (args, codes) in [(&["map"][..], [0, 3]), (&["plan", "0=7g.80gb"], [0, 0])] {
        let run = in_namespace(&host, args);
        assert!(codes.contains(&run.code), "{args:?}: {} {}", run.code, run.stderr);
        assert!(
            !format!("{}{}", run.stdout, run.stderr).contains("in use"),
            "{} {}",
            run.stdout,
            run.stderr
        );
        let words = "cannot be examined; run it outside of this user namespace\n";
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
    }
    let state = host.out().join("state");
    let refused =
        in_namespace(&host, &["apply", "0=7g.80gb", &format!("--state-dir={}", state.display())]);
    assert!(refused.code != 0, "{}", refused.stderr);
}
