//! Tests that are made from files, on fake hosts with device nodes: of each golden file, and of each command of the documents.
//! They need root; `cli/tests/cases.rs` has those that do not.

use libtest_mimic::{Arguments, Trial};
use mig_cdi_tests::{documented_commands::documented_commands, golden};

fn main() {
    let golden = golden::cases().into_iter().map(|case| {
        Trial::test(format!("golden::{}", case.name), move || {
            case.check_fake_host();
            Ok(())
        })
    });
    let commands = documented_commands().into_iter().filter(|case| case.needs_root()).map(|case| {
        Trial::test(format!("docs::{}", case.name), move || {
            case.check();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), golden.chain(commands).collect()).exit();
}
