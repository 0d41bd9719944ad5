//! The runner's own account of a run: vCPU state at creation, host steps and what they replied, MMIO exits.

use crate::register::Place;
use crate::step::{Hazard, MceEvent, SlotApi, SlotMemory, SlotType, Status, Step};
use crate::text::{TextError, Words};
use alloc::string::ToString;
use core::fmt;
use core::str::FromStr;

/// A record that the VMM made, not the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum HostRecord {
    /// A register as KVM made it, before anything was set or run: `reset 1:cr0 60000010`
    Reset { at: Place, value: u64 },
    /// A host step and its reply; `value` is 0 for a step that replies with none: `step get-msr 0 277 -> done 606`
    Step { step: Step, status: Status, value: u64 },
    /// A read that left the VM with KVM_EXIT_MMIO, and the value that the VMM gave it: `mmio-read 0 4 d0000000 5a5a`
    MmioRead { cpu: u8, width: u8, gpa: u64, value: u64 },
    /// A write that left the VM with KVM_EXIT_MMIO: `mmio-write 0 4 d0000000 5a5a`
    MmioWrite { cpu: u8, width: u8, gpa: u64, value: u64 },
    /// KVM changed the SPTE that maps a guest page frame, as tracefs shows it: level 1 is a 4K page, 2 a 2M and 3 a 1G
    /// one; the entries are as they are in memory, and one that maps nothing has its low three bits clear:
    /// `spte d0000 1 8000000000000000 60000010a2b3977`
    Spte { gfn: u64, level: u8, old: u64, new: u64 },
    /// KVM zapped the leaves of the guest page frames from `start` to before `end` in one call of kvm_zap_gfn_range
    /// (`arch/x86/kvm/mmu/mmu.c`), which took so many ticks of the host's time-stamp counter; what it zapped stands before:
    /// `zap 0 10000000000000 1a2b3`
    Zap { start: u64, end: u64, ticks: u64 },
    /// The VM has a kernel that is none of ours, at this entry, with so many bytes of memory from GPA 0 on. It tells nothing of
    /// what it does to its vCPUs and to memory: `kernel 39c2030 8000000`
    Kernel { entry: u64, memory: u64 },
}

impl fmt::Display for HostRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            HostRecord::Reset { at, value } => write!(f, "reset {at} {value:x}"),
            HostRecord::Step { step, status, value } => write!(f, "step {step} -> {status} {value:x}"),
            HostRecord::MmioRead { cpu, width, gpa, value } => {
                write!(f, "mmio-read {cpu:x} {width:x} {gpa:x} {value:x}")
            }
            HostRecord::MmioWrite { cpu, width, gpa, value } => {
                write!(f, "mmio-write {cpu:x} {width:x} {gpa:x} {value:x}")
            }
            HostRecord::Spte { gfn, level, old, new } => write!(f, "spte {gfn:x} {level:x} {old:x} {new:x}"),
            HostRecord::Zap { start, end, ticks } => write!(f, "zap {start:x} {end:x} {ticks:x}"),
            HostRecord::Kernel { entry, memory } => write!(f, "kernel {entry:x} {memory:x}"),
        }
    }
}

