//! The table by which firmware tells a kernel without ACPI which CPUs there are: Intel, "MultiProcessor Specification",
//! version 1.4, chapter 4.

/// Where firmware leaves the floating pointer structure: kernels look for it from here to 1 MiB, at each 16 bytes.
pub const PLACE: u64 = 0xf_0000;
/// Bytes of the floating pointer structure; the configuration table follows.
const POINTER: usize = 16;
/// Bytes of the configuration table's header, and of the entry of a processor.
const HEADER: usize = 44;
const PROCESSOR: usize = 20;
/// Version 1.4.
const REVISION: u8 = 4;
/// GPA of the local APICs.
const LOCAL_APIC: u32 = 0xfee0_0000;
/// Version of a local APIC that is no discrete one.
const APIC_VERSION: u8 = 0x14;
/// Flags of a processor: it can be used; it is the one that boots.
const USABLE: u8 = 1;
const BOOTS: u8 = 2;

/// The floating pointer structure and the configuration table of `cpus` processors, for [`PLACE`]. APIC ids are vCPUs'
/// indices. There is neither a bus nor an I/O APIC.
pub fn table(cpus: u8) -> Vec<u8> {
    let length = (HEADER + PROCESSOR * usize::from(cpus)) as u16;
    let mut config = Vec::from(*b"PCMP");
    config.extend(length.to_le_bytes());
    config.extend([REVISION, 0]);
    config.extend(b"KVM     MEMTYPE     ");
    // No OEM table.
    config.extend([0; 6]);
    config.extend(u16::from(cpus).to_le_bytes());
    config.extend(LOCAL_APIC.to_le_bytes());
    // No extended table.
    config.extend([0; 4]);
    for cpu in 0..cpus {
        let flags = USABLE | if cpu == 0 { BOOTS } else { 0 };
        config.extend([0, cpu, APIC_VERSION, flags]);
        // Signature and features, which kernels take from CPUID.
        config.extend([0; PROCESSOR - 4]);
    }
    config[7] = checksum(&config);
    let mut table = Vec::from(*b"_MP_");
    table.extend((PLACE as u32 + POINTER as u32).to_le_bytes());
    // In units of 16 bytes; checksum; a configuration table is there; PIC mode is not implemented.
    table.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    table[10] = checksum(&table);
    table.extend(config);
    table
}

/// The byte that makes the sum of all zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_kernel_finds_each_processor(cpus in 1..=255u8) {
            let table = table(cpus);
            let (pointer, config) = table.split_at(POINTER);
            prop_assert_eq!((&pointer[..4], checksum(pointer)), (&b"_MP_"[..], 0));
            prop_assert_eq!(pointer[4..8].to_vec(), 0xf_0010u32.to_le_bytes().to_vec());
            prop_assert_eq!((&config[..4], checksum(config)), (&b"PCMP"[..], 0));
            prop_assert_eq!(usize::from(u16::from_le_bytes([config[4], config[5]])), config.len());
            prop_assert_eq!(u16::from_le_bytes([config[34], config[35]]), u16::from(cpus));
            prop_assert_eq!(&config[36..40], &LOCAL_APIC.to_le_bytes()[..]);
            let (entries, rest) = config[HEADER..].as_chunks::<PROCESSOR>();
            prop_assert!(rest.is_empty());
            for (index, entry) in entries.iter().enumerate() {
                let flags = if index == 0 { USABLE | BOOTS } else { USABLE };
                prop_assert_eq!(entry[..4].to_vec(), vec![0, index as u8, APIC_VERSION, flags]);
            }
        }
    }
}
