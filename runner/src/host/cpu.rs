//! The host's CPU, as CPUID and the kernel show it.

use super::affinity::allowed;
use serde::Serialize;
use std::arch::x86_64::{__cpuid, CpuidResult};
use std::fs;

/// What of the CPU bears on memory types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// CPUID leaf 0: `GenuineIntel`, `AuthenticAMD`, ...
    pub vendor: String,
    /// CPUID leaves 0x80000002-4, the brand string.
    pub model: String,
    /// MAXPHYADDR in bits, CPUID.80000008H:EAX bits 7:0; 36 without that leaf.
    pub maxphyaddr: u8,
    /// Self-snoop as the kernel believes in it: CPUID.1:EDX bit 27, without the CPUs whose errata make it useless
    /// (`arch/x86/kernel/cpu/intel.c`, `check_memory_type_self_snoop_errata`).
    pub self_snoop: bool,
    /// VMX, CPUID.1:ECX bit 5.
    pub vmx: bool,
    /// SVM, CPUID.80000001H:ECX bit 2.
    pub svm: bool,
    /// The vendor string of the hypervisor below this host (CPUID leaf 0x40000000), if CPUID.1:ECX bit 31 says that
    /// there is one: then KVM runs nested, or in software.
    pub hypervisor: Option<String>,
    /// The CPUs on which this process may run; none where the system does not say.
    pub allowed: Vec<usize>,
}

impl Cpu {
    /// Asks the CPU on which this runs.
    pub fn probe() -> Cpu {
        let (first, features, extended) = (__cpuid(0), __cpuid(1), __cpuid(0x8000_0000));
        let has = |leaf: u32| extended.eax >= leaf;
        let hypervisor = (features.ecx >> 31 & 1 == 1).then(|| {
            let CpuidResult { ebx, ecx, edx, .. } = __cpuid(0x4000_0000);
            text(&[ebx, ecx, edx])
        });
        let brand = if has(0x8000_0004) { [0x8000_0002, 0x8000_0003, 0x8000_0004].map(__cpuid) } else { [first; 3] };
        Cpu {
            vendor: text(&[first.ebx, first.edx, first.ecx]),
            model: if has(0x8000_0004) {
                text(brand.map(|r| [r.eax, r.ebx, r.ecx, r.edx]).as_flattened())
            } else {
                String::new()
            },
            maxphyaddr: if has(0x8000_0008) { __cpuid(0x8000_0008).eax as u8 } else { 36 },
            self_snoop: flag(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), "ss"),
            vmx: features.ecx >> 5 & 1 == 1,
            svm: has(0x8000_0001) && __cpuid(0x8000_0001).ecx >> 2 & 1 == 1,
            hypervisor,
            allowed: allowed().unwrap_or_default(),
        }
    }
}

/// The ASCII text in registers, without padding.
fn text(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_owned()
}

/// Whether the first CPU in `/proc/cpuinfo` has a flag.
fn flag(cpuinfo: &str, name: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| flags.split_whitespace().any(|flag| flag == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_hold_text() {
        assert_eq!(text(&[0x756e_6547, 0x4965_6e69, 0x6c65_746e]), "GenuineIntel");
        assert_eq!(text(&[0x4b4d_564b, 0x564b_4d56, 0x4d]), "KVMKVMKVM");
    }

    #[test]
    fn flags_are_whole_words() {
        let cpuinfo = "vmx flags\t: ept\nflags\t\t: fpu sse ssse3\nflags\t\t: ss\n";
        assert!(flag(cpuinfo, "sse"));
        assert!(!flag(cpuinfo, "ss"));
    }

    #[test]
    fn this_cpu_is_one() {
        let cpu = Cpu::probe();
        assert!((32..=52).contains(&cpu.maxphyaddr), "{cpu:?}");
        assert_eq!(cpu.vendor.len(), 12, "{cpu:?}");
    }
}