impl FromStr for HostRecord {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let mut words = Words::new(s);
        let kind = words.word("a host record")?;
        let record = match kind {
            "reset" => HostRecord::Reset { at: words.parse("a register")?, value: words.hex("a value")? },
            "step" => {
                let step = step(&mut words)?;
                words.word("an arrow").and_then(|w| if w == "->" { Ok(()) } else { Err(TextError::new("->", w)) })?;
                HostRecord::Step { step, status: words.parse("a status")?, value: words.hex("a value")? }
            }
            "mmio-read" | "mmio-write" => {
                let (cpu, width) = (words.hex("a vCPU index")?, words.hex("a width in bytes")?);
                let (gpa, value) = (words.hex("an address")?, words.hex("a value")?);
                if kind == "mmio-read" {
                    HostRecord::MmioRead { cpu, width, gpa, value }
                } else {
                    HostRecord::MmioWrite { cpu, width, gpa, value }
                }
            }
            "spte" => HostRecord::Spte {
                gfn: words.hex("a guest page frame")?,
                level: words.hex("a level")?,
                old: words.hex("an SPTE")?,
                new: words.hex("an SPTE")?,
            },
            "zap" => HostRecord::Zap {
                start: words.hex("a guest page frame")?,
                end: words.hex("a guest page frame")?,
                ticks: words.hex("a number of ticks")?,
            },
            "kernel" => HostRecord::Kernel { entry: words.hex("an address")?, memory: words.hex("a size")? },
            other => return Err(TextError::new("a host record", other)),
        };
        words.end()?;
        Ok(record)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::SetMsr { cpu, index, value } => write!(f, "set-msr {cpu:x} {index:x} {value:x}"),
            Step::GetMsr { cpu, index } => write!(f, "get-msr {cpu:x} {index:x}"),
            Step::SetOneReg { cpu, index, value } => write!(f, "set-one-reg {cpu:x} {index:x} {value:x}"),
            Step::GetOneReg { cpu, index } => write!(f, "get-one-reg {cpu:x} {index:x}"),
            Step::SetCr0 { cpu, value } => write!(f, "set-cr0 {cpu:x} {value:x}"),
            Step::GetCr0 { cpu } => write!(f, "get-cr0 {cpu:x}"),
            Step::ListsMsr { index } => write!(f, "lists-msr {index:x}"),
            Step::SetMaxphyaddr { cpu, bits } => write!(f, "set-maxphyaddr {cpu:x} {bits:x}"),
            Step::CopyState { from, to } => write!(f, "copy-state {from:x} {to:x}"),
            Step::SetupMce { cpu, mcg_cap } => write!(f, "setup-mce {cpu:x} {mcg_cap:x}"),
            Step::InjectMce { cpu, event: MceEvent { bank, status, addr, misc, mcg_status } } => {
                write!(f, "inject-mce {cpu:x} {bank:x} {status:x} {addr:x} {misc:x} {mcg_status:x}")
            }
            Step::SetSlot { api, slot, flags, gpa, pages, memory } => {
                write!(f, "set-slot {api} {slot:x} {flags:x} {gpa:x} {pages:x}")?;
                // As records were before there were other kinds.
                if memory == SlotMemory::Small { Ok(()) } else { write!(f, " {memory}") }
            }
            Step::DeleteSlot { api, slot } => write!(f, "delete-slot {api} {slot:x}"),
            Step::Poke { slot, offset, value, flush } => {
                write!(f, "{}poke {slot:x} {offset:x} {value:x}", flushing(flush))
            }
            Step::Peek { slot, offset, flush } => write!(f, "{}peek {slot:x} {offset:x}", flushing(flush)),
            Step::StartCpu { cpu, entry, stack, argument } => {
                write!(f, "start-cpu {cpu:x} {entry:x} {stack:x} {argument:x}")
            }
            Step::Mark => f.write_str("mark"),
            Step::PlugDma => f.write_str("plug-dma"),
            Step::UnplugDma => f.write_str("unplug-dma"),
            Step::SetMmioSlot { slot, gpa } => write!(f, "set-mmio-slot {slot:x} {gpa:x}"),
            Step::DisableQuirks { quirks } => write!(f, "disable-quirks {quirks:x}"),
            Step::SetHazardSlot { slot, gpa, hazard } => write!(f, "set-hazard-slot {slot:x} {gpa:x} {hazard}"),
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                let access = if readonly { "ro" } else { "rw" };
                write!(f, "set-typed-slot {typed} {slot:x} {access} {gpa:x} {pages:x}")
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => write!(f, "set-typed-mmio-slot {typed} {slot:x} {gpa:x}"),
            Step::Clock { ticks } => write!(f, "clock {ticks:x}"),
        }
    }
}

const fn flushing(flush: bool) -> &'static str {
    if flush { "flush-" } else { "" }
}

/// A step that stands alone in a line.
pub(crate) fn step_alone(line: &str) -> Result<Step, TextError> {
    let mut words = Words::new(line);
    let step = step(&mut words)?;
    words.end()?;
    Ok(step)
}

