//! `device_cgroup PID MAJOR:MINOR… [!MAJOR:MINOR…] -- COMMAND`: allows character devices in the device cgroup of a
//! process, runs a shell command, and undoes it. Prints before, in between and after which devices are denied; those
//! with an exclamation mark are not allowed, and checked like the others. `SYSTEMD_INFORMED=1` leaves systemd's own
//! programs alone. `PROC_ROOT` is the directory whose `/proc` is read.
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
    let (mut devices, mut nodes) = (Vec::new(), Vec::new());
    for arg in args.by_ref().take_while(|arg| arg != "--") {
        let (major, minor) = arg.trim_start_matches('!').split_once(':').ok_or("MAJOR:MINOR")?;
        let device = (Major(major.parse()?), Minor(minor.parse()?));
        nodes.push(node(&device)?);
        if !arg.starts_with('!') {
            devices.push(device);
        }
    }
    let proc = std::env::var_os("PROC_ROOT").unwrap_or_else(|| "/".into());
    let cgroup = DeviceCgroup::of(&Root::open(Path::new(&proc))?, pid)?;
    println!("scope {}", cgroup.own_scope().unwrap_or("none"));
    println!("before {:?}", cgroup.denies(&nodes)?);
    let change = match cgroup.allow(&devices, std::env::var_os("SYSTEMD_INFORMED").is_some()) {
        Ok(change) => change,
        Err(error) => {
            println!("refused: {error}");
            println!("after {:?}", cgroup.denies(&nodes)?);
            return Ok(());
        }
    };
    println!("changed {} {:?}", !change.is_empty(), cgroup.denies(&nodes)?);
    let done = Command::new("sh").args(["-euc", &args.collect::<Vec<_>>().join(" ")]).status()?;
    println!("done {:?}", done.code());
    change.undo()?;
    println!("after {:?}", cgroup.denies(&nodes)?);
    Ok(())
}
