//! A point: what was done, what was seen, and what is predicted, in a form that is cheap to make by the hundred
//! thousand.

use super::coherence::{Aspect, Promise};
use super::leaf::LeafType;
use super::memtype::LookupFault;
use super::memtype::apm::Apm;
use super::policy::ZapEvent;
use super::timing::TypeSet;
use wire::coherence::{Aliased, Ordered};
use wire::insn::Insn;
use wire::memtype::{EptType, MemType};
use wire::outcome::{After, Fault};
use wire::record::{Access, Timed, Trap};
use wire::register::{Place, Register};
use wire::step::{Status, Step};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Action {
    /// The vCPU was created.
    Reset(Place),
    /// The guest read a register.
    Read(Place),
    /// The guest wrote a register.
    Write(Place, u64),
    /// The guest executed a cache-control instruction.
    Exec { insn: Insn, cpl: u8 },
    /// The guest accessed memory.
    Access(Access),
    /// The guest timed a page.
    Timed(Timed),
    /// A page was accessed by two mappings.
    Aliased(Aliased, Aspect),
    /// A vCPU passed numbers to another.
    Ordered(Ordered),
    /// The VM left with KVM_EXIT_MMIO, and no access of the guest explains it.
    StrayExit(Exit),
    /// A vCPU took a machine check, or should have.
    MachineCheck { cpu: u8 },
    /// A vCPU took another exception that its test waited for.
    Trap { cpu: u8 },
    /// The guest executed CPUID.
    Cpuid { leaf: u32, subleaf: u32 },
    /// The host did a step.
    Step(Step),
    /// KVM made a leaf SPTE of a page of the test window: level 1 for 4K, 2 for 2M, 3 for 1G.
    Leaf { gpa: u64, level: u8 },
    /// The guest accessed a page of the test window by a leaf that KVM had made before.
    Held { gpa: u64, level: u8 },
    /// Something happened that may zap the leaves of the test window.
    Zap(ZapEvent),
    /// The VM shut down on a triple fault, or should have.
    TripleFault,
}

/// One KVM_EXIT_MMIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// A write, else a read.
    pub write: bool,
    /// Bytes.
    pub width: u8,
    /// Guest-physical address.
    pub gpa: u64,
    /// The value written, or given by the VMM.
    pub value: u64,
}

/// The MMIO exits of one access, in order: at most one for each page that it touches.
pub type Exits = [Option<Exit>; 2];

/// What came of it, or what is predicted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Effect {
    /// This value was read.
    Value(u64),
    /// Some value is read. Only predicted.
    AnyValue,
    /// It ran without an exception.
    Ran,
    /// A read or an instruction raised this exception.
    Fault(Fault),
    /// A write: the exception, if any, and what is read back. `AsWritten` is the value written, or, after an exception,
    /// the value from before.
    Written { fault: Option<Fault>, after: After },
    /// A step's reply.
    Reply { status: Status, value: u64 },
    /// A step succeeds with some value. Only predicted.
    AnyReply,
    /// A step fails with some errno. Only predicted.
    AnyErrno,
    /// An access to memory: the exception, the value that a load gives if it is known, and the exits.
    Memory { fault: Option<Fault>, value: Option<u64>, exits: Exits },
    /// A timed page is of this effective memory type. Only predicted.
    Type(MemType),
    /// The times of a page fit these. Only seen.
    Types(TypeSet),
    /// A timed page took what it took: nobody can tell its memory type. Only seen.
    Times,
    /// Loads by another mapping gave the new value, an old one, or one that was never stored, so many of each.
    Loads { new: u32, stale: u32, other: u32 },
    /// Loads give the new value. Only predicted.
    NewValues,
    /// Loads give the new value or an old one. Only predicted.
    StoredValues,
    /// The reader saw the flag move so often, and the data older than the flag so often.
    Passed { moved: u32, reordered: u32 },
    /// The data is never older than the flag. Only predicted.
    InOrder,
    /// The data may be older than the flag. Only predicted.
    AnyOrder,
    /// A leaf that says this of memory types.
    Leaf(LeafType),
    /// So many leaves are gone, of so many that were there.
    Zapped { leaves: usize, of: usize },
    /// An exception.
    Trap(Trap),
    /// Nothing of the kind happened.
    Nothing,
    /// It happened.
    Happened,
}

/// What kind of outcome an effect is. Deviations speak of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A write is taken and reads back as written; a step or an instruction is done.
    Accepted,
    /// An exception, or an error as reply.
    Refused,
    /// A value: of a read, of a memory access, or of a register that holds something else than was written. Or the
    /// effective type of timed accesses, or what accesses by two mappings saw of each other.
    Value,
    /// An exception, a triple fault or a zap that an event brings about.
    Event,
    /// Nothing happens where something could have.
    Nothing,
}

