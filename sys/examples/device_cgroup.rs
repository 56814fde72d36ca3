//! `device_cgroup PID MAJOR:MINOR… -- COMMAND`: allows character devices in the device cgroup of a
//! process, runs a shell command, and undoes it. Prints before, in between and after which devices are
//! denied. `SYSTEMD_INFORMED=1` leaves systemd's own programs alone.
#![allow(clippy::disallowed_methods)]

use mig_cdi_model::{Major, Minor};
use mig_cdi_sys::{DeviceCgroup, Root};
use nix::{
    fcntl::OFlag,
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use std::{error::Error, os::fd::OwnedFd, path::Path, process::Command};

/// A node of a device, open with `O_PATH` and no longer on any path.
fn node(&(Major(major), Minor(minor)): &(Major, Minor)) -> Result<OwnedFd, Box<dyn Error>> {
    let path = format!("/tmp/device-cgroup.{}", std::process::id());
    mknod(&*path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(major.into(), minor.into()))?;
    let fd = nix::fcntl::open(&*path, OFlag::O_PATH, Mode::empty());
    nix::unistd::unlink(&*path)?;
    Ok(fd?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let pid = args.next().ok_or("which process?")?.parse()?;
    let mut devices = Vec::new();
    for arg in args.by_ref().take_while(|arg| arg != "--") {
        let (major, minor) = arg.split_once(':').ok_or("MAJOR:MINOR")?;
        devices.push((Major(major.parse()?), Minor(minor.parse()?)));
    }
    let nodes = devices.iter().map(node).collect::<Result<Vec<_>, _>>()?;
    let cgroup = DeviceCgroup::of(&Root::open(Path::new("/"))?, pid)?;
    println!("unit {}", cgroup.unit().unwrap_or("none"));
    println!("before {:?}", cgroup.denies(&nodes)?);
    let change = cgroup.allow(&devices, std::env::var_os("SYSTEMD_INFORMED").is_some())?;
    println!("changed {} {:?}", !change.is_empty(), cgroup.denies(&nodes)?);
    let done = Command::new("sh").args(["-euc", &args.collect::<Vec<_>>().join(" ")]).status()?;
    println!("done {:?}", done.code());
    change.undo()?;
    println!("after {:?}", cgroup.denies(&nodes)?);
    Ok(())
}
