//! Lines for administrators: to syslog, or to a file. Never into a container, and never a reason to
//! fail.

use nix::{fcntl::OFlag, sys::stat::Mode};
use std::{fs::File, io::Write, os::unix::net::UnixDatagram, path::Path};

/// Where the lines go.
#[derive(Debug)]
pub struct Log(To);

#[derive(Debug)]
enum To {
    Syslog(UnixDatagram),
    File(File),
    Nowhere,
}

/// How much a line matters: syslog's severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A container does not start.
    Error = 3,
    /// What was done.
    Info = 6,
}

impl Log {
    /// Opens a file, or syslog. Where there is neither, lines go nowhere.
    #[must_use]
    pub fn open(file: Option<&Path>) -> Log {
        let to = match file {
            Some(path) => open_file(path).map(To::File),
            None => syslog().map(To::Syslog).ok(),
        };
        Log(to.unwrap_or(To::Nowhere))
    }

    /// Writes a line.
    pub fn line(&self, severity: Severity, text: &str) {
        let text = format!("mig-cdi-hook[{}]: {text}", std::process::id());
        // A log that is full or gone stops no container.
        let _ = match &self.0 {
            // RFC 3164 with facility 3, daemons; the daemon adds time and host.
            To::Syslog(socket) => {
                socket.send(format!("<{}>{text}", 24 + severity as u8).as_bytes()).map(drop)
            }
            To::File(file) => (&*file).write_all(format!("{text}\n").as_bytes()),
            To::Nowhere => Ok(()),
        };
    }
}

/// Adds a line to a file that somebody else keeps, for messages to him. It is no failure when there is none.
pub fn append_line(path: &Path, line: &str) {
    if let Some(mut file) = open_file(path) {
        // Nobody is left to tell.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn syslog() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect("/dev/log")?;
    Ok(socket)
}

fn open_file(path: &Path) -> Option<File> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o640)).ok().map(File::from)
}
