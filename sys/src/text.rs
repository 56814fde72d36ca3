//! Parsers of the text files of the NVIDIA driver, of `/proc/devices` and of a device's numbers in sysfs. Pure: bytes in, values
//! out, never a panic. Formats are those that NVIDIA/open-gpu-kernel-modules prints in
//! `kernel-open/nvidia/nv-procfs.c` and `nv-caps.c`.
//!
//! They are strict: a number that is read wrongly becomes another tenant's device. A file that is cut short or
//! has an unknown form is an error, never a guess.

use mig_cdi_model::{CiId, GiId, GpuMinor, GpuUuid, Major, Minor, PciAddress};
use std::collections::HashMap;

/// A file that does not have the form in which its writer always prints it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes are not text.
    #[error("not valid UTF-8")]
    NotText,
    /// A line does not have the file's form.
    #[error("line {line} is {text:?}, expected {expected}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// First 60 characters of the line.
        text: String,
        /// The form that was expected, as a phrase.
        expected: &'static str,
    },
    /// A line that is always printed is missing.
    #[error("no line {0:?}")]
    Missing(&'static str),
    /// The file is empty.
    #[error("empty")]
    Empty,
    /// The last line has no end: a number that is cut in the middle is another number.
    #[error("cut short: the last line has no end")]
    CutShort,
}

type Parsed<T> = Result<T, ParseError>;

/// Checks that a file is text of complete lines. An empty one is left to its parser.
fn text(bytes: &[u8]) -> Parsed<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_empty() || text.ends_with('\n') => Ok(text),
        Ok(_) => Err(ParseError::CutShort),
        Err(_) => Err(ParseError::NotText),
    }
}

fn bad_line(index: usize, line: &str, expected: &'static str) -> ParseError {
    ParseError::Line { line: index + 1, text: line.chars().take(60).collect(), expected }
}

/// Parses a number that consists of digits alone; `str::parse` would also take a plus sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Value of the first line `key: value`, trimmed.
fn field<'a>(text: &'a str, key: &'static str) -> Parsed<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.trim_start().strip_prefix(':');
    text.lines().find_map(value).map(str::trim).ok_or(ParseError::Missing(key))
}

/// Decimal value of the first line `key: value`.
fn number_field(text: &str, key: &'static str) -> Parsed<u32> {
    let value = field(text, key)?;
    number(value).ok_or_else(|| {
        let line = text.lines().position(|line| line.starts_with(key)).unwrap_or(0);
        bad_line(line, value, "a decimal number")
    })
}

/// Parses the version in `/proc/driver/nvidia/version`: the first word of its `NVRM version` line that consists of
/// numbers and dots. Open and proprietary modules print different words before it.
///
/// # Errors
/// When there is none.
pub fn driver_version(bytes: &[u8]) -> Parsed<String> {
    let line = field(text(bytes)?, "NVRM version")?;
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| number(part).is_some());
    let version = line.split_ascii_whitespace().find(is_version);
    version.map(str::to_owned).ok_or_else(|| bad_line(0, line, "a version such as 580.105.08"))
}

/// The character devices of `/proc/devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharDevices(Vec<(Major, String)>);

impl CharDevices {
    /// Major number of the driver with exactly this name. `nvidia-caps` is also a prefix of
    /// `nvidia-caps-imex-channels`.
    #[must_use]
    pub fn major(&self, name: &str) -> Option<Major> {
        self.0.iter().find(|(_, n)| n == name).map(|(major, _)| *major)
    }

    /// Major number of the GPUs' device nodes. The driver registered it as `nvidia-frontend` before R550 and as
    /// `nvidia` since.
    #[must_use]
    pub fn gpu_major(&self) -> Option<Major> {
        self.major("nvidia").or_else(|| self.major("nvidia-frontend"))
    }

    /// Major number of `/dev/nvidiactl`, which has a name of its own there since R550.
    #[must_use]
    pub fn control_major(&self) -> Option<Major> {
        self.major("nvidiactl").or_else(|| self.gpu_major())
    }

    /// Names registered under a major number.
    pub fn names(&self, major: Major) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(m, _)| *m == major).map(|(_, name)| name.as_str())
    }
}

