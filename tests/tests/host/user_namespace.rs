//! An unprivileged container of LXC, in which the files of the host belong to nobody (nvidia-container-toolkit issue 290;
//! user_namespaces(7), "Unmapped user and group IDs").

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, copy_program, driver::DistributionLayout, program, run};
use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

#[test]
fn the_message_says_what_works_in_a_user_namespace() {
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Debian);
    let copy = host.root().join("mig-cdi");
    copy_program(&program("mig-cdi"), &copy);
    let above = host.root().parent().unwrap().to_owned();
    set_permissions(above, Permissions::from_mode(0o755)).unwrap();
    let generate = |args: &[&str]| -> Run {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["unshare", "--user", "--map-root-user"]).arg(&copy);
        command.args(["generate", "--output=-"]).args(args).args(host.flags());
        run(command.env(host.env().0, host.env().1))
    };
    let refused = generate(&[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""), "{}", refused.stderr);
    let cure = "this is a user namespace, whose root does not own the host's files: generate on the host, or use \
                --capabilities none";
    assert!(refused.stderr.contains(cure), "{}", refused.stderr);
    assert!(!refused.stderr.contains("chown"), "{}", refused.stderr);
    let without_files = generate(&["--capabilities=none"]);
    without_files.assert_code(0);
    assert!(without_files.stdout.contains("\"name\":\"0:2g.20gb:4\""), "{}", without_files.stdout);
}
