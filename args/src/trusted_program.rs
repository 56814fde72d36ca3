//! Programs that a spec or an engine's configuration names, and small helpers of the resolution.

use mig_cdi_gen::{Error, Result};
use mig_cdi_sys::{absolute, is_executable, own_program, replaceable_by_others};
use std::path::Path;

/// Text of a file.
///
/// # Errors
/// When it is not UTF-8.
pub fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| Error::usage("read", path.display()).because("not valid utf-8"))
}

/// Path of a program that is installed in the directory of this one, for the flag that needs it.
///
/// # Errors
/// When there is none, or when somebody but root could replace it.
pub fn installed_beside(name: &str, flag: &str) -> Result<String> {
    let program = own_program()?.with_file_name(name);
    check_trusted(&program, flag)?;
    absolute_text(&program, flag)
}

/// Refuses a program that somebody but root could replace: engines run it as root.
pub(crate) fn check_trusted(program: &Path, flag: &str) -> Result<()> {
    let refused = Error::refused("use", format!("{} for {flag}", program.display()));
    match (is_executable(program), replaceable_by_others(program)) {
        (false, _) => {
            Err(refused.because("no such program").cure("install mig-cdi-hook beside mig-cdi"))
        }
        (true, Some(why)) => Err(refused
            .because(format!("{why}, and the hook runs as root"))
            .cure("install it as root")),
        (true, None) => Ok(()),
    }
}

/// Absolute form of a path, as text for a spec.
pub(crate) fn absolute_text(path: &Path, flag: &str) -> Result<String> {
    let path = absolute(path)?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Error::usage("", flag).because(format!("{} is not valid utf-8", path.display()))
    })
}

/// The flag's list, or the setting when the flag was not given.
pub(crate) fn either<T: Clone>(flag: &[T], setting: &[T]) -> Vec<T> {
    if flag.is_empty() { setting.to_vec() } else { flag.to_vec() }
}
