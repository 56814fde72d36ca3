//! `/etc/ld.so.cache`, the dynamic loader's index of libraries: a parser, and an editor that adds entries.
//!
//! Format: glibc `sysdeps/generic/dl-cache.h`. The new format, alone (glibc 2.32 and later) or behind
//! the old one, which is skipped. Numbers have the machine's byte order. Pure: bytes in, values out, never a
//! panic.
//!
//! ```text
//! offset  new format
//!      0  magic "glibc-ld.so.cache1.1"
//!     20  number of entries
//!     24  length of the strings
//!     28  flags: byte order                    since 2.33
//!     32  offset of the extensions, or 0       since 2.33
//!     48  entries of 24 bytes: flags, offset of the name, offset of the path, 12 bytes that are kept
//!         strings, each ended by a zero byte
//!         extensions
//! ```
//!
//! The editor exists so that no `ldconfig` of an image runs as root (CVE-2025-23267).

use std::{cmp::Ordering, ffi::c_char};

/// A library that the loader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// Kind and architecture: [`X86_64`], [`AARCH64`], [`I386`] or others.
    pub flags: u32,
    /// SONAME of the library.
    pub name: String,
    /// Absolute path of the library.
    pub path: String,
}

/// Flags of 64-bit libraries for x86: `FLAG_X8664_LIB64 | FLAG_ELF_LIBC6`.
pub const X86_64: u32 = 0x0303;
/// Flags of libraries for aarch64: `FLAG_AARCH64_LIB64 | FLAG_ELF_LIBC6`.
pub const AARCH64: u32 = 0x0a03;
/// Flags of 64-bit libraries for this machine.
pub const NATIVE: u32 = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };
/// Flags of 32-bit libraries for x86: `FLAG_ELF_LIBC6`.
pub const I386: u32 = 0x0003;

/// Reasons why bytes are not a usable cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LdCacheError {
    /// Neither of the two magic numbers.
    #[error("no ld.so.cache of glibc")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("of the other byte order")]
    ByteOrder,
    /// Ends early, or an offset leads past its end.
    #[error("cut short, or an offset past its end")]
    CutShort,
    /// An extension that glibc 2.33 does not have: offsets in it could not be moved with their targets.
    #[error("with an extension that is not known here")]
    Extension,
}

const OLD: &[u8] = b"ld.so-1.7.0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_HEAD: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_HEAD: usize = 48;
const NEW_ENTRY: usize = 24;
/// Longest name of a file, in bytes (`NAME_MAX` of limits.h).
const NAME_MAX: usize = 255;

/// Parses a whole cache.
///
/// # Errors
/// When any part of it violates the format: the rest of such a cache is not used either.
pub fn parse(bytes: &[u8]) -> Result<Vec<CacheEntry>, LdCacheError> {
    let cache = new_format(bytes)?;
    let (count, _) = table(cache)?;
    let entry = |i: usize| {
        let at = NEW_HEAD + i * NEW_ENTRY;
        Ok(CacheEntry {
            flags: number(cache, at)?,
            name: text(cache, number(cache, at + 4)? as usize)?,
            path: text(cache, number(cache, at + 8)? as usize)?,
        })
    };
    (0..count).map(entry).collect()
}

/// Number of entries, and offset of the end of their table.
fn table(cache: &[u8]) -> Result<(usize, usize), LdCacheError> {
    // Byte order: 2 little, 3 big, 0 in a cache of glibc before 2.33, which did not record it.
    let order = cache.get(28).ok_or(LdCacheError::CutShort)? & 3;
    match order {
        0 => {}
        2 if cfg!(target_endian = "little") => {}
        3 if cfg!(target_endian = "big") => {}
        _ => return Err(LdCacheError::ByteOrder),
    }
    let count = number(cache, NEW.len())? as usize;
    let end = count.checked_mul(NEW_ENTRY).and_then(|size| size.checked_add(NEW_HEAD));
    match end {
        Some(end) if end <= cache.len() => Ok((count, end)),
        _ => Err(LdCacheError::CutShort),
    }
}

/// An entry of the table: its name with all that follows, and its six words.
struct Row<'a> {
    name: &'a [u8],
    words: [u32; 6],
}

