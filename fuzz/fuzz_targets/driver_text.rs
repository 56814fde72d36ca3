//! Every parser of the driver's files, on the same bytes. None may panic, and none may say yes to a
//! text that is cut short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_sys::text;

fuzz_target!(|bytes: &[u8]| {
    let answers = [
        text::driver_version(bytes).is_ok(),
        text::char_devices(bytes).is_ok(),
        text::params(bytes).is_ok(),
        text::information(bytes).is_ok(),
        text::access(bytes).is_ok(),
        text::mig_minors(bytes).is_ok(),
    ];
    assert!(bytes.ends_with(b"\n") || answers.iter().all(|yes| !yes));
});
