//! A child process whose output is read line by line while this process does other things.
//!
//! It is for work that may hang in the driver: the child is killed, and this process goes on.

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
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// A child process and its output so far. It is killed when this is dropped.
#[derive(Debug)]
pub struct ChildLines {
    child: Child,
    /// Its standard input, where it reads lines too.
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
}

/// Output of a child since it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLines {
    /// Complete lines, without their ends.
    pub lines: Vec<String>,
    /// False once the child has closed its output: no more lines come.
    pub is_open: bool,
}

impl ChildLines {
    /// Starts a program with an empty environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<ChildLines> {
        ChildLines::with_input(program, args, Stdio::null())
    }

    /// Starts a program, with an empty environment, that reads lines: [`ChildLines::write`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_reader(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<ChildLines> {
        ChildLines::with_input(program, args, Stdio::piped())
    }

    fn with_input(program: &Path, args: &[impl AsRef<OsStr>], input: Stdio) -> Result<ChildLines> {
        let mut command = Command::new(program);
        command.args(args).env_clear();
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| Error::io("run", program, &e))?;
        let output = child
            .stdout
            .take()
            .filter(|output| fcntl(output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        match output {
            Some(output) => {
                let input = child.stdin.take();
                Ok(ChildLines { child, input, output, partial: Vec::new() })
            }
            None => {
                end(&mut child);
                Err(Error::call("read from", program, Errno::EBADF))
            }
        }
    }

    /// Process id of the child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line, with its end, to a child that reads them. It waits for nothing while the line is shorter than a pipe is long,
    /// and the child has read those before (pipe(7)).
    ///
    /// # Errors
    /// When the child has ended, or reads no lines.
    pub fn write(&mut self, line: &str) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Err(Error::call("write to", "a child process", Errno::EBADF));
        };
        input.write_all(line.as_bytes()).map_err(|e| Error::io("write to", "a child process", &e))
    }

    /// Descriptor to wait for: it can be read when the child has written something or has ended.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Returns the complete lines that have come since the last call. Does not block.
    pub fn read_lines(&mut self) -> NewLines {
        let mut buffer = [0; 512];
        let is_open = loop {
            match self.output.read(&mut buffer) {
                Ok(0) => break false,
                Ok(read) => self.partial.extend_from_slice(&buffer[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break e.kind() == ErrorKind::WouldBlock,
            }
        };
        let end = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let complete: Vec<u8> = self.partial.drain(..end).collect();
        let text = String::from_utf8_lossy(&complete).into_owned();
        NewLines { lines: text.lines().map(str::to_owned).collect(), is_open }
    }
}

impl ChildLines {
    /// Waits for the next complete lines until `end`. Returns `None` when none came, because the time is up or the child has
    /// closed its output.
    pub fn next_lines(&mut self, end: Instant) -> Option<Vec<String>> {
        loop {
            let NewLines { lines, is_open } = self.read_lines();
            if !lines.is_empty() {
                return Some(lines);
            }
            let left = end.saturating_duration_since(Instant::now());
            if !is_open || left.is_zero() {
                return None;
            }
            let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            // Whatever it answers, the next turn reads and looks at the time.
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

impl Drop for ChildLines {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child. One that sleeps uninterruptibly in the driver dies only when that returns, so it is waited for
/// a tenth of a second and then left to the kernel.
fn end(child: &mut Child) {
    // Fails only when it has ended already.
    let _ = child.kill();
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes this process end when its parent does, however that ends, and unblocks all signals: the parent may
/// have started it with those blocked that it reads as events.
///
/// # Errors
/// When the kernel refuses, or the parent has already ended, so that nobody reads our standard output.
pub fn die_with_parent() -> Result<()> {
    let fail = |errno| Error::call("set the parent-death signal of", "this process", errno);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(fail)?;
    SigSet::empty().thread_set_mask().map_err(fail)?;
    // The death signal is not sent for a parent that ended before the call (PR_SET_PDEATHSIG(2const)). POLLERR
    // of the pipe, which needs no requested event, shows that its reader is gone.
    let out = std::io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) => Ok(()),
        Ok(_) => Err(fail(Errno::EPIPE)),
        Err(errno) => Err(fail(errno)),
    }
}
