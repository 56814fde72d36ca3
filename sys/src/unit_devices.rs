//! Device rules of a systemd unit, which systemd sets again at each `daemon-reload`, dropping those that others made
//! (NVIDIA/nvidia-docker#1730).
//!
//! Never changes a unit without a device policy: `DeviceAllow=` alone closes it (`cgroup_apply_devices` in systemd's
//! `src/core/cgroup.c`), and every other device that its processes use would be denied.

use crate::{Error, Result, Root, exists, is_executable, run};
use std::{ffi::OsStr, path::Path, time::Duration};

/// Paths of systemctl: on systems with a merged /usr, and without.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];
/// Directory that exists while systemd is the init system: `sd_booted(3)`.
const SYSTEMD: &str = "/run/systemd/system";
/// Two of these are the time that the shipped hooks.d file gives the hook.
const LIMIT: Duration = Duration::from_secs(5);

const ALLOW: &str = "allow devices in the systemd unit";

/// Devices that a unit allows, as `DeviceAllow=` has them (systemd.resource-control(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRule {
    /// One device, as `/dev/char/195:0`, or several, as `char-pts`.
    pub devices: String,
    /// Letters of `rwm`.
    pub access: String,
}

/// A unit that allows some devices only.
#[derive(Debug)]
pub struct ClosedUnit {
    unit: String,
    rules: Vec<UnitRule>,
}

/// Rules that were added to a unit. When it is dropped, they stay.
#[derive(Debug)]
#[must_use = "undo it, or drop it to let it stay"]
pub struct UnitDevices(ClosedUnit);

impl ClosedUnit {
    /// Reads the rules of a unit. Returns `None` for one that allows all devices, and where systemd is not the init system.
    ///
    /// # Errors
    /// When systemd does not report the unit's device policy.
    pub fn read(unit: &str) -> Result<Option<ClosedUnit>> {
        if !exists(Path::new(SYSTEMD)) {
            return Ok(None);
        }
        let properties = "--property=DevicePolicy,DeviceAllow";
        let shown = systemctl(ALLOW, unit, &["show", properties, "--", unit])?;
        let Some(rules) = closed_policy(&shown) else {
            return Err(Error::refused(ALLOW, unit, "systemctl reports no device policy"));
        };
        Ok(rules.map(|rules| ClosedUnit { unit: unit.to_owned(), rules }))
    }

    /// Name of the unit.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.unit
    }

    /// Adds rules to those that it has.
    ///
    /// # Errors
    /// When systemd does not change them.
    pub fn allow(self, rules: &[UnitRule]) -> Result<UnitDevices> {
        let mut wanted = self.rules.clone();
        rules.iter().for_each(|rule| add(&mut wanted, rule));
        let done = self.set(ALLOW, &wanted);
        let changed = UnitDevices(self);
        match done {
            Ok(()) => Ok(changed),
            Err(error) => {
                // systemd may have done it when the time was up. The first error is the one to report.
                let _ = changed.undo();
                Err(error)
            }
        }
    }

    /// Sets the rules, all in one step: systemd checks all values before it uses the first
    /// (`bus_unit_set_properties` in its `src/core/dbus-unit.c`).
    fn set(&self, op: &'static str, rules: &[UnitRule]) -> Result<()> {
        // --runtime: a container's unit does not outlive a reboot, nor should a drop-in file of it. The empty value
        // removes the rules of before.
        let set = ["set-property", "--runtime", "--", &self.unit, "DeviceAllow="];
        let rules =
            rules.iter().map(|rule| format!("DeviceAllow={} {}", rule.devices, rule.access));
        let args: Vec<_> = set.into_iter().map(str::to_owned).chain(rules).collect();
        systemctl(op, &self.unit, &args).map(drop)
    }
}

impl UnitDevices {
    /// Sets the rules as they were.
    ///
    /// # Errors
    /// When systemd does not change them.
    pub fn undo(self) -> Result<()> {
        self.0.set("restore the devices of the systemd unit", &self.0.rules)
    }
}

