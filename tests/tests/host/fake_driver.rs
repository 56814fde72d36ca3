//! The fake driver for users other than root.

use mig_cdi_tests::{build_dir, fake_nvml, hook::feed, run};
use std::{fs, process::Command};

const NO_PERMISSION: u32 = 4;

/// Without root: the calls that nvml.h reserves for privileged users.
#[test]
fn privileged_calls_need_root() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let file = dir.path().join("node.toml");
    let node = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\" }]\n";
    fs::write(&file, node).unwrap();
    let copied =
        run(Command::new("cp").args([build_dir().join("nvml-call"), fake_nvml()]).arg(dir.path()));
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), mode).unwrap();
    let mut user = Command::new("setpriv");
    user.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    user.arg(dir.path().join("nvml-call")).arg(dir.path().join("libfake_nvml.so"));
    let lines = "init\nmode 0\nprofile 0 0\ncreate 0 19\nset-mode 0 0\nprocesses 0 0 0\nplaces 0 19\ninfo 0 1\n";
    let output = feed(user.env("FAKE_NVML_NODE", &file), lines.as_bytes()).stdout;
    let codes: Vec<u32> =
        output.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(codes[..3], [0, 0, 0], "{output}");
    assert_eq!(codes[3..], [NO_PERMISSION; 5], "{output}");
}