fn step(words: &mut Words<'_>) -> Result<Step, TextError> {
    const CPU: &str = "a vCPU index";
    const SLOT: &str = "a memslot";
    const INDEX: &str = "an MSR";
    const VALUE: &str = "a value";
    const OFFSET: &str = "an offset";
    const TYPED: &str = "a memslot's type";
    Ok(match words.word("a step")? {
        "set-msr" => Step::SetMsr { cpu: words.hex(CPU)?, index: words.hex(INDEX)?, value: words.hex(VALUE)? },
        "get-msr" => Step::GetMsr { cpu: words.hex(CPU)?, index: words.hex(INDEX)? },
        "set-one-reg" => Step::SetOneReg { cpu: words.hex(CPU)?, index: words.hex(INDEX)?, value: words.hex(VALUE)? },
        "get-one-reg" => Step::GetOneReg { cpu: words.hex(CPU)?, index: words.hex(INDEX)? },
        "set-cr0" => Step::SetCr0 { cpu: words.hex(CPU)?, value: words.hex(VALUE)? },
        "get-cr0" => Step::GetCr0 { cpu: words.hex(CPU)? },
        "lists-msr" => Step::ListsMsr { index: words.hex(INDEX)? },
        "set-maxphyaddr" => Step::SetMaxphyaddr { cpu: words.hex(CPU)?, bits: words.hex("a number of bits")? },
        "copy-state" => Step::CopyState { from: words.hex(CPU)?, to: words.hex(CPU)? },
        "setup-mce" => Step::SetupMce { cpu: words.hex(CPU)?, mcg_cap: words.hex(VALUE)? },
        "inject-mce" => Step::InjectMce {
            cpu: words.hex(CPU)?,
            event: MceEvent {
                bank: words.hex("an MC bank")?,
                status: words.hex(VALUE)?,
                addr: words.hex(VALUE)?,
                misc: words.hex(VALUE)?,
                mcg_status: words.hex(VALUE)?,
            },
        },
        "set-slot" => Step::SetSlot {
            api: words.parse("v1 or v2")?,
            slot: words.hex(SLOT)?,
            flags: words.hex("memslot flags")?,
            gpa: words.hex("an address")?,
            pages: words.hex("a number of pages")?,
            memory: match words.peek() {
                None | Some("->") => SlotMemory::Small,
                _ => words.parse("a kind of memory")?,
            },
        },
        "delete-slot" => Step::DeleteSlot { api: words.parse("v1 or v2")?, slot: words.hex(SLOT)? },
        kind @ ("poke" | "flush-poke") => Step::Poke {
            slot: words.hex(SLOT)?,
            offset: words.hex(OFFSET)?,
            value: words.hex(VALUE)?,
            flush: kind != "poke",
        },
        kind @ ("peek" | "flush-peek") => {
            Step::Peek { slot: words.hex(SLOT)?, offset: words.hex(OFFSET)?, flush: kind != "peek" }
        }
        "start-cpu" => Step::StartCpu {
            cpu: words.hex(CPU)?,
            entry: words.hex("an address")?,
            stack: words.hex("an address")?,
            argument: words.hex(VALUE)?,
        },
        "mark" => Step::Mark,
        "plug-dma" => Step::PlugDma,
        "unplug-dma" => Step::UnplugDma,
        "set-mmio-slot" => Step::SetMmioSlot { slot: words.hex(SLOT)?, gpa: words.hex("an address")? },
        "disable-quirks" => Step::DisableQuirks { quirks: words.hex("quirks")? },
        "set-hazard-slot" => Step::SetHazardSlot {
            slot: words.hex(SLOT)?,
            gpa: words.hex("an address")?,
            hazard: words.parse("host-bar, vga-hole or apic-page")?,
        },
        "set-typed-slot" => Step::SetTypedSlot {
            typed: words.parse(TYPED)?,
            slot: words.hex(SLOT)?,
            readonly: match words.word("ro or rw")? {
                "ro" => true,
                "rw" => false,
                other => return Err(TextError::new("ro or rw", other)),
            },
            gpa: words.hex("an address")?,
            pages: words.hex("a number of pages")?,
        },
        "set-typed-mmio-slot" => {
            Step::SetTypedMmioSlot { typed: words.parse(TYPED)?, slot: words.hex(SLOT)?, gpa: words.hex("an address")? }
        }
        "clock" => Step::Clock { ticks: words.hex("a number of ticks")? },
        other => return Err(TextError::new("a step", other)),
    })
}

