//! Points in words, for people.

use super::names::{Bits, Errno, Exception, Hex, Msr};
use super::point::{Action, Effect, Exit, Rule, Why};
use crate::host::quirks::Quirks;
use std::fmt;
use wire::coherence::{Aliased, Between, Ordered, Side};
use wire::history::Op;
use wire::layout::{CR0_CD, CR0_NW};
use wire::outcome::After;
use wire::probe::Probe;
use wire::record::{Timed, Trap};
use wire::register::{Place, Register};
use wire::step::{SlotApi, SlotMemory, Status, Step};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Reset(Place { cpu, register }) => match register {
                Register::Msr(index) => write!(f, "vCPU {cpu}: {} at creation", Msr(index)),
                _ => write!(f, "vCPU {cpu}: CR0 at creation"),
            },
            Action::Read(Place { cpu, register }) => match register {
                Register::Msr(index) => write!(f, "vCPU {cpu}: RDMSR {}", Msr(index)),
                Register::Cr4 => write!(f, "vCPU {cpu}: MOV from CR4"),
                _ => write!(f, "vCPU {cpu}: MOV from CR0"),
            },
            Action::Write(Place { cpu, register }, value) => match register {
                Register::Msr(index) => write!(f, "vCPU {cpu}: WRMSR {} <- {}", Msr(index), Hex(value)),
                Register::Cr0 => write!(f, "vCPU {cpu}: MOV CR0 <- {value:#x}"),
                Register::Cr4 => write!(f, "vCPU {cpu}: MOV CR4 <- {value:#x}"),
                Register::Lmsw => write!(f, "vCPU {cpu}: LMSW {value:#x}"),
                Register::Clts => write!(f, "vCPU {cpu}: CLTS"),
            },
            Action::Exec { insn, cpl } => write!(f, "{} at CPL {cpl}", insn.name().to_uppercase()),
            Action::Access(access) if access.write => write!(
                f,
                "{}-byte store of {:#x} to GPA {:#x} at CPL {}",
                access.width, access.value, access.gpa, access.cpl
            ),
            Action::Access(access) => {
                write!(f, "{}-byte load from GPA {:#x} at CPL {}", access.width, access.gpa, access.cpl)
            }
            Action::Timed(timed) => TimedWords(timed).fmt(f),
            Action::Aliased(Aliased { gpa, store, load, between, ticks, .. }, aspect) => {
                let (store, load) = (SideWords(store), SideWords(load));
                write!(f, "GPA {gpa:#x}: stores by {store}, {}, loads by {load}", between_words(between))?;
                if ticks != 0 {
                    write!(f, ", {ticks} ticks")?;
                }
                write!(f, ": {aspect}")
            }
            Action::Ordered(Ordered { gpa, writer, reader, pat_entry, fenced, samples, .. }) => {
                let fences = if fenced { "with MFENCE" } else { "without fences" };
                write!(
                    f,
                    "GPA {gpa:#x}, PAT entry {pat_entry}: message passing from vCPU {writer} to vCPU {reader} {fences}, \
                     {samples} loads of the flag"
                )
            }
            Action::StrayExit(exit) => write!(f, "{exit}, which no access explains"),
            Action::MachineCheck { cpu } => write!(f, "vCPU {cpu}: machine check"),
            Action::Trap { cpu } => write!(f, "vCPU {cpu}: exception"),
            Action::Cpuid { leaf, subleaf } => {
                let what = if leaf == 1 { "EDX.MTRR" } else { "EAX[7:0], MAXPHYADDR" };
                write!(f, "CPUID {leaf:#x}.{subleaf}: {what}")
            }
            Action::Step(step) => StepWords(step).fmt(f),
            Action::Leaf { gpa, level } => {
                write!(f, "leaf SPTE of GPA {gpa:#x} ({})", size(level))
            }
            Action::Held { gpa, level } => {
                write!(f, "leaf SPTE of GPA {gpa:#x} ({}) at an access", size(level))
            }
            Action::Zap(event) => write!(f, "leaf SPTEs after {event}"),
            Action::TripleFault => f.write_str("triple fault"),
        }
    }
}

/// An operation of a history in words.
pub struct OpWords(pub Op);

