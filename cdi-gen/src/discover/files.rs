//! Finds the driver files that the requested capabilities need.
//!
//! Libraries are found by the version in their file names, so that files of two drivers are never
//! mixed; the name under which a container's loader knows one is read from the library itself.

use super::{
    abi::{ABI_32, ABI_64, Abi},
    driver_file_table::{FileLookup, LibraryNames, Need, TABLE, TableRow},
    listing::{Listing, VDPAU, list_libraries, list_visible},
    missing_file::{MissingFile, join_capabilities, not_in},
    search_dirs::{STANDARD_DATA, SearchDirs},
};
use crate::{Error, Result, ownership_cure};
use mig_cdi_model::{Destination, DriverCapabilities, DriverCapability, DriverFile};
use mig_cdi_sys::{DriverRoot, ExaminedFile, Machine};
use std::collections::BTreeSet;

/// Directory of firmware in a container, where the driver's programs expect it.
const FIRMWARE: &str = "/lib/firmware/nvidia";

/// Module paths of X servers in distributions. The path on the host is the third: the host's xorg.conf.d may name it.
const XORG_MODULES: [&str; 2] = ["/usr/lib/xorg/modules", "/usr/lib64/xorg/modules"];

/// Driver files and the reasons for which others are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverFiles {
    /// In the order of the table.
    pub files: Vec<DriverFile>,
    /// Omitted files, with the reason: a line each, for display.
    pub warnings: Vec<String>,
    /// Omitted sockets of daemons, likewise. No warning: nothing is wrong with the host, and a program on a slice works without them.
    pub omitted_sockets: Vec<String>,
    /// Files that the capabilities need and that were not found.
    pub missing: Vec<MissingFile>,
}

/// Finds the files of a driver version below the machine's driver root.
///
/// # Errors
/// When a required file is missing or of another version, or when a user other than root could replace a file.
pub fn find(
    machine: &dyn Machine,
    root: &DriverRoot,
    version: &str,
    capabilities: &DriverCapabilities,
) -> Result<DriverFiles> {
    if capabilities.is_none() {
        return Ok(DriverFiles::default());
    }
    let libraries = root.library_dirs();
    let libraries_64 = list_libraries(root, &libraries.lib64)?;
    let has_compat32 = capabilities.has(DriverCapability::Compat32);
    let libraries_32 =
        if has_compat32 { list_libraries(root, &libraries.lib32)? } else { Vec::new() };
    let dirs = SearchDirs::find(machine, root, version, &libraries_64);
    let mut search = Search { root, version, dirs, result: DriverFiles::default() };
    search.result.warnings.extend(libraries.cache_problem.iter().cloned());
    let is_requested =
        |row: &&TableRow| row.capabilities.iter().any(|capability| capabilities.has(*capability));
    for row in TABLE.iter().filter(is_requested) {
        let row = &row.for_request(capabilities);
        match row.lookup {
            FileLookup::Versioned(_) | FileLookup::Named(_) => {
                search.library(row, &libraries_64, ABI_64)?;
                if has_compat32 {
                    search.library(&compat32(row), &libraries_32, ABI_32)?;
                }
            }
            FileLookup::Program(name) => search.program(row, name)?,
            FileLookup::Data(home, names) => search.data(row, home, names)?,
            FileLookup::Xorg(kind, name) => search.xorg(row, kind, name)?,
            FileLookup::Socket(path) => search.socket(row, path)?,
            FileLookup::Firmware => search.firmware(row)?,
        }
    }
    Ok(search.result)
}

/// The row of the 32-bit library. Distributions package the 32-bit files apart, and not all of them: what a capability cannot do
/// without shows whether they are there.
fn compat32(row: &TableRow) -> TableRow {
    match row.need {
        Need::Required => {
            TableRow { need: Need::Expected, capabilities: &[DriverCapability::Compat32], ..*row }
        }
        _ => TableRow { need: Need::Optional, ..*row },
    }
}

struct Search<'a> {
    root: &'a DriverRoot,
    version: &'a str,
    dirs: SearchDirs,
    result: DriverFiles,
}