/// Parses `/proc/devices`.
///
/// # Errors
/// When it has no section of character devices, or a line in it is not a number and a name.
pub fn char_devices(bytes: &[u8]) -> Parsed<CharDevices> {
    const HEADER: &str = "Character devices:";
    let mut lines = text(bytes)?.lines().enumerate();
    lines.find(|(_, line)| *line == HEADER).ok_or(ParseError::Missing(HEADER))?;
    let mut devices = Vec::new();
    // An empty line ends the section; block devices, whose numbers mean something else, follow.
    for (i, line) in lines.take_while(|(_, line)| !line.is_empty()) {
        let pair = line.trim_start().split_once(' ');
        let (major, name) = pair
            .and_then(|(major, name)| Some((Major(number(major)?), name)))
            .ok_or_else(|| bad_line(i, line, "a major number and a name"))?;
        devices.push((major, name.to_owned()));
    }
    Ok(CharDevices(devices))
}

/// Owner and mode of the nodes that the driver's tools make: `/proc/driver/nvidia/params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// `DeviceFileUID`: owner of the nodes.
    pub uid: u32,
    /// `DeviceFileGID`: group of the nodes.
    pub gid: u32,
    /// Permission bits of `DeviceFileMode`. The file prints them in decimal: 438 is 0666.
    pub mode: u32,
    /// `DeviceFileMode` where it has more than permission bits, as after `NVreg_DeviceFileMode=666`: the module takes a decimal number.
    pub misread_mode: Option<u32>,
    /// `ModifyDeviceFiles`: true when tools may make the nodes, false when the administrator does.
    pub modify: bool,
}

impl Default for Params {
    /// The driver's own defaults: `NVreg_DeviceFile{UID,GID,Mode}` and `NVreg_ModifyDeviceFiles` in
    /// `nv-reg.h`.
    fn default() -> Self {
        Params { uid: 0, gid: 0, mode: 0o666, misread_mode: None, modify: true }
    }
}

/// Parses `/proc/driver/nvidia/params`.
///
/// # Errors
/// When one of the first three lines is missing or not a number.
pub fn params(bytes: &[u8]) -> Parsed<Params> {
    let text = text(bytes)?;
    let mode: u32 = number_field(text, MODE)?;
    Ok(Params {
        uid: number_field(text, "DeviceFileUID")?,
        gid: number_field(text, "DeviceFileGID")?,
        mode: mode & 0o777,
        misread_mode: (mode > 0o777).then_some(mode),
        modify: match number_field(text, MODIFY_FILES) {
            Err(ParseError::Missing(_)) => true,
            modify => modify == Ok(1),
        },
    })
}

const MODIFY_FILES: &str = "ModifyDeviceFiles";
const MODE: &str = "DeviceFileMode";

/// Returns the same file with `ModifyDeviceFiles: 0`: a container whose driver libraries read it makes no device
/// nodes, as nvidia-modprobe would with root's privileges.
///
/// # Errors
/// When it has no such line.
pub fn params_without_node_making(bytes: &[u8]) -> Parsed<String> {
    let text = text(bytes)?;
    number_field(text, MODIFY_FILES)?;
    let line = |line: &str| {
        let rest = line.strip_prefix(MODIFY_FILES);
        let is_it = rest.is_some_and(|rest| rest.trim_start().starts_with(':'));
        if is_it { format!("{MODIFY_FILES}: 0\n") } else { format!("{line}\n") }
    };
    Ok(text.lines().map(line).collect())
}

fn mode(text: &str) -> Parsed<u32> {
    match number_field(text, MODE)? {
        mode @ 0..=0o777 => Ok(mode),
        mode => {
            Err(bad_line(0, &mode.to_string(), "a decimal DeviceFileMode of at most 511 (0777)"))
        }
    }
}

/// Content of `/proc/driver/nvidia/gpus/<pci>/information`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Information {
    /// Product name.
    pub model: String,
    /// UUID; `None` while the GPU is not initialised, when the line is missing or has question marks.
    pub uuid: Option<GpuUuid>,
    /// PCI address.
    pub pci: PciAddress,
    /// Minor number of its device node.
    pub minor: GpuMinor,
    /// True when the administrator has excluded it; NVML does not list it then.
    pub excluded: bool,
}

