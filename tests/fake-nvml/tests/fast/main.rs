//! Tests of the fake driver.

mod fake_driver;
