//! Locating the device cgroup of a process: parsers of `/proc/PID/cgroup`, of `/proc/PID/mountinfo` and of
//! cgroup paths. Pure: text in, values out.

use std::path::{Component, Path, PathBuf};

/// The kind of hierarchy that controls devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CgroupVersion {
    /// The hierarchy of the `devices` controller, with lists of rules.
    V1,
    /// The unified hierarchy, with programs.
    V2,
}

/// A mount of a cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// Path of the cgroup that appears at the mount point.
    pub(super) root: String,
    /// Path of the mount point.
    pub(super) point: String,
}

/// Path of the cgroup in `/proc/PID/cgroup`, whose lines are `ID:CONTROLLERS:PATH`: `7:devices:/x`, `0::/y`.
pub(super) fn group(text: &str, version: CgroupVersion) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            CgroupVersion::V1 => controllers.split(',').any(|name| name == "devices"),
            CgroupVersion::V2 => id == "0" && controllers.is_empty(),
        };
        found.then_some(path)
    })
}

/// All controllers of the hierarchy that has `devices`, in `/proc/PID/cgroup`: `cpu,devices`.
pub(super) fn controllers(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let names = line.split(':').nth(1)?;
        names.split(',').any(|name| name == "devices").then_some(names)
    })
}

/// Mounts of a hierarchy in a mountinfo file, whose lines are
/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS` (proc(5)).
pub(super) fn mounts(text: &str, version: CgroupVersion) -> Vec<MountEntry> {
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let wanted = match version {
            CgroupVersion::V1 => name == "cgroup" && options.split(',').any(|o| o == "devices"),
            CgroupVersion::V2 => name == "cgroup2",
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        wanted.then_some(MountEntry { root, point })
    };
    text.lines().filter_map(parse).collect()
}

/// Decodes blank, tab, newline and backslash, which the kernel writes as `\040` and the like.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                text.push(code.into());
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// Directory of a cgroup in a mount, or `None` when it is not below the mount's root. A path with `/..` leads to
/// cgroups outside of our cgroup namespace (`cgroup_namespaces(7)`).
pub(super) fn directory(mount: &MountEntry, group: &str) -> Option<PathBuf> {
    let plain = |c| matches!(c, Component::RootDir | Component::Normal(_));
    let group = Path::new(group);
    let below = group.strip_prefix(&mount.root).ok()?;
    let absolute = group.is_absolute() && mount.root.starts_with('/');
    (absolute && group.components().all(plain))
        .then(|| below.components().fold(PathBuf::from(&mount.point), |dir, name| dir.join(name)))
}

/// Levels from a cgroup up to its systemd unit, and the unit's name. The nearest one: runtimes make cgroups below
/// the scope that systemd knows.
pub(super) fn unit(group: &str) -> Option<(usize, &str)> {
    let names = group.rsplit('/').enumerate();
    let mut units =
        names.filter(|(_, name)| name.ends_with(".scope") || name.ends_with(".service"));
    units.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use CgroupVersion::{V1, V2};

    const MOUNTINFO: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 master:2 - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=devices
41 31 0:38 /a\\040b /sys/fs/cgroup/uni\\134fied rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /x rw - cgroup2
";

    fn mount(root: &str, point: &str) -> MountEntry {
        MountEntry { root: root.into(), point: point.into() }
    }

    #[test]
    fn the_cgroup_of_either_version() {
        let hybrid = "12:name=systemd:/s\n7:cpu,devices:/v1/a:b\n0::/v2\n";
        assert_eq!(group(hybrid, V1), Some("/v1/a:b"));
        assert_eq!(group(hybrid, V2), Some("/v2"));
        assert_eq!(group("0::/v2\n", V1), None);
        assert_eq!(controllers(hybrid), Some("cpu,devices"));
        assert_eq!(controllers("0::/v2\n1:name=devices:/x\njunk\n:\n"), None);
        assert_eq!(group("3:devices:/\n1:name=devices:/x", V2), None);
        assert_eq!(group("1:name=devices:/x\n3:xdevices:/y\njunk\n:\n0::", V1), None);
    }

    #[test]
    fn mounts_of_either_version() {
        assert_eq!(mounts(MOUNTINFO, V1), [mount("/", "/sys/fs/cgroup/devices")]);
        assert_eq!(mounts(MOUNTINFO, V2), [mount("/a b", "/sys/fs/cgroup/uni\\fied")]);
        assert_eq!(mounts("a - cgroup2 b c\n - \n\n - cgroup2 x y", V2), []);
    }

    #[test]
    fn escapes() {
        for (text, plain) in [
            ("/a", "/a"),
            ("\\040", " "),
            ("/a\\040b\\011c\\134", "/a b\tc\\"),
            ("a\\04", "a\\04"),
            ("\\", "\\"),
            ("\\999x", "\\999x"),
            ("\\1ä", "\\1ä"),
            ("\\777", "\\777"),
            ("\\303", "\\303"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }

    #[test]
    fn directories_honour_the_root_of_the_mount() {
        let at =
            |root, group| directory(&mount(root, "/m"), group).map(|d| d.display().to_string());
        assert_eq!(at("/", "/a/b").as_deref(), Some("/m/a/b"));
        assert_eq!(at("/", "/").as_deref(), Some("/m"));
        assert_eq!(at("/a", "/a/b").as_deref(), Some("/m/b"));
        assert_eq!(at("/a", "/a").as_deref(), Some("/m"));
        assert_eq!(at("/a", "/ab"), None);
        assert_eq!(at("/a", "/b/a"), None);
        assert_eq!(at("/", "/../x"), None);
        assert_eq!(at("/..", "/../x"), None);
        assert_eq!(at("/a", "/a/../x"), None);
        assert_eq!(at("", "a"), None);
        assert_eq!(at("/", ""), None);
    }

    #[test]
    fn the_nearest_unit() {
        assert_eq!(unit("/machine.slice/libpod-1.scope/container"), Some((1, "libpod-1.scope")));
        assert_eq!(unit("/system.slice/a.service/b.scope"), Some((0, "b.scope")));
        assert_eq!(unit("/system.slice/a.service/payload"), Some((1, "a.service")));
        assert_eq!(unit("/kubepods.slice/x/y"), None);
        assert_eq!(unit("/"), None);
    }
}
