//! Tests that are made from files: of each golden file, on a simulated node, and of each command of the documents. As those in
//! `fast`, anyone can run them. Those that need root are in `tests/tests/host_cases.rs`.

use libtest_mimic::{Arguments, Trial};
use mig_cdi_tests::{documented_commands::documented_commands, golden};

fn main() {
    let golden = golden::cases().into_iter().map(|case| {
        Trial::test(format!("golden::{}", case.name), move || {
            case.check_simulated();
            Ok(())
        })
    });
    let commands =
        documented_commands().into_iter().filter(|case| !case.needs_root()).map(|case| {
            Trial::test(format!("docs::{}", case.name), move || {
                case.check();
                Ok(())
            })
        });
    libtest_mimic::run(&Arguments::from_args(), golden.chain(commands).collect()).exit();
}
