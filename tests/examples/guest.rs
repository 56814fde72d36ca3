//! `guest DIR`: writes the driver's files of a simulated node below DIR, with the fake NVML, as they are below `/`,
//! and the node's `/proc` and `/dev` in `DIR/node`; for machines and systems that the tests boot. `guest DIR
//! --install` adds our programs as `make install` installs them; `guest DIR --changes` adds the node without its last
//! slice in `DIR/changed`, with the description that belongs beside the fake NVML, `node.toml`.

use mig_cdi_sim::{SimulatedNode, preset};
use mig_cdi_tests::{FakeHost, copy_tree, driver, driver::DistributionLayout, make_install};
use std::{fs, path::Path};

fn main() {
    let mut words = std::env::args().skip(1);
    let dir = words.next().expect("guest DIR");
    let dir = &std::path::absolute(dir).expect("the working directory is there");
    let description = preset("a100-80gb").expect("a known preset");
    let host = FakeHost::with_driver(description, DistributionLayout::Debian);
    copy(&host, dir, &[("/usr", ""), ("/lib", "usr"), ("/etc", "")]);
    copy(&host, &dir.join("node"), &[("/proc", ""), ("/dev", "")]);
    // The description is beside the library, where the host has a link.
    let version = SimulatedNode::parse(description).expect("it was parsed").driver;
    let library = driver::library_dir(DistributionLayout::Debian).trim_start_matches('/');
    let beside = dir.join(format!("{library}/libnvidia-ml.so.{version}.toml"));
    fs::remove_file(&beside).expect("there");
    fs::write(&beside, description).expect("write the description");
    match words.next().as_deref() {
        None => {}
        Some("--install") => make_install(dir, "/usr"),
        Some("--changes") => {
            let changed = description.replace("    { profile = \"1g.10gb\", start = 6 },\n", "");
            host.replace_node(&changed);
            copy(&host, &dir.join("changed"), &[("/proc", "")]);
            fs::write(dir.join("changed/node.toml"), changed).expect("write the description");
        }
        Some(word) => panic!("{word}: --install or --changes"),
    }
}

/// Copies directories of the host to directories below `dir`.
fn copy(host: &FakeHost, dir: &Path, what: &[(&str, &str)]) {
    for (from, to) in what {
        fs::create_dir_all(dir.join(to)).expect("make a directory");
        copy_tree(&host.path(from), &dir.join(to));
    }
}
