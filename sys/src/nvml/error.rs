//! Failures of NVML: of a single call, or of NVML as a whole.

use super::call_words::operation;
use crate::error::suffix;

/// Cure of a GPU that has fallen off the bus.
pub(super) const LOST: &str = "reset it or reboot, and see dmesg for Xid 79";

/// An NVML call that failed. Printed, it is one line, as the end of a sentence about NVML: `cannot list the gpu instances:
/// cause; cure`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.without_cure(), suffix(*cure))]
pub struct CallError {
    /// C name of the call.
    pub call: &'static str,
    /// NVML's `nvmlReturn_t`; `None` when the call succeeded and its answer was wrong, and on a simulated node.
    pub code: Option<u32>,
    /// The cause, in words.
    pub cause: String,
    /// The cure, as an instruction to the user, where there is one.
    pub cure: Option<&'static str>,
}

impl CallError {
    /// A failure without a code of NVML.
    #[must_use]
    pub fn new(call: &'static str, cause: impl Into<String>) -> CallError {
        CallError { call, code: None, cause: cause.into(), cure: None }
    }

    /// The failure of every call to a GPU that has fallen off the bus. Xid 79 is the kernel log's number for
    /// it (NVIDIA's "XID Errors").
    #[must_use]
    pub fn gpu_lost(call: &'static str) -> CallError {
        CallError { cure: Some(LOST), ..CallError::new(call, "the gpu has fallen off the bus") }
    }

    /// True when NVML answers only a caller with more privilege (`NVML_ERROR_NO_PERMISSION`).
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        self.code == Some(4)
    }

    /// True when NVML does not know a handle, or what it stands for: it may have been destroyed meanwhile (`NVML_ERROR_INVALID_ARGUMENT`,
    /// `NVML_ERROR_NOT_FOUND`).
    #[cfg(feature = "nvml")]
    pub(super) fn is_about_handle(&self) -> bool {
        matches!(self.code, Some(2 | 6))
    }

    /// True when a client of the driver keeps it from a change (`NVML_ERROR_IN_USE`).
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.code == Some(19)
    }

    /// Returns the message up to the cure: `cannot list the gpu instances: cause`.
    #[must_use]
    pub fn without_cure(&self) -> String {
        format!("cannot {}: {}", operation(self.call), self.cause)
    }
}

/// Translates an error of nvml-wrapper.
#[cfg(feature = "nvml")]
pub(super) fn failed(call: &'static str, error: nvml_wrapper::error::NvmlError) -> CallError {
    let (cause, cure) = super::call_words::cause(&error);
    let code = nvml_wrapper_sys::bindings::nvmlReturn_t::from(error);
    let cause = cause.map_or_else(|| format!("the driver answers error {code}"), str::to_owned);
    CallError { call, code: Some(code), cause, cure }
}

/// A failure to start NVML. Printed, it is one line: `cause`, and `; cure` where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvmlError {
    /// There is no library.
    #[error("libnvidia-ml.so.1 not found in {searched}")]
    NoLibrary {
        /// The places that were searched, as a phrase.
        searched: String,
    },
    /// Another user than root and this process's could have put the library there.
    #[error("load {path}: {cause}")]
    Untrusted {
        /// Path of the library.
        path: String,
        /// The weakness, with the path of the file or directory that has it.
        cause: String,
    },
    /// The file that was found cannot be used as NVML by this process.
    #[error("load {path}: {cause}")]
    Unusable {
        /// Path of the file.
        path: String,
        /// The dynamic loader's message.
        cause: String,
    },
    /// The kernel module is not loaded.
    #[error("{path} reports that the nvidia kernel module is not loaded")]
    NotLoaded {
        /// Path of the library.
        path: String,
    },
    /// Kernel module and library are of different versions.
    #[error("{path} and the loaded kernel module are of different driver versions")]
    VersionMismatch {
        /// Path of the library.
        path: String,
    },
    /// Any other failure.
    #[error(transparent)]
    Call(CallError),
}

impl NvmlError {
    /// Returns the message up to the cure.
    #[must_use]
    pub fn without_cure(&self) -> String {
        match self {
            NvmlError::Call(error) => error.without_cure(),
            other => other.to_string(),
        }
    }

    /// Returns the cure that NVML's answer implies, where there is one.
    #[must_use]
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            NvmlError::Call(error) => error.cure,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_error_prints_its_fields_in_one_line() {
        let lost = CallError::gpu_lost("nvmlDeviceGetName");
        let text = "cannot read the model: the gpu has fallen off the bus";
        assert_eq!(lost.without_cure(), text);
        assert_eq!(
            lost.to_string(),
            format!("{text}; reset it or reboot, and see dmesg for Xid 79")
        );
    }

    #[cfg(feature = "nvml")]
    #[test]
    fn the_code_of_nvml_is_kept() {
        use nvml_wrapper::error::NvmlError;
        assert_eq!(failed("nvmlInit_v2", NvmlError::GpuLost).code, Some(15));
        assert_eq!(failed("nvmlInit_v2", NvmlError::NoPermission).code, Some(4));
    }
}
