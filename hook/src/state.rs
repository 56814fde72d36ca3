//! What a runtime tells a hook on standard input: the state of the container.

use crate::Failure;
use serde::Deserialize;
use std::io::{BufReader, Read};

/// Far above any state: annotations of a pod come to some hundred kilobytes.
const LIMIT: u64 = 16 << 20;

/// The state of a container, in the shapes of runc and of crun; crun adds `root`, and puts 0 for a pid
/// that it does not tell. Fields that no door needs are passed over, those that it needs must be there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of the runtime's specification.
    pub oci_version: String,
    /// Of the container.
    pub id: String,
    /// `creating`, or with crun `created`.
    pub status: String,
    /// The process that becomes the container's first.
    #[serde(default)]
    pub pid: u32,
    /// The directory of the container's configuration.
    pub bundle: String,
}

impl State {
    /// Reads to the end of the state. What is large in it is not kept.
    ///
    /// # Errors
    /// When it is no state, or larger than 16 MiB.
    pub fn read(from: impl Read) -> Result<State, Failure> {
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(from.take(LIMIT)));
        let state = State::deserialize(&mut json).and_then(|state| json.end().map(|()| state));
        let state = state.map_err(|e| {
            Failure::refused(format!(
                "read the container's state on standard input: {e}; this is a hook, which runtimes run"
            ))
        })?;
        let bad = |what| {
            let message = format!("read the container's state on standard input: {what}");
            Err(Failure::refused(message))
        };
        match &state {
            State { id, .. } if id.is_empty() => bad("its id is empty"),
            State { bundle, .. } if !bundle.starts_with('/') => {
                bad("its bundle is no absolute path")
            }
            _ => Ok(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNC: &str = r#"{"ociVersion":"1.0.2-dev","id":"a","status":"creating","pid":7,"bundle":"/b","annotations":{"x":"y"}}"#;
    const CRUN: &str = r#"{ "ociVersion": "1.0", "id": "a", "pid": 0, "root": "rootfs", "bundle": "\/b", "status": "created" }
"#;

    fn read(text: &str) -> Result<State, String> {
        State::read(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn both_shapes_are_read() {
        assert_eq!(read(RUNC).unwrap().pid, 7);
        let crun = read(CRUN).unwrap();
        assert_eq!((crun.pid, crun.bundle.as_str()), (0, "/b"));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("{}", "missing field"),
            (&RUNC[..40], "EOF"),
            (&format!("{RUNC}x"), "trailing"),
            (&format!("\u{feff}{RUNC}"), "expected value"),
            (&RUNC.replace("\"pid\":7", "\"pid\":7,\"pid\":8"), "duplicate"),
            (&RUNC.replace("\"pid\":7", "\"pid\":-7"), "invalid"),
            (&RUNC.replace("\"a\"", "\"\""), "id is empty"),
            (&RUNC.replace("/b", ""), "no absolute path"),
            (&RUNC.replace("\"bundle\":\"/b\",", ""), "missing field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(State::read(&b"{\"id\":\"\xff\"}"[..]).is_err());
    }
}