/// Parses `/proc/driver/nvidia/gpus/<pci>/information`.
///
/// # Errors
/// When it is empty, because the GPU cannot be woken, or a line that is always printed is missing.
pub fn information(bytes: &[u8]) -> Parsed<Information> {
    let text = text(bytes)?;
    if text.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    let pci = field(text, "Bus Location")?;
    Ok(Information {
        model: field(text, "Model")?.to_owned(),
        uuid: field(text, "GPU UUID").ok().and_then(|uuid| uuid.parse().ok()),
        pci: pci.parse().map_err(|_| bad_line(0, pci, "a Bus Location such as 0000:07:00.0"))?,
        minor: GpuMinor(number_field(text, "Device Minor")?),
        excluded: field(text, "GPU Excluded").is_ok_and(|value| value == "Yes"),
    })
}

/// Content of a capability file, `…/giM/access` or `…/ciC/access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Minor number of its node, whose major is that of `nvidia-caps`.
    pub minor: Minor,
    /// Permission bits of its node. The file prints them in decimal: 292 is 0444.
    pub mode: u32,
    /// `DeviceFileModify`: true when tools may make the node. nvidia-modprobe makes it for the value 1 alone.
    pub modify: bool,
}

/// Parses a capability file.
///
/// # Errors
/// [`ParseError::Empty`] is the sign of R450's proc mode, in which an open descriptor of the file itself is the
/// capability and no node exists.
pub fn access(bytes: &[u8]) -> Parsed<Access> {
    let text = text(bytes)?;
    if text.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    Ok(Access {
        minor: Minor(number_field(text, "DeviceFileMinor")?),
        mode: mode(text)?,
        modify: number_field(text, "DeviceFileModify") == Ok(1),
    })
}

/// Content of `/proc/driver/nvidia-caps/mig-minors`: the minor of every instance that could exist. It is a fixed
/// table of the driver (`_nv_cap_table_init` in `nv-caps.c`) and does not depend on the instances that do exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigMinors(HashMap<(GpuMinor, GiId, Option<CiId>), Minor>);

impl MigMinors {
    /// Capability minor of a GPU instance, or with `ci` of a compute instance.
    #[must_use]
    pub fn get(&self, gpu: GpuMinor, gi: GiId, ci: Option<CiId>) -> Option<Minor> {
        self.0.get(&(gpu, gi, ci)).copied()
    }

    /// Capabilities of all instances that could exist, in no order.
    pub fn capabilities(&self) -> impl Iterator<Item = InstanceCapability> {
        self.0.iter().map(|(&(gpu, ..), &minor)| InstanceCapability { gpu, minor })
    }
}

/// The capability of a GPU instance or a compute instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceCapability {
    /// GPU of the instance.
    pub gpu: GpuMinor,
    /// Capability minor.
    pub minor: Minor,
}

/// Parses `/proc/driver/nvidia-caps/mig-minors`: `gpu0/gi7/ci0/access 67`, and first `config 1` and
/// `monitor 2`, which no container needs.
///
/// # Errors
/// When a line is not of this form.
pub fn mig_minors(bytes: &[u8]) -> Parsed<MigMinors> {
    // One line per possible instance, 4,322 of about 24 bytes.
    let mut minors = HashMap::with_capacity(bytes.len() / 20);
    for (i, line) in text(bytes)?.lines().enumerate() {
        let malformed = || bad_line(i, line, "gpuN/giM/access MINOR or gpuN/giM/ciC/access MINOR");
        let pair = line.split_once(' ').and_then(|(name, minor)| Some((name, number(minor)?)));
        let (name, minor) = pair.ok_or_else(malformed)?;
        if !matches!(name, "config" | "monitor") {
            minors.insert(instance(name).ok_or_else(malformed)?, Minor(minor));
        }
    }
    match minors.is_empty() {
        true => Err(ParseError::Empty),
        false => Ok(MigMinors(minors)),
    }
}

