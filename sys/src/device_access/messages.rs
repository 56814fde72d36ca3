//! Messages between the search and its child processes: one line of JSON each way.

use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::ffi::OsString;

/// Arguments of a child: a hidden subcommand and its request.
///
/// # Errors
/// When the request has a path that is not UTF-8, which JSON cannot hold.
pub(super) fn args(subcommand: &str, request: &impl Serialize) -> Result<[OsString; 2]> {
    let request = serde_json::to_string(request).map_err(|e| {
        Error::refused("run", format!("the {subcommand} child process"), e.to_string())
            .with_cure("use paths that are valid utf-8 in flags and configuration")
    })?;
    Ok([subcommand.into(), request.into()])
}

/// Parses the message of the parent.
///
/// # Errors
/// When it has another form: a person has run the subcommand, which is for the program itself.
pub(super) fn parse<T: DeserializeOwned>(message: &str) -> Result<T> {
    serde_json::from_str(message)
        .map_err(|e| Error::refused("read", "the request of the parent process", e.to_string()))
}

/// Serialises a message as one line, with its line end.
pub(super) fn line(message: &impl Serialize) -> String {
    serde_json::to_string(message).map_or_else(|_| String::new(), |text| text + "\n")
}