/// Adds libraries to a cache and returns it in the new format alone. They replace entries of the same kind whose
/// names the loader takes for theirs; all else is kept. No bytes at all count as a cache without entries. Names
/// are compared up to 255 bytes, so the time is bounded by the number of entries times that of `add`, whatever
/// the bytes are.
///
/// # Errors
/// When the bytes violate the format.
pub fn merge(bytes: &[u8], add: &[CacheEntry]) -> Result<Vec<u8>, LdCacheError> {
    let old = if bytes.is_empty() { empty() } else { new_format(bytes)?.to_vec() };
    let (_, old_end) = table(&old)?;
    let mut rows = old[NEW_HEAD..old_end]
        .chunks_exact(NEW_ENTRY)
        .map(|entry| row(&old, old_end, entry))
        .collect::<Result<Vec<_>, _>>()?;
    let is_replaced = |row: &Row<'_>| {
        let same = |entry: &CacheEntry| compare(row.name, entry.name.as_bytes()).is_eq();
        add.iter().any(|entry| entry.flags == row.words[0] && same(entry))
    };
    rows.retain(|row| !is_replaced(row));
    let new_end = NEW_HEAD + (rows.len() + add.len()) * NEW_ENTRY;
    let mut strings = Vec::new();
    let mut put = |text: &str| {
        let at = offset(new_end + strings.len());
        strings.extend(text.bytes().chain([0]));
        at
    };
    let added = add.iter().map(|entry| {
        let words = [entry.flags, put(&entry.name)?, put(&entry.path)?, 0, 0, 0];
        Ok(Row { name: entry.name.as_bytes(), words })
    });
    let added = added.collect::<Result<Vec<_>, _>>()?;
    // Whole words, so that the extensions stay aligned.
    strings.resize(strings.len().next_multiple_of(8), 0);
    // Everything behind the table moves by this distance, forwards or backwards.
    let moved = offset(new_end + strings.len())?.wrapping_sub(offset(old_end)?);
    for row in &mut rows {
        row.words[1] = row.words[1].wrapping_add(moved);
        row.words[2] = row.words[2].wrapping_add(moved);
    }
    for new in added {
        // ldconfig sorts the greatest first, and the loader searches by bisection (`search_cache` in
        // elf/dl-cache.c): an entry in the wrong place is not found.
        let before = |row: &Row<'_>| {
            compare(row.name, new.name).then(row.words[0].cmp(&new.words[0])).is_gt()
        };
        rows.insert(rows.partition_point(before), new);
    }
    let mut merged = old[..NEW_HEAD].to_vec();
    set(&mut merged, NEW.len(), offset(rows.len())?);
    let length = number(&old, NEW.len() + 4)?.wrapping_add(offset(strings.len())?);
    set(&mut merged, NEW.len() + 4, length);
    merged.extend(rows.iter().flat_map(|row| row.words).flat_map(u32::to_ne_bytes));
    merged.extend(strings);
    merged.extend(&old[old_end..]);
    // A last string without its zero byte ends here.
    merged.push(0);
    move_extensions(&old, old_end, &mut merged, moved)?;
    Ok(merged)
}

/// Makes a cache without entries.
fn empty() -> Vec<u8> {
    let mut head = NEW.to_vec();
    head.resize(NEW_HEAD, 0);
    head[28] = if cfg!(target_endian = "little") { 2 } else { 3 };
    head
}

fn row<'a>(cache: &'a [u8], table_end: usize, entry: &[u8]) -> Result<Row<'a>, LdCacheError> {
    let mut words = [0; 6];
    for (i, word) in words.iter_mut().enumerate() {
        *word = number(entry, i * 4)?;
    }
    let (name, path) = (words[1] as usize, words[2] as usize);
    match cache.get(name..) {
        Some(text) if name.min(path) >= table_end && path <= cache.len() => {
            Ok(Row { name: &text[..text.len().min(NAME_MAX)], words })
        }
        _ => Err(LdCacheError::CutShort),
    }
}

/// Adds the distance to every offset in `cache_extension` of glibc 2.33: magic and count, then tag, flags, offset
/// and size of each section.
fn move_extensions(
    old: &[u8],
    table_end: usize,
    merged: &mut [u8],
    moved: u32,
) -> Result<(), LdCacheError> {
    const START: usize = 32;
    const MAGIC: u32 = 0xeaa4_2174;
    // The generator is text. The hwcaps are offsets of names of subdirectories, to which entries refer by number.
    const GENERATOR: u32 = 0;
    const HWCAPS: u32 = 1;
    let start = number(old, START)? as usize;
    if start == 0 {
        return Ok(());
    }
    let count = number(old, start.saturating_add(4))?;
    if number(old, start)? != MAGIC || count > 2 {
        return Err(LdCacheError::Extension);
    }
    let mut shift = |at: usize| {
        if at < table_end {
            return Err(LdCacheError::CutShort);
        }
        let new = offset(at)?.wrapping_add(moved) as usize;
        set(merged, new, number(old, at)?.wrapping_add(moved));
        Ok(())
    };
    for section in (0..count as usize).map(|i| start + 8 + 16 * i) {
        let [tag, at, size] = [0, 8, 12].map(|field| number(old, section + field));
        let (at, size) = (at? as usize, size? as usize);
        shift(section + 8)?;
        match tag? {
            GENERATOR => {}
            HWCAPS => (0..size / 4).try_for_each(|i| shift(at.saturating_add(4 * i)))?,
            _ => return Err(LdCacheError::Extension),
        }
    }
    set(merged, START, offset(start)?.wrapping_add(moved));
    Ok(())
}

