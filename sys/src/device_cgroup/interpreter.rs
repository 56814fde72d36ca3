//! Answers of a device program that was read back, found by interpreting it. Pure: instructions in, answer out.
//!
//! The subset is that of programs which compare numbers: no call, no map, no memory but the context and the stack
//! (`super::program::obstacle`). runc, crun and systemd write no others.

use crate::kernel::bpf::Insn;

/// Longest run, in instructions. A program that the verifier accepts ends, and one of 1,000 rules has some thousand.
const LIMIT: usize = 1 << 16;
/// Addresses that stand for the context and for the end of the stack, far from each other and from numbers that
/// programs compare with.
const CONTEXT: u64 = 0x1000_0000_0000_0000;
const STACK: u64 = 0x2000_0000_0000_0000;
const STACK_SIZE: usize = 512;

/// An attempt to use a device, as the kernel passes it to a program (`struct bpf_cgroup_dev_ctx`).
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceAccess {
    /// `BPF_DEVCG_DEV_*`: 1 is a block device, 2 a character device.
    pub kind: u32,
    /// `BPF_DEVCG_ACC_*`, as bits: 1 is mknod, 2 reading, 4 writing.
    pub access: u32,
    pub major: u32,
    pub minor: u32,
}

/// Returns whether a program allows an access; `None` when it does something that is not in the subset.
pub(super) fn allows(program: &[Insn], access: DeviceAccess) -> Option<bool> {
    let mut machine = Machine::new(access);
    for _ in 0..LIMIT {
        let insn = *program.get(machine.next)?;
        machine.next += 1;
        if insn.code == 0x95 {
            // The kernel takes any result but 0 for a permission (`bpf_prog_run_array_cg`, kernel/bpf/cgroup.c).
            return Some(machine.registers[0] & 0xffff_ffff != 0);
        }
        machine.step(insn, program)?;
    }
    None
}

struct Machine {
    registers: [u64; 11],
    context: [u8; 12],
    stack: [u8; STACK_SIZE],
    /// Index of the next instruction.
    next: usize,
}

impl Machine {
    fn new(DeviceAccess { kind, access, major, minor }: DeviceAccess) -> Machine {
        let mut context = [0; 12];
        for (bytes, word) in context.chunks_mut(4).zip([access << 16 | kind, major, minor]) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let mut registers = [0; 11];
        // The calling convention: r1 is the context, r10 the end of the stack.
        (registers[1], registers[10]) = (CONTEXT, STACK);
        Machine { registers, context, stack: [0; STACK_SIZE], next: 0 }
    }

