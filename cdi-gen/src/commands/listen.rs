//! What watch runs to hear of changes and errors from the driver itself: a process that keeps NVML open and does nothing
//! else. It ends with watch, however that ends, and by a signal at once.

use super::{Context, Done};
use crate::{
    Exit, Failure,
    watch::ear::{FAILED, line},
};
use mig_cdi_sys::{Machine, end_with_parent, nvml};
use std::io::Write;

/// Changes, and errors when those are asked for.
pub(super) fn run(context: &Context<'_>, errors: bool) -> Result<Done, Failure> {
    end_with_parent()?;
    let host = context.host()?;
    let say = |line: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let Some(driver) = host.driver() else {
        return Err(Failure::new(Exit::NoDriver, "listen to the driver: there is none"));
    };
    nvml::listen(driver, errors, |heard| say(&line(&heard))).map_err(|failure| {
        say(&format!("{FAILED}{failure}"));
        Failure::new(Exit::NoDriver, failure.to_string())
    })?;
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}