impl Search<'_> {
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

    /// Examines a file, and omits a directory in its place: Docker makes one for the source of a bind mount that does not exist.
    fn regular_file(&mut self, path: &str) -> Option<ExaminedFile> {
        let examined = self.readable(self.root.examine(path))?;
        if !examined.is_file {
            let shown = examined.path.display();
            let warning = format!("{shown} is omitted: it is no regular file");
            // /bin may be a link to /usr/bin.
            if !self.result.warnings.contains(&warning) {
                self.result.warnings.push(warning);
            }
        }
        examined.is_file.then_some(examined)
    }

    fn library(&mut self, row: &TableRow, listings: &[Listing], abi: Abi) -> Result<()> {
        let before = self.result.warnings.len();
        for (dir, names) in listings {
            let Some(name) = self.library_name(row, names) else { continue };
            let path = format!("{dir}/{name}");
            // A link may be dangling; a directory may hold libraries of several machines.
            let Some(examined) = self.readable(self.root.examine_library(&path)) else { continue };
            match abi.soname(&examined) {
                // A loader looks for the SONAME, whatever the file is called.
                Ok(Some(soname)) => {
                    return self.add(row, &examined, (abi.place)(library_names(row.names, soname)));
                }
                Ok(None) => {}
                Err(reason) => {
                    let shown = self.root.display_path(&path);
                    self.result.warnings.push(format!("{} is omitted: {reason}", shown.display()));
                }
            }
        }
        match (row.need, self.result.warnings.get(before)) {
            (Need::Optional | Need::ExpectedByName, _) | (Need::Expected, Some(_)) => Ok(()),
            (Need::Required, Some(broken)) => {
                let name = self.file_name(row);
                let cure = "reinstall the driver's libraries";
                Err(Error::no_driver("find", name).because(broken).with_cure(cure))
            }
            (Need::Required, None) => Err(self.missing(row, listings, abi)),
            (Need::Expected, None) => {
                let cure = "install it, or name its directory with --library-search-path";
                let dirs = self.searched(listings, abi);
                self.report_missing(row, &self.file_name(row), dirs, cure);
                Ok(())
            }
        }
    }

    /// Directories that were searched for libraries: those that exist, or all where none does.
    fn searched(&self, listings: &[Listing], abi: Abi) -> Vec<String> {
        let existing = listings.iter().map(|(dir, _)| dir);
        let existing: Vec<_> = existing.filter(|dir| !dir.ends_with(VDPAU)).cloned().collect();
        let dirs = self.root.library_dirs();
        let all = if abi.bits == 64 { &dirs.lib64 } else { &dirs.lib32 };
        if existing.is_empty() { all.clone() } else { existing }
    }

    /// File name of a library in a directory with these names.
    fn library_name(&self, row: &TableRow, names: &BTreeSet<String>) -> Option<String> {
        let name = self.file_name(row);
        if names.contains(&name) {
            return Some(name);
        }
        // Without ldconfig nobody made the link of the name that programs load.
        let FileLookup::Named(stem) = row.lookup else { return None };
        let prefix = format!("{stem}.");
        names.iter().rfind(|name| name.starts_with(&prefix)).cloned()
    }

    fn file_name(&self, row: &TableRow) -> String {
        match row.lookup {
            // The version in the name keeps the files of two drivers apart, both of which are there for a while during an
            // update.
            FileLookup::Versioned(stem) => format!("{stem}.{}", self.version),
            FileLookup::Named(name) | FileLookup::Program(name) => name.to_owned(),
            FileLookup::Xorg(_, name) => name.to_owned(),
            FileLookup::Data(_, names) => names.join(" or "),
            FileLookup::Socket(path) => path.to_owned(),
            FileLookup::Firmware => format!("{FIRMWARE}/{}", self.version),
        }
    }

    /// Notes a file that programs need.
    fn report_missing(
        &mut self,
        row: &TableRow,
        name: &str,
        dirs: Vec<String>,
        cure: &'static str,
    ) {
        if row.need != Need::Optional {
            self.result.missing.push(MissingFile {
                name: name.to_owned(),
                capabilities: join_capabilities(row.capabilities),
                dirs,
                root: self.root.display_path(""),
                cure,
                graphics_only: row.is_graphics_only(),
            });
        }
    }

    /// The error for a required library that is missing. Another version of it shows the cause.
    fn missing(&self, row: &TableRow, listings: &[Listing], abi: Abi) -> Error {
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
                .with_cure(
                    "finish the driver update: reboot, or unload and load the nvidia modules",
                ),
            None => self.nowhere(error, listings, abi),
        }
    }

    /// Completes the error for a required library of which no version was found.
    fn nowhere(&self, error: Error, listings: &[Listing], abi: Abi) -> Error {
        let is_absent = |dir: &String| !listings.iter().any(|(listed, _)| listed == dir);
        let absent: Vec<_> = self.root.library_search_path().filter(is_absent).collect();
        let cause = not_in(&self.searched(listings, abi), &self.root.display_path(""));
        if absent.is_empty() {
            return error.because(cause).with_cure(
                "install the driver's libraries, name their directory with --library-search-path, or set \
                 capabilities to none",
            );
        }
        let absent = absent.join(", ");
        error
            .because(format!("{cause}; {absent} of --library-search-path does not exist there"))
            .with_cure(
                "name the directory that has the driver's libraries, as a path below the driver root",
            )
    }

    fn program(&mut self, row: &TableRow, name: &str) -> Result<()> {
        for dir in self.dirs.programs.clone() {
            let path = self.original(&format!("{dir}/{name}"));
            if let Some(examined) = self.regular_file(&path) {
                return self.add(row, &examined, Destination::At(format!("/usr/bin/{name}")));
            }
        }
        let cure = "install it, or name its directory with --program-search-path";
        self.report_missing(row, name, self.dirs.programs.clone(), cure);
        Ok(())
    }

    /// Path of a program as NVIDIA ships it.
    // NixOS changes programs to use a loader that no other image has, and keeps the original for containers in `origBin`
    // beside them (nixpkgs `pkgs/os-specific/linux/nvidia-x11/builder.sh`).
    fn original(&self, path: &str) -> String {
        let original = || {
            let real = self.root.resolve_below(path)?;
            let (package, name) = real.rsplit_once("/bin/")?;
            let original = format!("{package}/origBin/{name}");
            self.root.examine(&original).ok().flatten().map(|_| original)
        };
        original().unwrap_or_else(|| path.to_owned())
    }

    fn data(&mut self, row: &TableRow, home: &str, names: &[&str]) -> Result<()> {
        for dir in self.dirs.data.clone() {
            for name in names.iter().map(|name| name.replace("VERSION", self.version)) {
                let path = format!("{dir}/{name}");
                if let Some(examined) = self.regular_file(&path) {
                    let is_standard = STANDARD_DATA.contains(&dir.as_str());
                    let inside = if is_standard { &dir } else { home };
                    return self.add(row, &examined, Destination::At(format!("{inside}/{name}")));
                }
            }
        }
        let cure = "install it, or name the directory of the driver's libraries with --library-search-path: share and \
                    etc beside it are searched";
        self.report_missing(row, &names.join(" or "), self.dirs.data.clone(), cure);
        Ok(())
    }

    /// Adds a module of the X server, at its path on the host and in the module paths of X servers.
    fn xorg(&mut self, row: &TableRow, kind: &str, name: &str) -> Result<()> {
        let names = [format!("{name}.{}", self.version), name.to_owned()];
        for dir in self.dirs.xorg(kind) {
            for path in names.iter().map(|name| format!("{dir}/{name}")) {
                let Some(examined) = self.regular_file(&path) else { continue };
                let modules = XORG_MODULES.map(|modules| format!("{modules}/{kind}"));
                let dir = self.root.resolve_below(&dir).unwrap_or(dir);
                let other = (!modules.contains(&dir)).then_some(dir);
                for dir in modules.into_iter().chain(other) {
                    self.add(row, &examined, Destination::At(format!("{dir}/{name}")))?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds a socket. One that another user than root can exchange is omitted: a daemon may keep it where any user can write, as MPS in
    /// /tmp, or in a directory of its own user, as nvidia-persistenced.
    fn socket(&mut self, row: &TableRow, path: &str) -> Result<()> {
        match self.readable(self.root.examine(path)) {
            Some(ExaminedFile { unsafe_because: Some(reason), .. }) => {
                self.result.omitted_sockets.push(format!(
                    "{path} is omitted: {reason}, so a user other than root could put another file there; programs on a slice work without it"
                ));
                Ok(())
            }
            Some(examined) => self.add(row, &examined, Destination::At(path.to_owned())),
            None => Ok(()),
        }
    }

    fn firmware(&mut self, row: &TableRow) -> Result<()> {
        // The kernel searches the directories for each file.
        let mut found = BTreeSet::new();
        for dir in self.dirs.firmware.clone() {
            let dir = format!("{dir}/nvidia/{}", self.version);
            for name in list_visible(self.root, &dir)?.unwrap_or_default() {
                if !name.ends_with(".bin") || found.contains(&name) {
                    continue;
                }
                if let Some(examined) = self.regular_file(&format!("{dir}/{name}")) {
                    let inside = format!("{FIRMWARE}/{}/{name}", self.version);
                    self.add(row, &examined, Destination::At(inside))?;
                    found.insert(name);
                }
            }
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
        self.result.files.push(DriverFile {
            host_path: host_path.to_owned(),
            destination: place,
            graphics_only: row.is_graphics_only(),
        });
        Ok(())
    }
}

/// Names of a library in a container.
fn library_names(names: LibraryNames, soname: String) -> Vec<String> {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match names {
        LibraryNames::Only(names) => own(names),
        LibraryNames::Soname(extra) => {
            let mut names = vec![soname];
            names.extend(own(extra));
            names.dedup();
            names
        }
    }
}