impl Effect {
    /// Whether `seen` is what is predicted here.
    pub fn allows(self, seen: Effect) -> bool {
        match (self, seen) {
            (Effect::AnyValue, Effect::Value(_)) => true,
            (Effect::AnyReply, Effect::Reply { status: Status::Done, .. }) => true,
            (Effect::AnyErrno, Effect::Reply { status: Status::Errno(_), .. }) => true,
            (Effect::NewValues, Effect::Loads { stale: 0, other: 0, .. }) => true,
            (Effect::StoredValues, Effect::Loads { other: 0, .. }) => true,
            (Effect::InOrder, Effect::Passed { reordered: 0, .. }) => true,
            (Effect::AnyOrder, Effect::Passed { .. }) => true,
            (
                Effect::Memory { fault, value: None, exits },
                Effect::Memory { fault: seen_fault, exits: seen_exits, .. },
            ) => (fault, exits) == (seen_fault, seen_exits),
            (Effect::Type(memtype), Effect::Types(seen)) => seen.has(memtype),
            _ => self == seen,
        }
    }

    /// Its kind, of `action`.
    pub fn class(self, action: Action) -> Class {
        match self {
            Effect::Written { fault: None, after: After::AsWritten } => Class::Accepted,
            Effect::Written { fault: None, .. } => Class::Value,
            Effect::Fault(_) | Effect::Written { .. } | Effect::AnyErrno => Class::Refused,
            Effect::Memory { fault: Some(_), .. } => Class::Refused,
            Effect::Reply { status: Status::Done, .. } | Effect::AnyReply => match action {
                Action::Step(step) if replies_with_value(step) => Class::Value,
                _ => Class::Accepted,
            },
            Effect::Reply { .. } => Class::Refused,
            Effect::Value(_) | Effect::AnyValue | Effect::Memory { .. } => Class::Value,
            Effect::Type(_) | Effect::Types(_) | Effect::Times | Effect::Leaf(_) => Class::Value,
            Effect::Loads { .. } | Effect::NewValues | Effect::StoredValues => Class::Value,
            Effect::Passed { .. } | Effect::InOrder | Effect::AnyOrder => Class::Value,
            Effect::Zapped { leaves: 0, .. } => Class::Nothing,
            Effect::Zapped { .. } => Class::Event,
            Effect::Ran => Class::Accepted,
            Effect::Trap(_) | Effect::Happened => Class::Event,
            Effect::Nothing => Class::Nothing,
        }
    }
}

impl Effect {
    /// The value that is read, or that a step replies with, or that a write leaves where it is not the one written.
    pub fn value(self) -> Option<u64> {
        match self {
            Effect::Value(value) | Effect::Written { after: After::Value(value), .. } => Some(value),
            Effect::Reply { status: Status::Done, value } => Some(value),
            Effect::Memory { value, .. } => value,
            _ => None,
        }
    }
}

