//! Finds the driver files that the requested capabilities need.
//!
//! Libraries are found by the version in their file names, so that files of two drivers are never
//! mixed; the name under which a container's loader knows one is read from the library itself.

use super::driver_file_table::{FileLookup, TABLE, TableRow};
use crate::{Error, Result, ownership_cure};
use mig_cdi_model::{Destination, DriverCapabilities, DriverCapability, DriverFile};
use mig_cdi_sys::{
    DriverRoot, ExaminedFile,
    elf::{Elf, ElfError, MACHINE},
};
use std::collections::BTreeSet;

/// Directories in which distributions put programs; the last three are those of NixOS, Flatcar and Debian.
const PROGRAMS: [&str; 8] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
    "/opt/bin",
    "/usr/lib/nvidia/current",
];

const FIRMWARE: [&str; 2] = ["/lib/firmware/nvidia", "/usr/lib/firmware/nvidia"];

/// `e_machine` of 32-bit libraries.
const I386: u16 = 3;

/// Driver files and the reasons for which others are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverFiles {
    /// In the order of the table.
    pub files: Vec<DriverFile>,
    /// Omitted files, with the reason: a line each, for display.
    pub warnings: Vec<String>,
}

/// Finds the files of a driver version below a driver root.
///
/// # Errors
/// When a required file is missing or of another version, or when a user other than root could replace a file.
pub fn find(
    root: &DriverRoot,
    version: &str,
    capabilities: &DriverCapabilities,
) -> Result<DriverFiles> {
    let mut search = Search { root, version, result: DriverFiles::default() };
    if capabilities.is_none() {
        return Ok(search.result);
    }
    let dirs = root.library_dirs();
    search.result.warnings.extend(dirs.cache_problem.iter().cloned());
    let libraries_64 = search.list(&dirs.lib64)?;
    let has_compat32 = capabilities.has(DriverCapability::Compat32);
    let libraries_32 = if has_compat32 { search.list(&dirs.lib32)? } else { Vec::new() };
    for row in TABLE
        .iter()
        .filter(|row| row.capabilities.iter().any(|capability| capabilities.has(*capability)))
    {
        match row.lookup {
            FileLookup::Versioned(_) | FileLookup::Named(_) => {
                search.library(row, &libraries_64, ABI_64)?;
                // Not required: distributions package the 32-bit files apart.
                search.library(&TableRow { required: false, ..*row }, &libraries_32, ABI_32)?;
            }
            FileLookup::Program(name) => search.program(row, name)?,
            FileLookup::Data(path) => search.data(row, path)?,
            FileLookup::Socket(path) => search.socket(row, path)?,
            FileLookup::Firmware => search.firmware(row)?,
        }
    }
    Ok(search.result)
}

/// Path of a directory and the names in it.
type Listing = (String, BTreeSet<String>);

/// ELF class and machine of libraries, and their destination in a container.
#[derive(Clone, Copy)]
struct Abi {
    bits: u8,
    machine: u16,
    place: fn(Vec<String>) -> Destination,
}

const ABI_64: Abi = Abi { bits: 64, machine: MACHINE, place: Destination::Library };
const ABI_32: Abi = Abi { bits: 32, machine: I386, place: Destination::Library32 };

struct Search<'a> {
    root: &'a DriverRoot,
    version: &'a str,
    result: DriverFiles,
}

