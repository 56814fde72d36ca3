//! The part of ELF that shows whether a file is a shared library of this machine, and under which name
//! the dynamic loader knows it. Little-endian, 32 and 64 bits. Reads three small pieces of the file,
//! never the whole: a libcuda has 80 MB.
//!
//! The file may be hostile: every number is checked before it is used, and nothing is executed or mapped.

use crate::error::{describe, errno_of};
use nix::errno::Errno;
use std::io;

/// The ELF header of a library, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// Word size: 32 or 64.
    pub bits: u8,
    /// Machine, `e_machine`: 62 is x86-64, 183 is aarch64, 3 is i386.
    pub machine: u16,
    /// Name in `DT_SONAME`, when it has one.
    pub soname: Option<String>,
}

/// `e_machine` of the libraries that this build of mig-cdi searches for.
pub const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Reasons why a file is not a usable shared library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// The file is not ELF, is cut short, or contradicts itself.
    #[error("not a shared library: {0}")]
    Malformed(&'static str),
    /// The file could not be read.
    #[error("read: {}", describe(*.0))]
    Unreadable(Errno),
}

/// A file that can be read at an offset.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on as far as the file goes, and returns the number of bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let length = buffer.len().min(self.len() - from);
        buffer[..length].copy_from_slice(&self[from..from + length]);
        Ok(length)
    }
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// Bytes that are read for the ELF header and the program headers, which linkers put right behind it.
const HEAD: usize = 2048;
/// Bytes that are read of a dynamic section, which has some thirty entries of sixteen bytes.
const DYNAMIC: usize = 8192;

/// Reads the header of a shared library.
///
/// # Errors
/// When it is not a shared library.
pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Elf, ElfError> {
    let head = Piece::read(file, 0, HEAD)?;
    if head.bytes.get(..4) != Some(b"\x7fELF") {
        return Err(ElfError::Malformed("no ELF header"));
    }
    let wide = match (head.bytes.get(4), head.bytes.get(5)) {
        (Some(1), Some(1)) => false,
        (Some(2), Some(1)) => true,
        _ => return Err(ElfError::Malformed("neither 32 nor 64 bits, or big-endian")),
    };
    let layout = Layout { wide };
    let machine = head.number(18, 2)?;
    let segments = layout.segments(&head)?;
    let soname = match segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        Some(dynamic) => layout.soname(file, dynamic, &segments)?,
        None => return Err(ElfError::Malformed("no dynamic section")),
    };
    Ok(Elf { bits: if wide { 64 } else { 32 }, machine: machine as u16, soname })
}

/// A range of bytes of the file.
struct Piece {
    bytes: Vec<u8>,
}

impl Piece {
    fn read(file: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> Result<Piece, ElfError> {
        let mut bytes = vec![0; length];
        let read = file.read_at(&mut bytes, offset);
        let read = read.map_err(|e| ElfError::Unreadable(errno_of(&e)))?;
        bytes.truncate(read);
        Ok(Piece { bytes })
    }

    /// Decodes a little-endian number of `size` bytes.
    fn number(&self, at: usize, size: usize) -> Result<u64, ElfError> {
        let bytes = at.checked_add(size).and_then(|end| self.bytes.get(at..end));
        let bytes = bytes.ok_or(ElfError::Malformed("cut short"))?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

/// Offsets of fields for one of the two word sizes of ELF.
struct Layout {
    wide: bool,
}

impl Layout {
    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn segments(&self, head: &Piece) -> Result<Vec<Segment>, ElfError> {
        let (table, entry_size, count) = match self.wide {
            true => (head.number(32, 8)?, head.number(54, 2)?, head.number(56, 2)?),
            false => (head.number(28, 4)?, head.number(42, 2)?, head.number(44, 2)?),
        };
        let expected = if self.wide { 56 } else { 32 };
        if entry_size != expected || count > 32 {
            return Err(ElfError::Malformed("unusual program headers"));
        }
        // Offset, virtual address and size in the file within an entry (elf.h, Elf64_Phdr, Elf32_Phdr).
        let [offset, address, size] = if self.wide { [8, 16, 32] } else { [4, 8, 16] };
        let table = usize::try_from(table).unwrap_or(usize::MAX);
        (0..count as usize)
            .map(|i| {
                let at = table.saturating_add(i * expected as usize);
                let field = |offset: usize| head.number(at.saturating_add(offset), self.word());
                Ok(Segment {
                    kind: head.number(at, 4)?,
                    offset: field(offset)?,
                    address: field(address)?,
                    size: field(size)?,
                })
            })
            .collect()
    }

    fn soname(
        &self,
        file: &(impl ReadAt + ?Sized),
        dynamic: &Segment,
        segments: &[Segment],
    ) -> Result<Option<String>, ElfError> {
        let length = usize::try_from(dynamic.size).unwrap_or(usize::MAX).min(DYNAMIC);
        let entries = Piece::read(file, dynamic.offset, length)?;
        let word = self.word();
        let value_of = |tag: u64| {
            let mut pairs = (0..entries.bytes.len() / (2 * word)).map(|i| {
                let at = 2 * word * i;
                Some((entries.number(at, word).ok()?, entries.number(at + word, word).ok()?))
            });
            pairs.find_map(|pair| pair.filter(|(found, _)| *found == tag)).map(|(_, value)| value)
        };
        let Some(name) = value_of(DT_SONAME) else {
            return Ok(None);
        };
        let strings = value_of(DT_STRTAB).ok_or(ElfError::Malformed("no string table"))?;
        // DT_STRTAB is a virtual address; the segment that is loaded there gives the offset in the file.
        let address = strings.checked_add(name).ok_or(ElfError::Malformed("address too large"))?;
        let load = segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let mut load = load.filter_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.size).then(|| segment.offset.checked_add(into))?
        });
        let offset = load.next().ok_or(ElfError::Malformed("string table outside of the file"))?;
        let text = Piece::read(file, offset, 256)?;
        let name = text.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        // The name becomes a path in containers: one with a slash or a control character could go elsewhere.
        let plain = |b: &u8| b.is_ascii_graphic() && *b != b'/';
        match !name.is_empty() && name.len() < text.bytes.len() && name.iter().all(plain) {
            true => Ok(Some(String::from_utf8_lossy(name).into_owned())),
            false => Err(ElfError::Malformed("the soname is no file name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_of_this_machine_has_its_soname() {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        // Debian's, that of its cross compilers (tests/aarch64), and that of other distributions.
        let dirs = [format!("/lib/{triplet}"), format!("/usr/{triplet}/lib"), "/lib64".into()];
        let mut files = dirs.iter().map(|dir| std::fs::File::open(format!("{dir}/libc.so.6")));
        let file = files.find_map(Result::ok).expect("a C library");
        let elf = read(&file).unwrap();
        assert_eq!(elf, Elf { bits: 64, machine: MACHINE, soname: Some("libc.so.6".into()) });
    }

    /// A library that is cut anywhere is either refused or read correctly.
    #[test]
    fn a_cut_library_is_never_misread() {
        let path = std::env::current_exe().unwrap();
        let whole = std::fs::read(path).unwrap();
        let right = read(&whole[..]).unwrap();
        for length in (0..whole.len().min(8192)).chain([whole.len() / 2]) {
            if let Ok(elf) = read(&whole[..length]) {
                assert_eq!((elf.bits, elf.machine), (right.bits, right.machine));
            }
        }
        assert!(read(&b"#!/bin/sh\n"[..]).is_err());
        assert!(read(&[][..]).is_err());
    }
}
