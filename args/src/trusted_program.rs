//! Checks of programs that a spec or the configuration of an engine names.

use mig_cdi_gen::{Error, Result};
use mig_cdi_sys::{absolute, is_executable, own_program, replaceable_by_others};
use std::path::Path;

/// Returns the absolute path of a program in the directory of this one, for the flag that needs it.
///
/// # Errors
/// When the program does not exist, or when a user other than root could replace it.
pub fn installed_beside(name: &str, flag: &str) -> Result<String> {
    let program = own_program()?.with_file_name(name);
    check_trusted(&program, flag)?;
    absolute_text(&program, flag)
}

/// Refuses a program that a user other than root could replace: engines run it as root.
pub(crate) fn check_trusted(program: &Path, flag: &str) -> Result<()> {
    let refused = Error::refused("use", format!("{} for {flag}", program.display()));
    // The file itself may be safe in a directory where others may rename it: the whole path counts.
    match (is_executable(program), replaceable_by_others(program)) {
        (false, _) => {
            let name = program.file_name().unwrap_or_default().display();
            Err(refused
                .because("no such program")
                .with_cure(format!("install {name} beside mig-cdi")))
        }
        (true, Some(why)) => Err(refused
            .because(format!("{why}, and the hook runs as root"))
            .with_cure("install it as root")),
        (true, None) => Ok(()),
    }
}

/// Returns a path in absolute form, as text for a spec, which has a working directory of its own.
pub(crate) fn absolute_text(path: &Path, flag: &str) -> Result<String> {
    // Engines run hooks in the directory of the container's bundle, or in its root filesystem (measured with runc and
    // crun).
    let path = absolute(path)?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Error::usage("accept", flag).because(format!("{} is not valid utf-8", path.display()))
    })
}
