//! All parsers of the driver's files, on the same bytes: none panics, and none accepts a text that is cut short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_sys::text;

fuzz_target!(|bytes: &[u8]| {
    let accepted = [
        text::driver_version(bytes).is_ok(),
        text::char_devices(bytes).is_ok(),
        text::params(bytes).is_ok(),
        text::information(bytes).is_ok(),
        text::access(bytes).is_ok(),
        text::mig_minors(bytes).is_ok(),
        text::non_instance_minors(bytes).is_ok(),
    ];
    assert!(bytes.ends_with(b"\n") || accepted.iter().all(|accepted| !accepted));
});
