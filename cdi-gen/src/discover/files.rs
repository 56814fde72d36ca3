//! The files of the driver's version that the capabilities asked for need.
//!
//! Libraries are found by the version in their file names, so that files of two drivers are never
//! mixed; the name under which a container's loader knows one is read from the library itself.

use super::table::{Row, TABLE, What};
use crate::{Exit, Failure};
use mig_cdi_model::{Destination, DriverCapabilities, DriverCapability, DriverFile};
use mig_cdi_sys::{
    DriverRoot, ExaminedFile,
    elf::{Elf, MACHINE},
};
use std::collections::BTreeSet;

/// Where distributions put programs; the last three are NixOS's, Flatcar's and Debian's.
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

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverFiles {
    /// In the order of the table.
    pub files: Vec<DriverFile>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

/// Finds the files.
///
/// # Errors
/// When a required one is missing or of another version, or when somebody but root could exchange one.
pub fn find(
    root: &DriverRoot,
    version: &str,
    capabilities: &DriverCapabilities,
) -> Result<DriverFiles, Failure> {
    let mut search = Search { root, version, found: DriverFiles::default() };
    if capabilities.is_none() {
        return Ok(search.found);
    }
    let dirs = root.library_dirs();
    search.found.warnings.extend(dirs.cache_problem.iter().cloned());
    let wide = search.list(&dirs.lib64)?;
    let compat32 = capabilities.has(DriverCapability::Compat32);
    let narrow = if compat32 { search.list(&dirs.lib32)? } else { Vec::new() };
    for row in TABLE.iter().filter(|row| row.for_.iter().any(|class| capabilities.has(*class))) {
        match row.what {
            What::Versioned(_) | What::Named(_) => {
                search.library(row, &wide, WIDE)?;
                search.library(&Row { required: false, ..*row }, &narrow, NARROW)?;
            }
            What::Program(name) => search.program(row, name)?,
            What::Data(path) => search.data(row, path)?,
            What::Socket(path) => search.socket(row, path)?,
            What::Firmware => search.firmware(row)?,
        }
    }
    Ok(search.found)
}

/// A directory and the names in it.
type Listing = (String, BTreeSet<String>);

/// Word size and machine of libraries, and the place that they go to.
#[derive(Clone, Copy)]
struct Kind {
    bits: u8,
    machine: u16,
    place: fn(Vec<String>) -> Destination,
}

const WIDE: Kind = Kind { bits: 64, machine: MACHINE, place: Destination::Library };
const NARROW: Kind = Kind { bits: 32, machine: I386, place: Destination::Library32 };

struct Search<'a> {
    root: &'a DriverRoot,
    version: &'a str,
    found: DriverFiles,
}

