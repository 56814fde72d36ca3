//! A process that cleans itself before it does anything as root, and the programs that it hands over to.

use crate::{Error, Result, kernel::process as kernel};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, stat::Mode},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What a program that was run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The start of its standard output: a megabyte.
    pub stdout: String,
    /// The start of its standard error: a megabyte.
    pub stderr: String,
}

/// What this process may still do once it is clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Powers {
    /// Read what root can read.
    None,
    /// Ask NVML what it tells to administrators.
    AskNvml,
    /// Enter a container that is being made, make nodes and mounts in it, and change its cgroup.
    Inject,
    /// Make a file and a mount in a container that is being made, from inside.
    Mount,
}

impl Powers {
    fn capabilities(self) -> CapsHashSet {
        let list: &[Capability] = match self {
            Powers::None => &[],
            Powers::AskNvml => &[Capability::CAP_SYS_ADMIN],
            Powers::Inject => &[
                Capability::CAP_CHOWN,
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_MKNOD,
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_CHROOT,
                Capability::CAP_SYS_PTRACE,
            ],
            // ptrace: to tell the container's mount namespace from that of the machine's first process.
            Powers::Mount => &[
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_CHROOT,
                Capability::CAP_SYS_PTRACE,
            ],
        };
        list.iter().copied().collect()
    }
}

/// Lets go of all that a caller may have handed down: descriptors but the first three, environment,
/// working directory, umask, capabilities beyond `powers`, and the means to be looked into or to gain
/// more.
///
/// # Errors
/// When the kernel refuses a step.
pub fn isolate(powers: Powers) -> Result<()> {
    let fail = |op| move |errno| Error::call(op, "this process", errno);
    kernel::close_from(3).map_err(fail("close descriptors of"))?;
    kernel::clear_environment();
    nix::unistd::chdir("/").map_err(|errno| Error::call("change to", "/", errno))?;
    nix::sys::stat::umask(Mode::empty());
    prctl::set_dumpable(false).map_err(fail("hide"))?;
    prctl::set_no_new_privs().map_err(fail("set no-new-privileges of"))?;
    drop_capabilities(powers).map_err(|_| fail("drop capabilities of")(Errno::EPERM))
}

/// With no-new-privileges nothing that we run gains what is not permitted here: the bounding set needs
/// no change.
fn drop_capabilities(powers: Powers) -> std::result::Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let keep: CapsHashSet = powers.capabilities().intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)?;
    caps::clear(None, CapSet::Inheritable)
}

/// Runs a program of this machine with an empty environment, where this process is, and waits for it, for so
/// long.
///
/// # Errors
/// When it cannot be started or does not end in time; it is killed then.
pub fn run(program: &Path, args: &[impl AsRef<OsStr>], limit: Duration) -> Result<Ran> {
    let fail = |e: &std::io::Error| Error::io("run", program, e);
    let mut command = Command::new(program);
    command.args(args).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| fail(&e))?;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let end = Instant::now() + limit;
    let ended = read_until(pipes, end).and_then(|said| Ok((said, wait_until(&mut child, end)?)));
    match ended {
        Ok(([stdout, stderr], code)) => Ok(Ran { code, stdout, stderr }),
        Err(errno) => {
            // It is gone, or goes now.
            let _ = child.kill();
            let _ = child.wait();
            Err(Error::call("wait for", program, errno))
        }
    }
}

/// All that comes until the other ends are closed. What is more than a megabyte of each is passed over.
fn read_until(pipes: [Option<OwnedFd>; 2], end: Instant) -> nix::Result<[String; 2]> {
    const LIMIT: usize = 1 << 20;
    let pipes = pipes.into_iter().enumerate();
    let mut pipes: Vec<_> = pipes.filter_map(|(i, pipe)| Some((i, File::from(pipe?)))).collect();
    let mut said = [Vec::new(), Vec::new()];
    let mut buffer = [0; 4096];
    while !pipes.is_empty() {
        let fds = pipes.iter().map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<_> = fds.collect();
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(Errno::ETIMEDOUT),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        let mut ready = ready.into_iter();
        pipes.retain_mut(|(i, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            let read = pipe.read(&mut buffer).unwrap_or(0);
            if said[*i].len() < LIMIT {
                said[*i].extend_from_slice(&buffer[..read]);
            }
            read > 0
        });
    }
    Ok(said.map(|said| String::from_utf8_lossy(&said).into_owned()))
}

/// A program may close its ends and stay.
fn wait_until(child: &mut Child, end: Instant) -> nix::Result<Option<i32>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.code()),
            Ok(None) if Instant::now() >= end => return Err(Errno::ETIMEDOUT),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => return Err(Errno::from_raw(e.raw_os_error().unwrap_or(0))),
        }
    }
}

/// Does nothing for so long.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Becomes another program with these arguments, the same environment and the same descriptors.
/// Returns only when that fails.
pub fn become_program(program: &Path, args: impl IntoIterator<Item = OsString>) -> Error {
    let error = Command::new(program).arg0(OsStr::new(program)).args(args).exec();
    Error::io("run", program, &error)
}
