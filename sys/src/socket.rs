//! Sockets that others find by a path.

use crate::{Error, Result};
use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
};
use std::{
    io::ErrorKind,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::Path,
};

/// Listens at a path, for root alone, without blocking. A socket that exists there is taken for one of an
/// earlier run and replaced; anything else stays.
///
/// # Errors
/// When something else is there, or the kernel refuses, as it does a path of more than 107 bytes.
pub fn listen_at(path: &Path) -> Result<UnixListener> {
    remove_socket(path)?;
    // bind(2) makes the socket file with the umask; a chmod afterwards would leave a moment in which others
    // can connect.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(|e| Error::io("listen at", path, &e))?;
    listener.set_nonblocking(true).map_err(|e| Error::io("listen at", path, &e))?;
    Ok(listener)
}

/// Removes a socket, if there is one.
///
/// # Errors
/// When something else is there, or it cannot be removed.
pub fn remove_socket(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(Error::call("listen at", path, Errno::EEXIST)),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("listen at", path, &e)),
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, &e)),
        _ => Ok(()),
    }
}
