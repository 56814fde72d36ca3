//! bpf(2) for programs of the device cgroup: list, read back, load, attach. Numbers and layouts are
//! those of `include/uapi/linux/bpf.h`.
//!
//! Common to all: the structures are `repr(C)` without holes, their descriptors are borrowed and so
//! open, and every address in them is of a local that outlives the call.
#![allow(unsafe_code)]

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

const CGROUP_DEVICE: u32 = 6;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;
/// `BPF_CGROUP_MAX_PROGS` of `include/linux/bpf.h`.
const MAX_PROGRAMS: usize = 64;
/// Levels of cgroups with device programs, far above what engines and systemd make: the kernel answers ENOSPC beyond.
const MAX_LEVELS: usize = 8;
/// `BPF_F_QUERY_EFFECTIVE`.
const QUERY_EFFECTIVE: u32 = 1 << 0;

/// An instruction, `struct bpf_insn`. The order of the two registers is that of a little-endian machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    /// Source register in the high half, destination in the low half.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) imm: i32,
}

/// Name and instructions of a program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Name, ended by a zero byte.
    pub(crate) name: [u8; 16],
    /// Instructions; empty when the kernel does not show those of a loaded program.
    pub(crate) instructions: Vec<Insn>,
}

/// Ids of the programs attached to a cgroup itself, and the flags that they were attached with. All have the
/// same flags: the kernel refuses others (`__cgroup_bpf_attach` in kernel/bpf/cgroup.c).
pub(crate) fn attached(cgroup: impl AsFd) -> Result<(Vec<u32>, u32)> {
    query(cgroup, 0)
}

/// Ids of the programs that decide on the accesses of a cgroup's processes: its own and those that it inherits.
pub(crate) fn effective(cgroup: impl AsFd) -> Result<Vec<u32>> {
    query(cgroup, QUERY_EFFECTIVE).map(|(ids, _)| ids)
}

fn query(cgroup: impl AsFd, query_flags: u32) -> Result<(Vec<u32>, u32)> {
    #[repr(C)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        hole: u32,
    }
    // Each level may have that many, and a cgroup inherits those of all levels above it.
    let mut ids = vec![0_u32; MAX_PROGRAMS * MAX_LEVELS];
    let query = Query {
        target_fd: number(&cgroup),
        attach_type: CGROUP_DEVICE,
        query_flags,
        attach_flags: 0,
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: (MAX_PROGRAMS * MAX_LEVELS) as u32,
        hole: 0,
    };
    // SAFETY: see the head of this file; the kernel writes at most `prog_cnt` ids.
    let (_, query) = unsafe { bpf(PROG_QUERY, query) }?;
    ids.truncate(query.prog_cnt as usize);
    Ok((ids, query.attach_flags))
}

/// Opens a loaded program by id. Needs `CAP_SYS_ADMIN`.
pub(crate) fn open(id: u32) -> Result<OwnedFd> {
    // The id, `next_id` and `open_flags`.
    // SAFETY: see the head of this file; no address.
    let (fd, _) = unsafe { bpf(PROG_GET_FD_BY_ID, [id, 0, 0]) }?;
    Ok(own(fd))
}

