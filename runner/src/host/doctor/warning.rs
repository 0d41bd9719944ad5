//! What limits the tests on a host: what is wrong, what that means for which tests, and what to do.

use super::answer::{Paging, paging};
use super::report::Emulators;
use crate::host::Host;
use crate::host::kvm::KvmTrouble;
use crate::host::quirks::IGNORE_GUEST_PAT;
use crate::witness::Kind;
use serde::{Serialize, Serializer};
use std::fmt;

/// A fact of the host that limits what tests can decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// KVM cannot be used.
    Kvm {
        /// Why.
        trouble: KvmTrouble,
        /// Whether the CPU shows VMX or SVM.
        hardware: bool,
    },
    /// The vendor module runs guests in software.
    SoftwarePaging {
        /// The module.
        module: String,
    },
    /// EPT or NPT is there but off.
    ShadowPaging {
        /// The vendor module.
        module: String,
    },
    /// The vendor module is not one whose policy is known.
    UnknownVendor {
        /// The module, if there is one.
        module: Option<String>,
    },
    /// With EPT, the quirk IGNORE_GUEST_PAT cannot be disabled.
    NoPatQuirk {
        /// Whether the CPU has self-snoop.
        self_snoop: bool,
    },
    /// KVM runs in a VM.
    Nested {
        /// Vendor string of the hypervisor below.
        hypervisor: String,
    },
    /// kvm.ignore_msrs is on.
    IgnoreMsrs,
    /// CPUID.MTRR cannot be hidden from guests.
    MtrrForced,
    /// KVM_GET_ONE_REG does not read MSRs.
    NoOneReg,
    /// SPTE leaves cannot be seen, where they hold memory types: with EPT.
    NoSptes {
        /// Why, and what to do about it.
        why: String,
    },
    /// The kernel died or warned, or saw a machine check.
    Tainted {
        /// The letters of those taints.
        letters: String,
    },
    /// A QEMU machine cannot be used.
    Qemu {
        /// Its name.
        machine: &'static str,
        /// Why.
        why: String,
    },
}

/// Taint bits that make results doubtful, with their letters (`Documentation/admin-guide/tainted-kernels.rst`).
const DOUBTFUL: [(u32, char); 4] = [(4, 'M'), (5, 'B'), (7, 'D'), (9, 'W')];

