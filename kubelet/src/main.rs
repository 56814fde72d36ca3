//! Program `mig-cdi-kubelet`: the device plugin. Everything is in the library.

fn main() -> std::process::ExitCode {
    mig_cdi_kubelet::run(std::env::args_os().collect())
}
