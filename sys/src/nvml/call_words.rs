//! Calls and answers of NVML in words: messages have no symbols of nvml.h.

/// Returns what a call does, as a verb phrase. A call without an entry is one that a message never names.
pub(super) fn operation(call: &str) -> &'static str {
    match call {
        "nvmlInit_v2" => "start",
        "nvmlSystemGetDriverVersion" => "read the driver's version",
        "nvmlDeviceGetCount_v2" => "count the gpus",
        "nvmlDeviceGetHandleByIndex_v2" | "nvmlDeviceGetHandleByUUID" => "open the gpu",
        "nvmlDeviceGetIndex" => "read the gpu's index",
        "nvmlDeviceGetMinorNumber" => "read the gpu's minor number",
        "nvmlDeviceGetName" => "read the model",
        "nvmlDeviceGetPciInfo_v3" => "read the pci address",
        "nvmlDeviceGetUUID" => "read the uuid",
        "nvmlDeviceGetMigMode" => "read the mig mode",
        "nvmlDeviceSetMigMode" => "set the mig mode",
        "nvmlDeviceGetMaxMigDeviceCount" => "count the mig devices",
        "nvmlDeviceGetMigDeviceHandleByIndex" => "open the mig device",
        "nvmlDeviceGetGpuInstanceId" => "read the id of the gpu instance",
        "nvmlDeviceGetComputeInstanceId" => "read the id of the compute instance",
        "nvmlDeviceGetGpuInstances" => "list the gpu instances",
        "nvmlDeviceGetGpuInstanceById" => "find the gpu instance",
        "nvmlGpuInstanceGetInfo" => "read the placement of the gpu instance",
        "nvmlDeviceGetGpuInstanceProfileInfo" => "read the profiles of gpu instances",
        "nvmlDeviceGetGpuInstancePossiblePlacements_v2" => "list the placements of a profile",
        "nvmlDeviceCreateGpuInstanceWithPlacement" => "create the gpu instance",
        "nvmlGpuInstanceDestroy" => "destroy the gpu instance",
        "nvmlGpuInstanceGetComputeInstances" => "list the compute instances",
        "nvmlGpuInstanceGetComputeInstanceById" => "find the compute instance",
        "nvmlComputeInstanceGetInfo_v2" => "read the placement of the compute instance",
        "nvmlGpuInstanceGetComputeInstanceProfileInfo" => "read the profiles of compute instances",
        "nvmlGpuInstanceCreateComputeInstanceWithPlacement"
        | "nvmlGpuInstanceCreateComputeInstance" => "create the compute instance",
        "nvmlComputeInstanceDestroy" => "destroy the compute instance",
        "nvmlDeviceGetComputeRunningProcesses_v3"
        | "nvmlDeviceGetGraphicsRunningProcesses_v3"
        | "nvmlDeviceGetMPSComputeRunningProcesses_v3" => "list the processes of the gpu",
        "nvmlEventSetCreate" | "nvmlDeviceRegisterEvents" => "subscribe to events",
        "nvmlEventSetWait_v2" => "wait for events",
        _ => "query the driver",
    }
}

