//! The rule that is put in front of a device program, and the check whether a program can take one. Pure:
//! instructions in, instructions out.

use crate::kernel::bpf::Insn;
use mig_cdi_model::{Major, Minor};

// include/uapi/linux/bpf_common.h and bpf.h.
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const JMP: u8 = 0x05;
const CLASS: u8 = 0x07;
const MODE: u8 = 0xe0;
const MODE_MEM: u8 = 0x60;
const LOAD_IMM64: u8 = 0x18;
const LOAD_WORD: u8 = LDX | MODE_MEM;
const AND32: u8 = 0x54;
const MOVE64: u8 = 0xb7;
const JUMP_UNLESS_EQUAL: u8 = JMP | 0x50;
const CALL: u8 = 0x80;
const EXIT: u8 = JMP | 0x90;

const DEV_CHAR: i32 = 2;
const ACC_READ_WRITE: i32 = (1 << 1 | 1 << 2) << 16;

/// Instructions that allow reading and writing of these character devices. Every other access falls through to
/// the instructions that follow, with the context in r1 as it was.
pub(super) fn rule(devices: &[(Major, Minor)]) -> Vec<Insn> {
    let word = |to: u8, offset| Insn { code: LOAD_WORD, registers: 1 << 4 | to, offset, imm: 0 };
    let insn = |code, registers, offset, imm: i32| Insn { code, registers, offset, imm };
    // struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor. Without the bits
    // for reading and writing, only the type may be left of the first.
    let mut rule = vec![word(2, 0), insn(AND32, 2, 0, !ACC_READ_WRITE), word(3, 4), word(4, 8)];
    // Jumps count from the next instruction: each test skips the rest of its device.
    for (major, minor) in devices {
        rule.extend([
            insn(JUMP_UNLESS_EQUAL, 2, 4, DEV_CHAR),
            insn(JUMP_UNLESS_EQUAL, 3, 3, major.0.cast_signed()),
            insn(JUMP_UNLESS_EQUAL, 4, 2, minor.0.cast_signed()),
            insn(MOVE64, 0, 0, 1),
            insn(EXIT, 0, 0, 0),
        ]);
    }
    rule
}