impl fmt::Display for SlotApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlotApi::V1 => "v1",
            SlotApi::V2 => "v2",
        })
    }
}

impl FromStr for SlotApi {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        match s {
            "v1" => Ok(SlotApi::V1),
            "v2" => Ok(SlotApi::V2),
            _ => Err(TextError::new("v1 or v2", s)),
        }
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hazard::HostBar => "host-bar",
            Hazard::VgaHole => "vga-hole",
            Hazard::ApicPage => "apic-page",
        })
    }
}

impl FromStr for Hazard {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let wanted = || TextError::new("host-bar, vga-hole or apic-page", s);
        Hazard::ALL.into_iter().find(|hazard| hazard.to_string() == s).ok_or_else(wanted)
    }
}

impl fmt::Display for SlotType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlotType::Plain => "plain",
            SlotType::NonCoherentDma => "non-coherent-dma",
            SlotType::Wc => "wc",
        })
    }
}

impl FromStr for SlotType {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let wanted = || TextError::new("plain, non-coherent-dma or wc", s);
        SlotType::ALL.into_iter().find(|typed| typed.to_string() == s).ok_or_else(wanted)
    }
}

impl fmt::Display for SlotMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlotMemory::Small => "small",
            SlotMemory::Thp => "thp",
            SlotMemory::Hugetlb2M => "hugetlb-2m",
            SlotMemory::Hugetlb1G => "hugetlb-1g",
            SlotMemory::Memfd => "memfd",
            SlotMemory::Sparse => "sparse",
        })
    }
}

impl FromStr for SlotMemory {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let wanted = || TextError::new("small, thp, hugetlb-2m, hugetlb-1g, memfd or sparse", s);
        SlotMemory::ALL.into_iter().find(|kind| kind.to_string() == s).ok_or_else(wanted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Done => f.write_str("done"),
            Status::Refused => f.write_str("refused"),
            Status::Invalid => f.write_str("invalid"),
            Status::NoMemory => f.write_str("no-memory"),
            Status::Errno(errno) => write!(f, "errno-{errno:x}"),
        }
    }
}