/// Head of `struct bpf_prog_info`, up to the name. The kernel writes at most `info_len` bytes.
#[repr(C)]
#[derive(Default)]
struct Info {
    type_and_id: [u32; 2],
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// Reads a loaded program back. The first call learns the length, the second gets the instructions.
pub(crate) fn read(program: impl AsFd) -> Result<Program> {
    let length = info(&program, &mut [])?.xlated_prog_len as usize / size_of::<Insn>();
    let mut instructions = vec![Insn::default(); length];
    let info = info(&program, &mut instructions)?;
    // The kernel clears the pointer when it hides the instructions (`bpf_dump_raw_ok` in kernel/bpf/syscall.c).
    if info.xlated_prog_insns == 0 {
        instructions.clear();
    }
    Ok(Program { name: info.name, instructions })
}

fn info(program: impl AsFd, instructions: &mut [Insn]) -> Result<Info> {
    #[repr(C)]
    struct GetInfo {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info {
        xlated_prog_len: u32::try_from(size_of_val(instructions)).map_err(|_| Errno::E2BIG)?,
        xlated_prog_insns: address(instructions.as_mut_ptr()),
        ..Info::default()
    };
    let get = GetInfo {
        bpf_fd: number(&program),
        info_len: size_of::<Info>() as u32,
        info: address(&raw mut info),
    };
    // SAFETY: see the head of this file; the kernel writes at most `info_len` bytes of the structure
    // and `xlated_prog_len` bytes of instructions, and any bytes are values of both.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, get) }?;
    Ok(info)
}

/// Loads a program. Kernels before 5.11 count its memory against `RLIMIT_MEMLOCK` and answer EPERM.
pub(crate) fn load(program: &Program) -> Result<OwnedFd> {
    match try_load(program) {
        Err(Errno::EPERM) => {
            setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            try_load(program)
        }
        loaded => loaded,
    }
}

fn try_load(program: &Program) -> Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level_and_size: [u32; 2],
        log_buf: u64,
        kern_version_and_flags: [u32; 2],
        prog_name: [u8; 16],
    }
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.instructions.len()).map_err(|_| Errno::E2BIG)?,
        insns: address(program.instructions.as_ptr().cast_mut()),
        // Only helpers marked `gpl_only` ask for another license; a rule calls none.
        license: address(c"Apache-2.0".as_ptr().cast_mut()),
        log_level_and_size: [0; 2],
        log_buf: 0,
        kern_version_and_flags: [0; 2],
        prog_name: program.name,
    };
    // SAFETY: see the head of this file; the kernel only reads the instructions and the license, and
    // its verifier decides whether they are a program.
    let (fd, _) = unsafe { bpf(PROG_LOAD, load) }?;
    Ok(own(fd))
}

/// Replaces `old`, which is attached to a cgroup with `flags`, in one step. It fails when `old` is one of several
/// and no longer attached. A program that must be alone is replaced by a plain attach
/// (`find_attach_entry` in `kernel/bpf/cgroup.c`).
pub(crate) fn replace(cgroup: impl AsFd, old: impl AsFd, new: impl AsFd, flags: u32) -> Result<()> {
    match flags & ALLOW_MULTI {
        0 => attach(cgroup, new, flags, 0),
        _ => attach(cgroup, new, flags | REPLACE, number(&old)),
    }
}

/// Attaches a program. `replaced` is the descriptor of the program to replace, or 0 for none.
fn attach(cgroup: impl AsFd, new: impl AsFd, flags: u32, replaced: u32) -> Result<()> {
    // `target_fd`, `attach_bpf_fd`, `attach_type`, `attach_flags` and `replace_bpf_fd`.
    let attach = [number(&cgroup), number(&new), CGROUP_DEVICE, flags, replaced];
    // SAFETY: see the head of this file; no address.
    unsafe { bpf(PROG_ATTACH, attach) }.map(drop)
}

/// Runs one command, and returns its result with the attribute as the kernel leaves it.
///
/// # Safety
/// Every address in `attr` is of memory that is fit for what `command` does with it.
unsafe fn bpf<T>(command: libc::c_long, attr: T) -> Result<(libc::c_long, T)> {
    /// An attribute with room behind it, for fields of newer kernels: a query has a `revision` since 6.17.
    /// Linux 6.18.44 does not write it behind a smaller attribute; another kernel might.
    #[repr(C)]
    struct Roomy<T> {
        attr: T,
        room: [u64; 32],
    }
    let mut roomy = Roomy { attr, room: [0; 32] };
    // SAFETY: `roomy` is larger than any `union bpf_attr` that the kernel writes to; what the
    // addresses in it are good for is the caller's promise.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut roomy, size_of::<T>()) };
    Ok((Errno::result(answer)?, roomy.attr))
}

/// Number of a descriptor, which the caller keeps open.
fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *mut T) -> u64 {
    pointer.expose_provenance() as u64
}

/// Takes over a descriptor that bpf(2) has just made; it is close-on-exec.
fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: only called with what a successful command that makes a descriptor returned, which
    // nobody else knows of; a descriptor fits an int.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}
