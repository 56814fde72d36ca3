//! The two kinds of libraries of a driver, and the name under which a loader knows one.

use mig_cdi_model::Destination;
use mig_cdi_sys::{
    ExaminedFile,
    elf::{Elf, ElfError, MACHINE},
};

/// `e_machine` of 32-bit libraries.
const I386: u16 = 3;

/// ELF class and machine of libraries, and their destination in a container.
#[derive(Clone, Copy)]
pub(super) struct Abi {
    pub bits: u8,
    machine: u16,
    pub place: fn(Vec<String>) -> Destination,
}

pub(super) const ABI_64: Abi = Abi { bits: 64, machine: MACHINE, place: Destination::Library };
pub(super) const ABI_32: Abi = Abi { bits: 32, machine: I386, place: Destination::Library32 };

/// Reason why a library has no usable SONAME.
#[derive(Debug, thiserror::Error)]
pub(super) enum SonameError<'a> {
    #[error("it has no soname")]
    Absent,
    #[error(transparent)]
    Malformed(&'a ElfError),
    #[error("it was not examined")]
    NotExamined,
}

impl Abi {
    /// Returns the SONAME of a library, `None` for a library of another machine.
    pub fn soname(self, examined: &ExaminedFile) -> Result<Option<String>, SonameError<'_>> {
        match &examined.elf {
            Some(Ok(Elf { bits, machine, .. }))
                if (*bits, *machine) != (self.bits, self.machine) =>
            {
                Ok(None)
            }
            Some(Ok(Elf { soname: Some(soname), .. })) => Ok(Some(soname.clone())),
            Some(Ok(Elf { soname: None, .. })) => Err(SonameError::Absent),
            Some(Err(error)) => Err(SonameError::Malformed(error)),
            None => Err(SonameError::NotExamined),
        }
    }
}
