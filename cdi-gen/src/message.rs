//! Messages for people, sent while an operation runs: a stage of the library hands them to a [`MessageSink`], and only the
//! program that links it knows whether they go to a terminal, a log or nowhere.

/// Importance of a message, which decides its label and whether it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageLevel {
    /// A part failed, and the rest goes on.
    Error,
    /// Something works now and may fail later or elsewhere.
    Warning,
    /// Something was done.
    Status,
    /// Advice for a person at a terminal; a log does without it.
    Hint,
    /// Details, which `--verbose` shows.
    Detail,
}

/// Receiver of messages, in the order in which they come up.
///
/// It is `Sync` because a refresh repairs device nodes in one thread while another reads NVML.
pub trait MessageSink: Sync {
    /// Takes one message: a single line in lower case.
    fn message(&self, level: MessageLevel, text: &str);

    /// Takes a [`MessageLevel::Error`].
    fn error(&self, text: &str) {
        self.message(MessageLevel::Error, text);
    }

    /// Takes a [`MessageLevel::Warning`].
    fn warn(&self, text: &str) {
        self.message(MessageLevel::Warning, text);
    }

    /// Takes a [`MessageLevel::Status`].
    fn status(&self, text: &str) {
        self.message(MessageLevel::Status, text);
    }

    /// Takes a [`MessageLevel::Hint`].
    fn hint(&self, text: &str) {
        self.message(MessageLevel::Hint, text);
    }

    /// Takes a [`MessageLevel::Detail`].
    fn detail(&self, text: &str) {
        self.message(MessageLevel::Detail, text);
    }
}

/// A sink that drops every message, for a child process whose parent reads its report instead.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMessages;

impl MessageSink for NoMessages {
    fn message(&self, _: MessageLevel, _: &str) {}
}