/// Parses the minors of the capabilities that belong to no instance, in a table `/proc/driver/nvidia-caps/*-minors`:
/// `config 1`. The names of the others have slashes.
///
/// # Errors
/// When a line is not a name and a number.
pub fn non_instance_minors(bytes: &[u8]) -> Parsed<Vec<Minor>> {
    let text = text(bytes)?;
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.contains('/'));
    let minor = |(i, line): (usize, &str)| {
        let minor = line.split_once(' ').and_then(|(_, minor)| number(minor));
        minor.map(Minor).ok_or_else(|| bad_line(i, line, "NAME MINOR"))
    };
    lines.map(minor).collect()
}

/// Ids in `gpu0/gi7/access` or `gpu0/gi7/ci0/access`.
fn instance(name: &str) -> Option<(GpuMinor, GiId, Option<CiId>)> {
    let mut parts = name.strip_suffix("/access")?.split('/');
    let gpu = GpuMinor(numbered(parts.next()?, "gpu")?);
    let gi = GiId(numbered(parts.next()?, "gi")?);
    let ci = match parts.next() {
        Some(ci) => Some(CiId(numbered(ci, "ci")?)),
        None => None,
    };
    parts.next().is_none().then_some((gpu, gi, ci))
}

/// Parses the file `dev` of a device in sysfs: `226:128` (`dev_show` in `drivers/base/core.c`).
///
/// # Errors
/// When it has another form.
pub fn device_numbers(bytes: &[u8]) -> Parsed<(Major, Minor)> {
    let text = text(bytes)?;
    let line = text.strip_suffix('\n').ok_or(ParseError::Empty)?;
    let numbers = line.split_once(':');
    let numbers = numbers.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    let (major, minor) = numbers.ok_or_else(|| bad_line(0, line, "MAJOR:MINOR"))?;
    Ok((Major(major), Minor(minor)))
}

