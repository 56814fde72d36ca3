//! `mig-cdi-kubelet`: see `mig-cdi-kubelet --help`.

fn main() -> std::process::ExitCode {
    mig_cdi_kubelet::run(std::env::args_os().collect())
}
