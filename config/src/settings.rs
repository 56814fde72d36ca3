//! The settings file: its keys, their defaults and their checks.

use crate::{
    SettingsError, SettingsLocation,
    hook::{self, HookSettings},
};
use mig_cdi_model::{
    DriverCapabilities,
    cdi::{Kind, VersionLimit},
};
use serde::Deserialize;
use std::path::PathBuf;

/// Default path of the settings.
pub const PATH: &str = "/etc/mig-cdi/config.toml";

/// Library directory of Debian's dynamic loader on this architecture.
const DEBIAN_LIBRARIES: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu"
} else {
    "/usr/lib/x86_64-linux-gnu"
};

/// The settings file as it is shipped: every key with its default, commented out.
pub const SHIPPED: &str = include_str!("../config.toml");

/// The checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// CDI kind of the devices.
    pub kind: Kind,
    /// Spec directories that the engines of this machine read, lowest priority first. Specs are written
    /// into the last one.
    pub spec_dirs: Vec<PathBuf>,
    /// Highest CDI version that every engine of this machine reads.
    pub max_cdi_version: VersionLimit,
    /// Styles of device names: `uuid`, `slot`, `index`.
    pub names: Vec<String>,
    /// Classes of driver files that a container gets.
    pub capabilities: DriverCapabilities,
    /// Directories in the container for the driver's libraries.
    pub library_dirs: Vec<String>,
    /// Root that the driver's libraries are looked up in.
    pub driver_root: PathBuf,
    /// Directories below `driver_root` that are searched before all others.
    pub library_search_path: Vec<PathBuf>,
    /// Directories below `driver_root` that are searched for programs before all others.
    pub program_search_path: Vec<PathBuf>,
    /// Root of `/dev`.
    pub dev_root: PathBuf,
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Whether `watch` subscribes to the driver's events. NVML then stays open, and the driver cannot be
    /// unloaded.
    pub driver_events: bool,
    /// Settings of the hook.
    pub hook: HookSettings,
}

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
    program_search_path: Vec<PathBuf>,
    dev_root: PathBuf,
    proc_root: PathBuf,
    driver_events: bool,
    hook: hook::Table,
}

impl Default for File {
    fn default() -> Self {
        File {
            // Not nvidia.com/gpu, nvidia-ctk's kind: a device that two specs of one directory define is unusable
            // (container-device-interface `pkg/cdi/cache.go`).
            kind: "nvidia.com/mig".to_owned(),
            // CDI's own defaults. The last one is on a tmpfs: the major numbers in a spec do not outlive a boot.
            spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            // Debian 12's podman 4.3 refuses a newer spec, and a spec that one engine cannot read is no use there.
            max_cdi_version: "0.5.0".to_owned(),
            // Not `index`: NVML numbers MIG devices anew when others come and go.
            names: vec!["uuid".to_owned(), "slot".to_owned()],
            capabilities: DriverCapabilities::default().to_string(),
            // The image decides which of them its loader searches, and the spec is the same for every image.
            library_dirs: vec![DEBIAN_LIBRARIES.to_owned(), "/usr/lib64".to_owned()],
            driver_root: "/".into(),
            library_search_path: Vec::new(),
            program_search_path: Vec::new(),
            dev_root: "/".into(),
            proc_root: "/".into(),
            // An open NVML keeps the driver from being unloaded and a GPU from being reset.
            driver_events: false,
            hook: hook::Table::default(),
        }
    }
}

impl Settings {
    /// Parses the text of the file; the empty text gives the defaults.
    ///
    /// # Errors
    /// [`SettingsError`] for an unknown key or a bad value, with its line or key.
    pub fn parse(text: &str) -> Result<Settings, SettingsError> {
        // toml displays errors as a drawing of several lines; messages of mig-cdi have one.
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let cause = error.message().replace('\n', " ");
            SettingsError { location: SettingsLocation::Line(line), cause, cure: None }
        })?;
        // The last directory is the one to write into.
        if file.spec_dirs.is_empty() {
            let cure = Some("name at least one".to_owned());
            return Err(SettingsError {
                cure,
                ..SettingsError::value("spec-dirs", "no directory")
            });
        }
        Ok(Settings {
            kind: file.kind.parse().map_err(|e| SettingsError::value("kind", e))?,
            spec_dirs: file.spec_dirs,
            max_cdi_version: file
                .max_cdi_version
                .parse()
                .map_err(|e| SettingsError::value("max-cdi-version", e))?,
            names: file.names,
            capabilities: file
                .capabilities
                .parse()
                .map_err(|e| SettingsError::value("capabilities", e))?,
            library_dirs: file.library_dirs,
            driver_root: file.driver_root,
            library_search_path: file.library_search_path,
            program_search_path: file.program_search_path,
            dev_root: file.dev_root,
            proc_root: file.proc_root,
            driver_events: file.driver_events,
            hook: file.hook.check()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without its comment signs the shipped file parses to the defaults, and it has every key.
    #[test]
    fn the_shipped_file_shows_the_defaults() {
        let defaults = Settings::parse("").unwrap();
        assert_eq!(Settings::parse(SHIPPED).unwrap(), defaults);
        let keys: Vec<&str> = SHIPPED
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|l| !l.starts_with(' ') && !l.is_empty())
            .collect();
        assert_eq!(keys.len(), 12 + 1 + 5, "one line for each key and for the table");
        // Directories are those of the architecture; the file shows one, and names the other.
        let shown = keys.join("\n").replace("x86_64", std::env::consts::ARCH);
        assert_eq!(Settings::parse(&shown).unwrap(), defaults);
    }

    #[test]
    fn errors_have_the_line_or_the_key() {
        for (text, message) in [
            ("kindd = 'a'", "line 1: unknown field"),
            ("\nkind = 1", "line 2: invalid type"),
            ("kind = 'nvidia.com/m'", "kind: \"nvidia.com/m\" is not"),
            ("max-cdi-version = '9'", "max-cdi-version: \"9\" is not"),
            ("spec-dirs = []", "spec-dirs: no directory; name at least one"),
            ("[hook]\nrequests = 'yes'", "line 2: unknown variant"),
            (
                "[hook]\nenvironment = 'all'",
                "hook.environment: this key was replaced; set hook.requests",
            ),
            (
                "[hook]\nannotations = []",
                "hook.annotations: this key was replaced; set hook.requests",
            ),
            ("[hook]\ndevices = ['a*b']", "hook.devices: \"a*b\": '*' may stand"),
            ("[hook]\nruntimes = ['runc']", "hook.runtimes: \"runc\" is not"),
            ("[hook]\nlog = 'here'", "hook.log: \"here\" is not"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
