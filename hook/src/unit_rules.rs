//! Device rules for the systemd scope of a container: those of its configuration, and the nodes of its slices. Pure.
//!
//! A runtime gives its scope the rules that it can express, and attaches a program of its own. When the scope is changed,
//! systemd puts its own program beside it, and what is not among the scope's rules is denied from then on: runc before
//! 1.1.7 leaves out devices without a link in `/dev/char`, every runc a major that no driver has. So all are added.

use crate::error::{Error, Result};
use mig_cdi_model::cdi::SpecNode;
use mig_cdi_sys::UnitRule;
use serde::Deserialize;

#[derive(Deserialize)]
struct Config {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    resources: Option<Resources>,
}

#[derive(Deserialize)]
struct Resources {
    devices: Option<Vec<Rule>>,
}

/// Entry of `linux.resources.devices`. What is absent, and -1, is any (config-linux.md, "Allowed Device list").
#[derive(Deserialize)]
struct Rule {
    allow: bool,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    access: Option<String>,
}

/// Returns the rules for the scope, or `None` when systemd cannot express them: one with any major and a single minor,
/// and one that denies some of what another before it allows.
///
/// # Errors
/// Fails when the configuration cannot be parsed.
pub fn unit_rules(config: &[u8], nodes: &[SpecNode]) -> Result<Option<Vec<UnitRule>>> {
    let config: Config = serde_json::from_slice(config)
        .map_err(|cause| Error::refused("parse the device rules of", "config.json", cause))?;
    let rules = config.linux.and_then(|linux| linux.resources?.devices).unwrap_or_default();
    let mut allowed = Vec::new();
    for rule in rules {
        match rule.in_unit() {
            Some(rules) if rule.allow => allowed.extend(rules),
            Some(_) if allowed.is_empty() => {}
            _ => return Ok(None),
        }
    }
    // systemd takes the numbers from such a path, and needs no node there, since v240 (runc,
    // `libcontainer/cgroups/devices/systemd.go`).
    let node = |node: &SpecNode| UnitRule {
        devices: format!("/dev/char/{}:{}", node.major, node.minor),
        access: "rw".to_owned(),
    };
    allowed.extend(nodes.iter().map(node));
    Ok(Some(allowed))
}

impl Rule {
    fn in_unit(&self) -> Option<Vec<UnitRule>> {
        let kinds: &[&str] = match self.kind.as_deref() {
            None | Some("" | "a") => &["char", "block"],
            // `u` is an unbuffered character device.
            Some("c" | "u") => &["char"],
            Some("b") => &["block"],
            Some(_) => return None,
        };
        let number = |number: Option<i64>| number.filter(|number| *number >= 0);
        let access = match self.access.as_deref() {
            None | Some("") => "rwm",
            Some(access) => access,
        };
        let rule = |kind: &&str| {
            let devices = match (number(self.major), number(self.minor)) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => return None,
            };
            Some(UnitRule { devices, access: access.to_owned() })
        };
        kinds.iter().map(rule).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(devices: &str) -> Option<Vec<String>> {
        let config = format!(r#"{{"linux":{{"resources":{{"devices":{devices}}}}}}}"#);
        let rules = unit_rules(config.as_bytes(), &[]).unwrap();
        let text = |rule: UnitRule| format!("{} {}", rule.devices, rule.access);
        rules.map(|rules| rules.into_iter().map(text).collect())
    }

    #[test]
    fn every_rule_is_expressed_or_none() {
        let one = |rule: &str| rules(&format!(r#"[{{"allow":false,"access":"rwm"}},{rule}]"#));
        for (rule, expected) in [
            (
                r#"{"allow":true,"type":"c","major":42,"minor":7,"access":"rw"}"#,
                "/dev/char/42:7 rw",
            ),
            (r#"{"allow":true,"type":"b","major":8,"minor":0}"#, "/dev/block/8:0 rwm"),
            (r#"{"allow":true,"type":"c","major":42,"minor":-1,"access":"rwm"}"#, "char-42 rwm"),
            (r#"{"allow":true,"type":"c","access":"m"}"#, "char-* m"),
        ] {
            assert_eq!(one(rule), Some(vec![expected.to_owned()]), "{rule}");
        }
        let all = Some(vec!["char-* rwm".to_owned(), "block-* rwm".to_owned()]);
        assert_eq!(one(r#"{"allow":true,"type":"a","access":"rwm"}"#), all);
        assert_eq!(one(r#"{"allow":true,"type":"c","minor":7,"access":"rw"}"#), None);
        assert_eq!(one(r#"{"allow":true,"type":"p"}"#), None);
        let denied = r#"{"allow":true,"type":"c","major":42},{"allow":false,"type":"c","major":42,"minor":7}"#;
        assert_eq!(one(denied), None);
        assert_eq!(rules("null"), Some(Vec::new()));
        assert_eq!(unit_rules(b"{}", &[]), Ok(Some(Vec::new())));
        assert!(unit_rules(b"[]", &[]).is_err());
    }
}
