//! Output of a command: the text for standard output, and the exit code. Prints nothing.

use mig_cdi_gen::{Error, Exit, child::ChildOutput};
use mig_cdi_model::printable_json;

/// Output of a command that did not fail.
pub(crate) struct CommandOutput {
    /// Text for standard output.
    pub stdout: String,
    /// Exit code.
    pub exit: Exit,
}

impl CommandOutput {
    /// Output with the exit code of success.
    pub(crate) fn success(stdout: String) -> CommandOutput {
        CommandOutput { stdout, exit: Exit::Success }
    }

    /// Output with the exit code of success, or of incompleteness when something was omitted that could not be
    /// confirmed.
    pub(crate) fn complete_if(is_complete: bool, stdout: String) -> CommandOutput {
        let exit = if is_complete { Exit::Success } else { Exit::Incomplete };
        CommandOutput { stdout, exit }
    }
}

impl From<ChildOutput> for CommandOutput {
    fn from(output: ChildOutput) -> CommandOutput {
        CommandOutput { stdout: output.stdout, exit: output.exit }
    }
}

/// Formats a value as indented JSON, with a line end. It can be printed to a terminal.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| printable_json(&text) + "\n")
        .map_err(|e| Error::failed("write", "json").because(e))
}