impl fmt::Display for OpWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = |f: &mut fmt::Formatter<'_>, cpu, what, gpa, entry| {
            write!(f, "vCPU {cpu}: {what} GPA {gpa:#x} through PAT entry {entry}")
        };
        match self.0 {
            Op::Wrmsr { cpu, index, value } => {
                Action::Write(Place { cpu, register: Register::Msr(index) }, value).fmt(f)
            }
            Op::MovCr0 { cpu, bits } => {
                let (cd, nw) = (u8::from(bits & CR0_CD != 0), u8::from(bits & CR0_NW != 0));
                write!(f, "vCPU {cpu}: MOV CR0, CD={cd} NW={nw}")
            }
            Op::Store { cpu, gpa, pat_entry } => page(f, cpu, "store to", gpa, pat_entry),
            Op::Load { cpu, gpa, pat_entry } => page(f, cpu, "load from", gpa, pat_entry),
            Op::Host(step) => StepWords(step).fmt(f),
        }
    }
}

/// The size of a leaf's page.
fn size(level: u8) -> &'static str {
    ["4K", "2M", "1G"].get(usize::from(level).wrapping_sub(1)).copied().unwrap_or("of unknown size")
}

struct TimedWords(Timed);

impl fmt::Display for TimedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timed { cpu, cpl, gpa, pat_entry, nested, times } = self.0;
        match times.get(Probe::Walk) {
            None => write!(f, "vCPU {cpu}: timed GPA {gpa:#x} at CPL {cpl}")?,
            Some(_) => write!(f, "vCPU {cpu}: timed walks by the page table at GPA {gpa:#x}")?,
        }
        match pat_entry {
            Some(entry) => write!(f, ", PAT entry {entry}")?,
            None => f.write_str(", paging off")?,
        }
        if let Some(ept) = nested {
            write!(f, ", in a guest by an EPT leaf of type {ept}")?;
        }
        Ok(())
    }
}

struct SideWords(Side);

impl fmt::Display for SideWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Side::Guest { cpu, pat_entry } => write!(f, "vCPU {cpu} through PAT entry {pat_entry}"),
            Side::Host => f.write_str("the host through its HVA"),
        }
    }
}

fn between_words(between: Between) -> &'static str {
    match between {
        Between::Nothing => "no fence",
        Between::Fence => "a fence",
        Between::Clflush => "CLFLUSH by the guest",
        Between::HostClflush => "CLFLUSH by the host",
        Between::Wbinvd => "WBINVD",
        Between::Invd => "INVD",
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, to) = if self.write { ("write", "to") } else { ("read", "from") };
        write!(f, "KVM_EXIT_MMIO {}-byte {what} of {:#x} {to} GPA {:#x}", self.width, self.value, self.gpa)
    }
}

struct StepWords(Step);

impl fmt::Display for StepWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Step::SetMsr { cpu, index, value } => {
                write!(f, "vCPU {cpu}: KVM_SET_MSRS {} <- {}", Msr(index), Hex(value))
            }
            Step::GetMsr { cpu, index } => write!(f, "vCPU {cpu}: KVM_GET_MSRS {}", Msr(index)),
            Step::SetOneReg { cpu, index, value } => {
                write!(f, "vCPU {cpu}: KVM_SET_ONE_REG {} <- {}", Msr(index), Hex(value))
            }
            Step::GetOneReg { cpu, index } => write!(f, "vCPU {cpu}: KVM_GET_ONE_REG {}", Msr(index)),
            Step::SetCr0 { cpu, value } => write!(f, "vCPU {cpu}: KVM_SET_SREGS CR0 <- {value:#x}"),
            Step::GetCr0 { cpu } => write!(f, "vCPU {cpu}: KVM_GET_SREGS CR0"),
            Step::ListsMsr { index } => write!(f, "KVM_GET_MSR_INDEX_LIST has {}", Msr(index)),
            Step::SetMaxphyaddr { cpu, bits } => write!(f, "vCPU {cpu}: KVM_SET_CPUID2 with MAXPHYADDR {bits}"),
            Step::CopyState { from, to } => write!(f, "MTRRs, PAT and CR0 of vCPU {from} set on vCPU {to}"),
            Step::SetupMce { cpu, mcg_cap } => write!(f, "vCPU {cpu}: KVM_X86_SETUP_MCE MCG_CAP {mcg_cap:#x}"),
            Step::InjectMce { cpu, event } => write!(
                f,
                "vCPU {cpu}: KVM_X86_SET_MCE bank {} status {:#x} MCG_STATUS {:#x}",
                event.bank, event.status, event.mcg_status
            ),
            Step::SetSlot { api, slot, flags, gpa, pages, memory } => {
                write!(f, "{}: slot {slot} with flags {flags:#x}, {pages} pages at GPA {gpa:#x}", ioctl(api))?;
                match memory {
                    SlotMemory::Small => Ok(()),
                    SlotMemory::Thp => f.write_str(", transparent huge pages"),
                    SlotMemory::Hugetlb2M => f.write_str(", hugetlb pages of 2M"),
                    SlotMemory::Hugetlb1G => f.write_str(", hugetlb pages of 1G"),
                    SlotMemory::Memfd => f.write_str(", a memfd"),
                    SlotMemory::Sparse => f.write_str(", memory as it is touched"),
                }
            }
            Step::DeleteSlot { api, slot } => write!(f, "{}: slot {slot} deleted", ioctl(api)),
            Step::Poke { slot, offset, value, flush } => {
                let flushes = if flush { ", CLFLUSH before and after" } else { "" };
                write!(f, "HVA of slot {slot}, offset {offset:#x} <- {value:#x}{flushes}")
            }
            Step::Peek { slot, offset, flush } => {
                let flushes = if flush { " after CLFLUSH" } else { "" };
                write!(f, "HVA of slot {slot}, offset {offset:#x} read{flushes}")
            }
            Step::StartCpu { cpu, .. } => write!(f, "vCPU {cpu}: started in 64-bit mode"),
            Step::Mark => f.write_str("a mark for the witnesses"),
            Step::PlugDma => f.write_str("KVM_SET_DEVICE_ATTR: non-coherent DMA plugged in"),
            Step::UnplugDma => f.write_str("KVM_SET_DEVICE_ATTR: non-coherent DMA taken away"),
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                let access = if readonly { "read-only " } else { "" };
                write!(f, "{access}slot {slot} of type {typed}, {pages} pages at GPA {gpa:#x}")
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => {
                write!(f, "slot {slot} of type {typed} with a page of a PCI BAR at GPA {gpa:#x}")
            }
            Step::SetHazardSlot { slot, gpa, hazard } => {
                write!(f, "slot {slot} with the host's {hazard} at GPA {gpa:#x}")
            }
            Step::SetMmioSlot { slot, gpa } => write!(f, "slot {slot} with a page of a PCI BAR at GPA {gpa:#x}"),
            Step::DisableQuirks { quirks } => {
                let names: Vec<_> = Quirks(quirks).names().collect();
                write!(f, "KVM_CAP_DISABLE_QUIRKS2 {quirks:#x} ({})", names.join(", "))
            }
            Step::Clock { ticks } => write!(f, "the guest's clock at {ticks} ticks"),
        }
    }
}

