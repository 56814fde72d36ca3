//! Derives MIG UUIDs as the driver does: SHA-1 over the chip, a seed of the GPU, the GPU instance id and the
//! engine (`gpu_uuid.c:91-245`). Neither the compute instance id nor the profile
//! goes in, so a recreated instance can carry the UUID of an old one.

use mig_cdi_model::{GpuUuid, MigUuid, PciAddress};
use sha1::{Digest, Sha1};

/// Fixed head of every message (`gpu_uuid.c:91-245`).
const HEAD: [u8; 16] = [
    0xc8, 0x16, 0xc9, 0xa3, 0x52, 0x24, 0x56, 0xbf, 0x9d, 0x9a, 0xac, 0x7e, 0xa7, 0x03, 0xfb, 0x5b,
];

/// Returns the UUID of the MIG device in GPU instance `gi` whose first graphics engine (sys pipe) is `syspipe`.
#[must_use]
pub fn mig_uuid(chip: u16, gpu: &GpuUuid, gi: u32, syspipe: u32) -> MigUuid {
    let mut message = HEAD.to_vec();
    message.extend_from_slice(b"NVIDIA GPU\x02");
    message.extend_from_slice(&chip.to_le_bytes());
    // Each input is preceded by its length in bytes.
    message.push(8);
    message.extend_from_slice(&seed(gpu));
    message.extend_from_slice(b"\x0bSMC");
    message.extend_from_slice(&gi.to_le_bytes());
    message.extend_from_slice(&syspipe.to_le_bytes());
    format!("MIG-{}", format_v5(&message)).parse().expect("formatted as a UUID")
}

/// Makes up a UUID for a GPU that has none in its description.
pub(crate) fn gpu_uuid(pci: PciAddress) -> GpuUuid {
    let message = format!("simulated gpu {pci}");
    format!("GPU-{}", format_v5(message.as_bytes())).parse().expect("formatted as a UUID")
}

/// Returns the seed: the first eight bytes of the GPU's UUID, as in a vGPU guest
/// (`kmigmgrGenerateComputeInstanceUuid_VF`, `kernel_mig_manager.c:4367-4393`). On bare metal GSP firmware
/// computes it from a number of the chip, the PDI, that neither `/proc` nor `/sys` has.
fn seed(gpu: &GpuUuid) -> [u8; 8] {
    let text = gpu.to_string();
    let mut digits = text.bytes().skip(4).filter_map(|b| char::from(b).to_digit(16));
    std::array::from_fn(|_| {
        let mut digit = || digits.next().map_or(0, |d| u8::try_from(d).unwrap_or(0));
        digit() << 4 | digit()
    })
}

/// Hashes a message and formats it as a UUID of version 5.
fn format_v5(message: &[u8]) -> String {
    let mut hash = Sha1::digest(message);
    // Version 5 and the variant bits of RFC 9562, set over the hash.
    hash[6] = hash[6] & 0x0f | 0x50;
    hash[8] = hash[8] & 0x3f | 0x80;
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two vGPU guests of a public log, of which the first eight digits of each MIG UUID are
    /// published: f90f1469 and f18b0103.
    #[test]
    fn published_guests_have_the_uuids_that_the_rule_gives() {
        for (gpu, mig) in [
            (
                "GPU-db300f68-8fa1-11f1-8000-000000000000",
                "MIG-f90f1469-d6ae-5e14-aea1-2c400795f903",
            ),
            (
                "GPU-db6f8125-8fa1-11f1-8000-000000000000",
                "MIG-f18b0103-eb03-5c3b-9d21-351f1a8f5549",
            ),
        ] {
            assert_eq!(mig_uuid(0x180, &gpu.parse().unwrap(), 0, 0).to_string(), mig);
        }
    }
}