/// What limits this host, the gravest first.
pub(super) fn warnings(host: &Host, emulators: &Emulators) -> Vec<Warning> {
    let mut found = Vec::new();
    match &host.kvm {
        Err(trouble) => {
            found.push(Warning::Kvm { trouble: trouble.clone(), hardware: host.cpu.vmx || host.cpu.svm });
        }
        Ok(kvm) => {
            let module = host.modules.vendor.clone();
            let named = || module.clone().unwrap_or_default();
            match paging(host) {
                Paging::Software => found.push(Warning::SoftwarePaging { module: named() }),
                Paging::Shadow => found.push(Warning::ShadowPaging { module: named() }),
                Paging::Unknown => found.push(Warning::UnknownVendor { module }),
                Paging::Ept if kvm.quirks & IGNORE_GUEST_PAT == 0 => {
                    found.push(Warning::NoPatQuirk { self_snoop: host.cpu.self_snoop });
                }
                Paging::Ept | Paging::Npt => {}
            }
            let ept = paging(host) == Paging::Ept;
            // Software paging is at home in VMs, and its own warning says all.
            let below = host.cpu.hypervisor.clone().filter(|_| paging(host) != Paging::Software);
            found.extend(below.map(|hypervisor| Warning::Nested { hypervisor }));
            let checks = [
                (host.modules.is_on("kvm.ignore_msrs") == Some(true), Warning::IgnoreMsrs),
                (kvm.cpuid_mtrr_forced, Warning::MtrrForced),
                (!kvm.one_reg, Warning::NoOneReg),
            ];
            let blind = host.rights.blind.get(&Kind::Sptes).filter(|_| ept);
            found.extend(blind.map(|why| Warning::NoSptes { why: why.clone() }));
            found.extend(checks.into_iter().filter_map(|(holds, warning)| holds.then_some(warning)));
        }
    }
    let letters: String = DOUBTFUL.iter().filter(|(bit, _)| host.taint >> bit & 1 == 1).map(|&(_, c)| c).collect();
    if !letters.is_empty() {
        found.push(Warning::Tainted { letters });
    }
    let qemu = |machine, why: &String| Warning::Qemu { machine, why: why.clone() };
    match (&emulators.kvm, &emulators.tcg) {
        (Err(kvm), Err(tcg)) if kvm == tcg => found.push(qemu("qemu-kvm or qemu-tcg", kvm)),
        (_, Err(why)) => found.push(qemu("qemu-tcg", why)),
        // Without KVM, QEMU's KVM fails for the reason that is given already.
        (Err(why), Ok(_)) if host.kvm.is_ok() => found.push(qemu("qemu-kvm", why)),
        _ => {}
    }
    found
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Kvm { trouble, hardware } => {
                write!(f, "{trouble}: no test can say anything about KVM here, and qemu-tcg is only a negative control. ")?;
                f.write_str(&trouble.advice(*hardware))
            }
            Warning::SoftwarePaging { module } => write!(
                f,
                "{module} runs guests with software paging: guest memory types have no effect here. Register, exit, \
                 memslot, quirk and #MC tests are real; memory-type tests will be inconclusive. For real effective types \
                 run on a host with kvm_intel, or run stock kernels in the lab, which needs no VMX: \
                 cargo run --release -p lab -- run."
            ),
            Warning::ShadowPaging { module } => write!(
                f,
                "{module} uses shadow paging: guest PAT and MTRRs do not reach hardware, so memory-type tests check only \
                 that. Reload {module} with {} for the path that users run.",
                if module == "kvm_amd" { "npt=1" } else { "ept=1" }
            ),
            Warning::UnknownVendor { module } => write!(
                f,
                "the vendor module {} is none whose policy is known: register tests judge the common code of KVM, \
                 memory-type tests have no policy to be judged by. Run on kvm_intel or kvm_amd, or write a policy for it.",
                module.as_deref().unwrap_or("has no name in sysfs and")
            ),
            Warning::NoPatQuirk { self_snoop: false } => f.write_str(
                "the CPU has no self-snoop, so KVM does not let the quirk IGNORE_GUEST_PAT be disabled: memory-type tests \
                 see WB unless DMA is non-coherent. Run on a CPU with self-snoop (flag ss in /proc/cpuinfo) to decide them.",
            ),
            Warning::NoPatQuirk { self_snoop: true } => f.write_str(
                "this KVM has no quirk IGNORE_GUEST_PAT: memory-type tests see WB unless DMA is non-coherent. Run a kernel \
                 from 6.16 or 6.12.78 on, or give the VM a non-coherent device, to decide them.",
            ),
            Warning::Nested { hypervisor } => write!(
                f,
                "KVM runs in a VM ({hypervisor}; fact host-hypervisor): the hypervisor below may force WB under everything, \
                 whatever this KVM decides, and it makes timing noisy. Register tests are real; for effective types trust \
                 the SPTE leaves, which are this KVM's own, or run on bare metal."
            ),
            Warning::IgnoreMsrs => f.write_str(
                "kvm.ignore_msrs is on: accesses to unknown MSRs are swallowed, so tests that wait for #GP (mtrr-msr, \
                 msr-host) are judged by other rules. Write N to /sys/module/kvm/parameters/ignore_msrs for the default.",
            ),
            Warning::MtrrForced => f.write_str(
                "this KVM shows guests CPUID.MTRR whatever the VMM sets: VM configurations without it cannot be made, and \
                 their tests are skipped. Run on kvm_intel or kvm_amd to decide them.",
            ),
            Warning::NoOneReg => f.write_str(
                "KVM_GET_ONE_REG does not read MSRs: tests of that path in msr-host are skipped. Run a kernel from 6.18 on \
                 to decide them.",
            ),
            Warning::NoSptes { why } => write!(
                f,
                "the kvmmmu trace events cannot be read: memory-type tests have no SPTE witness and stay inconclusive where \
                 timing does not decide. {why}."
            ),
            Warning::Tainted { letters } => write!(
                f,
                "the kernel is tainted ({letters}): it warned, died, met a bad page or saw a machine check since boot, so any \
                 result may be a follow-up. Look into dmesg, and reboot before results are kept."
            ),
            Warning::Qemu { machine, why } => write!(f, "machine {machine} cannot be used: {why}."),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
