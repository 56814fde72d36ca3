//! Checks of container engines, and the table of their results in `docs/engines.md`: the checks, the engines that they
//! run on, and the rows and columns.

mod checks;
mod engines;
mod table;

pub use checks::{CHECKS, CheckResults, EngineUnderTest, Isolation, host, row};
pub use table::{MatrixRow, table_head, table_rows};