fn set(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(four) = at.checked_add(4).and_then(|end| bytes.get_mut(at..end)) {
        four.copy_from_slice(&number.to_ne_bytes());
    }
}

fn offset(at: usize) -> Result<u32, LdCacheError> {
    u32::try_from(at).map_err(|_| LdCacheError::CutShort)
}

/// Compares names as the loader's `_dl_cache_libcmp` does: runs of digits by their value, all else by byte. Bytes
/// after a zero byte do not count.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let at = |text: &[u8], i: usize| text.get(i).copied().unwrap_or(0);
    let value = |text: &[u8], i: &mut usize| {
        let mut value = 0_i32;
        while let digit @ b'0'..=b'9' = at(text, *i) {
            value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
            *i += 1;
        }
        value
    };
    let (mut i, mut j) = (0, 0);
    loop {
        let (x, y) = (at(a, i), at(b, j));
        match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => match value(a, &mut i).wrapping_sub(value(b, &mut j)).cmp(&0) {
                Ordering::Equal => {}
                differ => return differ,
            },
            (true, false) => return Ordering::Greater,
            // The loader stops at the end of the first name, before it sees the digit.
            (false, true) if x != 0 => return Ordering::Less,
            // `char` is signed on x86 and unsigned on aarch64, and the loader compares chars.
            _ if x != y || x == 0 => return (x as c_char).cmp(&(y as c_char)),
            _ => (i, j) = (i + 1, j + 1),
        }
    }
}

