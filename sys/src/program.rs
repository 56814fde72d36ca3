//! Other programs: to run one and wait, to become one, and to find our own.

use crate::{Error, Result, error::errno_of, user_path::exists};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The link to the file that this process runs, which works even after that file was removed (proc(5)).
const OWN_IMAGE: &str = "/proc/self/exe";

/// Output and exit code of a program that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOutput {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The first megabyte of its standard output.
    pub stdout: String,
    /// The first megabyte of its standard error.
    pub stderr: String,
}

/// Runs a program with an empty environment and no standard input, and waits for it up to `limit`.
///
/// # Errors
/// When it cannot be started or does not end in time; it is killed then.
pub fn run(program: &Path, args: &[impl AsRef<OsStr>], limit: Duration) -> Result<ProgramOutput> {
    let fail = |e: &std::io::Error| Error::io("run", program, e);
    let mut command = Command::new(program);
    command.args(args).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| fail(&e))?;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let end = Instant::now() + limit;
    let ended = read_until(pipes, end).and_then(|text| Ok((text, wait_until(&mut child, end)?)));
    match ended {
        Ok(([stdout, stderr], code)) => Ok(ProgramOutput { code, stdout, stderr }),
        Err(errno) => {
            // Both fail only when it has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            Err(Error::call("wait for", program, errno))
        }
    }
}

/// Reads until the other ends are closed. What exceeds a megabyte of each is read and dropped: a program
/// whose pipe is full would block for ever.
fn read_until(pipes: [Option<OwnedFd>; 2], end: Instant) -> nix::Result<[String; 2]> {
    const LIMIT: usize = 1 << 20;
    let pipes = pipes.into_iter().enumerate();
    let mut pipes: Vec<_> = pipes.filter_map(|(i, pipe)| Some((i, File::from(pipe?)))).collect();
    let mut texts = [Vec::new(), Vec::new()];
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
            if texts[*i].len() < LIMIT {
                texts[*i].extend_from_slice(&buffer[..read]);
            }
            read > 0
        });
    }
    Ok(texts.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// Waits for the end itself: a program may close its outputs and go on running.
fn wait_until(child: &mut Child, end: Instant) -> nix::Result<Option<i32>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.code()),
            Ok(None) if Instant::now() >= end => return Err(Errno::ETIMEDOUT),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => return Err(errno_of(&e)),
        }
    }
}

/// Blocks this thread for a time.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Becomes another program with these arguments, the same environment and the same descriptors.
/// Returns only when that fails.
pub fn exec_program(program: &Path, args: impl IntoIterator<Item = OsString>) -> Error {
    let error = Command::new(program).arg0(OsStr::new(program)).args(args).exec();
    Error::io("run", program, &error)
}

/// Path of the program that runs this, or its former path when another file has taken its place.
///
/// # Errors
/// When /proc cannot be read.
pub fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().map_err(|e| Error::io("resolve", OWN_IMAGE, &e))?;
    // The kernel appends this to the path of a removed file (proc(5), /proc/pid/exe).
    let former = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(match former {
        Some(former) if !exists(&path) => former.into(),
        _ => path,
    })
}

/// Path to run this very program once more. A package upgrade replaces the file and a removal deletes it
/// before this process gets its SIGTERM; both times `/proc/self/exe` still leads to the old one.
///
/// # Errors
/// When /proc cannot be read.
pub fn own_image() -> Result<PathBuf> {
    let path = std::env::current_exe().map_err(|e| Error::io("resolve", OWN_IMAGE, &e))?;
    Ok(if exists(&path) { path } else { OWN_IMAGE.into() })
}

/// True for a regular file with an executable bit; symbolic links are followed.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    let executable = |metadata: std::fs::Metadata| {
        metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
    };
    std::fs::metadata(path).is_ok_and(executable)
}

/// True while a process has this id. The id of a process that has ended may be given to another, of any user: nothing may
/// rely on it but what is as well left undone.
pub(crate) fn is_running(pid: u32) -> bool {
    exists(&Path::new("/proc").join(pid.to_string()))
}