    /// Executes an instruction other than exit. Numbers are those of `include/uapi/linux/bpf.h` and `bpf_common.h`.
    fn step(&mut self, insn: Insn, program: &[Insn]) -> Option<()> {
        let (to, from) = (usize::from(insn.registers & 0xf), usize::from(insn.registers >> 4));
        // A constant is extended by its sign to 64 bits.
        let imm = i64::from(insn.imm).cast_unsigned();
        let is_register = insn.code & 0x08 != 0;
        let source = if is_register { *self.registers.get(from)? } else { imm };
        let target = *self.registers.get(to)?;
        match insn.code & 0x07 {
            // LD: a 64-bit constant, in two instructions.
            0 if insn.code == 0x18 && from == 0 => {
                let high = program.get(self.next)?.imm;
                self.next += 1;
                let low = u64::from(insn.imm.cast_unsigned());
                *self.target(to)? = u64::from(high.cast_unsigned()) << 32 | low;
            }
            // LDX
            1 if insn.code & 0xe0 == 0x60 => {
                let address = self.registers.get(from)?.wrapping_add_signed(insn.offset.into());
                *self.target(to)? = self.load(address, size(insn.code))?;
            }
            // ST and STX
            class @ (2 | 3) if insn.code & 0xe0 == 0x60 => {
                let value = if class == 3 { *self.registers.get(from)? } else { imm };
                let address = target.wrapping_add_signed(insn.offset.into());
                self.store(address, size(insn.code), value)?;
            }
            // The offset changes the meaning of an operation: a move with sign, for one.
            4 | 7 if insn.offset != 0 => return None,
            // ALU: 32 bits, and the upper half of the result is zero.
            4 => {
                let result = arithmetic(insn.code, target & 0xffff_ffff, source & 0xffff_ffff, 32)?;
                *self.target(to)? = result & 0xffff_ffff;
            }
            // ALU64
            7 => *self.target(to)? = arithmetic(insn.code, target, source, 64)?,
            // JMP and JMP32. A jump without a condition of the latter has its distance elsewhere.
            6 if insn.code & 0xf0 == 0 => return None,
            class @ (5 | 6) => {
                let (a, b) = match class {
                    5 => (target, source),
                    _ => (target & 0xffff_ffff, source & 0xffff_ffff),
                };
                if is_taken(insn.code, a, b, class == 6)? {
                    self.next = self.next.checked_add_signed(insn.offset.into())?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// A register that can be written: the stack's address cannot.
    fn target(&mut self, register: usize) -> Option<&mut u64> {
        self.registers[..10].get_mut(register)
    }

    fn load(&self, address: u64, size: usize) -> Option<u64> {
        let bytes = match address.checked_sub(CONTEXT).and_then(|at| usize::try_from(at).ok()) {
            Some(at) if at < self.context.len() => self.context.get(at..at.checked_add(size)?)?,
            _ => self.stack.get(stack_index(address)?..)?.get(..size)?,
        };
        let mut word = [0; 8];
        let at = if cfg!(target_endian = "big") { 8 - size } else { 0 };
        word[at..at + size].copy_from_slice(bytes);
        Some(u64::from_ne_bytes(word))
    }

    fn store(&mut self, address: u64, size: usize, value: u64) -> Option<()> {
        let word = value.to_ne_bytes();
        let at = if cfg!(target_endian = "big") { 8 - size } else { 0 };
        let bytes = self.stack.get_mut(stack_index(address)?..)?.get_mut(..size)?;
        bytes.copy_from_slice(&word[at..at + size]);
        Some(())
    }
}

fn stack_index(address: u64) -> Option<usize> {
    let below = usize::try_from(STACK.checked_sub(address)?).ok()?;
    STACK_SIZE.checked_sub(below)
}

/// Number of bytes that an instruction loads or stores.
fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn arithmetic(code: u8, a: u64, b: u64, bits: u32) -> Option<u64> {
    // The kernel looks at no other bits of the count (`___bpf_prog_run` in kernel/bpf/core.c).
    let shift = b as u32 & (bits - 1);
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 if bits == 32 => {
            u64::from((a as u32).cast_signed().wrapping_shr(shift).cast_unsigned())
        }
        0xc0 => a.cast_signed().wrapping_shr(shift).cast_unsigned(),
        _ => return None,
    })
}

fn is_taken(code: u8, a: u64, b: u64, is_word: bool) -> Option<bool> {
    let signed =
        |n: u64| if is_word { i64::from((n as u32).cast_signed()) } else { n.cast_signed() };
    Some(match code & 0xf0 {
        0x00 => true,
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => signed(a) > signed(b),
        0x70 => signed(a) >= signed(b),
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => signed(a) < signed(b),
        0xd0 => signed(a) <= signed(b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_cgroup::program::{obstacle, rule};
    use mig_cdi_model::{Major, Minor};

    fn insn(code: u8, registers: u8, offset: i16, imm: i32) -> Insn {
        Insn { code, registers, offset, imm }
    }

    fn access(kind: u32, access: u32, major: u32, minor: u32) -> DeviceAccess {
        DeviceAccess { kind, access, major, minor }
    }

    /// A program that allows 508:30 reading, as runc writes one (`libcontainer/cgroups/ebpf/devicefilter/devicefilter.go`): the type from
    /// the low half of the first word, the access from the high half, and a comparison of all bits with those allowed.
    fn like_runc() -> Vec<Insn> {
        vec![
            insn(0x61, 0x12, 0, 0),      // w2 = *(u32 *)(r1 + 0)
            insn(0x54, 0x02, 0, 0xffff), // w2 &= 0xffff
            insn(0x61, 0x13, 0, 0),      // w3 = *(u32 *)(r1 + 0)
            insn(0x74, 0x03, 0, 16),     // w3 >>= 16
            insn(0x61, 0x14, 4, 0),      // w4 = major
            insn(0x61, 0x15, 8, 0),      // w5 = minor
            insn(0x55, 0x02, 7, 2),      // if r2 != 2 goto deny
            insn(0xbc, 0x31, 0, 0),      // w1 = w3
            insn(0x54, 0x01, 0, 2),      // w1 &= 2
            insn(0x5d, 0x31, 4, 0),      // if r1 != r3 goto deny
            insn(0x55, 0x04, 3, 508),    // if r4 != 508 goto deny
            insn(0x55, 0x05, 2, 30),     // if r5 != 30 goto deny
            insn(0xb7, 0x00, 0, 1),      // r0 = 1
            insn(0x95, 0, 0, 0),         // exit
            insn(0xb7, 0x00, 0, 0),      // deny: r0 = 0
            insn(0x95, 0, 0, 0),         // exit
        ]
    }

    #[test]
    fn the_programs_of_engines_are_interpreted() {
        let runc = like_runc();
        assert_eq!(obstacle(&runc), None);
        let deny = [insn(0xb7, 0, 0, 0), insn(0x95, 0, 0, 0)];
        let ours = [&rule(&[(Major(508), Minor(30))])[..], &deny].concat();
        for (kind, what, major, minor) in [
            (2, 2, 508, 30),
            (2, 6, 508, 30),
            (2, 4, 508, 30),
            (2, 1, 508, 30),
            (1, 2, 508, 30),
            (2, 2, 508, 31),
            (2, 2, 507, 30),
            (2, 2, 30, 508),
        ] {
            let attempt = access(kind, what, major, minor);
            let is_ours = kind == 2 && (major, minor) == (508, 30);
            assert_eq!(allows(&runc, attempt), Some(is_ours && what == 2), "{attempt:?}");
            let reads_or_writes = what & 1 == 0;
            assert_eq!(allows(&ours, attempt), Some(is_ours && reads_or_writes), "{attempt:?}");
        }
    }

    /// Values as the kernel computes them (Documentation/bpf/standardization/instruction-set.rst).
    #[test]
    fn arithmetic_jumps_and_the_stack() {
        let result = |mut program: Vec<Insn>| {
            program.push(insn(0x95, 0, 0, 0));
            allows(&program, access(2, 2, 508, 30))
        };
        let set = |register: u8, value: i32| insn(0xb7, register, 0, value);
        // The upper half of a 32-bit result is zero, and a constant is extended by its sign.
        assert_eq!(result(vec![set(0, -1), insn(0x04, 0, 0, 1)]), Some(false), "w0 += 1");
        assert_eq!(result(vec![set(0, -1), insn(0x77, 0, 0, 63)]), Some(true), "r0 >>= 63");
        assert_eq!(result(vec![set(0, -1), insn(0xc4, 0, 0, 31)]), Some(true), "w0 s>>= 31");
        assert_eq!(
            result(vec![set(0, 1), insn(0x67, 0, 0, 32)]),
            Some(false),
            "r0 <<= 32: the low half counts"
        );
        // Through the stack, in each size: what was stored comes back, as far as it was stored.
        for (store, load, is_kept) in
            [(0x7b, 0x79, true), (0x63, 0x61, true), (0x6b, 0x69, true), (0x73, 0x71, false)]
        {
            let program = vec![set(2, 0x100), insn(store, 0x2a, -8, 0), insn(load, 0xa0, -8, 0)];
            assert_eq!(result(program), Some(is_kept), "{store:#x}");
        }
        // Signed and unsigned comparisons of -1 with 1, in 64 and in 32 bits.
        for (jump, is_taken) in [
            (0x25, true),
            (0x65, false),
            (0xa5, false),
            (0xc5, true),
            (0x26, true),
            (0x66, false),
            (0x05, true),
        ] {
            let program =
                vec![set(0, 0), set(2, -1), insn(jump, 2, 1, 1), insn(0x05, 0, 1, 0), set(0, 1)];
            assert_eq!(result(program), Some(is_taken), "{jump:#x}");
        }
        let wide = vec![insn(0x18, 0, 0, 0), insn(0, 0, 0, 1), insn(0x77, 0, 0, 32)];
        assert_eq!(result(wide), Some(true), "a 64-bit constant");
    }

    #[test]
    fn what_is_not_in_the_subset_has_no_answer() {
        let attempt = access(2, 2, 508, 30);
        let exit = insn(0x95, 0, 0, 0);
        for insn in [
            insn(0x85, 0, 0, 1),     // call
            insn(0x18, 0x10, 0, 0),  // a map
            insn(0x61, 0x10, 12, 0), // behind the context
            insn(0x61, 0x10, -1, 0), // before it
            insn(0x79, 0xa0, 0, 0),  // behind the stack
            insn(0x79, 0xa0, -513, 0),
            insn(0x63, 0x01, 0, 0), // into the context
            insn(0xb7, 10, 0, 0),   // the stack's address
            insn(0xb7, 11, 0, 0),   // no register
            insn(0xbf, 0x20, 8, 0), // a move with sign
            insn(0x06, 0, 0, 1),    // a jump with its distance elsewhere
            insn(0x37, 0, 0, 1),    // a division
            insn(0xdb, 0x21, 0, 0), // atomic
            insn(0x05, 0, -1, 0),   // a loop without end
            insn(0x05, 0, 100, 0),  // out of the program
            insn(0x05, 0, -100, 0),
        ] {
            assert_eq!(allows(&[insn, exit], attempt), None, "{insn:?}");
        }
        assert_eq!(allows(&[], attempt), None);
    }
}
