//! Parsers of the loader's cache, of ELF files and of specs, on the same bytes: no panic, bounded time, and no SONAME that
//! is a path. A library that is added to a cache is in it, and its other entries stay.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_gen::spec_file;
use mig_cdi_sys::{
    elf,
    ldcache::{self, CacheEntry},
};

/// Adds a library whose name no cache of the corpus has.
fn merge(bytes: &[u8]) {
    let (name, path) = ("libfuzz.so.1".to_owned(), "/fuzz/libfuzz.so.1".to_owned());
    let ours = CacheEntry { flags: ldcache::NATIVE, name, path };
    let Ok(merged) = ldcache::merge(bytes, std::slice::from_ref(&ours)) else { return };
    let Ok(merged) = ldcache::parse(&merged) else { return };
    assert!(merged.contains(&ours));
    // With an extension, whose offset is at byte 32 (glibc, dl-cache.h), the strings may overlap it and change.
    if let Ok(entries) = ldcache::parse(bytes)
        && bytes.starts_with(b"glibc")
        && bytes[32..36] == [0; 4]
    {
        let kept: Vec<_> = merged.iter().filter(|entry| **entry != ours).collect();
        let mut entries = entries.iter();
        assert!(kept.iter().all(|kept| entries.any(|entry| entry == *kept)));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = ldcache::parse(bytes);
    merge(bytes);
    if let Ok(elf) = elf::read(bytes) {
        assert!(elf.soname.is_none_or(|name| !name.is_empty() && !name.contains('/')));
    }
    let _ = spec_file::parse(bytes);
});
