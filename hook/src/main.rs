//! `mig-cdi-hook`, and under another name `mig-cdi-runtime`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mig_cdi_hook::run(std::env::args_os().collect())
}
