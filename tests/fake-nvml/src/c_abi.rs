//! Types and return codes of nvml.h, privileges, and access to the memory of callers.

use mig_cdi_sim::Refusal;
use nvml_wrapper_sys::bindings::*;
use std::{
    ffi::{CStr, c_char, c_uint},
    mem::MaybeUninit,
    ptr,
    sync::OnceLock,
};

pub(crate) type Code = nvmlReturn_t;
pub(crate) const OK: Code = nvmlReturn_enum_NVML_SUCCESS;
pub(crate) const INVALID_ARGUMENT: Code = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
pub(crate) const NOT_FOUND: Code = nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
pub(crate) const NOT_SUPPORTED: Code = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
pub(crate) const IN_USE: Code = nvmlReturn_enum_NVML_ERROR_IN_USE;
pub(crate) const INSUFFICIENT_SIZE: Code = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
pub(crate) const GPU_IS_LOST: Code = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;
pub(crate) const UNKNOWN: Code = nvmlReturn_enum_NVML_ERROR_UNKNOWN;

/// Out parameter of the caller.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Stores a value in an out parameter.
pub(crate) fn put<T>(at: Out<'_, T>, value: T) -> Result<(), Code> {
    at.ok_or(INVALID_ARGUMENT)?.write(value);
    Ok(())
}

/// Reads a C string of the caller.
pub(crate) fn get_text(text: *const c_char) -> Result<String, Code> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: nvml.h obliges the caller to give a string that ends, and it is not null.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(str::to_owned).map_err(|_| INVALID_ARGUMENT)
}

/// Stores a C string in a buffer of `length` bytes.
pub(crate) fn put_text(at: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: nvml.h obliges the caller to give a buffer of `length` bytes, and the text and its end
    // fit, as just checked.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        ptr::write(at.add(text.len()), 0);
    }
    Ok(())
}

/// Stores a list in a buffer that nvml.h obliges the caller to make large enough for the maximum.
pub(crate) fn put_list<T>(at: *mut T, list: &[T]) -> Result<(), Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller's buffer has room for the most instances or placements of the profile (nvml.h
    // at each of these calls), or its room was checked; the list is no longer.
    unsafe { ptr::copy_nonoverlapping(list.as_ptr(), at, list.len()) };
    Ok(())
}

/// Returns the version that the caller has set in its structure.
pub(crate) fn version_of<T>(at: *const T) -> Result<c_uint, Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the structures that this is asked for begin with their version, which nvml.h obliges the
    // caller to set.
    Ok(unsafe { ptr::read(at.cast()) })
}

/// Stores a structure of the version that the caller has set.
pub(crate) fn put_version<T, V>(at: *mut T, value: V) -> Result<(), Code> {
    // SAFETY: the pointer is not null, see `version_of`, and points at a structure of the version that
    // the caller has set, whose size is part of the version.
    unsafe { ptr::write(at.cast(), value) };
    Ok(())
}

/// nvml.h's `NVML_STRUCT_VERSION`.
pub(crate) const fn struct_version<T>(version: c_uint) -> c_uint {
    size_of::<T>() as c_uint | version << 24
}

/// Returns a C string for a field of a structure.
pub(crate) fn text_field<const N: usize>(text: &str) -> [c_char; N] {
    let mut bytes = text.bytes().take(N - 1).map(|byte| byte as c_char);
    std::array::from_fn(|_| bytes.next().unwrap_or_default())
}

/// nvml.h: "Requires privileged user". That is root, and the owner of the description: a test without root is the
/// administrator of its simulated node. With `FAKE_NVML_UNPRIVILEGED` nobody is.
pub(crate) fn privileged() -> Result<(), Code> {
    // Read once, so that a count of system calls is that of the caller.
    static PRIVILEGED: OnceLock<bool> = OnceLock::new();
    let user = nix::unistd::geteuid();
    let is_privileged = || {
        std::env::var_os("FAKE_NVML_UNPRIVILEGED").is_none()
            && (user.is_root() || crate::state::owner() == Some(user.as_raw()))
    };
    match PRIVILEGED.get_or_init(is_privileged) {
        true => Ok(()),
        false => Err(nvmlReturn_enum_NVML_ERROR_NO_PERMISSION),
    }
}

pub(crate) fn refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::InvalidArgument => INVALID_ARGUMENT,
        Refusal::NotSupported => NOT_SUPPORTED,
        Refusal::NotFound => NOT_FOUND,
        Refusal::GpuLost => GPU_IS_LOST,
        Refusal::InUse => IN_USE,
        Refusal::InsufficientResources => nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES,
    }
}
