//! The settings of the machine, for the modes that inject.

use crate::{
    cli::HookOptions,
    error::{Error, HookExit, Result},
};
use mig_cdi_config::Settings;
use mig_cdi_sys::read_regular;
use std::path::Path;

/// Reads the settings that the hook uses; the defaults apply where there is no file.
///
/// # Errors
/// Fails with [`HookExit::Refused`] when the file may not be read, with [`HookExit::Usage`] when it cannot be read, or when one of these settings is wrong.
pub(super) fn read(options: &HookOptions) -> Result<Settings> {
    const LIMIT: usize = 1 << 20;
    let path = options.config.as_deref().unwrap_or(Path::new(mig_cdi_config::PATH));
    let wrong = |cause: &dyn std::fmt::Display| Error::usage("read", path.display(), cause);
    let text = match read_regular(path, LIMIT) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| wrong(&"not valid utf-8"))?,
        Err(error) if options.config.is_none() && error.is_absent() => String::new(),
        Err(error) if error.is_denied() => return Err(Error::from(error)),
        Err(error) => return Err(Error { exit: HookExit::Usage, ..Error::from(error) }),
    };
    let settings = Settings::parse_for_hook(&text)
        .map_err(|e| e.cure.iter().cloned().fold(wrong(&e.without_cure()), Error::with_cure))?;
    Ok(Settings { file: path.to_owned(), ..settings })
}
