//! Lines for administrators: to syslog, or to a file. Never into a container, and never a reason to
//! fail.

use mig_cdi_model::one_line;
use nix::{fcntl::OFlag, sys::stat::Mode};
use std::{fs::File, io::Write, os::unix::net::UnixDatagram, path::Path};

/// A log that is open, or lost.
#[derive(Debug)]
pub struct Log(Sink);

#[derive(Debug)]
enum Sink {
    Syslog(UnixDatagram),
    File(File),
    Nowhere,
}

/// Severity of a line, with the numbers of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A container does not start.
    Error = 3,
    /// A record of what was done.
    Info = 6,
}

impl Log {
    /// Opens a file, or syslog when none is named. Without either, lines are dropped.
    #[must_use]
    pub fn open(file: Option<&Path>) -> Log {
        let sink = match file {
            Some(path) => open_file(path).map(Sink::File),
            None => syslog().map(Sink::Syslog).ok(),
        };
        Log(sink.unwrap_or(Sink::Nowhere))
    }

    /// Writes a line. Unprintable characters in the text are replaced: administrators read it in a terminal.
    pub fn line(&self, level: LogLevel, text: &str) {
        let text = format!("mig-cdi-hook[{}]: {}", std::process::id(), one_line(text));
        // A log that is full or gone stops no container.
        let _ = match &self.0 {
            // RFC 3164: facility 3, system daemons, times 8. The daemon adds time and host name.
            Sink::Syslog(socket) => {
                socket.send(format!("<{}>{text}", 24 + level as u8).as_bytes()).map(drop)
            }
            Sink::File(file) => (&*file).write_all(format!("{text}\n").as_bytes()),
            Sink::Nowhere => Ok(()),
        };
    }
}

/// Appends a line to a file that another program keeps for messages to it. A failure is ignored.
pub fn append_line(path: &Path, line: &str) {
    if let Some(mut file) = open_file(path) {
        // There is nobody left to report to.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn syslog() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A daemon that does not read must not hold a container up.
    socket.set_nonblocking(true)?;
    socket.connect("/dev/log")?;
    Ok(socket)
}

/// Opens a log file to append to. `O_APPEND` keeps lines of several hooks apart: finding the end and writing is one
/// step (open(2)). A link could lead to any file of root, and a fifo without a reader would block.
fn open_file(path: &Path) -> Option<File> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o640)).ok().map(File::from)
}