impl Action {
    /// The register that it touches, if it is one. LMSW and CLTS touch CR0.
    pub fn register(self) -> Option<Register> {
        match self {
            Action::Reset(at) | Action::Read(at) | Action::Write(at, _) => Some(match at.register {
                Register::Lmsw | Register::Clts => Register::Cr0,
                other => other,
            }),
            Action::Step(step) => match step {
                Step::SetMsr { index, .. }
                | Step::GetMsr { index, .. }
                | Step::SetOneReg { index, .. }
                | Step::GetOneReg { index, .. }
                | Step::ListsMsr { index } => Some(Register::Msr(index)),
                Step::SetCr0 { .. } | Step::GetCr0 { .. } => Some(Register::Cr0),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether the reply to a step holds a value.
pub fn replies_with_value(step: Step) -> bool {
    matches!(
        step,
        Step::GetMsr { .. } | Step::GetOneReg { .. } | Step::GetCr0 { .. } | Step::ListsMsr { .. } | Step::Peek { .. }
    )
}

/// Which part of a row made the prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Rule {
    Accepted,
    Kept,
    Readable,
    Fixed,
    NeverRead,
    NeverWritten,
    Ignored,
    Reserved {
        bits: u64,
    },
    NoType {
        byte: u8,
        value: u8,
    },
    Reset,
    Init,
    Cr0Combination {
        bit: u8,
        needs: u8,
    },
    Cr0Paging,
    Cr0Undefined,
    Privileged,
    Announced,
    NotAnnounced,
    Always,
    Slot,
    ReadOnlySlot,
    NoSlot,
    Flag,
    SlotFixed,
    SlotOverlap,
    SlotAbsent,
    Quirks,
    Listed,
    VmConfig,
    OneToOne,
    McgCap,
    MceBank,
    MceInvalid,
    MceDropped,
    MceDelivered,
    MceTripleFault,
    MceRegister,
    NoMachineCheck,
    PageType {
        mtrr: MemType,
        pat: MemType,
        cd: bool,
    },
    EptPageType {
        ept: EptType,
        pat: MemType,
        cd: bool,
    },
    /// By the leaf: the one that was seen, or else the one that the policy gives.
    LeafPageType {
        ept: EptType,
        pat: MemType,
        seen: bool,
    },
    NptPageType {
        pat: MemType,
        mtrr: MemType,
        apm: Apm,
    },
    GuestPat0 {
        pat: MemType,
    },
    HostPat0,
    LeafAlways,
    LeafTooLarge,
    LeafHeld,
    /// By the SDM; and by KVM's own lookup where that is another one, and where it errs.
    GuestMtrr {
        memtype: MemType,
        kvm: Option<(MemType, LookupFault)>,
    },
    /// By KVM's own lookup, where ranges of two types overlap of which the SDM says nothing.
    GuestMtrrUndefined {
        memtype: MemType,
        one: MemType,
        other: MemType,
    },
    ZapAll,
    ZapRange,
    NoZap,
    Promise(Promise),
}

/// A prediction and who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction<'p> {
    /// What should be seen.
    pub expected: Effect,
    /// The row of the policy, or the part of the model.
    pub row: &'p str,
    /// Which part of it.
    pub rule: Rule,
    /// SDM section, or kernel file and function.
    pub source: &'p str,
}

/// Why nothing is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Why {
    /// No row of the policy speaks of it.
    NoRow,
    /// A row says that nothing is predicted.
    Unpredicted,
    /// The policy does not speak of what a host does.
    NotHost,
    /// MAXPHYADDR is not known.
    Maxphyaddr,
    /// The register's value before is not known.
    Unknown,
    /// The register holds a value that it should have refused.
    Held,
    /// CPUID was not reported.
    Cpuid,
    /// CR4.MCE or MCG_STATUS is not known.
    MceState,
    /// The guest did not say at which CPL it rang the doorbell.
    Cpl,
    /// `mce-caps` is not among the facts.
    MceCaps,
    /// `ignore-msrs` is true or not among the facts.
    IgnoreMsrs,
    /// The VMM would not do the step.
    Vmm,
    /// The host gave no memory for the slot.
    NoMemory,
    /// It is a page of the host of which nothing is promised.
    Hazard,
    /// The access is outside the test window.
    Window,
    /// The guest timed no page by which times could be read, or not with all probes that takes.
    NoScale,
    /// A load that misses takes `miss` ticks, about as long as one that hits, `hit`: this machine's time shows no cache.
    #[expect(missing_docs, reason = "the fields are named above")]
    NoContrast { hit: u32, miss: u32 },
    /// No page was seen to be other than WB, not even one of PAT type UC, from which a load takes `uc` ticks; and what
    /// is below this KVM may make all memory WB. From a page of WB one takes `hit`, or `miss` after a flush.
    #[expect(missing_docs, reason = "the fields are named above")]
    NotShown { uc: u32, hit: u32, miss: u32 },
    /// The KVM is none that runs all of a guest on the CPU, and the access was at CPL 0, which it may emulate.
    Emulated,
    /// Times fit these types, and another one than the predicted cannot be ruled out.
    Fits(TypeSet),
    /// The times are those of no memory type.
    NoClass,
    /// MTRRs, PAT or CR0 are not known.
    TypeState,
    /// The architecture leaves the type undefined.
    TypeUndefined,
    /// What CR0 or IA32_MTRR_DEF_TYPE holds, or which memslot it is, is not known.
    LeafState,
    /// It depends on the vCPU that faulted, and which that is is not known.
    LeafCpu,
    /// Vendor module and two-dimensional paging are not known.
    LeafFormat,
    /// KVM looks up such MTRRs in its own way, and no leaf was seen.
    LeafLookup,
    /// CR0.CD is set in the CPU itself: what its caches hold is served from there, and what that is is not known.
    NoFill,
    /// The page was accessed, but no SPTE that maps it was seen.
    NoLeaf,
    /// Without the TDP MMU nobody tells of a single SPTE that goes.
    ZapUnseen,
    /// No mark follows, so that it is not certain which came first.
    NoMark,
    /// No load was done.
    NoLoads,
    /// The vCPUs hardly ran at the same time: of so many loads of the flag, so few saw it move.
    NotInterleaved { moved: u32, samples: u32 },
    /// Ranges of these types overlap, of which the SDM says nothing.
    Overlap(MemType, MemType),
}

/// One point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'p> {
    /// What was done.
    pub action: Action,
    /// What was seen.
    pub seen: Effect,
    /// What is predicted, or why nothing is.
    pub predicted: Result<Prediction<'p>, Why>,
}

impl Decision<'_> {
    /// Whether it was seen to be as predicted: not only to be one of several things, of which the predicted is one.
    pub fn proves(&self) -> Option<bool> {
        let open = matches!(self.seen, Effect::Types(types) if types.single().is_none());
        self.agrees().filter(|agrees| !(*agrees && open))
    }

    /// Whether it is as predicted; nothing if there is no prediction.
    pub fn agrees(&self) -> Option<bool> {
        self.predicted.ok().map(|prediction| prediction.expected.allows(self.seen))
    }
}
