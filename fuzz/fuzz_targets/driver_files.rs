//! The loader's cache and the heads of libraries, from the same bytes: no panic, no time without
//! bound, and no SONAME that is a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi::spec_file::SpecFile;
use mig_cdi_sys::{elf, ldcache};

fuzz_target!(|bytes: &[u8]| {
    let _ = ldcache::parse(bytes);
    if let Ok(elf) = elf::read(bytes) {
        assert!(elf.soname.is_none_or(|name| !name.is_empty() && !name.contains('/')));
    }
    let _ = SpecFile::parse(bytes);
});