impl Search<'_> {
    /// Lists each directory once; the ones that are not there are passed over.
    fn list(&self, dirs: &[String]) -> Result<Vec<Listing>, Failure> {
        let mut listings = Vec::new();
        for dir in dirs {
            if let Some(names) = self.root.list(dir)? {
                listings.push((dir.clone(), names.into_iter().collect()));
            }
        }
        Ok(listings)
    }

    /// What cannot be looked at, a loop of links for one, is left out; a required library is missed
    /// then.
    fn readable(
        &mut self,
        looked: mig_cdi_sys::Result<Option<ExaminedFile>>,
    ) -> Option<ExaminedFile> {
        looked.unwrap_or_else(|error| {
            self.found.warnings.push(format!("a file of the driver is left out: {error}"));
            None
        })
    }

    fn library(&mut self, row: &Row, listings: &[Listing], kind: Kind) -> Result<(), Failure> {
        let name = match row.what {
            What::Versioned(stem) => format!("{stem}.{}", self.version),
            What::Named(name) => name.to_owned(),
            _ => return Ok(()),
        };
        let before = self.found.warnings.len();
        for (dir, _) in listings.iter().filter(|(_, names)| names.contains(&name)) {
            let path = format!("{dir}/{name}");
            // A link may lead nowhere; a directory may hold libraries of several machines.
            let Some(examined) = self.readable(self.root.examine_library(&path)) else { continue };
            match soname(&examined, kind) {
                Ok(Some(soname)) => {
                    let mut names = vec![soname];
                    names.extend(row.also.iter().map(|name| (*name).to_owned()));
                    names.dedup();
                    return self.add(row, &examined, (kind.place)(names));
                }
                Ok(None) => {}
                Err(reason) => {
                    let shown = self.root.show(&path);
                    self.found.warnings.push(format!("{} is left out: {reason}", shown.display()));
                }
            }
        }
        match (row.required, self.found.warnings.get(before)) {
            (false, _) => Ok(()),
            (true, Some(broken)) => {
                let message = format!("find {name}: {broken}; install the driver's libraries anew");
                Err(Failure::new(Exit::NoDriver, message))
            }
            (true, None) => Err(self.missing(row, listings)),
        }
    }

    /// A required library is not there: its other versions tell why.
    fn missing(&self, row: &Row, listings: &[Listing]) -> Failure {
        let What::Versioned(stem) = row.what else {
            return Failure::new(Exit::NoDriver, "find the driver's files: one is missing");
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
        let message = match other {
            Some((dir, other)) => format!(
                "find {stem}.{loaded}: driver {loaded} is loaded and {} has the files of {other}; a driver \
                 update is half done: reboot, or unload and load the nvidia modules",
                self.root.show(dir).display()
            ),
            None => format!(
                "find {stem}.{loaded}: not in the usual directories and those of the loader's cache, below {}; \
                 install the driver's libraries, name their place with --library-search-path, or use \
                 --capabilities none",
                self.root.show("").display()
            ),
        };
        Failure::new(Exit::NoDriver, message)
    }

    fn program(&mut self, row: &Row, name: &str) -> Result<(), Failure> {
        for dir in PROGRAMS {
            if let Some(examined) = self.readable(self.root.examine(&format!("{dir}/{name}"))) {
                return self.add(row, &examined, Destination::At(format!("/usr/bin/{name}")));
            }
        }
        Ok(())
    }

    fn data(&mut self, row: &Row, path: &str) -> Result<(), Failure> {
        match self.readable(self.root.examine(path)) {
            Some(examined) => self.add(row, &examined, Destination::At(path.to_owned())),
            None => Ok(()),
        }
    }

    /// Daemons may keep their sockets where others can write; such a one is no reason to stop.
    fn socket(&mut self, row: &Row, path: &str) -> Result<(), Failure> {
        match self.readable(self.root.examine(path)) {
            Some(ExaminedFile { unsafe_because: Some(reason), .. }) => {
                let warning = format!("{path} is left out: {reason}, so it could be anybody's");
                self.found.warnings.push(warning);
                Ok(())
            }
            Some(examined) => self.add(row, &examined, Destination::At(path.to_owned())),
            None => Ok(()),
        }
    }

    fn firmware(&mut self, row: &Row) -> Result<(), Failure> {
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

    fn add(
        &mut self,
        row: &Row,
        examined: &ExaminedFile,
        place: Destination,
    ) -> Result<(), Failure> {
        let host_path = examined.path.to_str().ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                format!("mount {}: not valid utf-8", examined.path.display()),
            )
        })?;
        if let Some(reason) = &examined.unsafe_because {
            let message = format!(
                "mount {host_path}: {reason}, so somebody but root could put another file there; give it to \
                 root with chown root and chmod go-w"
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        let render = |class: &DriverCapability| {
            matches!(class, DriverCapability::Graphics | DriverCapability::Display)
        };
        self.found.files.push(DriverFile {
            host_path: host_path.to_owned(),
            destination: place,
            graphics_only: row.for_.iter().all(render),
        });
        Ok(())
    }
}

/// The name under which a loader knows a library, `None` for a library of another machine.
fn soname(examined: &ExaminedFile, kind: Kind) -> Result<Option<String>, String> {
    match &examined.elf {
        Some(Ok(Elf { bits, machine, .. })) if (*bits, *machine) != (kind.bits, kind.machine) => {
            Ok(None)
        }
        Some(Ok(Elf { soname: Some(soname), .. })) => Ok(Some(soname.clone())),
        Some(Ok(Elf { soname: None, .. })) => Err("it has no soname".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it was not looked at".to_owned()),
    }
}
