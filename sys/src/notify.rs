//! What a service tells systemd: `sd_notify(3)`, without its library.

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

/// The socket of the service manager, if there is one that asks to be told.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// Finds it by `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    #[must_use]
    pub fn find() -> Manager {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| connect(&path).ok());
        let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid: u64| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        Manager { socket, watchdog }
    }

    /// How often it wants to hear that all is well: twice as often as it would act.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Tells it lines `NAME=value`. A manager that does not listen is none.
    pub fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket {
            // Nothing depends on it.
            let _ = socket.send(lines.as_bytes());
        }
    }

    /// That the configuration is read again; it waits for the next `READY=1`.
    pub fn tell_reloading(&self) {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let microseconds = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }
}

fn connect(path: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    Ok(socket)
}
