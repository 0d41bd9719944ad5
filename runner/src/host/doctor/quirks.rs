//! KVM's quirks by name, and what each does while it is not disabled.

/// Name and meaning of each quirk bit from bit 0 on (`arch/x86/include/uapi/asm/kvm.h`, `KVM_X86_QUIRK_*`;
/// `Documentation/virt/kvm/api.rst`, KVM_CAP_DISABLE_QUIRKS2).
pub const QUIRKS: [(&str, &str); 12] = [
    ("LINT0_REENABLED", "LVT LINT0 of a new local APIC is open, not masked"),
    ("CD_NW_CLEARED", "CR0.CD and CR0.NW of the guest stay away from hardware"),
    ("LAPIC_MMIO_HOLE", "the xAPIC's MMIO page answers in x2APIC mode, too"),
    ("OUT_7E_INC_RIP", "RIP is past an OUT to port 0x7e before the VM exits"),
    ("MISC_ENABLE_NO_MWAIT", "CPUID shows MWAIT as IA32_MISC_ENABLE says"),
    ("FIX_HYPERCALL_INSN", "the other vendor's hypercall is rewritten in guest memory"),
    ("MWAIT_NEVER_UD_FAULTS", "MONITOR and MWAIT do nothing where CPUID lacks them"),
    ("SLOT_ZAP_ALL", "deleting a memslot zaps all SPTEs, not only its own"),
    ("STUFF_FEATURE_MSRS", "feature MSRs of a new vCPU hold what the host supports"),
    ("IGNORE_GUEST_PAT", "guest PAT has no effect on RAM while DMA is coherent"),
    ("VMCS12_ALLOW_FREEZE_IN_SMM", "L1 may freeze counters in SMM for L2"),
    ("NESTED_SVM_SHARED_PAT", "L2 uses L1's PAT"),
];

/// KVM_X86_QUIRK_IGNORE_GUEST_PAT: offered with EPT on a CPU with self-snoop, from the kernels on that have it.
pub const IGNORE_GUEST_PAT: u32 = 1 << 9;
