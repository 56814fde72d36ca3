//! The rules of a version 1 device cgroup.

use mig_cdi_model::{Major, Minor};

/// Line for `devices.allow` that lets a character device be read and written, or `None` when a rule of
/// `devices.list` already allows that. Lines are `c MAJOR:MINOR rwm`.
///
/// Two rules do not add up: one of them must allow the whole access (`match_exception` in
/// `security/device_cgroup.c`). Rules with the same numbers are merged, so only the missing letters are added, and
/// `devices.deny` with the same line restores the old rule exactly.
pub(super) fn missing(list: &str, major: Major, minor: Minor) -> Option<String> {
    let mut exact = "";
    for rule in list.lines().map(Rule::parse) {
        if rule.is_for_all() {
            return None;
        }
        if !rule.covers(major, minor) {
            continue;
        }
        if rule.access.contains('r') && rule.access.contains('w') {
            return None;
        }
        if rule.major != "*" && rule.minor != "*" {
            exact = rule.access;
        }
    }
    let access: String = "rw".chars().filter(|&c| !exact.contains(c)).collect();
    Some(format!("c {major}:{minor} {access}"))
}

/// Reports whether a cgroup with this `devices.list` may read or write a character device.
pub(super) fn allows(list: &str, major: Major, minor: Minor) -> bool {
    let opens = |rule: &Rule<'_>| rule.access.contains(['r', 'w']) && rule.covers(major, minor);
    allows_everything(list) || list.lines().map(Rule::parse).any(|rule| opens(&rule))
}

/// Reports whether it may use every device. The kernel shows only this line then, also where some are denied
/// (`devcgroup_seq_show` in `security/device_cgroup.c`).
pub(super) fn allows_everything(list: &str) -> bool {
    list.lines().map(Rule::parse).any(|rule| rule.is_for_all())
}

/// Line of `devices.list`. The kernel shows -1, "any", as `*` (`set_majmin`).
struct Rule<'l> {
    kind: &'l str,
    major: &'l str,
    minor: &'l str,
    access: &'l str,
}

impl Rule<'_> {
    fn parse(line: &str) -> Rule<'_> {
        let mut fields = line.split([' ', ':']);
        let mut next = || fields.next().unwrap_or_default();
        Rule { kind: next(), major: next(), minor: next(), access: next() }
    }

    fn is_for_all(&self) -> bool {
        self.kind == "a"
    }

    fn covers(&self, major: Major, minor: Minor) -> bool {
        let covers = |shown: &str, number: u32| shown == "*" || shown.parse() == Ok(number);
        self.kind == "c" && covers(self.major, major.0) && covers(self.minor, minor.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_or_writing_is_enough_to_open_a_device() {
        for (list, is_allowed) in [
            ("", false),
            ("a *:* rwm\n", true),
            ("c *:* m\nb *:* rwm\nc 1:3 rwm\n", false),
            ("c *:* rwm\n", true),
            ("c 511:* r\n", true),
            ("c *:22 w\n", true),
            ("c 511:22 m\n", false),
            ("c 511:220 rw\nc 51:22 rw\nc 511:2 rw\n", false),
            ("junk\n\nc\nc 511\n", false),
        ] {
            assert_eq!(allows(list, Major(511), Minor(22)), is_allowed, "{list}");
            assert_eq!(allows_everything(list), list.starts_with('a'), "{list}");
        }
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let all = Some("c 511:22 rw");
        for (list, added) in [
            ("", all),
            ("a *:* rwm\n", None),
            ("c *:* m\nb *:* rwm\nc 1:3 rwm\nc 511:* m\n", all),
            ("c *:* rwm\n", None),
            ("c 511:* rw\n", None),
            ("c *:22 rw\n", None),
            ("c 1:3 rwm\nc 511:22 rw\n", None),
            ("b 511:22 rw\nc 511:2 rw\nc 51:22 rw\nc 22:511 rw\n", all),
            ("c 511:22 m\n", all),
            ("c 511:22 rm\n", Some("c 511:22 w")),
            ("c 511:22 w\nc 511:* r\n", Some("c 511:22 r")),
            ("c 511:* r\nc *:* w\n", all),
            ("junk\n\nc\n", all),
        ] {
            assert_eq!(missing(list, Major(511), Minor(22)).as_deref(), added, "{list}");
        }
    }
}