impl FromStr for Status {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        match s {
            "done" => Ok(Status::Done),
            "refused" => Ok(Status::Refused),
            "invalid" => Ok(Status::Invalid),
            "no-memory" => Ok(Status::NoMemory),
            _ => {
                let errno = s.strip_prefix("errno-").ok_or_else(|| TextError::new("a status", s))?;
                crate::text::hex(errno, "an errno").map(Status::Errno)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::register::Register;
    use alloc::vec;
    use proptest::prelude::*;

    pub(crate) fn step() -> impl Strategy<Value = Step> {
        let api = || prop_oneof![Just(SlotApi::V1), Just(SlotApi::V2)];
        prop_oneof![
            any::<(u8, u32, u64)>().prop_map(|(cpu, index, value)| Step::SetMsr { cpu, index, value }),
            any::<(u8, u32)>().prop_map(|(cpu, index)| Step::GetMsr { cpu, index }),
            any::<(u8, u32, u64)>().prop_map(|(cpu, index, value)| Step::SetOneReg { cpu, index, value }),
            any::<(u8, u32)>().prop_map(|(cpu, index)| Step::GetOneReg { cpu, index }),
            any::<(u8, u64)>().prop_map(|(cpu, value)| Step::SetCr0 { cpu, value }),
            any::<u8>().prop_map(|cpu| Step::GetCr0 { cpu }),
            any::<u32>().prop_map(|index| Step::ListsMsr { index }),
            any::<(u8, u8)>().prop_map(|(cpu, bits)| Step::SetMaxphyaddr { cpu, bits }),
            any::<(u8, u8)>().prop_map(|(from, to)| Step::CopyState { from, to }),
            any::<(u8, u64)>().prop_map(|(cpu, mcg_cap)| Step::SetupMce { cpu, mcg_cap }),
            any::<(u8, u8, u64, u64, u64, u64)>().prop_map(|(cpu, bank, status, addr, misc, mcg_status)| {
                Step::InjectMce { cpu, event: MceEvent { bank, status, addr, misc, mcg_status } }
            }),
            (api(), any::<(u8, u32, u64, u32)>(), 0..SlotMemory::ALL.len()).prop_map(
                |(api, (slot, flags, gpa, pages), kind)| Step::SetSlot {
                    api,
                    slot,
                    flags,
                    gpa,
                    pages,
                    memory: SlotMemory::ALL[kind]
                }
            ),
            (api(), any::<u8>()).prop_map(|(api, slot)| Step::DeleteSlot { api, slot }),
            any::<(u8, u32, u64, bool)>().prop_map(|(slot, offset, value, flush)| Step::Poke {
                slot,
                offset,
                value,
                flush
            }),
            any::<(u8, u32, bool)>().prop_map(|(slot, offset, flush)| Step::Peek { slot, offset, flush }),
            any::<(u8, u64, u64, u64)>().prop_map(|(cpu, entry, stack, argument)| Step::StartCpu {
                cpu,
                entry,
                stack,
                argument
            }),
            prop_oneof![Just(Step::Mark), Just(Step::PlugDma), Just(Step::UnplugDma)],
            any::<(u8, u64)>().prop_map(|(slot, gpa)| Step::SetMmioSlot { slot, gpa }),
            any::<u32>().prop_map(|quirks| Step::DisableQuirks { quirks }),
            (any::<(u8, u64)>(), 0..3usize).prop_map(|((slot, gpa), n)| Step::SetHazardSlot {
                slot,
                gpa,
                hazard: Hazard::ALL[n]
            }),
            (any::<(u8, bool, u64, u32)>(), 0..3usize).prop_map(|((slot, readonly, gpa, pages), n)| {
                Step::SetTypedSlot { typed: SlotType::ALL[n], slot, readonly, gpa, pages }
            }),
            (any::<(u8, u64)>(), 0..3usize).prop_map(|((slot, gpa), n)| Step::SetTypedMmioSlot {
                typed: SlotType::ALL[n],
                slot,
                gpa
            }),
            any::<u64>().prop_map(|ticks| Step::Clock { ticks }),
        ]
    }

    fn status() -> impl Strategy<Value = Status> {
        prop_oneof![
            Just(Status::Done),
            Just(Status::Refused),
            Just(Status::Invalid),
            Just(Status::NoMemory),
            any::<u32>().prop_map(Status::Errno)
        ]
    }

    proptest! {
        #[test]
        fn a_step_survives_guest_memory(step in step(), status in status()) {
            prop_assert_eq!(Step::from_words(step.words()), Some(step));
            prop_assert_eq!(Status::from_word(status.word()), status);
        }

        #[test]
        fn any_words_are_a_step_or_none(words: [u64; 8]) {
            if let Some(step) = Step::from_words(words) {
                prop_assert_eq!(step.words(), words);
            }
        }

        #[test]
        fn a_host_record_reads_back(step in step(), status in status(), value: u64, cpu: u8, width: u8, gpa: u64) {
            for record in [
                HostRecord::Step { step, status, value },
                HostRecord::Reset { at: Place { cpu, register: Register::Cr0 }, value },
                HostRecord::MmioRead { cpu, width, gpa, value },
                HostRecord::MmioWrite { cpu, width, gpa, value },
                HostRecord::Spte { gfn: gpa, level: width, old: value, new: !value },
                HostRecord::Zap { start: gpa, end: !gpa, ticks: value },
                HostRecord::Kernel { entry: gpa, memory: value },
            ] {
                prop_assert_eq!(record.to_string().parse(), Ok(record));
            }
        }
    }
}
