//! The files that administrators write: [`layouts`], and
//! `/etc/mig-cdi/config.toml`: what an administrator sets once instead of giving flags every time.
//! A flag wins over the file, the file over the defaults. Pure: text in, values out.

pub mod engines;
mod hook;
pub mod layouts;

pub use hook::{Environment, Hook, Pattern};

use mig_cdi_model::{
    Capabilities,
    cdi::{Kind, VersionLimit},
};
use serde::Deserialize;
use std::path::PathBuf;

/// Where the file is looked for.
pub const PATH: &str = "/etc/mig-cdi/config.toml";

/// Where Debian's loader looks for libraries of this machine.
const DEBIAN_LIBRARIES: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu"
} else {
    "/usr/lib/x86_64-linux-gnu"
};

/// The file as it is shipped: every key with its default, commented out.
pub const SHIPPED: &str = include_str!("../config.toml");

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// CDI kind of the devices.
    pub kind: Kind,
    /// Directories that the engines of this machine read, lowest priority first. Specs are written
    /// into the last one.
    pub spec_dirs: Vec<PathBuf>,
    /// The highest CDI version that every engine of this machine takes.
    pub max_cdi_version: VersionLimit,
    /// Names of devices: uuid, slot, index.
    pub names: Vec<String>,
    /// Files of the driver in the container, by class.
    pub capabilities: Capabilities,
    /// Directories of the container for the driver's libraries.
    pub library_dirs: Vec<String>,
    /// Root of the driver's libraries.
    pub driver_root: PathBuf,
    /// Directories below it to look for libraries in before all others.
    pub library_search_path: Vec<PathBuf>,
    /// Root of `/dev`.
    pub dev_root: PathBuf,
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Whether watch lets the driver tell of changes.
    pub driver_events: bool,
    /// What containers may ask the hook for.
    pub hook: Hook,
}

/// A file that is not a configuration of mig-cdi.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(String);

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    kind: String,
    spec_dirs: Vec<PathBuf>,
    max_cdi_version: String,
    names: Vec<String>,
    capabilities: String,
    library_dirs: Vec<String>,
    driver_root: PathBuf,
    library_search_path: Vec<PathBuf>,
    dev_root: PathBuf,
    proc_root: PathBuf,
    driver_events: bool,
    hook: hook::Table,
}

impl Default for File {
    fn default() -> Self {
        File {
            kind: "nvidia.com/mig".to_owned(),
            spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            max_cdi_version: "0.5.0".to_owned(),
            names: vec!["uuid".to_owned(), "slot".to_owned()],
            capabilities: Capabilities::default().to_string(),
            library_dirs: vec![DEBIAN_LIBRARIES.to_owned(), "/usr/lib64".to_owned()],
            driver_root: "/".into(),
            library_search_path: Vec::new(),
            dev_root: "/".into(),
            proc_root: "/".into(),
            driver_events: false,
            hook: hook::Table::default(),
        }
    }
}

impl Settings {
    /// Reads the text of the file; the empty text gives the defaults.
    ///
    /// # Errors
    /// When a key is unknown or a value is not of its form; the line is named.
    pub fn parse(text: &str) -> Result<Settings, BadConfig> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            BadConfig(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let bad = |key: &str, e: &dyn std::fmt::Display| BadConfig(format!("{key}: {e}"));
        if file.spec_dirs.is_empty() {
            return Err(bad("spec-dirs", &"name at least one directory"));
        }
        Ok(Settings {
            kind: file.kind.parse().map_err(|e| bad("kind", &e))?,
            spec_dirs: file.spec_dirs,
            max_cdi_version: file
                .max_cdi_version
                .parse()
                .map_err(|e| bad("max-cdi-version", &e))?,
            names: file.names,
            capabilities: file.capabilities.parse().map_err(|e| bad("capabilities", &e))?,
            library_dirs: file.library_dirs,
            driver_root: file.driver_root,
            library_search_path: file.library_search_path,
            dev_root: file.dev_root,
            proc_root: file.proc_root,
            driver_events: file.driver_events,
            hook: file.hook.check().map_err(|(key, e)| bad(&format!("hook.{key}"), &e))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped file says nothing that is not so: with its comment signs taken away it gives the
    /// defaults, and it names every key.
    #[test]
    fn the_shipped_file_shows_the_defaults() {
        let defaults = Settings::parse("").unwrap();
        assert_eq!(Settings::parse(SHIPPED).unwrap(), defaults);
        let keys: Vec<&str> = SHIPPED
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|l| !l.starts_with(' ') && !l.is_empty())
            .collect();
        assert_eq!(keys.len(), 11 + 1 + 6, "one line for each key and for the table");
        // Directories are those of the architecture; the file shows one, and names the other.
        let shown = keys.join("\n").replace("x86_64", std::env::consts::ARCH);
        assert_eq!(Settings::parse(&shown).unwrap(), defaults);
    }

    #[test]
    fn bad_files_name_the_place() {
        for (text, message) in [
            ("kindd = 'a'", "line 1: unknown field"),
            ("\nkind = 1", "line 2: invalid type"),
            ("kind = 'nvidia.com/m'", "kind: \"nvidia.com/m\" is not"),
            ("max-cdi-version = '9'", "max-cdi-version: \"9\" is not"),
            ("spec-dirs = []", "spec-dirs: name at least one"),
            ("[hook]\nenvironment = 'yes'", "line 2: unknown variant"),
            ("[hook]\nannotations = ['a*b']", "hook.annotations: \"a*b\" is not"),
            ("[hook]\nruntimes = ['runc']", "hook.runtimes: \"runc\" is not"),
            ("[hook]\nlog = 'here'", "hook.log: \"here\" is not"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
