//! The table `[hook]` of the settings: which requests of containers the hook accepts, and which runtime it runs.

use crate::{
    SettingsError,
    paths::absolute_path,
    settings_text::{SettingsText, SpannedList, default, defaults},
};
use serde::{Deserialize, de::IgnoredAny};
use std::path::PathBuf;
use toml::Spanned;

/// The containers that may request slices by an environment variable or an annotation. The author of an image can write
/// both (podman copies annotations of the image's manifest), as can the author of a pod (CRI-O copies the pod's), so neither
/// shows what the person who starts the container wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestPolicy {
    /// No container.
    None,
    /// Containers that may open every device, so that a request adds nothing to what they can reach.
    Privileged,
    /// Every container.
    All,
}

/// A text in which a `*` at either end matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    fn parse(text: &str) -> Option<Pattern> {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        (!text.is_empty() && !inner.contains('*')).then(|| Pattern(text.to_owned()))
    }

    /// Reports whether a text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (head, inner) = match self.0.strip_prefix('*') {
            Some(inner) => (true, inner),
            None => (false, self.0.as_str()),
        };
        match (head, inner.strip_suffix('*')) {
            (true, Some(inner)) => text.contains(inner),
            (true, None) => text.ends_with(inner),
            (false, Some(inner)) => text.starts_with(inner),
            (false, None) => text == inner,
        }
    }
}

/// The checked settings of the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// Containers that may request slices.
    pub requests: RequestPolicy,
    /// Devices that may be requested: one of their names matches.
    pub devices: Vec<Pattern>,
    /// Whether a container may get a slice that another one may open already.
    pub allow_shared: bool,
    /// Whether the other slices are hidden in the container's `/proc/driver/nvidia`.
    pub hide: bool,
    /// Candidates for the real runtime; the first that exists is used.
    pub runtimes: Vec<PathBuf>,
    /// Log file; `None` for syslog.
    pub log: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(crate) struct Table {
    requests: RequestPolicy,
    /// Keys of earlier versions, which `requests` replaces. Accepted by type only to name the new key.
    environment: Option<Spanned<IgnoredAny>>,
    annotations: Option<Spanned<IgnoredAny>>,
    devices: SpannedList,
    allow_shared: bool,
    hide: bool,
    runtimes: SpannedList,
    log: Spanned<String>,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            // An image gets no slice for a container that could not open it before.
            requests: RequestPolicy::Privileged,
            environment: None,
            annotations: None,
            // UUIDs, and slots or indices. Not `all`, nor `config` and `monitor`, which reach every tenant's slices.
            devices: defaults(&["MIG-*", "*:*"]),
            // Two users' containers would share memory and time of a slice that each takes for its own.
            allow_shared: false,
            // CDI hides nothing: a container would read every tenant's layout and the UUIDs of all GPUs there.
            hide: true,
            // Debian has runc in /usr/sbin, other distributions in /usr/bin.
            // The packages of distributions; containerd's and CRI-O's own archives.
            runtimes: defaults(&[
                "/usr/bin/runc",
                "/usr/sbin/runc",
                "/usr/local/sbin/runc",
                "/usr/bin/crun",
                "/usr/libexec/crio/crun",
            ]),
            log: default("syslog"),
        }
    }
}

impl Table {
    /// Checks the values.
    pub(crate) fn check(self, text: SettingsText<'_>) -> Result<HookSettings, SettingsError> {
        if let Some(old) = [self.environment, self.annotations].into_iter().flatten().next() {
            let cure = "set hook.requests to \"none\", \"privileged\" or \"all\"; it is for variables and annotations alike";
            return Err(text.error(old.span(), "this key was replaced").with_cure(cure));
        }
        Ok(HookSettings {
            requests: self.requests,
            // An empty list permits none.
            devices: text.list(&self.devices, pattern)?,
            allow_shared: self.allow_shared,
            hide: self.hide,
            runtimes: text.non_empty_list(&self.runtimes, absolute_path)?,
            log: text.value(&self.log, log)?,
        })
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).ok_or_else(|| match text {
        "" => "an empty pattern".to_owned(),
        text => format!("{text:?}: '*' may stand only at the start or the end"),
    })
}

fn log(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "syslog" => Ok(None),
        path if !path.starts_with('/') => {
            Err(format!("{path:?} is not \"syslog\" or an absolute path"))
        }
        path if path.ends_with('/') => Err(format!("{path:?} is not the path of a file")),
        path => absolute_path(path).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_at_the_ends_match_anything() {
        for (pattern, yes, no) in [
            ("MIG-*", "MIG-1", "xMIG-1"),
            ("*:*", "0:1", "all"),
            ("all", "all", "alla"),
            ("*", "", "-"),
            ("*gb", "2g.20gb", "2g.20gb:0"),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert!(pattern.matches(yes), "{pattern:?} {yes}");
            assert!(no == "-" || !pattern.matches(no), "{pattern:?} {no}");
        }
        assert_eq!(Pattern::parse("a*b"), None);
        assert_eq!(Pattern::parse(""), None);
    }
}
