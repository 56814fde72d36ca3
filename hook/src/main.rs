//! `mig-cdi-hook`, the skeleton: it has no door yet, and refuses everything, so that a container
//! which relies on it does not start without its slice.
//!
//! It reads standard input to its end first: crun reports a broken pipe when a hook does not.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let version = std::env::args_os().nth(1).is_some_and(|arg| arg == "--version");
    if version {
        let line = concat!("mig-cdi-hook ", env!("CARGO_PKG_VERSION"), "\n");
        return match io::stdout().write_all(line.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // What it says does not matter: the answer is no.
    let _ = io::copy(&mut io::stdin().lock().take(16 << 20), &mut io::sink());
    let line = "error: mig-cdi-hook: this version injects nothing; use a cdi spec written by mig-cdi generate\n";
    let _ = io::stderr().write_all(line.as_bytes());
    ExitCode::FAILURE
}
