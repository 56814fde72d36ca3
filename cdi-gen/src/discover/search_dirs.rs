//! The directories in which programs, data, firmware and X modules of the driver may be, best first: those that the user
//! names, those beside the driver's libraries, and the usual ones. A directory in the lists need not exist.

use super::listing::{Listing, VDPAU};
use mig_cdi_sys::{DriverRoot, Machine, distinct};
use std::path::Path;

/// Upper bound for a file of the kernel in bytes.
const LIMIT: usize = 4096;

/// Usual directories of programs; the last three are those of NixOS, Flatcar and Bottlerocket.
const PROGRAMS: [&str; 8] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
    "/opt/bin",
    "/usr/libexec/nvidia/tesla/bin",
];

/// Directories below which programs in a container look for data. A file that is in one of them on the host stays there.
pub(super) const STANDARD_DATA: [&str; 2] = ["/etc", "/usr/share"];

/// Facts of the kernel that decide where it looks for firmware.
#[derive(Debug, Default)]
struct FirmwareFacts {
    /// Parameter `path` of the module `firmware_class`, below the driver root. The GPU operator and NixOS set it.
    class_path: Option<String>,
    /// Release of the kernel.
    release: Option<String>,
}

/// Search directories, each list without repetitions.
#[derive(Debug, Default)]
pub(super) struct SearchDirs {
    pub programs: Vec<String>,
    pub data: Vec<String>,
    pub firmware: Vec<String>,
    /// Directories of libraries, beside or below which the X modules are.
    libraries: Vec<String>,
}

impl SearchDirs {
    /// Makes the lists for a driver version from the directories of libraries that exist. Best are those beside
    /// libraries of this version.
    // The names of programs and data have no version, and another driver may be installed beside the loaded one.
    pub fn find(
        machine: &dyn Machine,
        root: &DriverRoot,
        version: &str,
        libraries: &[Listing],
    ) -> SearchDirs {
        let suffix = format!(".so.{version}");
        let has_version = |(_, names): &&Listing| names.iter().any(|name| name.ends_with(&suffix));
        let existing = || libraries.iter().filter(|(dir, _)| !dir.ends_with(VDPAU));
        let dir = |(dir, _): &Listing| dir.clone();
        // A directory that the user names counts even when it has no library of this version.
        let libraries = existing().filter(has_version).map(dir);
        let libraries = libraries.chain(root.library_search_path()).chain(existing().map(dir));
        let firmware = FirmwareFacts::read(machine, root);
        SearchDirs::new(root.program_search_path(), distinct(libraries), &firmware)
    }

    /// Makes the lists from the directories that the user names for programs, and from the directories of libraries,
    /// best first.
    fn new(
        programs: impl Iterator<Item = String>,
        libraries: Vec<String>,
        firmware: &FirmwareFacts,
    ) -> SearchDirs {
        let beside = |of: fn(&str) -> Vec<String>| libraries.iter().flat_map(move |dir| of(dir));
        let usual = |dirs: &'static [&str]| dirs.iter().map(|dir| (*dir).to_owned());
        SearchDirs {
            programs: distinct(programs.chain(beside(programs_beside)).chain(usual(&PROGRAMS))),
            data: distinct(beside(data_beside).chain(usual(&[
                "/etc",
                "/usr/local/share",
                "/usr/share",
            ]))),
            firmware: distinct(firmware.dirs().chain(beside(firmware_beside))),
            libraries,
        }
    }

    /// Directories of X modules: `drivers` or `extensions`.
    // Ubuntu has its own directory (nvidia/xorg); Debian keeps them with its programs, and the others in the
    // server's module path. nvidia-ctk searches the same (`internal/discover/graphics.go`, `buildXOrgSearchPaths`).
    pub fn xorg(&self, kind: &str) -> Vec<String> {
        let of = |dir: &String| {
            let modules = ["xorg/modules", "xorg/modules/updates"];
            let modules = modules.map(|modules| format!("{dir}/{modules}/{kind}"));
            let own = [format!("{dir}/nvidia/xorg"), dir.clone()];
            own.into_iter().chain(debian_programs(dir)).chain(modules).collect::<Vec<_>>()
        };
        let old = ["/usr/X11R6/lib64/modules", "/usr/X11R6/lib/modules"];
        let old = old.map(|modules| format!("{modules}/{kind}"));
        distinct(self.libraries.iter().flat_map(of).chain(old))
    }
}