impl Search<'_> {
    /// Lists each directory once, and skips the ones that do not exist.
    fn list(&self, dirs: &[String]) -> Result<Vec<Listing>> {
        let mut listings = Vec::new();
        for dir in dirs {
            if let Some(names) = self.root.list(dir)? {
                listings.push((dir.clone(), names.into_iter().collect()));
            }
        }
        Ok(listings)
    }

    /// Omits a file that cannot be examined, a loop of links for one. A required library is then reported as missing.
    fn readable(
        &mut self,
        examined: mig_cdi_sys::Result<Option<ExaminedFile>>,
    ) -> Option<ExaminedFile> {
        examined.unwrap_or_else(|error| {
            self.result.warnings.push(format!("a driver file is omitted: {error}"));
            None
        })
    }

    fn library(&mut self, row: &TableRow, listings: &[Listing], abi: Abi) -> Result<()> {
        let name = match row.lookup {
            // The version in the name keeps the files of two drivers apart, both of which are there for a while during an update.
            FileLookup::Versioned(stem) => format!("{stem}.{}", self.version),
            FileLookup::Named(name) => name.to_owned(),
            _ => return Ok(()),
        };
        let before = self.result.warnings.len();
        for (dir, _) in listings.iter().filter(|(_, names)| names.contains(&name)) {
            let path = format!("{dir}/{name}");
            // A link may be dangling; a directory may hold libraries of several machines.
            let Some(examined) = self.readable(self.root.examine_library(&path)) else { continue };
            match soname(&examined, abi) {
                // A loader looks for the SONAME, whatever the file is called.
                Ok(Some(soname)) => {
                    let mut names = vec![soname];
                    names.extend(row.extra_names.iter().map(|name| (*name).to_owned()));
                    names.dedup();
                    return self.add(row, &examined, (abi.place)(names));
                }
                Ok(None) => {}
                Err(reason) => {
                    let shown = self.root.display_path(&path);
                    self.result.warnings.push(format!("{} is omitted: {reason}", shown.display()));
                }
            }
        }
        match (row.required, self.result.warnings.get(before)) {
            (false, _) => Ok(()),
            (true, Some(broken)) => {
                let cure = "reinstall the driver's libraries";
                Err(Error::no_driver("find", name).because(broken).with_cure(cure))
            }
            (true, None) => Err(self.missing(row, listings)),
        }
    }

    /// The error for a required library that is missing. Another version of it shows the cause.
    fn missing(&self, row: &TableRow, listings: &[Listing]) -> Error {
        let FileLookup::Versioned(stem) = row.lookup else {
            return Error::no_driver("find", "the driver's files")
                .because("one is missing")
                .with_cure("reinstall the driver");
        };
        let prefix = format!("{stem}.");
        let version = |name: &str| {
            let version = name.strip_prefix(&prefix)?;
            version.contains('.').then(|| version.to_owned())
        };
        let other = listings.iter().find_map(|(dir, names)| {
            names
                .iter()
                .find_map(|name| Some((dir, version(name)?)))
                .filter(|(_, v)| v != self.version)
        });
        let loaded = self.version;
        let error = Error::no_driver("find", format!("{stem}.{loaded}"));
        match other {
            Some((dir, other)) => error
                .because(format!(
                    "driver {loaded} is loaded and {} has the files of {other}",
                    self.root.display_path(dir).display()
                ))
                .with_cure("finish the driver update: reboot, or unload and load the nvidia modules"),
            None => error
                .because(format!(
                    "not in the usual directories and those of the loader's cache, below {}",
                    self.root.display_path("").display()
                ))
                .with_cure(
                    "install the driver's libraries, name their directory with --library-search-path, or use \
                     --capabilities none",
                ),
        }
    }

    fn program(&mut self, row: &TableRow, name: &str) -> Result<()> {
        for dir in PROGRAMS {
            if let Some(examined) = self.readable(self.root.examine(&format!("{dir}/{name}"))) {
                return self.add(row, &examined, Destination::At(format!("/usr/bin/{name}")));
            }
        }
        Ok(())
    }

    fn data(&mut self, row: &TableRow, path: &str) -> Result<()> {
        match self.readable(self.root.examine(path)) {
            Some(examined) => self.add(row, &examined, Destination::At(path.to_owned())),
            None => Ok(()),
        }
    }

    /// Adds a socket. A daemon may keep it where any user can write, as MPS in /tmp: it is omitted with a warning then.
    fn socket(&mut self, row: &TableRow, path: &str) -> Result<()> {
        match self.readable(self.root.examine(path)) {
            Some(ExaminedFile { unsafe_because: Some(reason), .. }) => {
                let warning =
                    format!("{path} is omitted: {reason}, so any user could have created it");
                self.result.warnings.push(warning);
                Ok(())
            }
            Some(examined) => self.add(row, &examined, Destination::At(path.to_owned())),
            None => Ok(()),
        }
    }

    fn firmware(&mut self, row: &TableRow) -> Result<()> {
        for dir in FIRMWARE.map(|dir| format!("{dir}/{}", self.version)) {
            let Some(names) = self.root.list(&dir)? else { continue };
            for name in names.iter().filter(|name| name.ends_with(".bin")) {
                if let Some(examined) = self.readable(self.root.examine(&format!("{dir}/{name}"))) {
                    let inside = format!("{}/{}/{name}", FIRMWARE[0], self.version);
                    self.add(row, &examined, Destination::At(inside))?;
                }
            }
            return Ok(());
        }
        Ok(())
    }

    fn add(&mut self, row: &TableRow, examined: &ExaminedFile, place: Destination) -> Result<()> {
        let host_path = examined.path.to_str().ok_or_else(|| {
            Error::failed("mount", examined.path.display())
                .because("not valid utf-8")
                .with_cure("rename it")
        })?;
        if let Some(reason) = &examined.unsafe_because {
            let cause = format!("{reason}, so a user other than root could replace it");
            let cure = ownership_cure("run chown root and chmod go-w on it");
            return Err(Error::refused("mount", host_path).because(cause).with_cure(cure));
        }
        let is_graphics = |capability: &DriverCapability| {
            matches!(capability, DriverCapability::Graphics | DriverCapability::Display)
        };
        self.result.files.push(DriverFile {
            host_path: host_path.to_owned(),
            destination: place,
            graphics_only: row.capabilities.iter().all(is_graphics),
        });
        Ok(())
    }
}

/// Reason why a library has no usable SONAME.
#[derive(Debug, thiserror::Error)]
enum SonameError<'a> {
    #[error("it has no soname")]
    Absent,
    #[error(transparent)]
    Malformed(&'a ElfError),
    #[error("it was not examined")]
    NotExamined,
}

/// Returns the SONAME of a library, `None` for a library of another machine.
fn soname(examined: &ExaminedFile, abi: Abi) -> Result<Option<String>, SonameError<'_>> {
    match &examined.elf {
        Some(Ok(Elf { bits, machine, .. })) if (*bits, *machine) != (abi.bits, abi.machine) => {
            Ok(None)
        }
        Some(Ok(Elf { soname: Some(soname), .. })) => Ok(Some(soname.clone())),
        Some(Ok(Elf { soname: None, .. })) => Err(SonameError::Absent),
        Some(Err(error)) => Err(SonameError::Malformed(error)),
        None => Err(SonameError::NotExamined),
    }
}
