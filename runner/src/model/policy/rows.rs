//! The rows of a policy, as they stand in its file.

use super::ranges::{BitRange, MsrRange};
use super::when::When;
use serde::Deserialize;
use wire::insn::Insn;
use wire::step::SlotApi;

/// What RDMSR gives, and KVM_GET_MSRS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadRule {
    /// The value that was written last, or the reset value.
    Kept,
    /// Always this value.
    Fixed(u64),
    /// #GP(0); KVM_GET_MSRS takes no entry.
    Gp,
    /// Some value.
    Any,
    /// Nothing is predicted.
    Unpredicted,
}

/// What a checked write must be to be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Checks {
    /// Bits that must be zero.
    #[serde(default)]
    pub reserved: Vec<BitRange>,
    /// Bytes that hold a memory type, 0 for the lowest.
    #[serde(default)]
    pub bytes: Vec<u8>,
    /// The memory types that such a byte may hold, as encoded.
    #[serde(default)]
    pub types: Vec<u8>,
}

/// What comes of WRMSR, and of KVM_SET_MSRS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteRule {
    /// Accepted if it passes the checks, else #GP(0).
    Checked(Checks),
    /// #GP(0), whatever the value; KVM_SET_MSRS takes no entry.
    Gp,
    /// Accepted without effect.
    Ignored,
    /// Nothing is predicted.
    Unpredicted,
}

/// What is predicted of some MSRs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegisterRow {
    /// The row's name, shown where its prediction is.
    pub name: String,
    /// The MSRs of which it speaks.
    pub msrs: Vec<MsrRange>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
    /// What a read gives.
    pub read: ReadRule,
    /// What a write does.
    pub write: WriteRule,
    /// The value at creation of the vCPU, if it is defined.
    pub reset: Option<u64>,
    /// Whether KVM_GET_MSR_INDEX_LIST has them, if something is said about it.
    pub listed: Option<bool>,
    /// The bits at and above MAXPHYADDR are set in what is stored and cleared in what is read (KVM up to 6.10,
    /// `mtrr.c:set_var_mtrr_msr`, `kvm_mtrr_get_msr`). Shows where MAXPHYADDR grows between write and read.
    #[serde(default)]
    pub stores_bits_above_maxphyaddr: bool,
    /// SDM section, or kernel file and function.
    pub source: String,
}

/// A bit of CR0 that may be set only together with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Implication {
    /// This bit
    pub bit: u8,
    /// needs that one.
    pub needs: u8,
}

/// What is predicted of CR0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cr0Rules {
    /// The bits that hold what is written.
    pub defined: u64,
    /// Bits that raise #GP(0) when they are set. Those neither here nor in `defined` stay zero.
    pub gp: BitRange,
    /// Bits that read as one.
    pub ones: u64,
    /// Combinations that raise #GP(0).
    pub implies: Vec<Implication>,
    /// The value at creation of the vCPU.
    pub reset: u64,
    /// The bits that INIT leaves as they are. The others get their reset value.
    pub init_keeps: u64,
    /// SDM section, or kernel file and function.
    pub source: String,
    /// What KVM_SET_SREGS does, where the policy speaks of it: the same #GP conditions fail it, but what it accepts is
    /// stored as given, undefined bits included. Kernel file and function.
    pub set_sregs_source: Option<String>,
}

/// Where CPUID announces an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuidBit {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// The register on return.
    pub register: CpuidRegister,
    /// The bit in it.
    pub bit: u8,
}

/// A register that CPUID returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum CpuidRegister {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// A cache-control instruction, by its mnemonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct InsnName(pub Insn);

impl TryFrom<String> for InsnName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Insn::ALL.into_iter().find(|insn| insn.name() == name);
        found.map(InsnName).ok_or_else(|| {
            let hint = crate::config::names::hint(&name, Insn::ALL.iter().map(|insn| insn.name()));
            format!("unknown instruction `{name}`{hint}")
        })
    }
}

/// What an instruction does that CPUID does not announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absent {
    /// #UD.
    Ud,
    /// Nothing is predicted.
    Unpredicted,
}

/// What is predicted of some instructions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstructionRow {
    /// The instructions of which it speaks.
    pub instructions: Vec<InsnName>,
    /// Whether it raises #GP(0) outside CPL 0.
    pub privileged: bool,
    /// Where CPUID announces it; every CPU has one that is not announced.
    pub cpuid: Option<CpuidBit>,
    /// What it does where CPUID does not announce it.
    #[serde(default = "ud")]
    pub absent: Absent,
    /// SDM section, or kernel file and function.
    pub source: String,
}

fn ud() -> Absent {
    Absent::Ud
}

/// An ioctl that sets memslots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// KVM_SET_USER_MEMORY_REGION.
    V1,
    /// KVM_SET_USER_MEMORY_REGION2.
    V2,
}

impl Api {
    /// As on the wire.
    pub fn wire(self) -> SlotApi {
        match self {
            Api::V1 => SlotApi::V1,
            Api::V2 => SlotApi::V2,
        }
    }
}

/// What comes of a memslot flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlagRule {
    /// Taken.
    Accepted,
    /// EINVAL.
    Einval,
    /// Some error.
    Refused,
}

/// What is predicted of some memslot flags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemslotFlagRow {
    /// Its name, shown where its prediction is.
    pub name: String,
    /// The flags, by bit number.
    pub bits: BitRange,
    /// The ioctls of which it speaks.
    pub ioctls: Vec<Api>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
    /// What comes of it.
    pub reply: FlagRule,
    /// Kernel file and function.
    pub source: String,
}

/// What KVM_ENABLE_CAP of KVM_CAP_DISABLE_QUIRKS2 does to quirks that were disabled before and are not in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuirkRule {
    /// They stay disabled.
    Kept,
    /// They are on again.
    OnAgain,
}

/// Numbers of KVM's machine-check emulation; what it does with them is in `model/mce.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MceRules {
    /// The most MC banks (KVM_MAX_MCE_BANKS).
    pub banks: u8,
    /// MCG_CAP of a vCPU on which KVM_X86_SETUP_MCE was not called.
    pub default_cap: u64,
    /// Bits of MCG_CAP that KVM_X86_SETUP_MCE takes besides those of the fact `mce-caps`.
    pub free_caps: u64,
}