/// Number after a prefix in a directory name: 3 in `gi3`.
#[must_use]
pub fn numbered(name: &str, prefix: &str) -> Option<u32> {
    number(name.strip_prefix(prefix)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_module_flavours() {
        let open = b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build\nGCC version:  gcc 12.2.0\n";
        let closed = b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n";
        assert_eq!(driver_version(open).unwrap(), "580.105.08");
        assert_eq!(driver_version(closed).unwrap(), "535.54.03");
        assert!(driver_version(b"NVRM version: none\n").is_err());
        assert!(driver_version(b"").is_err());
    }

    #[test]
    fn majors_match_whole_names_of_character_devices() {
        let devices = char_devices(
            b"Character devices:\n  1 mem\n195 nvidia\n508 nvidia-caps-imex-channels\n511 nvidia-caps\n\nBlock devices:\n510 nvidia-uvm\n",
        )
        .unwrap();
        assert_eq!(devices.major("nvidia-caps"), Some(Major(511)));
        assert_eq!(devices.major("nvidia"), Some(Major(195)));
        assert_eq!(devices.major("nvidia-uvm"), None, "block devices do not count");
        assert_eq!(devices.gpu_major(), Some(Major(195)));
        assert_eq!(devices.control_major(), Some(Major(195)), "before R550");
        assert_eq!(devices.names(Major(1)).collect::<Vec<_>>(), ["mem"]);
        assert!(char_devices(b"Block devices:\n").is_err());
        assert!(char_devices(b"Character devices:\nx mem\n").is_err());
    }

    #[test]
    fn gpus_have_two_names_in_proc_devices() {
        let majors = |names: &str| {
            let file = format!("Character devices:\n{names}\nBlock devices:\n");
            let devices = char_devices(file.as_bytes()).unwrap();
            (devices.gpu_major(), devices.control_major())
        };
        let (gpu, control) = (Some(Major(195)), Some(Major(196)));
        assert_eq!(majors("195 nvidia-frontend\n"), (gpu, gpu));
        assert_eq!(majors("195 nvidia\n196 nvidiactl\n"), (gpu, control));
        assert_eq!(majors("200 nvidia-frontend\n195 nvidia\n"), (gpu, gpu));
        assert_eq!(majors("195 nvidia-uvm\n"), (None, None));
    }

    #[test]
    fn numbers_of_a_device_are_two() {
        assert_eq!(device_numbers(b"226:128\n"), Ok((Major(226), Minor(128))));
        for wrong in [
            "",
            "226:12",
            "226\n",
            "226:\n",
            "+226:1\n",
            "226:1:2\n",
            "226:1\n226:2\n",
            "226:4294967296\n",
        ] {
            assert!(device_numbers(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn modes_are_decimal() {
        let file = b"DeviceFileMinor: 12\nDeviceFileMode: 292\nDeviceFileModify: 1\n";
        let known = Access { minor: Minor(12), mode: 0o444, modify: true };
        assert_eq!(access(file).unwrap(), known);
        for left in ["DeviceFileModify: 0\n", "DeviceFileModify: x\n", ""] {
            let file = format!("DeviceFileMinor: 12\nDeviceFileMode: 292\n{left}");
            assert_eq!(access(file.as_bytes()).unwrap(), Access { modify: false, ..known });
        }
        assert_eq!(access(b""), Err(ParseError::Empty));
        assert_eq!(access(b"DeviceFileMinor: 12\n"), Err(ParseError::Missing("DeviceFileMode")));
        assert_eq!(access(b"DeviceFileMinor: 12\nDeviceFileMode: 29"), Err(ParseError::CutShort));
        assert!(access(b"DeviceFileMinor: -1\nDeviceFileMode: 292\n").is_err());
        assert!(access(b"DeviceFileMinor: 12\nDeviceFileMode: 2920\n").is_err());
        let file = b"DeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n";
        let known = Params { uid: 0, gid: 44, mode: 0o660, misread_mode: None, modify: true };
        assert_eq!(params(file).unwrap(), known);
        let octal = b"DeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 666\n";
        let misread = Params { mode: 0o232, misread_mode: Some(666), ..known };
        assert_eq!(params(octal).unwrap(), misread);
        let file = [&file[..], b"ModifyDeviceFiles: 0\n"].concat();
        assert_eq!(params(&file).unwrap(), Params { modify: false, ..known });
    }

    #[test]
    fn node_making_is_switched_off_and_nothing_else() {
        let file = b"A: 1\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nModifyDeviceFilesX: 1\n";
        let masked = params_without_node_making(file).unwrap();
        assert_eq!(masked, "A: 1\nModifyDeviceFiles: 0\nDeviceFileUID: 0\nModifyDeviceFilesX: 1\n");
        assert!(params_without_node_making(b"A: 1\n").is_err());
    }

    #[test]
    fn minors_of_published_samples() {
        let file = b"config 1\nmonitor 2\ngpu3/gi3/ci3/access 439\ngpu6/gi11/ci7/access 920\ngpu0/gi1/access 12\n";
        let minors = mig_minors(file).unwrap();
        assert_eq!(minors.get(GpuMinor(3), GiId(3), Some(CiId(3))), Some(Minor(439)));
        assert_eq!(minors.get(GpuMinor(0), GiId(1), None), Some(Minor(12)));
        assert_eq!(minors.get(GpuMinor(0), GiId(1), Some(CiId(0))), None);
        assert_eq!(non_instance_minors(file).unwrap(), [Minor(1), Minor(2)]);
        assert!(non_instance_minors(b"config\n").is_err());
        for bad in
            [&b"gpu0/gi1/ac"[..], b"gpu0/gi1/access", b"gpu0/gi1/ci0/x/access 1\n", b"", b"\xff"]
        {
            assert!(mig_minors(bad).is_err());
        }
    }

    #[test]
    fn information_of_a_sleeping_gpu() {
        let file = "Model: \t\t NVIDIA A30\nIRQ:   \t\t 1\nGPU UUID: \t GPU-????????-????-????-????-????????????\nBus Location: \t 0000:07:00.0\nDevice Minor: \t 3\nGPU Excluded:\t No\n";
        let info = information(file.as_bytes()).unwrap();
        assert_eq!((info.uuid, info.minor, info.excluded), (None, GpuMinor(3), false));
        assert_eq!(information(b""), Err(ParseError::Empty));
        assert_eq!(information(b"Model: x\n"), Err(ParseError::Missing("Bus Location")));
    }
}
