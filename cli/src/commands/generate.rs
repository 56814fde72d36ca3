//! `mig-cdi generate`.

use super::{Done, exit};
use crate::console::Console;
use mig_cdi_gen::{
    Error, Exit, NodeSource,
    generate::{GenerateOptions, Generated, Generator, OnConflict},
};

pub(super) fn run(
    node: &NodeSource,
    options: &GenerateOptions,
    remove: bool,
    console: &Console,
) -> Result<Done, Error> {
    let generator = Generator::new(node, options, console);
    if remove {
        generator.remove()?;
        return Ok(Done { stdout: String::new(), exit: Exit::Success });
    }
    let Generated { stdout, plan } = generator.generate(OnConflict::Refuse, || ())?;
    Ok(Done { stdout, exit: exit(plan.is_complete()) })
}
