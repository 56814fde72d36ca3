//! `/etc/ld.so.cache`, the dynamic loader's own index: where the libraries of this machine are.
//!
//! Format: glibc `sysdeps/generic/dl-cache.h`. The new format, alone (glibc 2.32 and later) or behind
//! the old one, which is passed over. Pure: bytes in, values out, never a panic.

/// A library that the loader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and architecture: see [`X86_64`] and the others.
    pub flags: u32,
    /// SONAME.
    pub name: String,
    /// Absolute path.
    pub path: String,
}

/// Flags of 64-bit libraries for x86: `FLAG_X8664_LIB64 | FLAG_ELF_LIBC6`.
pub const X86_64: u32 = 0x0303;
/// Flags of libraries for aarch64: `FLAG_AARCH64_LIB64 | FLAG_ELF_LIBC6`.
pub const AARCH64: u32 = 0x0a03;
/// Flags of 32-bit libraries for x86: `FLAG_ELF_LIBC6`.
pub const I386: u32 = 0x0003;

/// Why bytes are no cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCache {
    /// Neither of the two magic numbers.
    #[error("no ld.so.cache of glibc")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("of the other byte order")]
    ByteOrder,
    /// Ends early, or an offset leads past its end.
    #[error("cut short, or an offset past its end")]
    CutShort,
}

const OLD: &[u8] = b"ld.so-1.7.0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_HEAD: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_HEAD: usize = 48;
const NEW_ENTRY: usize = 24;

/// Parses a whole cache.
///
/// # Errors
/// When a part of it is not as the format says: such a cache is believed in nothing.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, BadCache> {
    let cache = new_format(bytes)?;
    // Offset 28 says the byte order: 2 little, 3 big, 0 by glibc before 2.33, which did not say.
    let order = cache.get(28).ok_or(BadCache::CutShort)? & 3;
    match order {
        0 => {}
        2 if cfg!(target_endian = "little") => {}
        3 if cfg!(target_endian = "big") => {}
        _ => return Err(BadCache::ByteOrder),
    }
    let count = number(cache, NEW.len())? as usize;
    let end = count.checked_mul(NEW_ENTRY).and_then(|size| size.checked_add(NEW_HEAD));
    if end.is_none_or(|end| end > cache.len()) {
        return Err(BadCache::CutShort);
    }
    let entry = |i: usize| {
        let at = NEW_HEAD + i * NEW_ENTRY;
        Ok(Entry {
            flags: number(cache, at)?,
            name: text(cache, number(cache, at + 4)? as usize)?,
            path: text(cache, number(cache, at + 8)? as usize)?,
        })
    };
    (0..count).map(entry).collect()
}

/// The part in the new format; its offsets count from its own beginning.
fn new_format(bytes: &[u8]) -> Result<&[u8], BadCache> {
    if bytes.starts_with(NEW) {
        return Ok(bytes);
    }
    if !bytes.starts_with(OLD) {
        return Err(BadCache::Magic);
    }
    let count = number(bytes, OLD_HEAD - 4)? as usize;
    let old = count.checked_mul(OLD_ENTRY).and_then(|size| size.checked_add(OLD_HEAD));
    let start = old.and_then(|end| end.checked_next_multiple_of(8)).ok_or(BadCache::CutShort)?;
    let rest = bytes.get(start..).ok_or(BadCache::CutShort)?;
    if rest.starts_with(NEW) { Ok(rest) } else { Err(BadCache::Magic) }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, BadCache> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(BadCache::CutShort)?;
    let four = four.try_into().map_err(|_| BadCache::CutShort)?;
    Ok(u32::from_ne_bytes(four))
}

/// A string of at most 4096 bytes, ended by a zero byte.
fn text(bytes: &[u8], at: usize) -> Result<String, BadCache> {
    let rest = bytes.get(at..).ok_or(BadCache::CutShort)?;
    let rest = &rest[..rest.len().min(4096)];
    let end = rest.iter().position(|byte| *byte == 0).ok_or(BadCache::CutShort)?;
    Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache in the new format.
    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = Vec::new();
        let base = NEW_HEAD + entries.len() * NEW_ENTRY;
        for (flags, name, path) in entries {
            table.extend(flags.to_ne_bytes());
            for text in [name, path] {
                table.extend(((base + strings.len()) as u32).to_ne_bytes());
                strings.extend(text.bytes().chain([0]));
            }
            table.extend([0; 12]);
        }
        let mut bytes = NEW.to_vec();
        bytes.extend((entries.len() as u32).to_ne_bytes());
        bytes.extend((strings.len() as u32).to_ne_bytes());
        bytes.push(if cfg!(target_endian = "little") { 2 } else { 3 });
        bytes.resize(NEW_HEAD, 0);
        [bytes, table, strings].concat()
    }

    const ENTRIES: [(u32, &str, &str); 2] = [
        (X86_64, "libcuda.so.1", "/usr/lib64/libcuda.so.1"),
        (I386, "libcuda.so.1", "/usr/lib/libcuda.so.1"),
    ];

    #[test]
    fn both_forms_give_the_same_entries() {
        let new = cache(&ENTRIES);
        let entries = parse(&new).unwrap();
        assert_eq!(entries[0].path, "/usr/lib64/libcuda.so.1");
        assert_eq!((entries[1].flags, entries[1].name.as_str()), (I386, "libcuda.so.1"));
        // One old entry, then padding to a multiple of eight.
        let mut old = OLD.to_vec();
        old.push(0);
        old.extend(1_u32.to_ne_bytes());
        old.resize(OLD_HEAD + OLD_ENTRY, 7);
        old.resize(32, 0);
        assert_eq!(parse(&[old, new].concat()).unwrap(), entries);
    }

    #[test]
    fn the_cache_of_this_machine_is_read() {
        let entries = parse(&std::fs::read("/etc/ld.so.cache").unwrap()).unwrap();
        assert!(entries.iter().any(|e| e.name == "libc.so.6" && e.path.starts_with('/')));
    }

    #[test]
    fn broken_caches_are_refused() {
        let good = cache(&ENTRIES);
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "cut at {length}");
        }
        let mut huge = good.clone();
        huge[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse(&huge), Err(BadCache::CutShort));
        let mut far = good.clone();
        far[NEW_HEAD + 4..NEW_HEAD + 8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse(&far), Err(BadCache::CutShort));
        let mut other = good;
        other[28] ^= 1;
        assert_eq!(parse(&other), Err(BadCache::ByteOrder));
        assert_eq!(parse(b"random"), Err(BadCache::Magic));
    }
}
