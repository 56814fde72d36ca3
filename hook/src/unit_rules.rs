//! Device rules for the systemd scope of a container: those of its configuration, and the nodes of its slices. Pure.
//!
//! A runtime gives its scope the rules that it can express, and attaches a program of its own. When the scope is changed,
//! systemd puts its own program beside it, and what is not among the scope's rules is denied from then on: runc before
//! 1.1.7 leaves out devices without a link in `/dev/char`, every runc a major that no driver has. So all are added.

use crate::{
    error::Result,
    oci_config::{DeviceRule, OciConfig},
};
use mig_cdi_model::cdi::SpecNode;
use mig_cdi_sys::UnitRule;

/// Returns the rules for the scope, or `None` when systemd cannot express them: one with any major and a single minor,
/// and one that denies some of what another before it allows.
///
/// # Errors
/// Fails when the rules have another form than the specification's.
pub fn unit_rules(config: &OciConfig<'_>, nodes: &[SpecNode]) -> Result<Option<Vec<UnitRule>>> {
    let mut allowed = Vec::new();
    for rule in config.device_rules()? {
        match in_unit(&rule) {
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

/// Returns a rule as systemd has it; `None` when it has no such rule.
fn in_unit(rule: &DeviceRule) -> Option<Vec<UnitRule>> {
    let kinds: &[&str] = match rule.kind.as_deref() {
        None | Some("" | "a") => &["char", "block"],
        // `u` is an unbuffered character device.
        Some("c" | "u") => &["char"],
        Some("b") => &["block"],
        Some(_) => return None,
    };
    let number = |number: Option<i64>| number.filter(|number| *number >= 0);
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    let in_unit = |kind: &&str| {
        let devices = match (number(rule.major), number(rule.minor)) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            (None, None) => format!("{kind}-*"),
            (None, Some(_)) => return None,
        };
        Some(UnitRule { devices, access: access.to_owned() })
    };
    kinds.iter().map(in_unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> String {
        format!(
            r#"{{"ociVersion":"1.2.0","process":{{"args":["sh"]}},"root":{{"path":"r"}}{more}}}"#
        )
    }

    fn rules(devices: &str) -> Option<Vec<String>> {
        let config = config(&format!(r#","linux":{{"resources":{{"devices":{devices}}}}}"#));
        let rules = unit_rules(&OciConfig::parse(config.as_bytes()).unwrap(), &[]).unwrap();
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
        let without = config("");
        let without = OciConfig::parse(without.as_bytes()).unwrap();
        assert_eq!(unit_rules(&without, &[]), Ok(Some(Vec::new())));
        let wrong = config(r#","linux":{"resources":{"devices":[7]}}"#);
        assert!(unit_rules(&OciConfig::parse(wrong.as_bytes()).unwrap(), &[]).is_err());
    }
}
