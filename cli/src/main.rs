//! The program `mig-cdi`; `mig-cdi --help` lists its commands.

fn main() -> std::process::ExitCode {
    mig_cdi::run(std::env::args_os())
}
