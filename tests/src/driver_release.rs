//! Libraries of other driver releases: a copy of the fake NVML without the functions that those of a release branch lack.

/// Functions that mig-cdi calls and that older drivers lack, with the first branch that has each: by nvml.h of CUDA 11.0 to 13.3
/// (NVIDIA/go-nvml, `gen/nvml/nvml.h` at its tags v0.11.0-0 to v0.13.3-0), and the driver that each CUDA comes with.
const NEWER_FUNCTIONS: [(&str, u32); 15] = [
    ("nvmlDeviceGetAttributes_v2", 455),
    ("nvmlDeviceGetComputeRunningProcesses_v2", 455),
    ("nvmlDeviceGetGraphicsRunningProcesses_v2", 455),
    ("nvmlComputeInstanceGetInfo_v2", 460),
    ("nvmlDeviceCreateGpuInstanceWithPlacement", 460),
    ("nvmlDeviceGetGpuInstancePossiblePlacements_v2", 470),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v2", 470),
    ("nvmlDeviceGetMemoryInfo_v2", 510),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 510),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", 510),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", 510),
    ("nvmlDeviceGetGpuInstanceProfileInfoV", 510),
    ("nvmlGpuInstanceGetComputeInstanceProfileInfoV", 510),
    ("nvmlGpuInstanceCreateComputeInstanceWithPlacement", 525),
    ("nvmlGpuInstanceGetComputeInstancePossiblePlacements", 525),
];

fn branch(version: &str) -> u32 {
    let branch = version.split('.').next().and_then(|branch| branch.parse().ok());
    branch.unwrap_or_else(|| panic!("the branch of {version:?}"))
}

/// Reports whether the library of a driver lacks functions.
pub(crate) fn is_old(version: &str) -> bool {
    NEWER_FUNCTIONS.iter().any(|(_, first)| branch(version) < *first)
}

/// Takes the functions that the driver `version` lacks out of a library: another first letter in its tables of names, and `dlsym` finds
/// no such name.
///
/// # Panics
/// When the version does not begin with the number of a release branch.
pub(crate) fn without_newer_functions(library: &mut [u8], version: &str) {
    let branch = branch(version);
    let missing = NEWER_FUNCTIONS.iter().filter(|(_, first)| branch < *first);
    let missing: Vec<&[u8]> = missing.map(|(name, _)| name.as_bytes()).collect();
    let mut from = 0;
    while let Some(at) = library[from..].windows(5).position(|part| part == b"\0nvml") {
        let name = from + at + 1;
        let length = library[name..].iter().position(|byte| *byte == 0).unwrap_or(0);
        if missing.contains(&&library[name..name + length]) {
            library[name] = b'x';
        }
        from = name + length;
    }
}

#[cfg(test)]
mod tests {
    use super::without_newer_functions;

    #[test]
    fn the_functions_of_later_branches_are_gone() {
        let names = b"\0nvmlDeviceGetMemoryInfo\0nvmlDeviceGetMemoryInfo_v2\0";
        let mut library = names.to_vec();
        without_newer_functions(&mut library, "510.39.01");
        assert_eq!(library, names);
        without_newer_functions(&mut library, "495.44");
        assert_eq!(library, b"\0nvmlDeviceGetMemoryInfo\0xvmlDeviceGetMemoryInfo_v2\0");
    }
}
