//! `guest DIR`: lays out below DIR what the guest of `tests/machine/run` has of ours: the programs as a package
//! installs them, the files of the driver of a simulated node with the fake NVML among them, and in `DIR/node`
//! the node's `/proc` and `/dev`.

use mig_cdi_sim::{Node, preset};
use mig_cdi_tests::{FakeHost, driver, driver::Layout, make_install, podman};
use std::fs;

fn main() {
    let dir = std::env::args().nth(1).expect("guest DIR");
    let dir = &std::path::absolute(dir).expect("the working directory is there");
    let description = preset("a100-80gb").expect("a known preset");
    let host = FakeHost::with_driver(description, Layout::Debian);
    fs::create_dir_all(dir.join("node")).expect("make a directory");
    for (from, to) in
        [("/usr", ""), ("/lib", "usr"), ("/etc", ""), ("/proc", "node"), ("/dev", "node")]
    {
        podman::copy(&host.path(from), &dir.join(to));
    }
    // Beside the library, in the place of a link to where the host is.
    let version = Node::parse(description).expect("it was parsed").driver;
    let library = driver::library_dir(Layout::Debian).trim_start_matches('/');
    let beside = dir.join(format!("{library}/libnvidia-ml.so.{version}.toml"));
    fs::remove_file(&beside).expect("there");
    fs::write(&beside, description).expect("write the description");
    make_install(dir, "/usr");
}