fn ioctl(api: SlotApi) -> &'static str {
    match api {
        SlotApi::V1 => "KVM_SET_USER_MEMORY_REGION",
        SlotApi::V2 => "KVM_SET_USER_MEMORY_REGION2",
    }
}

/// An effect in words, of an action.
pub struct EffectOf(pub Effect, pub Action);

impl fmt::Display for EffectOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EffectOf(effect, action) = *self;
        match effect {
            Effect::Value(value) => write!(f, "{value:#x}"),
            Effect::AnyValue => f.write_str("a value, whichever"),
            Effect::Ran => f.write_str("runs without an exception"),
            Effect::Fault(fault) => Exception::from(fault).fmt(f),
            Effect::Written { fault, after } => {
                match fault {
                    None => f.write_str("accepted")?,
                    Some(fault) => Exception::from(fault).fmt(f)?,
                }
                match after {
                    After::AsWritten if fault.is_none() => f.write_str(", reads back as written"),
                    After::AsWritten => f.write_str(", unchanged"),
                    After::Value(read) => write!(f, ", reads back {read:#x}"),
                    After::Unreadable(vector) => write!(f, ", and {} on reading it", Exception(vector, None)),
                }
            }
            Effect::Reply { status, value } => match status {
                Status::Done => match action {
                    Action::Step(step) if super::point::replies_with_value(step) => write!(f, "{value:#x}"),
                    _ => f.write_str("done"),
                },
                Status::Refused => f.write_str("refused (no entry taken)"),
                Status::Errno(errno) => write!(f, "fails with {}", Errno(errno)),
                Status::Invalid => f.write_str("not done by the VMM"),
                Status::NoMemory => f.write_str("no memory of the host for it"),
            },
            Effect::AnyReply => f.write_str("done, with a value, whichever"),
            Effect::AnyErrno => f.write_str("fails with some error"),
            Effect::Memory { fault, value, exits } => {
                let mut parts = Vec::new();
                parts.extend(fault.map(|fault| Exception::from(fault).to_string()));
                parts.extend(value.map(|value| format!("gives {value:#x}")));
                parts.extend(exits.iter().flatten().map(Exit::to_string));
                if exits == [None; 2] {
                    parts.push("no exit".into());
                }
                f.write_str(&parts.join(", "))
            }
            Effect::Type(memtype) => memtype.fmt(f),
            Effect::Types(types) => types.fmt(f),
            Effect::Times => f.write_str("times of no known type"),
            Effect::Loads { new, stale: 0, other: 0 } => write!(f, "{new} new values"),
            Effect::Loads { new, stale, other: 0 } => write!(f, "{new} new values, {stale} old ones"),
            Effect::Loads { new, stale, other } => {
                write!(f, "{new} new values, {stale} old ones, {other} that were never stored")
            }
            Effect::NewValues => f.write_str("new values alone"),
            Effect::StoredValues => f.write_str("new or old values"),
            Effect::Passed { moved, reordered } => {
                write!(f, "the flag moved {moved} times, the data was older {reordered} times")
            }
            Effect::InOrder => f.write_str("data never older than the flag"),
            Effect::AnyOrder => f.write_str("data older than the flag, or not"),
            Effect::Leaf(leaf) => leaf.fmt(f),
            Effect::Zapped { leaves: 0, of } => write!(f, "none of {of} zapped"),
            Effect::Zapped { leaves, of } if leaves == of => write!(f, "all {of} zapped"),
            Effect::Zapped { leaves, of } => write!(f, "{leaves} of {of} zapped"),
            Effect::Trap(Trap { vector, error, cpl }) => {
                write!(f, "{} at CPL {cpl}", Exception(vector, Some(error)))
            }
            Effect::Nothing => f.write_str("none"),
            Effect::Happened => f.write_str("happened"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Rule::Accepted => "passes all checks",
            Rule::Kept => "holds what was written last",
            Rule::Readable => "can be read; what it holds is not known",
            Rule::Fixed => "always holds this value",
            Rule::NeverRead => "cannot be read",
            Rule::NeverWritten => "cannot be written",
            Rule::Ignored => "writes have no effect",
            Rule::Reserved { bits } => return write!(f, "reserved bits {} are set", Bits(bits)),
            Rule::NoType { byte, value } => return write!(f, "byte {byte} holds {value:#04x}, no memory type"),
            Rule::Reset => "value at creation",
            Rule::Init => "what INIT leaves",
            Rule::Cr0Combination { bit, needs } => return write!(f, "bit {bit} needs bit {needs}"),
            Rule::Cr0Paging => "paging cannot be turned off in 64-bit mode",
            Rule::Cr0Undefined => "undefined bits stay zero, fixed ones stay one",
            Rule::Privileged => "needs CPL 0",
            Rule::Announced => "CPUID announces it",
            Rule::NotAnnounced => "CPUID does not announce it",
            Rule::Always => "always works",
            Rule::Slot => "a memslot is there",
            Rule::ReadOnlySlot => "a write to a read-only memslot leaves the VM",
            Rule::NoSlot => "where no memslot is, the access leaves the VM",
            Rule::Flag => "the flag decides",
            Rule::SlotFixed => "a memslot cannot change its size or whether it is read-only",
            Rule::SlotOverlap => "memslots cannot overlap",
            Rule::SlotAbsent => "there is no such memslot",
            Rule::Quirks => "KVM_CAP_DISABLE_QUIRKS2 says which quirks can be disabled",
            Rule::Listed => "whether KVM lists it",
            Rule::VmConfig => "what the VM configuration shows",
            Rule::OneToOne => "each exit belongs to an access",
            Rule::McgCap => "1 to 32 banks and supported capabilities",
            Rule::MceBank => "the error is kept in its bank",
            Rule::MceInvalid => "needs a bank that is there, and VAL",
            Rule::MceDropped => "reporting is off in MCG_CTL or MCi_CTL, so it is dropped",
            Rule::MceDelivered => "an uncorrected error raises #MC",
            Rule::MceTripleFault => "with CR4.MCE clear or MCIP set, an uncorrected error shuts down",
            Rule::MceRegister => "MC banks as KVM emulates them",
            Rule::NoMachineCheck => "nothing was injected that raises #MC",
            Rule::PageType { mtrr, pat, cd } => return write!(f, "MTRR type {mtrr}, PAT type {pat}, {}", caching(cd)),
            Rule::EptPageType { ept, pat, cd } => return write!(f, "EPT type {ept}, PAT type {pat}, {}", caching(cd)),
            Rule::LeafPageType { ept, pat, seen } => {
                let leaf = if seen { "that was seen" } else { "that the policy gives" };
                return write!(f, "EPT leaf {ept} {leaf}, PAT type {pat}");
            }
            Rule::NptPageType { pat, mtrr, apm } => {
                return write!(f, "PAT type {pat} over the host's WB, host MTRR type {mtrr}: {apm}");
            }
            Rule::GuestPat0 { pat } => return write!(f, "entry 0 of the guest's PAT, {pat}, for all memory"),
            Rule::HostPat0 => "entry 0 of the host's PAT, WB, for all memory",
            Rule::LeafHeld => "KVM chooses the type when it makes the leaf",
            Rule::LeafTooLarge => "MTRRs give its pages different types",
            Rule::LeafAlways => "whatever type the guest's MTRRs say",
            Rule::GuestMtrr { memtype, kvm: None } => return write!(f, "guest MTRR type {memtype}"),
            Rule::GuestMtrr { memtype, kvm: Some((kvm, _)) } => {
                return write!(f, "guest MTRR type {memtype} by the SDM; KVM's own lookup gives {kvm}");
            }
            Rule::GuestMtrrUndefined { memtype, one, other } => {
                return write!(
                    f,
                    "guest MTRR types {one} and {other}, undefined by the SDM; KVM's own lookup gives {memtype}"
                );
            }
            Rule::ZapAll => "zaps all leaves",
            Rule::ZapRange => "zaps the leaves of the range",
            Rule::NoZap => "zaps no leaf",
            Rule::Promise(promise) => return promise.fmt(f),
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NoRow => "no row of the policy speaks of it",
            Why::Unpredicted => "the policy predicts nothing of it",
            Why::NotHost => "the policy does not speak of what a host does",
            Why::Maxphyaddr => "MAXPHYADDR is not known",
            Why::Unknown => "the value before is not known",
            Why::Held => "a register holds a value that it should have refused",
            Why::Cpuid => "the guest did not report the CPUID leaf that announces it",
            Why::MceState => "whether CR4.MCE or MCG_STATUS.MCIP was set is not known",
            Why::Cpl => "the guest did not say at which CPL it rang the doorbell",
            Why::MceCaps => "the MCE capabilities that KVM supports are not known",
            Why::IgnoreMsrs => "kvm.ignore_msrs is on or not known, and may swallow it",
            Why::Vmm => "the VMM would not do the step",
            Why::NoMemory => "the host gave no memory for the slot",
            Why::Hazard => "nothing is promised of a cacheable access to such a page of the host",
            Why::Window => "the access is outside the test window",
            Why::NoScale => "no page of this vCPU was timed by which these times could be read",
            Why::NoContrast { hit, miss } => {
                return write!(
                    f,
                    "times say nothing here: a load takes {hit} ticks, and {miss} after its line was flushed from the caches"
                );
            }
            Why::NotShown { uc, hit, miss } => {
                return write!(
                    f,
                    "this host cannot tell UC from WB: a load takes {uc} ticks from a page of PAT type UC and {hit} from one \
                     of WB, where a miss takes {miss}, and what is below this KVM may make all memory WB"
                );
            }
            Why::Emulated => "this KVM may emulate what a guest does at CPL 0, and times of that say nothing of memory",
            Why::Fits(fits) => return write!(f, "its times could be those of {fits}"),
            Why::NoClass => "no memory type takes such times",
            Why::TypeState => "what MTRRs, PAT or CR0 hold is not known",
            Why::TypeUndefined => "MTRRs leave the type undefined",
            Why::LeafState => "it is not known what CR0 or IA32_MTRR_DEF_TYPE holds, or which memslot it is",
            Why::LeafCpu => "it depends on the vCPU that faulted, which is not known",
            Why::LeafFormat => {
                "the format of SPTEs is not known: it takes the vendor module and its parameter ept or npt"
            }
            Why::LeafLookup => {
                "KVM looks up such MTRRs in its own way, and without the witness of SPTEs the leaf is not known"
            }
            Why::NoFill => "CR0.CD is set in the CPU: it serves what its caches hold, and fills in nothing",
            Why::NoLeaf => "the page was accessed, but no SPTE that maps it was seen",
            Why::ZapUnseen => {
                "only KVM's TDP MMU tells of each SPTE that goes, and whether it is used is not known or it is not: \
                 parameter kvm.tdp_mmu, with ept or npt"
            }
            Why::NoMark => "no mark follows, so that it is not certain which came first",
            Why::NoLoads => "no load was done",
            Why::NotInterleaved { moved, samples } => {
                return write!(
                    f,
                    "the two vCPUs hardly ran at the same time: {moved} of {samples} loads of the flag saw it move"
                );
            }
            Why::Overlap(one, other) => {
                return write!(f, "MTRRs of types {one} and {other} overlap, of which the SDM says nothing");
            }
        })
    }
}

fn caching(cd: bool) -> &'static str {
    if cd { "CR0.CD set" } else { "CR0.CD clear" }
}
