//! Deadlines of everything that a test waits for: a program that hangs fails its test and blocks no other.
//!
//! A program that misses its deadline is killed with all that it has started. The test then panics with the command,
//! the time, and what the program had printed.

use crate::Run;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Time limit of a program and of a condition. It fits the slowest machine: the longest of these programs takes
/// seconds, and minutes when ten processes share each processor.
pub const PROGRAM: Duration = Duration::from_secs(120);

/// Time limit of a script in which a container engine works.
pub const ENGINE: Duration = Duration::from_secs(600);

/// Longest pause between two checks of a process.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs a command to its end with this standard input, or with none.
///
/// # Panics
/// When it cannot be started, does not read its input to the end, does not end within the limit, or prints anything
/// but UTF-8.
pub fn run_within(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Run {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that the deadline also ends processes whose parent has ended.
    let child = command.process_group(0).spawn();
    let child = child.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    Exchange::new(child, format!("{command:?}"), input.unwrap_or_default()).finish(limit)
}

/// Waits for the end of a child, and returns what it has printed into its pipes.
///
/// # Panics
/// When it does not end within the limit, or prints anything but UTF-8.
#[must_use]
pub fn finish(child: Child, limit: Duration) -> Run {
    let name = name(&child);
    Exchange::new(child, name, &[]).finish(limit)
}

/// Waits for the end of a child whose output nobody reads.
///
/// # Panics
/// When it does not end within [`PROGRAM`].
pub fn wait(child: &mut Child) -> ExitStatus {
    wait_within(child, PROGRAM)
}

/// Waits for the end of a child whose output nobody reads.
///
/// # Panics
/// When it does not end within the limit.
pub fn wait_within(child: &mut Child, limit: Duration) -> ExitStatus {
    let name = name(child);
    let begin = Instant::now();
    wait_until(child, begin + limit).unwrap_or_else(|| {
        kill_all(child);
        panic!("deadline: {name} still ran after {:?}, and was killed", begin.elapsed())
    })
}

/// Kills a child, and waits until the kernel has ended it.
pub fn kill_and_wait(child: &mut Child) {
    // It may have ended.
    let _ = child.kill();
    // A killed process can only stay in the kernel, which a test cannot mend, and a destructor must not panic.
    if wait_until(child, Instant::now() + PROGRAM).is_none() {
        eprintln!("killed, but still there: {}", name(child));
    }
}

/// Waits until a child has ended by itself, and kills it if it does not. For destructors: it does not panic.
pub fn end_or_kill(child: &mut Child, limit: Duration) {
    if wait_until(child, Instant::now() + limit).is_none() {
        eprintln!("deadline: {} is killed", name(child));
        kill_and_wait(child);
    }
}

/// Reads a line, with its end; it is shorter at the end of the input.
///
/// # Errors
/// `TimedOut` when the line is not complete within [`PROGRAM`].
pub fn read_line<R: Read + AsFd>(reader: &mut BufReader<R>) -> io::Result<String> {
    let end = Instant::now() + PROGRAM;
    let mut line = Vec::new();
    loop {
        while reader.buffer().is_empty() && !poll_one(reader.get_ref().as_fd())? {
            if Instant::now() >= end {
                let text = String::from_utf8_lossy(&line);
                let why = format!("no whole line within {PROGRAM:?}: {text:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        let found = reader.fill_buf()?;
        let length = found.iter().position(|byte| *byte == b'\n').map_or(found.len(), |at| at + 1);
        let is_last = length == 0 || found[length - 1] == b'\n';
        line.extend_from_slice(&found[..length]);
        reader.consume(length);
        if is_last {
            return String::from_utf8(line).map_err(io::Error::other);
        }
    }
}

/// Guard that sets a flag when it is dropped, also by a panic: threads that work until the flag is set then end, and
/// so does [`std::thread::scope`], which waits for them.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Child whose pipes are served until it ends.
struct Exchange {
    child: Child,
    command: String,
    input: Vec<u8>,
    /// Bytes of the input that the child has not been given.
    left: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Exchange {
    fn new(child: Child, command: String, input: &[u8]) -> Exchange {
        let (input, left) = (input.to_vec(), input.len());
        Exchange { child, command, input, left, stdout: Vec::new(), stderr: Vec::new() }
    }

    fn finish(mut self, limit: Duration) -> Run {
        let begin = Instant::now();
        while self.has_pipes() {
            self.serve().unwrap_or_else(|e| panic!("{}: {e}", self.command));
            if begin.elapsed() > limit {
                self.give_up(begin);
            }
        }
        let Some(status) = wait_until(&mut self.child, begin + limit) else { self.give_up(begin) };
        // A reader that ends before all is written is for the test to notice.
        assert_eq!(self.left, 0, "{} did not read its input to the end", self.command);
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let code = status.code().unwrap_or(128);
        Run { code, stdout: text(self.stdout), stderr: text(self.stderr) }
    }

    fn has_pipes(&self) -> bool {
        let Child { stdin, stdout, stderr, .. } = &self.child;
        stdin.is_some() || stdout.is_some() || stderr.is_some()
    }

    /// Moves the bytes that can be moved now, and closes pipes that have ended.
    fn serve(&mut self) -> io::Result<()> {
        let Child { stdin, stdout, stderr, .. } = &mut self.child;
        if self.left == 0 {
            stdin.take();
        }
        let mut fds = Vec::new();
        fds.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        poll_some(&mut fds)?;
        let mut is_ready = fds.iter().map(|fd| fd.any() == Some(true)).collect::<Vec<_>>();
        let stderr_is_ready = stderr.is_some() && is_ready.pop() == Some(true);
        let stdout_is_ready = stdout.is_some() && is_ready.pop() == Some(true);
        if is_ready == [true] {
            // A pipe that can be written takes 4096 bytes (pipe(7), PIPE_BUF) without blocking.
            let begin = self.input.len() - self.left;
            let part = &self.input[begin..self.input.len().min(begin + 4096)];
            match stdin.as_mut().map(|pipe| pipe.write(part)) {
                Some(Ok(length)) => self.left -= length,
                _ => drop(stdin.take()),
            }
        }
        if stdout_is_ready && !take(stdout.as_mut(), &mut self.stdout)? {
            stdout.take();
        }
        if stderr_is_ready && !take(stderr.as_mut(), &mut self.stderr)? {
            stderr.take();
        }
        Ok(())
    }

    /// Kills the child and all that it has started.
    fn give_up(&mut self, begin: Instant) -> ! {
        let state = match self.child.try_wait() {
            Ok(Some(_)) => "has ended, but another process holds its output open",
            _ => "still runs",
        };
        kill_all(&mut self.child);
        panic!(
            "deadline: {} {state} after {:?}; all of it was killed\nstandard output:\n{}\nstandard error:\n{}",
            self.command,
            begin.elapsed(),
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr),
        );
    }
}

/// Reads once from a pipe that has something, and returns whether there may be more.
fn take(pipe: Option<&mut impl Read>, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut part = [0; 1 << 16];
    let length = pipe.map_or(Ok(0), |pipe| pipe.read(&mut part))?;
    bytes.extend_from_slice(&part[..length]);
    Ok(length > 0)
}

/// Waits a moment for one of these files to be ready.
fn poll_some(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    let pause = PollTimeout::try_from(PAUSE).expect("a short time");
    match poll(fds, pause) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Waits a moment for a file to be readable.
fn poll_one(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll_some(&mut fds)?;
    Ok(fds[0].any() == Some(true))
}

/// Waits for the end of a child.
fn wait_until(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
}

/// Returns the command line of a child.
fn name(child: &Child) -> String {
    let words = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    format!("process {} {words:?}", child.id())
}

/// Kills a child, its descendants, and its process group if it leads one.
fn kill_all(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let descendants = descendants(child.id());
    // There is no such group if the child leads none: a group has the id of its first process.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    for process in descendants {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    kill_and_wait(child);
}

/// Returns the processes that a process has started, and those that they have started.
fn descendants(process: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let children = children.flatten().collect::<Vec<_>>().concat();
    let children = children.split_whitespace().filter_map(|child| child.parse::<i32>().ok());
    children.flat_map(|child| [vec![child], descendants(child.unsigned_abs())].concat()).collect()
}
