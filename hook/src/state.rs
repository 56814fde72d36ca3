//! The state of a container, which a runtime writes to the standard input of a hook. Strict, where `oci-spec`'s
//! `State` takes `{}` for one: a hook that lets an unknown container start is worse than none.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::io::{BufReader, Read};

/// Size limit in bytes, far above any state: the annotations of a pod come to some hundred kilobytes.
const LIMIT: u64 = 16 << 20;

/// The state of a container as runc and crun write it. Fields that no mode needs are ignored, the others required.
///
/// ```
/// use mig_cdi_hook::state::ContainerState;
///
/// let json = r#"{"ociVersion":"1.0.2","id":"a","status":"creating","pid":7,"bundle":"/b"}"#;
/// assert_eq!(ContainerState::read(json.as_bytes())?.pid, 7);
/// assert!(ContainerState::read(&b"{}"[..]).is_err());
/// # Ok::<(), mig_cdi_hook::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ContainerState {
    /// Version of the runtime specification.
    pub oci_version: String,
    /// Name of the container, unique for the runtime.
    pub id: String,
    /// `creating`; crun has `created` in the stage createContainer.
    pub status: String,
    /// Process that becomes the container's first. Seen from inside in the stage createContainer: 1 with runc, 0 with
    /// crun.
    #[serde(default)]
    pub pid: u32,
    /// Directory that holds `config.json`; absolute.
    pub bundle: String,
}

impl ContainerState {
    /// Reads a state to its end, which must be the end of the input too.
    ///
    /// # Errors
    /// Fails when the input is not a state, or is larger than 16 MiB.
    pub fn read(input: impl Read) -> Result<ContainerState> {
        // Streamed, so that the annotations of a pod, which are most of it, are never in memory.
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(input.take(LIMIT)));
        let state = ContainerState::deserialize(&mut json);
        let state = state.and_then(|state| json.end().map(|()| state));
        let state = state.map_err(|cause| {
            let cure = "let a runtime run this hook: it writes the state to standard input";
            unreadable(cause).with_cure(cure)
        })?;
        match &state {
            ContainerState { id, .. } if id.is_empty() => Err(unreadable("its id is empty")),
            ContainerState { bundle, .. } if !bundle.starts_with('/') => {
                Err(unreadable("its bundle is not an absolute path"))
            }
            _ => Ok(state),
        }
    }
}

fn unreadable(cause: impl std::fmt::Display) -> Error {
    Error::refused("read the container's state on standard input", "", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNC: &str = r#"{"ociVersion":"1.0.2-dev","id":"a","status":"creating","pid":7,"bundle":"/b","annotations":{"x":"y"}}"#;
    const CRUN: &str = r#"{ "ociVersion": "1.0", "id": "a", "pid": 0, "root": "rootfs", "bundle": "\/b", "status": "created" }
"#;

    fn read(text: &str) -> std::result::Result<ContainerState, String> {
        ContainerState::read(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn states_of_runc_and_crun_are_read() {
        assert_eq!(read(RUNC).unwrap().pid, 7);
        let crun = read(CRUN).unwrap();
        assert_eq!((crun.pid, crun.bundle.as_str()), (0, "/b"));
    }

    #[test]
    fn other_input_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("{}", "missing field"),
            (&RUNC[..40], "EOF"),
            (&format!("{RUNC}x"), "trailing"),
            (&format!("\u{feff}{RUNC}"), "expected value"),
            (&RUNC.replace("\"pid\":7", "\"pid\":7,\"pid\":8"), "duplicate"),
            (&RUNC.replace("\"pid\":7", "\"pid\":-7"), "invalid"),
            (&RUNC.replace("\"a\"", "\"\""), "id is empty"),
            (&RUNC.replace("/b", ""), "not an absolute path"),
            (&RUNC.replace("\"bundle\":\"/b\",", ""), "missing field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(ContainerState::read(&b"{\"id\":\"\xff\"}"[..]).is_err());
    }
}