/// Part of the file that is in the new format; its offsets count from its own beginning.
fn new_format(bytes: &[u8]) -> Result<&[u8], LdCacheError> {
    if bytes.starts_with(NEW) {
        return Ok(bytes);
    }
    if !bytes.starts_with(OLD) {
        return Err(LdCacheError::Magic);
    }
    // The new format follows the old table, aligned to 8 bytes (`ALIGN_CACHE`).
    let count = number(bytes, OLD_HEAD - 4)? as usize;
    let old = count.checked_mul(OLD_ENTRY).and_then(|size| size.checked_add(OLD_HEAD));
    let start =
        old.and_then(|end| end.checked_next_multiple_of(8)).ok_or(LdCacheError::CutShort)?;
    let rest = bytes.get(start..).ok_or(LdCacheError::CutShort)?;
    if rest.starts_with(NEW) { Ok(rest) } else { Err(LdCacheError::Magic) }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, LdCacheError> {
    let four =
        at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(LdCacheError::CutShort)?;
    let four = four.try_into().map_err(|_| LdCacheError::CutShort)?;
    Ok(u32::from_ne_bytes(four))
}

/// Reads a string of at most 4096 bytes, `PATH_MAX`, that a zero byte ends.
fn text(bytes: &[u8], at: usize) -> Result<String, LdCacheError> {
    let rest = bytes.get(at..).ok_or(LdCacheError::CutShort)?;
    let rest = &rest[..rest.len().min(4096)];
    let end = rest.iter().position(|byte| *byte == 0).ok_or(LdCacheError::CutShort)?;
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

    fn library(flags: u32, name: &str, path: &str) -> CacheEntry {
        CacheEntry { flags, name: name.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn names_are_ordered_as_by_the_loader() {
        use Ordering::{Equal, Greater, Less};
        for (a, b, order) in [
            ("libc.so.6", "libc.so.6", Equal),
            ("libc.so.6", "libc.so.10", Less),
            ("libc.so.06", "libc.so.6", Equal),
            ("lib1", "liba", Greater),
            ("liba", "lib1", Less),
            ("lib", "lib1", Less),
            ("lib", "liba", Less),
            ("lib1", "lib", Greater),
            ("liba1b2", "liba1b10", Less),
            ("lib_a", "libBa", Greater),
            ("lib4294967297", "lib1", Equal),
            ("", "", Equal),
            ("", "9", Less),
        ] {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), order, "{a} {b}");
        }
        assert_eq!(compare(b"lib\0x", b"lib\0"), Equal);
        let signed = if cfg!(target_arch = "x86_64") { Less } else { Greater };
        assert_eq!(compare(b"lib\xff", b"liba"), signed);
    }

    #[test]
    fn the_cache_of_this_machine_is_in_that_order_and_survives() {
        let old = std::fs::read("/etc/ld.so.cache").unwrap();
        let entries = parse(&old).unwrap();
        let ours = [
            library(NATIVE, "libcuda.so", "/opt/libcuda.so"),
            library(NATIVE, "libc.so.6", "/opt/libc.so.6"),
            library(NATIVE, "libzzz.so.999", "/opt/libzzz.so.999"),
            library(NATIVE, "000", "/opt/000"),
        ];
        let merged = merge(&old, &ours).unwrap();
        let sorted = parse(&merged).unwrap();
        let order = |e: &[CacheEntry]| compare(e[0].name.as_bytes(), e[1].name.as_bytes()).is_ge();
        assert!(entries.windows(2).all(order) && sorted.windows(2).all(order));
        let (new, kept): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|e| ours.contains(e));
        assert_eq!(new.len(), ours.len());
        let others = entries.into_iter().filter(|e| (e.flags, &*e.name) != (NATIVE, "libc.so.6"));
        assert_eq!(kept, others.collect::<Vec<_>>());
        // A second time changes nothing but strings to which no entry refers any more.
        assert_eq!(parse(&merge(&merged, &ours).unwrap()), parse(&merged));
    }

    #[test]
    fn libraries_of_the_same_name_and_kind_are_replaced() {
        let ours = [library(X86_64, "libcuda.so.1", "/opt/libcuda.so.1")];
        let merged = parse(&merge(&cache(&ENTRIES), &ours).unwrap()).unwrap();
        let narrow = library(I386, "libcuda.so.1", "/usr/lib/libcuda.so.1");
        assert_eq!(merged, [ours[0].clone(), narrow]);
        assert_eq!(parse(&merge(b"", &ours).unwrap()).unwrap(), ours);
        assert!(parse(&merge(b"", &[]).unwrap()).unwrap().is_empty());
        let fewer = [library(X86_64, "libcuda.so.01", "/x")];
        let many = cache(&[ENTRIES[0], ENTRIES[0], ENTRIES[0], (I386, "liba", "/liba")]);
        let merged = parse(&merge(&many, &fewer).unwrap()).unwrap();
        assert_eq!(merged, [fewer[0].clone(), library(I386, "liba", "/liba")]);
    }

    /// A cache with a glibc-hwcaps subdirectory, as glibc 2.33 writes it.
    fn extended(tag: u32) -> Vec<u8> {
        let mut bytes = cache(&ENTRIES);
        let name = bytes.len() as u32;
        bytes.extend(b"x86-64-v3\0");
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let start = bytes.len() as u32;
        let sections = [
            0xeaa4_2174,
            2,
            0,
            0,
            start + 40,
            4,
            tag,
            0,
            start + 44,
            4,
            u32::from_ne_bytes(*b"ldco"),
            name,
        ];
        bytes.extend(sections.map(u32::to_ne_bytes).concat());
        set(&mut bytes, 32, start);
        bytes
    }

    #[test]
    fn extensions_move_with_their_strings() {
        let ours =
            [library(X86_64, "libcuda.so.1", "/opt/libcuda.so.1"), library(X86_64, "a", "/a")];
        for add in [&ours[..], &ours[..1], &[]] {
            let merged = merge(&extended(1), add).unwrap();
            let at = |at: usize| number(&merged, at).unwrap() as usize;
            let start = at(32);
            assert_eq!((at(start), at(start + 4)), (0xeaa4_2174, 2));
            assert_eq!(&merged[at(start + 16)..][..at(start + 20)], b"ldco");
            assert_eq!(text(&merged, at(at(start + 32))).unwrap(), "x86-64-v3");
        }
        assert_eq!(merge(&extended(7), &ours), Err(LdCacheError::Extension));
        let good = extended(1);
        for length in 1..good.len() {
            assert!(merge(&good[..length], &ours).is_err(), "cut at {length}");
        }
        for at in (48..good.len() - 3).step_by(4) {
            for number in [0, 1, 47, u32::MAX, u32::MAX / 2] {
                let mut bad = good.clone();
                set(&mut bad, at, number);
                // No panic, and the result still has ours.
                if let Ok(merged) = merge(&bad, &ours) {
                    let merged = parse(&merged).unwrap();
                    assert!(ours.iter().all(|entry| merged.contains(entry)), "{number} at {at}");
                }
            }
        }
    }

    #[test]
    fn broken_caches_are_refused() {
        let good = cache(&ENTRIES);
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "cut at {length}");
        }
        let mut huge = good.clone();
        huge[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse(&huge), Err(LdCacheError::CutShort));
        let mut far = good.clone();
        far[NEW_HEAD + 4..NEW_HEAD + 8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse(&far), Err(LdCacheError::CutShort));
        let mut other = good;
        other[28] ^= 1;
        assert_eq!(parse(&other), Err(LdCacheError::ByteOrder));
        assert_eq!(parse(b"random"), Err(LdCacheError::Magic));
    }
}
