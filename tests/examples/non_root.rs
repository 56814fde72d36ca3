//! Stand-in for `mig-cdi-hook` and `mig-cdi-runtime` in a directory of programs: runs the shipped one as a user who
//! is not root and has only the capability to read root's files, because the hosts of the tests are in root's
//! directories.
#![allow(missing_docs)]

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::{error::Error, os::unix::process::CommandExt, path::Path, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os();
    let name = words.next().ok_or("usage: mig-cdi-hook [WORD…]")?;
    let hook = format!("target/{}-unknown-linux-musl/hook/mig-cdi-hook", std::env::consts::ARCH);
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(hook);
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    let kept = CapsHashSet::from([Capability::CAP_DAC_READ_SEARCH]);
    setgroups(&[])?;
    setresgid(group, group, group)?;
    caps::securebits::set_keepcaps(true)?;
    setresuid(user, user, user)?;
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
        caps::set(None, set, &kept)?;
    }
    Err(Command::new(hook).arg0(name).args(words).exec().into())
}