/// Reason why a program that was read back would mean something else when it is loaded again; `None` when it
/// means the same.
///
/// The kernel shows programs as the verifier has rewritten them: calls hold addresses and maps ids
/// (`bpf_insn_prepare_dump` in `kernel/bpf/syscall.c`). Device programs of runc, crun and systemd have
/// neither. The context is not rewritten (`cgroup_dev_verifier_ops` has no `convert_ctx_access`).
pub(super) fn obstacle(program: &[Insn]) -> Option<&'static str> {
    if program.is_empty() {
        return Some("the kernel hides its instructions (net.core.bpf_jit_harden)");
    }
    let mut second_half = false;
    program.iter().find_map(|insn| {
        if std::mem::take(&mut second_half) {
            return None;
        }
        let (class, mode) = (insn.code & CLASS, insn.code & MODE);
        second_half = insn.code == LOAD_IMM64;
        match class {
            // r11 belongs to the kernel: constants were blinded.
            _ if insn.registers & 0xf > 10 || insn.registers >> 4 > 10 => {
                Some("its constants are blinded (net.core.bpf_jit_harden)")
            }
            // The source register of a 64-bit load is the kind of its constant: 0 for a number, others for a map
            // or an address (`BPF_PSEUDO_*` in include/uapi/linux/bpf.h).
            LD if insn.code != LOAD_IMM64 || insn.registers >> 4 != 0 => Some("it refers to a map"),
            // LDX, ST and STX: plain memory only, no atomics and nothing internal.
            1..=3 if mode != MODE_MEM => Some("it does more than compare"),
            // JMP and JMP32: no call, and no may_goto (0xe0).
            5 | 6 if insn.code & 0xf0 == CALL => Some("it calls a function"),
            5 | 6 if insn.code & 0xf0 == 0xe0 => Some("it does more than compare"),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: u64 = 0xc0_ffee;

    /// Runs a rule; `None` when it falls through to what follows.
    fn run(rule: &[Insn], access_type: u32, major: u32, minor: u32) -> Option<u64> {
        let mut r = [0xdead_u64; 11];
        r[1] = CONTEXT;
        let mut at = 0;
        while let Some(insn) = rule.get(at) {
            let (to, from) = (usize::from(insn.registers & 0xf), usize::from(insn.registers >> 4));
            // Constants are extended with their sign, results of 32 bits with zeroes.
            let imm = i64::from(insn.imm).cast_unsigned();
            at += 1;
            match insn.code {
                LOAD_WORD => {
                    assert_eq!(r[from], CONTEXT);
                    r[to] = [access_type, major, minor][insn.offset as usize / 4].into();
                }
                AND32 => r[to] = u64::from(r[to] as u32 & imm as u32),
                MOVE64 => r[to] = imm,
                JUMP_UNLESS_EQUAL if r[to] != imm => at += usize::try_from(insn.offset).unwrap(),
                JUMP_UNLESS_EQUAL => {}
                EXIT => return Some(r[0]),
                code => panic!("no instruction of a rule: {code:#x}"),
            }
        }
        assert_eq!(at, rule.len(), "falls through to the first instruction of the program");
        assert_eq!(r[1], CONTEXT);
        None
    }

    #[test]
    fn a_rule_allows_reading_and_writing_of_its_devices_and_nothing_else() {
        let devices =
            [(Major(195), Minor(0)), (Major(511), Minor(22)), (Major(511), Minor(1048575))];
        let numbers = [0, 1, 21, 22, 23, 195, 255, 510, 511, 1048575, 0x8000_0016, u32::MAX];
        for count in 0..=devices.len() {
            let rule = rule(&devices[..count]);
            // Types: none, block, char, both, and bits that do not exist yet; the same of accesses.
            for kind in [0, 1, 2, 3, 4, 6, 0x8002, 0xffff] {
                for access in (0..16).chain([0x8006, 0xffff]) {
                    for major in numbers {
                        for minor in numbers {
                            let ours = devices[..count].contains(&(Major(major), Minor(minor)));
                            let allowed = kind == 2 && access & !6 == 0 && ours;
                            let answer = run(&rule, access << 16 | kind, major, minor);
                            assert_eq!(
                                answer,
                                allowed.then_some(1),
                                "type {kind:#x} access {access:#x} {major}:{minor}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_number_that_no_device_has_allows_nothing() {
        let rule = rule(&[(Major(u32::MAX), Minor(u32::MAX))]);
        assert_eq!(run(&rule, 2 << 16 | 2, u32::MAX, u32::MAX), None);
    }

    #[test]
    fn programs_that_would_not_mean_the_same_are_refused() {
        let insn = |code, registers| Insn { code, registers, offset: 0, imm: 0 };
        let wide = |source: u8| vec![insn(LOAD_IMM64, source << 4 | 2), insn(0, 0), insn(EXIT, 0)];
        assert_eq!(obstacle(&rule(&[(Major(1), Minor(3))])), None);
        assert_eq!(obstacle(&wide(0)), None);
        assert_eq!(obstacle(&[insn(0x06 | 0x10, 2), insn(0x63, 0x2a)]), None, "JMP32, stack");
        let map = Some("it refers to a map");
        assert_eq!(obstacle(&wide(1)), map);
        assert_eq!(obstacle(&wide(4)), map);
        assert_eq!(obstacle(&[insn(0x20, 0)]), map, "LD_ABS");
        let call = Some("it calls a function");
        for source in 0..3_u8 {
            assert_eq!(obstacle(&[insn(JMP | CALL, source << 4)]), call);
        }
        assert_eq!(obstacle(&[insn(JMP | CALL | 8, 0)]), call, "callx");
        let more = Some("it does more than compare");
        assert_eq!(obstacle(&[insn(0xdb, 0x21)]), more, "atomic");
        assert_eq!(obstacle(&[insn(0xc2, 0)]), more, "nospec");
        assert_eq!(obstacle(&[insn(0xe5, 0)]), more, "may_goto");
        assert_eq!(obstacle(&[insn(0xa7, 11)]).map(|r| r.contains("blinded")), Some(true));
        assert_eq!(obstacle(&[]).map(|r| r.contains("hides")), Some(true));
    }
}
