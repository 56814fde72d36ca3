//! Reason why a request to the API server failed, with what its answer holds about the next try.

use std::{fmt, time::Duration};

/// Largest `Retry-After` that is obeyed, in seconds.
const RETRY_AFTER_LIMIT: u64 = 300;

/// Reason why a request to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Message of the API server, or of what kept the request from it.
    pub message: String,
    /// HTTP status code of the answer; `None` when there was no answer.
    pub code: Option<u16>,
    /// Time until the next try that the API server allows.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// A request that got no answer.
    pub(crate) fn unanswered(message: String) -> ApiError {
        ApiError { message, code: None, retry_after: None }
    }

    /// Returns true when the API server no longer has the version from which a watch was to continue.
    pub(crate) fn is_expired(&self) -> bool {
        self.code == Some(410)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> ApiError {
        let status = match error {
            kube::Error::Api(status) => status,
            error => return ApiError::unanswered(chain(&error)),
        };
        let seconds = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        let seconds = seconds.filter(|seconds| *seconds > 0);
        ApiError {
            message: format!("{} ({})", status.message, status.code),
            code: Some(status.code),
            retry_after: seconds.map(|s| Duration::from_secs(s.min(RETRY_AFTER_LIMIT))),
        }
    }
}

/// Message of an error with those of its sources, each once: some of kube's errors print their source themselves.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        source = next.source();
    }
    text
}
