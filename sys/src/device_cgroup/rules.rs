//! The rules of a version 1 device cgroup.

use mig_cdi_model::{Major, Minor};

/// Line for `devices.allow` that lets a character device be read and written, or `None` when a rule of
/// `devices.list` already allows that. Lines are `c MAJOR:MINOR rwm`.
///
/// Two rules do not add up: one of them must allow the whole access (`match_exception` in
/// `security/device_cgroup.c`). Rules with the same numbers are merged, so only the missing letters are added, and
/// `devices.deny` with the same line restores the old rule exactly.
pub(super) fn missing(list: &str, major: Major, minor: Minor) -> Option<String> {
    let (major, minor) = (major.to_string(), minor.to_string());
    let mut exact = "";
    for line in list.lines() {
        let mut fields = line.split([' ', ':']);
        let mut next = || fields.next().unwrap_or_default();
        let (kind, its_major, its_minor, access) = (next(), next(), next(), next());
        // The kernel shows -1, "any", as `*` (`set_majmin`).
        let covers = |number, ours: &str| number == "*" || number == ours;
        let ours = kind == "c" && covers(its_major, &major) && covers(its_minor, &minor);
        if kind == "a" || ours && access.contains('r') && access.contains('w') {
            return None;
        }
        if ours && its_major != "*" && its_minor != "*" {
            exact = access;
        }
    }
    let access: String = "rw".chars().filter(|&c| !exact.contains(c)).collect();
    Some(format!("c {major}:{minor} {access}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
