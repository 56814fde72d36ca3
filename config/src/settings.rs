//! The settings file: its keys, their defaults and their checks.

use crate::{
    SettingsError,
    hook::{self, HookSettings},
    paths::{absolute_path, library_dir},
    settings_text::{SettingsText, SpannedList, default, defaults, parse},
};
use mig_cdi_model::{
    DriverCapabilities, NameStyle,
    cdi::{Kind, VersionLimit},
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Spanned;

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
    /// The file that they were read from, for messages.
    pub file: PathBuf,
    /// CDI kind of the devices.
    pub kind: Kind,
    /// Spec directories that the engines of this machine read, lowest priority first. Specs are written
    /// into the last one.
    pub spec_dirs: Vec<PathBuf>,
    /// Highest CDI version that every engine of this machine reads.
    pub max_cdi_version: VersionLimit,
    /// Styles of device names, each once.
    pub names: Vec<NameStyle>,
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

/// The file. Values keep their place in the text, for messages.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
struct File {
    kind: Spanned<String>,
    spec_dirs: SpannedList,
    max_cdi_version: Spanned<String>,
    names: SpannedList,
    capabilities: Spanned<String>,
    library_dirs: SpannedList,
    driver_root: Spanned<String>,
    library_search_path: SpannedList,
    program_search_path: SpannedList,
    dev_root: Spanned<String>,
    proc_root: Spanned<String>,
    driver_events: bool,
    hook: hook::Table,
}

/// Keys that the hook does not use. It refuses an unknown key, since that may be a misspelt one that limits what
/// containers get.
const NOT_FOR_HOOK: [&str; 8] = [
    "max-cdi-version",
    "names",
    "capabilities",
    "library-dirs",
    "driver-root",
    "library-search-path",
    "program-search-path",
    "driver-events",
];

impl Default for File {
    fn default() -> Self {
        File {
            // Not nvidia.com/gpu, nvidia-ctk's kind: a device that two specs of one directory define is unusable
            // (container-device-interface `pkg/cdi/cache.go`).
            kind: default("nvidia.com/mig"),
            // CDI's own defaults. The last one is on a tmpfs: the major numbers in a spec do not outlive a boot.
            spec_dirs: defaults(&["/etc/cdi", "/var/run/cdi"]),
            // Debian 12's podman 4.3 refuses a newer spec, and a spec that one engine cannot read is no use there.
            max_cdi_version: default("0.5.0"),
            // Not `index`: NVML numbers MIG devices anew when others come and go.
            names: defaults(&["uuid", "slot"]),
            capabilities: default(&DriverCapabilities::default().to_string()),
            // The image decides which of them its loader searches, and the spec is the same for every image.
            library_dirs: defaults(&[DEBIAN_LIBRARIES, "/usr/lib64"]),
            driver_root: default("/"),
            library_search_path: defaults(&[]),
            program_search_path: defaults(&[]),
            dev_root: default("/"),
            proc_root: default("/"),
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
    /// [`SettingsError`] for an unknown key or a bad value, with its line and key.
    pub fn parse(text: &str) -> Result<Settings, SettingsError> {
        SettingsText(text).parse::<File>(&[])?.check(SettingsText(text))
    }

    /// Parses the settings that the hook uses: `kind`, `spec-dirs`, `dev-root`, `proc-root` and the table `hook`. The others
    /// are the defaults, whatever the file has for them: a bad value there must not stop every container of a node.
    ///
    /// # Errors
    /// As [`Settings::parse`] for these keys, for unknown keys, and for a text that is not TOML.
    pub fn parse_for_hook(text: &str) -> Result<Settings, SettingsError> {
        SettingsText(text).parse::<File>(&NOT_FOR_HOOK)?.check(SettingsText(text))
    }
}

impl File {
    fn check(self, text: SettingsText<'_>) -> Result<Settings, SettingsError> {
        let spec_dirs = text.non_empty_list(&self.spec_dirs, absolute_path)?;
        expect_spec_dirs(text, &self.spec_dirs, &spec_dirs)?;
        expect_distinct(text, &self.spec_dirs, &spec_dirs)?;
        let mut names: Vec<NameStyle> = Vec::new();
        for name in text.non_empty_list(&self.names, parse)? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Settings {
            file: PATH.into(),
            kind: text.value(&self.kind, parse)?,
            spec_dirs,
            max_cdi_version: text.value(&self.max_cdi_version, parse)?,
            names,
            capabilities: text.value(&self.capabilities, parse)?,
            library_dirs: text.non_empty_list(&self.library_dirs, library_dir)?,
            driver_root: text.value(&self.driver_root, absolute_path)?,
            library_search_path: text.list(&self.library_search_path, absolute_path)?,
            program_search_path: text.list(&self.program_search_path, absolute_path)?,
            dev_root: text.value(&self.dev_root, absolute_path)?,
            proc_root: text.value(&self.proc_root, absolute_path)?,
            driver_events: self.driver_events,
            hook: self.hook.check(text)?,
        })
    }
}

/// Refuses a spec directory that is named twice: the order is the priority, so it would have two.
/// Refuses directories that hold other files. Engines read every JSON file in a directory of specs, a watch refreshes the spec after
/// every change in one, and the kernel creates no file in its own file systems.
fn expect_spec_dirs(
    text: SettingsText<'_>,
    values: &SpannedList,
    dirs: &[PathBuf],
) -> Result<(), SettingsError> {
    const OTHERS: [&str; 8] = ["/", "/boot", "/dev", "/etc", "/run", "/usr", "/var", "/var/run"];
    // A path is compared without `.` and without slashes at its end.
    let is_other = |dir: &PathBuf| {
        OTHERS.iter().any(|other| dir == Path::new(other))
            || ["/proc", "/sys"].iter().any(|kernel| dir.starts_with(kernel))
    };
    let found = values.get_ref().iter().zip(dirs).find(|(_, dir)| is_other(dir));
    found.map_or(Ok(()), |(value, dir)| {
        let error = text.error(value.span(), format!("{dir:?} is no directory for specs"));
        Err(error.with_cure("name one that holds nothing else, such as /etc/cdi"))
    })
}

fn expect_distinct(
    text: SettingsText<'_>,
    values: &SpannedList,
    dirs: &[PathBuf],
) -> Result<(), SettingsError> {
    // /var/run is a link to /run (Filesystem Hierarchy Standard 3.0, 5.13).
    let real = |dir: &PathBuf| match dir.strip_prefix("/var/run") {
        Ok(below) => Path::new("/run").join(below),
        Err(_) => dir.clone(),
    };
    for (index, (value, dir)) in values.get_ref().iter().zip(dirs).enumerate() {
        if let Some(first) = dirs[..index].iter().find(|first| real(first) == real(dir)) {
            let cause = format!("{dir:?} is the same directory as {first:?}");
            return Err(text.error(value.span(), cause).with_cure("name it once"));
        }
    }
    Ok(())
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
        assert_eq!(keys.len(), 12 + 1 + 6, "one line for each key and for the table");
        // Directories are those of the architecture; the file shows one, and names the other.
        let shown = keys.join("\n").replace("x86_64", std::env::consts::ARCH);
        assert_eq!(Settings::parse(&shown).unwrap(), defaults);
    }

    #[test]
    fn a_directory_that_holds_other_files_is_none_for_specs() {
        let wrong = ["/", "//", "/etc", "/./etc//", "/dev/", "/sys/x", "/proc", "/var/run", "/usr"];
        for dir in wrong {
            let error = Settings::parse(&format!("\nspec-dirs = ['/etc/cdi', '{dir}']"));
            let message = format!(
                "line 2: spec-dirs: \"{dir}\" is no directory for specs; name one that holds nothing else, such as /etc/cdi"
            );
            assert_eq!(error.unwrap_err().to_string(), message);
        }
        for dir in ["/cdi", "/run/cdi", "/srv", "/procs", "/dev/shm/cdi"] {
            assert!(Settings::parse(&format!("spec-dirs = ['{dir}']")).is_ok(), "{dir}");
        }
    }

    #[test]
    fn errors_have_the_line_and_the_key() {
        for (text, message) in [
            ("kindd = 'a'", "line 1: unknown field"),
            ("\nkind = 1", "line 2: kind: invalid type"),
            ("names = 'uuid'", "line 1: names: invalid type"),
            ("\nkind = 'nvidia.com/m'", "line 2: kind: \"nvidia.com/m\" is not"),
            ("max-cdi-version = '9'", "line 1: max-cdi-version: \"9\" is not"),
            ("capabilities = 'cuda'", "line 1: capabilities: \"cuda\" is not"),
            (
                "names = [\n'uuid',\n'serial']",
                "line 3: names: \"serial\" is not uuid, slot or index",
            ),
            ("names = []", "line 1: names: the list is empty; name at least one"),
            ("spec-dirs = []", "line 1: spec-dirs: the list is empty; name at least one"),
            ("spec-dirs = ['relative']", "line 1: spec-dirs: \"relative\" is not an absolute path"),
            ("spec-dirs = ['/a',\n'']", "line 2: spec-dirs: an empty path"),
            ("spec-dirs = ['/a/../b']", "line 1: spec-dirs: \"/a/../b\" contains '..'"),
            (
                "spec-dirs = ['/etc/cdi', '/etc//cdi/']",
                "line 1: spec-dirs: \"/etc//cdi/\" is the same directory as \"/etc/cdi\"; name it once",
            ),
            (
                "spec-dirs = ['/run/cdi', '/var/run/cdi']",
                "line 1: spec-dirs: \"/var/run/cdi\" is the same directory as \"/run/cdi\"",
            ),
            ("library-dirs = []", "line 1: library-dirs: the list is empty"),
            ("library-dirs = ['/']", "line 1: library-dirs: \"/\" is not a directory below"),
            ("library-search-path = ['lib']", "line 1: library-search-path: \"lib\" is not an abs"),
            ("driver-root = ''", "line 1: driver-root: an empty path"),
            ("dev-root = './dev'", "line 1: dev-root: \"./dev\" is not an absolute path"),
            ("proc-root = '/..'", "line 1: proc-root: \"/..\" contains '..'"),
            ("driver-events = 'yes'", "line 1: driver-events: invalid type"),
            ("hook = 1", "line 1: hook: invalid type"),
            ("[hook]\nrequests = 'yes'", "line 2: hook.requests: unknown variant"),
            (
                "[hook]\nenvironment = 'all'",
                "line 2: hook.environment: this key was replaced; set hook.requests",
            ),
            (
                "[hook]\nannotations = []",
                "line 2: hook.annotations: this key was replaced; set hook.requests",
            ),
            ("[hook]\ndevices = ['a*b']", "line 2: hook.devices: \"a*b\": '*' may stand"),
            ("hook.devices = ['']", "line 1: hook.devices: an empty pattern"),
            ("[hook]\nruntimes = ['runc']", "line 2: hook.runtimes: \"runc\" is not"),
            ("[hook]\nruntimes = []", "line 2: hook.runtimes: the list is empty"),
            ("[hook]\nlog = 'here'", "line 2: hook.log: \"here\" is not"),
            ("[hook]\nlog = ''", "line 2: hook.log: \"\" is not"),
            (
                "[hook]\nlog = '/var/log/'",
                "line 2: hook.log: \"/var/log/\" is not the path of a file",
            ),
            ("[hook]\nhide = 0", "line 2: hook.hide: invalid type"),
            ("[hook]\nallow-shared = 'no'", "line 2: hook.allow-shared: invalid type"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    /// Every key of the file is either checked by the hook or ignored by it, and no value makes a difference to a key
    /// that it ignores.
    #[test]
    fn the_hook_reads_only_its_own_keys() {
        let bad = [
            "max-cdi-version = 'new'",
            "names = ['serial']",
            "capabilities = 3",
            "library-dirs = []",
            "driver-root = 'x'",
            "library-search-path = [1]",
            "program-search-path = 'x'",
            "driver-events = 'x'",
        ];
        for text in bad {
            Settings::parse(text).unwrap_err();
            assert_eq!(Settings::parse_for_hook(text), Settings::parse(""), "{text}");
        }
        let ignored = bad.map(|text| text.split(' ').next().unwrap_or_default());
        assert_eq!(ignored, NOT_FOR_HOOK);
        for text in [
            "kind = 'x'",
            "spec-dirs = ['x']",
            "dev-root = 'x'",
            "proc-root = 'x'",
            "[hook]\nlog = 'x'",
            "[hok]\nrequests = 'none'",
            "driver-events = ",
        ] {
            let all = Settings::parse(text).unwrap_err();
            assert_eq!(Settings::parse_for_hook(text).unwrap_err(), all, "{text}");
        }
        let text = "names = 0\nkind = 'a.b/c1'\n[hook]\nhide = false";
        let settings = Settings::parse_for_hook(text).unwrap();
        assert_eq!((settings.kind.to_string().as_str(), settings.hook.hide), ("a.b/c1", false));
    }
}
