//! Fake `libnvidia-ml.so.1` for tests: the C ABI of nvml.h, answered from a node description. The product loads it as it
//! loads NVIDIA's library, with dlopen, so tests cover that code too.
//!
//! The environment variable `FAKE_NVML_NODE` names the description; without it, it is beside the library with `.toml`
//! after its name. Calls return the codes that nvml.h documents, and `mig_cdi_sim` decides what a GPU permits. A change is
//! written to the description and to the fake host's `/proc` beside it, for all processes. The library never makes a
//! device node: the driver makes none either.
//!
//! | module | has |
//! |---|---|
//! | `device`, `processes` | queries of GPUs and MIG devices, MIG mode, running processes |
//! | `profiles`, `instances`, `compute` | profiles and placements; GPU and compute instances |
//! | `release` | what the nvml.h of the driver's release branch has |
//! | `events` | event sets: changes of instances, and Xid errors |
//! | `state`, `capabilities` | the node that all processes share; its capability tree |
//! | `faults` | failures, kills and traces that environment variables inject |
//! | `handles`, `c_abi` | handles; types, return codes, memory of callers |
//!
//! # Example
//! The program `nvml-call` of this crate loads a library and calls its functions, one per line of its input. This asks
//! for the MIG mode of GPU 0, and creates an instance of profile 9 (`3g.40gb`), whose id is 1:
//!
//! ```sh
//! printf '[[gpu]]\nmodel = "a100-80gb"\n' >node.toml
//! printf 'init\nmode 0\ncreate 0 9\n' | FAKE_NVML_NODE=node.toml target/debug/nvml-call target/debug/libfake_nvml.so
//! # 0
//! # 0 1 1
//! # 0 1
//! ```
//!
//! `mig_cdi_tests::nvml_call` does the same from Rust; its example is compiled. This library has none, since a `cdylib`
//! has no documentation tests.
//!
//! # Safety
//! Out parameters are `Option<&mut MaybeUninit<T>>`, which has the ABI of a C pointer that may be null. Handles are
//! numbers in the form of pointers and are never dereferenced. The remaining `unsafe` is the export of the names,
//! which is sound because this library takes NVML's place and is never linked with it, and the code in `c_abi` and
//! `events` where a caller's buffer and its length meet.
#![allow(unsafe_code, non_snake_case)]

mod c_abi;
mod capabilities;
mod compute;
mod device;
mod events;
mod faults;
mod handles;
mod instances;
mod processes;
mod profiles;
mod release;
mod state;

use c_abi::{Code, Out, UNKNOWN, put, put_text};
use faults::call;
use state::read;
use std::ffi::{c_char, c_int, c_uint};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Code {
    call("nvmlInit_v2", state::init)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Code {
    call("nvmlShutdown", state::shutdown)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Code {
    call("nvmlSystemGetDriverVersion", || read(|node| put_text(version, length, &node.driver)))
}

/// nvml.h: 1000 for the major number and 10 for the minor one.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<'_, c_int>) -> Code {
    call("nvmlSystemGetCudaDriverVersion", || {
        read(|node| {
            let cuda = node.cuda_version().ok_or(UNKNOWN)?;
            put(version, (1000 * cuda.major + 10 * cuda.minor) as c_int)
        })
    })
}
