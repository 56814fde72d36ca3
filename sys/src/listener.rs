//! A process of ours that says what it hears, line by line, while this one does other things.

use crate::{Error, Result};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
};
use std::{
    ffi::OsStr,
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Such a process; it is ended when this is dropped.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    said: ChildStdout,
    rest: Vec<u8>,
}

impl Listener {
    /// Starts a program of this machine with an empty environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<Listener> {
        let mut command = Command::new(program);
        command.args(args).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| Error::io("run", program, &e))?;
        let said = child
            .stdout
            .take()
            .filter(|said| fcntl(said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        match said {
            Some(said) => Ok(Listener { child, said, rest: Vec::new() }),
            None => {
                end(&mut child);
                Err(Error::call("listen to", program, Errno::EBADF))
            }
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What can be read when it has said something, or has ended.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.said.as_fd()
    }

    /// The lines that have come since the last time, and whether more can come.
    pub fn hear(&mut self) -> (Vec<String>, bool) {
        let mut buffer = [0; 512];
        let lives = loop {
            match self.said.read(&mut buffer) {
                Ok(0) => break false,
                Ok(read) => self.rest.extend_from_slice(&buffer[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break e.kind() == ErrorKind::WouldBlock,
            }
        };
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = String::from_utf8_lossy(&whole).into_owned();
        (text.lines().map(str::to_owned).collect(), lives)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills it. One that hangs in the driver goes when the driver lets it, and is not waited for.
fn end(child: &mut Child) {
    // It may have ended.
    let _ = child.kill();
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets this process end with the one that started it, however that ends, and by a signal: it was started
/// with those blocked that are events there.
///
/// # Errors
/// When the kernel refuses, or that process has gone: nobody reads our standard output.
pub fn end_with_parent() -> Result<()> {
    let fail = |errno| Error::call("tie to its parent", "this process", errno);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(fail)?;
    SigSet::empty().thread_set_mask().map_err(fail)?;
    // It may have ended before it could be asked for.
    let out = std::io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) => Ok(()),
        Ok(_) => Err(fail(Errno::EPIPE)),
        Err(errno) => Err(fail(errno)),
    }
}
