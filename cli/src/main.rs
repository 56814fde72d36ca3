//! `mig-cdi`: see `mig-cdi --help`.

fn main() -> std::process::ExitCode {
    mig_cdi::run(std::env::args_os())
}
