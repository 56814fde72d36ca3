//! Names of processes in messages: command lines, variables, ids of containers. The processes can write all of them.

use super::ProcessHints;
use crate::Root;
use mig_cdi_model::{DeviceVariable, one_line};

/// Largest command line and environment that are read.
const TEXT_LIMIT: usize = 1 << 20;
/// Number of characters of a command line that are shown.
const SHOWN_CHARACTERS: usize = 48;
/// Number of variables that are read, more than a GPU has slices.
const VARIABLES: usize = 256;

/// Reads the hints of processes.
pub(super) fn read(host: &Root, pids: &[u32]) -> Vec<ProcessHints> {
    let hints = |pid: &u32| ProcessHints {
        command: command_line(host, *pid),
        variables: variables(host, *pid),
    };
    pids.iter().map(hints).collect()
}

/// Reads the beginning of a command line, in one line. The process itself can write it (proc(5)).
fn command_line(host: &Root, pid: u32) -> String {
    let line = host.read(&format!("/proc/{pid}/cmdline"), TEXT_LIMIT).ok().flatten();
    let line = String::from_utf8_lossy(&line.unwrap_or_default()).replace('\0', " ");
    one_line(&line).trim().chars().take(SHOWN_CHARACTERS).collect()
}

fn variables(host: &Root, pid: u32) -> Vec<String> {
    let text = host.read(&format!("/proc/{pid}/environ"), TEXT_LIMIT).ok().flatten();
    let text = text.unwrap_or_default();
    let variables = text.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
    let ours = variables.filter(|text| matches!(DeviceVariable::parse(text), Some(Ok(_))));
    ours.take(VARIABLES).map(str::to_owned).collect()
}

/// Returns the short id of the container that a process is in, by the text of its file `cgroup` in `/proc`. Every engine puts its 64 hexadecimal digits into the path, and
/// Kubernetes nests that of the container in that of the pod.
pub fn container_id(cgroups: &str) -> Option<String> {
    let parts = cgroups.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = parts.filter(|p| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    ids.next_back().map(|id| id[..12].to_owned())
}