/// Adds a rule, to the one for the same devices if there is one: systemd keeps one of them.
fn add(rules: &mut Vec<UnitRule>, rule: &UnitRule) {
    match rules.iter_mut().find(|other| other.devices == rule.devices) {
        Some(other) => {
            let new = rule.access.chars().filter(|&c| !other.access.contains(c));
            let new: String = new.collect();
            other.access.push_str(&new);
        }
        None => rules.push(rule.clone()),
    }
}

/// Runs systemctl for a unit, and returns its output.
fn systemctl(op: &'static str, unit: &str, args: &[impl AsRef<OsStr>]) -> Result<String> {
    let error = |cause: &str| Error::refused(op, unit, cause);
    let program = SYSTEMCTL.map(Path::new).into_iter().find(|path| is_executable(path));
    let program = program
        .ok_or_else(|| error("there is no systemctl in /usr/bin").with_cure("install systemctl"))?;
    if let Some(reason) = Root::open(Path::new("/"))?.untrusted_program(program) {
        let cause = format!("another user could exchange systemctl: {reason}");
        return Err(error(&cause).with_cure("run chown root and chmod go-w on it"));
    }
    let ran = run(program, args, LIMIT)?;
    match ran.code == Some(0) {
        true => Ok(ran.stdout),
        false => Err(error(ran.stderr.trim())),
    }
}

/// Parses the output of `systemctl show`: the rules of a unit that allows some devices only, and an inner `None` for
/// one that allows all. `None` when the output has no policy.
fn closed_policy(shown: &str) -> Option<Option<Vec<UnitRule>>> {
    let pairs = || shown.lines().filter_map(|line| line.split_once('='));
    let values = |name| pairs().filter(move |(key, value)| *key == name && !value.is_empty());
    let rule = |(_, value): (&str, &str)| {
        let (devices, access) = value.split_once(' ').unwrap_or((value, "rwm"));
        UnitRule { devices: devices.to_owned(), access: access.to_owned() }
    };
    let (_, policy) = values("DevicePolicy").next()?;
    let rules: Vec<_> = values("DeviceAllow").map(rule).collect();
    Some((policy != "auto" || !rules.is_empty()).then_some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(&(devices, access): &(&str, &str)) -> UnitRule {
        UnitRule { devices: devices.to_owned(), access: access.to_owned() }
    }

    #[test]
    fn a_rule_for_the_same_devices_is_extended() {
        let mut rules = vec![rule(&("/dev/char/1:3", "rwm")), rule(&("char-pts", "r"))];
        for new in [("/dev/char/1:3", "rw"), ("char-pts", "rw"), ("/dev/char/195:0", "rw")] {
            add(&mut rules, &rule(&new));
        }
        let expected = [("/dev/char/1:3", "rwm"), ("char-pts", "rw"), ("/dev/char/195:0", "rw")];
        assert_eq!(rules, expected.each_ref().map(rule));
    }

    #[test]
    fn a_policy_is_closed_by_its_name_or_by_its_rules() {
        let rules = |rules: &[(&str, &str)]| Some(Some(rules.iter().map(rule).collect()));
        assert_eq!(closed_policy("DevicePolicy=auto\n"), Some(None));
        assert_eq!(closed_policy("DevicePolicy=auto\nDeviceAllow=\n"), Some(None));
        assert_eq!(
            closed_policy(
                "DeviceAllow=/dev/fuse rw\nDeviceAllow=char-pts rwm\nDevicePolicy=auto\n"
            ),
            rules(&[("/dev/fuse", "rw"), ("char-pts", "rwm")])
        );
        assert_eq!(closed_policy("DevicePolicy=strict\n"), rules(&[]));
        assert_eq!(
            closed_policy("DevicePolicy=closed\nDeviceAllow=block-* r\n"),
            rules(&[("block-*", "r")])
        );
        for other in ["", "DevicePolicy=\n", "DeviceAllow=/dev/fuse rw\n", "LoadState=loaded\n"] {
            assert_eq!(closed_policy(other), None, "{other}");
        }
    }
}
