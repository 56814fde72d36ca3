//! `[hook]`: what containers may ask the hook for, and whom it hands them on to.

use serde::Deserialize;
use std::path::PathBuf;

/// Whose `NVIDIA_VISIBLE_DEVICES` is a request. Images set it, so it is not always the user's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// Nobody's.
    Ignore,
    /// That of privileged containers, which can open every node anyway. Others that set it do not
    /// start.
    Privileged,
    /// Everybody's.
    All,
}

/// A text in which a `*` at one end or both stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    fn parse(text: &str) -> Option<Pattern> {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        (!text.is_empty() && !inner.contains('*')).then(|| Pattern(text.to_owned()))
    }

    /// True when it stands for this text.
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

/// Checked settings of the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Whose environment is a request.
    pub environment: Environment,
    /// Annotations that are a request.
    pub annotations: Vec<Pattern>,
    /// Devices that may be asked for: one of their names matches.
    pub devices: Vec<Pattern>,
    /// Hide the other slices in `/proc/driver/nvidia`.
    pub hide: bool,
    /// The real runtime: the first of these that is there.
    pub runtimes: Vec<PathBuf>,
    /// A file, or `None` for syslog.
    pub log: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Table {
    environment: Environment,
    annotations: Vec<String>,
    devices: Vec<String>,
    hide: bool,
    runtimes: Vec<PathBuf>,
    log: String,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            environment: Environment::Privileged,
            annotations: vec!["mig-cdi/devices".to_owned(), "cdi.k8s.io/*".to_owned()],
            devices: vec!["MIG-*".to_owned(), "*:*".to_owned()],
            hide: true,
            runtimes: ["/usr/bin/runc", "/usr/sbin/runc", "/usr/bin/crun"].map(Into::into).into(),
            log: "syslog".to_owned(),
        }
    }
}

impl Table {
    /// The key that is wrong, and how.
    pub(crate) fn check(self) -> Result<Hook, (&'static str, String)> {
        let patterns = |key, texts: Vec<String>| {
            let parse = |text: &String| {
                let bad =
                    || format!("{text:?} is not a text with a '*' at one end or both, or none");
                Pattern::parse(text).ok_or_else(|| (key, bad()))
            };
            texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        if let Some(path) = self.runtimes.iter().find(|path| !path.is_absolute()) {
            return Err(("runtimes", format!("{path:?} is not an absolute path")));
        }
        let log = match self.log.as_str() {
            "syslog" => None,
            path if path.starts_with('/') => Some(path.into()),
            other => {
                return Err(("log", format!("{other:?} is not \"syslog\" or an absolute path")));
            }
        };
        Ok(Hook {
            environment: self.environment,
            annotations: patterns("annotations", self.annotations)?,
            devices: patterns("devices", self.devices)?,
            hide: self.hide,
            runtimes: self.runtimes,
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
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