impl FirmwareFacts {
    fn read(machine: &dyn Machine, root: &DriverRoot) -> FirmwareFacts {
        let fact = |path: &str| {
            let bytes = machine.read(path, LIMIT).ok().flatten()?;
            let text = String::from_utf8(bytes).ok()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let driver_root = root.display_path("");
        let below = |path: String| {
            let below = Path::new(&path).strip_prefix(&driver_root).ok()?.to_str()?;
            Some(format!("/{below}"))
        };
        FirmwareFacts {
            class_path: fact("/sys/module/firmware_class/parameters/path").and_then(below),
            release: fact("/proc/sys/kernel/osrelease"),
        }
    }

    /// Directories in the order in which the kernel searches them (`drivers/base/firmware_loader/main.c`, `fw_path`).
    fn dirs(&self) -> impl Iterator<Item = String> {
        let of_kernel = ["/lib/firmware/updates", "/lib/firmware"].into_iter().flat_map(|dir| {
            let own = self.release.iter().map(move |release| format!("{dir}/{release}"));
            own.chain([dir.to_owned()])
        });
        self.class_path
            .iter()
            .cloned()
            .chain(of_kernel)
            .chain(["/usr/lib/firmware", "/run/current-system/firmware"].map(str::to_owned))
    }
}

/// Directories of programs beside a directory of libraries: `/opt/nvidia/bin` for `/opt/nvidia/lib64`.
fn programs_beside(dir: &str) -> Vec<String> {
    let prefix = prefix(dir);
    let mut dirs: Vec<_> = debian_programs(dir).into_iter().collect();
    // An unpacked runfile has all in one directory.
    if prefix == dir {
        dirs.push(dir.to_owned());
    }
    dirs.extend(["bin", "sbin"].map(|name| format!("{prefix}/{name}")));
    dirs
}

/// Directory in which Debian keeps the programs of a driver: `/usr/lib/nvidia/NAME` for the libraries in
/// `/usr/lib/TRIPLET/nvidia/NAME`.
fn debian_programs(dir: &str) -> Option<String> {
    let (above, name) = dir.split_once("-linux-gnu/nvidia/")?;
    let (lib, _) = above.rsplit_once('/')?;
    Some(format!("{lib}/nvidia/{name}"))
}

/// Directories of data beside a directory of libraries. Google's Container-Optimized OS has the data in the prefix itself.
fn data_beside(dir: &str) -> Vec<String> {
    let prefix = prefix(dir);
    let above = prefix.strip_suffix("/usr").unwrap_or(prefix);
    let mut dirs = vec![format!("{above}/etc"), format!("{prefix}/share")];
    // The prefix of /lib is the root, where nobody puts data.
    dirs.extend(Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()));
    dirs
}

fn firmware_beside(dir: &str) -> Vec<String> {
    let prefix = prefix(dir);
    let above = prefix.strip_suffix("/usr").unwrap_or(prefix);
    let mut dirs = [prefix, above].map(|dir| format!("{dir}/lib/firmware")).to_vec();
    dirs.push(format!("{prefix}/firmware"));
    dirs
}

/// Directory that holds `lib`, `lib64` or `lib32`: `/usr` for `/usr/lib/x86_64-linux-gnu`. A directory without such a part is
/// its own prefix.
fn prefix(dir: &str) -> &str {
    let mut end = dir.len();
    while let Some(start) = dir[..end].rfind('/') {
        if matches!(&dir[start + 1..end], "lib" | "lib64" | "lib32") {
            return &dir[..start];
        }
        end = start;
    }
    dir
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_searched_beside_the_libraries() {
        for (dir, programs, data) in [
            ("/usr/lib/x86_64-linux-gnu", "/usr/bin", "/etc"),
            ("/usr/lib/x86_64-linux-gnu/nvidia/tesla-570", "/usr/lib/nvidia/tesla-570", "/etc"),
            ("/usr/lib64", "/usr/bin", "/etc"),
            ("/lib64", "/bin", "/etc"),
            ("/opt/vendor/lib", "/opt/vendor/bin", "/opt/vendor/etc"),
            ("/usr/local/glibc/usr/lib64", "/usr/local/glibc/usr/bin", "/usr/local/glibc/etc"),
            ("/var/lib/nvidia/lib64", "/var/lib/nvidia/bin", "/var/lib/nvidia/etc"),
            (
                "/NVIDIA-Linux-x86_64-580",
                "/NVIDIA-Linux-x86_64-580",
                "/NVIDIA-Linux-x86_64-580/etc",
            ),
        ] {
            assert_eq!(programs_beside(dir)[0], programs, "{dir}");
            assert_eq!(data_beside(dir)[0], data, "{dir}");
            assert!(data_beside(dir).iter().all(|dir| !dir.is_empty()), "{dir}");
        }
    }

    #[test]
    fn what_the_user_names_comes_first_and_nothing_twice() {
        let libraries = ["/opt/v/lib64", "/usr/lib64", "/usr/lib"].map(str::to_owned).to_vec();
        let facts = FirmwareFacts { class_path: Some("/fw".to_owned()), release: None };
        let dirs = SearchDirs::new(["/mine".to_owned()].into_iter(), libraries, &facts);
        assert_eq!(dirs.programs[..4], ["/mine", "/opt/v/bin", "/opt/v/sbin", "/usr/bin"]);
        assert_eq!(dirs.firmware[0], "/fw");
        for list in [&dirs.programs, &dirs.data, &dirs.firmware, &dirs.xorg("drivers")] {
            assert_eq!(distinct(list.iter().cloned()), *list);
        }
    }
}
