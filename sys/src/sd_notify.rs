//! Messages to systemd, `sd_notify(3)`, without its library.
//!
//! A datagram to a socket is the whole protocol. Messages never block and never fail: a service that runs
//! under no manager, or under one that does not read, is as good as any other.

use std::{
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The notification socket of the service manager, if this process runs under one that expects messages.
#[derive(Debug)]
pub struct SdNotify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl SdNotify {
    /// Connects to the socket that `NOTIFY_SOCKET` names, and reads `WATCHDOG_USEC`.
    #[must_use]
    pub fn from_env() -> SdNotify {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| connect(&path).ok());
        let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
        // The variables pass to child processes; only the one that is named here is watched
        // (sd_watchdog_enabled(3)).
        let ours =
            number("WATCHDOG_PID").is_none_or(|pid: u64| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        SdNotify { socket, watchdog }
    }

    /// Interval of keep-alive messages: half of the time after which the manager would kill this process, as
    /// `sd_watchdog_enabled(3)` recommends. `None` when there is no watchdog.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Sends lines `NAME=value`.
    pub fn notify(&self, lines: &str) {
        if let Some(socket) = &self.socket {
            // Nothing depends on it, and a queue that is full must not stop us.
            let _ = socket.send(lines.as_bytes());
        }
    }

    /// Announces that the configuration is read again. The manager then waits for the next `READY=1`.
    pub fn notify_reloading(&self) {
        // `Type=notify-reload` requires this time stamp in the same message (systemd.service(5)).
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let microseconds = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }
}

fn connect(path: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // A leading `@` stands for the zero byte of an abstract socket (sd_notify(3)).
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    Ok(socket)
}