/// Cause and cure of an error of nvml-wrapper, whose own texts are for programmers. An answer without a cause is one that nvml.h of our
/// time does not have.
#[cfg(feature = "nvml")]
pub(super) fn cause(
    error: &nvml_wrapper::error::NvmlError,
) -> (Option<&'static str>, Option<&'static str>) {
    use nvml_wrapper::error::NvmlError as E;
    let cause = match error {
        // nvml.h: "Requires privileged user" at the calls for instances.
        E::NoPermission => return (Some("not permitted"), Some(privilege())),
        E::GpuLost => {
            return (Some("the gpu has fallen off the bus"), Some(super::error::LOST));
        }
        E::ResetRequired => {
            return (
                Some("the gpu needs a reset"),
                Some(
                    "stop all programs that use it and run nvidia-smi --gpu-reset -i with its index, or reboot; a virtual machine can only reboot",
                ),
            );
        }
        // The driver counts every client, and NVML lists those that compute or draw (kernel_mig_manager.c:5627-5635).
        E::InUse => {
            return (
                Some("the driver says that it is in use"),
                Some(
                    "stop monitoring agents that keep gpus open, such as dcgm (nv-hostengine) and nvsm, and try again",
                ),
            );
        }
        E::Unknown => "the driver reports an internal error",
        E::NoData => "the driver has no data",
        E::VgpuEccNotSupported => "a vgpu cannot do it while ecc is on",
        E::NotSupported => "the gpu does not support it",
        E::InvalidArg => "the driver does not accept the request",
        E::NotFound => "it does not exist",
        E::Timeout => "the driver did not answer in time",
        E::InsufficientMemory => "out of memory",
        E::InsufficientPower => "the power cables of the gpu are not attached properly",
        E::OperatingSystem => "the operating system blocks the gpu, perhaps by a device cgroup",
        E::IrqIssue => "the gpu's interrupts do not work",
        E::CorruptedInfoROM => "the inforom of the gpu is corrupted",
        E::FunctionNotFound | E::FailedToLoadSymbol(_) => "the driver is too old to do it",
        E::LibRmVersionMismatch => "library and kernel module are of different driver versions",
        E::Utf8Error(_) => "the answer is not valid utf-8",
        // nvml.h, nvmlReturn_t; nvml-wrapper 0.13 knows none of these.
        E::UnexpectedVariant(23) => "the gpu has not enough resources left",
        E::UnexpectedVariant(24) => "the gpu does not support that frequency",
        E::UnexpectedVariant(25) => "the driver has another form of the request",
        E::UnexpectedVariant(26) => "the driver no longer does it",
        E::UnexpectedVariant(28) => "the driver has no gpu",
        E::UnexpectedVariant(30) => "the gpu cannot be reset that way",
        E::UnexpectedVariant(27) => "the gpu is not ready",
        E::UnexpectedVariant(29) => "the gpu is in a state that does not allow it",
        _ => return (None, None),
    };
    (Some(cause), None)
}

/// Cure for a caller without privilege. Root has it unless a container or a user namespace takes it away.
#[cfg(feature = "nvml")]
fn privilege() -> &'static str {
    match nix::unistd::geteuid().is_root() {
        false => "run it as root",
        true => "run it with CAP_SYS_ADMIN, outside of containers and user namespaces",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "nvml")]
    #[test]
    fn every_answer_of_nvml_has_words() {
        use crate::nvml::error::failed;
        use nvml_wrapper::error::NvmlError;
        for code in 1..1000 {
            let cause = failed("nvmlInit_v2", NvmlError::from(code)).cause;
            let symbols = ["NVML", "nvml", "variant", "`", "_"];
            assert!(!symbols.iter().any(|symbol| cause.contains(symbol)), "{code}: {cause}");
            // nvmlReturn_t in nvml.h of CUDA 13.3. The others have names in nvml-wrapper, and answer other calls than ours.
            if (2..=30).contains(&code) && ![5, 7, 9, 12].contains(&code) {
                assert!(!cause.contains("error"), "{code}: {cause}");
            }
        }
    }

    /// The C names that the sources of this crate and of the simulation pass to an error.
    #[test]
    fn every_call_has_words() {
        let sources = [
            include_str!("session.rs"),
            include_str!("snapshot.rs"),
            include_str!("events.rs"),
            include_str!("library.rs"),
        ];
        let names = sources.iter().flat_map(|text| text.split('"').skip(1).step_by(2));
        let calls: Vec<_> = names.filter(|name| name.starts_with("nvml")).collect();
        assert!(calls.len() > 30, "{calls:?}");
        for call in calls {
            assert_ne!(operation(call), "query the driver", "{call}");
        }
    }
}
