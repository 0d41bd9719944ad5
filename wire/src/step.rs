//! Host steps: what a guest asks of the VMM at the doorbell.
//!
//! The guest fills a [`StepBlock`] and writes its GPA to [`DOORBELL_PORT`](crate::layout::DOORBELL_PORT). The VMM does
//! the step, keeps its own record of it, writes the reply into the block and lets the guest go on.

/// Something that the VMM does to the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Step {
    /// KVM_SET_MSRS with one entry.
    SetMsr { cpu: u8, index: u32, value: u64 },
    /// KVM_GET_MSRS with one entry; replies with the value.
    GetMsr { cpu: u8, index: u32 },
    /// KVM_SET_ONE_REG of an MSR (`KVM_X86_REG_MSR`).
    SetOneReg { cpu: u8, index: u32, value: u64 },
    /// KVM_GET_ONE_REG of an MSR; replies with the value.
    GetOneReg { cpu: u8, index: u32 },
    /// KVM_SET_SREGS with this CR0 and all else as it is.
    SetCr0 { cpu: u8, value: u64 },
    /// CR0 from KVM_GET_SREGS; replies with the value.
    GetCr0 { cpu: u8 },
    /// Whether KVM_GET_MSR_INDEX_LIST names an MSR; replies with 0 or 1.
    ListsMsr { index: u32 },
    /// KVM_SET_CPUID2 with another MAXPHYADDR, on a vCPU that has not run yet.
    SetMaxphyaddr { cpu: u8, bits: u8 },
    /// Special registers, all MTRRs and the PAT of one vCPU, set on another as a VMM does that restores a snapshot.
    CopyState { from: u8, to: u8 },
    /// KVM_X86_SETUP_MCE with this MCG_CAP.
    SetupMce { cpu: u8, mcg_cap: u64 },
    /// KVM_X86_SET_MCE.
    InjectMce { cpu: u8, event: MceEvent },
    /// Makes, changes or moves a memslot. Its memory is zero when the slot is made, stays through a deletion and is
    /// found again when the slot is made anew, which must be of the same kind then.
    SetSlot { api: SlotApi, slot: u8, flags: u32, gpa: u64, pages: u32, memory: SlotMemory },
    /// Sets a memslot's size to 0, which deletes it.
    DeleteSlot { api: SlotApi, slot: u8 },
    /// Writes eight bytes of a slot's memory through the HVA, which is WB. With `flush`, CLFLUSH goes before, so that no
    /// old line is written to, and after, so that the bytes are in memory.
    Poke { slot: u8, offset: u32, value: u64, flush: bool },
    /// Reads eight bytes of a slot's memory through the HVA, which is WB; replies with the value. With `flush`, CLFLUSH
    /// goes before, so that the bytes come from memory.
    Peek { slot: u8, offset: u32, flush: bool },
    /// Sets a vCPU's registers to 64-bit mode, as the one that boots was, and runs it from `entry` with RSP and RDI.
    StartCpu { cpu: u8, entry: u64, stack: u64, argument: u64 },
    /// Nothing but a place in the log: what the witnesses saw until now stands before it, what they see later after it.
    Mark,
    /// Gives the VM a device whose DMA is not coherent (KVM_DEV_VFIO_FILE_ADD).
    PlugDma,
    /// Takes that device away (KVM_DEV_VFIO_FILE_DEL).
    UnplugDma,
    /// Makes a memslot of one page whose memory is that of a PCI BAR of the host.
    SetMmioSlot { slot: u8, gpa: u64 },
    /// KVM_ENABLE_CAP of KVM_CAP_DISABLE_QUIRKS2 with these quirks.
    DisableQuirks { quirks: u32 },
    /// The same with a page of the host of which nobody promises that it survives a cacheable access.
    SetHazardSlot { slot: u8, gpa: u64, hazard: Hazard },
    /// Makes a memslot of small pages with the flag of a type, or gives one that is there another one.
    SetTypedSlot { typed: SlotType, slot: u8, readonly: bool, gpa: u64, pages: u32 },
    /// [`Step::SetMmioSlot`] with the flag of a type.
    SetTypedMmioSlot { typed: SlotType, slot: u8, gpa: u64 },
    /// The guest's time-stamp counter stands at `ticks` now; replies with the host's CLOCK_MONOTONIC in nanoseconds. A boot
    /// that is measured lies between two of these.
    Clock { ticks: u64 },
}

/// A flag of a memslot that says which memory types its pages have. No KVM of a released kernel has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotType {
    /// None: pages have the types that the VM gives them.
    #[default]
    Plain,
    /// KVM_MEM_NON_COHERENT_DMA: guest PAT is honoured.
    NonCoherentDma,
    /// KVM_MEM_WC: all is WC.
    Wc,
}

impl SlotType {
    /// All of them.
    pub const ALL: [SlotType; 3] = [SlotType::Plain, SlotType::NonCoherentDma, SlotType::Wc];

    fn from_word(word: u64) -> Option<Self> {
        SlotType::ALL.into_iter().find(|&typed| typed as u64 == word)
    }
}

/// A page of the host that destructive tests touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// The first page of a PCI BAR.
    HostBar,
    /// The page at 0xa0000, the legacy VGA hole.
    VgaHole,
    /// The page of the local APIC, 0xfee00000.
    ApicPage,
}

impl Hazard {
    /// All of them.
    pub const ALL: [Hazard; 3] = [Hazard::HostBar, Hazard::VgaHole, Hazard::ApicPage];

    fn from_word(word: u64) -> Option<Self> {
        Hazard::ALL.into_iter().find(|&hazard| hazard as u64 == word)
    }
}

/// Which ioctl sets a memslot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotApi {
    /// KVM_SET_USER_MEMORY_REGION.
    V1,
    /// KVM_SET_USER_MEMORY_REGION2.
    V2,
}

/// The host's memory behind a memslot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotMemory {
    /// Anonymous memory in pages of 4 KiB.
    Small,
    /// Anonymous memory in transparent huge pages of 2 MiB.
    Thp,
    /// hugetlb pages of 2 MiB.
    Hugetlb2M,
    /// hugetlb pages of 1 GiB.
    Hugetlb1G,
    /// A memfd's pages of 4 KiB.
    Memfd,
    /// Anonymous memory in pages of 4 KiB that the host gives as they are touched, for slots that are larger than what it
    /// has.
    Sparse,
}

/// A machine check for KVM_X86_SET_MCE (`struct kvm_x86_mce`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MceEvent {
    /// MC bank.
    pub bank: u8,
    /// IA32_MCi_STATUS.
    pub status: u64,
    /// IA32_MCi_ADDR.
    pub addr: u64,
    /// IA32_MCi_MISC.
    pub misc: u64,
    /// IA32_MCG_STATUS.
    pub mcg_status: u64,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Done,
    /// The ioctl worked but took no entry: KVM_SET_MSRS and KVM_GET_MSRS say so by returning 0.
    Refused,
    /// The ioctl failed with this errno.
    Errno(u32),
    /// The VMM will not do it: no such vCPU or slot, a vCPU that is running, a range that it will not map.
    Invalid,
    /// The host gave no memory of that kind for a slot, so that KVM was not asked.
    NoMemory,
}

/// A step and its reply, as words in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct StepBlock {
    /// The step: its number, then its arguments.
    pub words: [u64; 8],
    /// The reply's status and value, written by the VMM.
    pub reply: [u64; 2],
}

/// Bytes of a [`StepBlock`] that hold the step; the reply follows.
pub const STEP_BYTES: usize = 64;

impl Step {
    /// The words that go into a [`StepBlock`].
    pub const fn words(self) -> [u64; 8] {
        match self {
            Step::SetMsr { cpu, index, value } => [1, cpu as u64, index as u64, value, 0, 0, 0, 0],
            Step::GetMsr { cpu, index } => [2, cpu as u64, index as u64, 0, 0, 0, 0, 0],
            Step::SetOneReg { cpu, index, value } => [3, cpu as u64, index as u64, value, 0, 0, 0, 0],
            Step::GetOneReg { cpu, index } => [4, cpu as u64, index as u64, 0, 0, 0, 0, 0],
            Step::SetCr0 { cpu, value } => [5, cpu as u64, value, 0, 0, 0, 0, 0],
            Step::GetCr0 { cpu } => [6, cpu as u64, 0, 0, 0, 0, 0, 0],
            Step::ListsMsr { index } => [7, index as u64, 0, 0, 0, 0, 0, 0],
            Step::SetMaxphyaddr { cpu, bits } => [8, cpu as u64, bits as u64, 0, 0, 0, 0, 0],
            Step::CopyState { from, to } => [9, from as u64, to as u64, 0, 0, 0, 0, 0],
            Step::SetupMce { cpu, mcg_cap } => [10, cpu as u64, mcg_cap, 0, 0, 0, 0, 0],
            Step::InjectMce { cpu, event: MceEvent { bank, status, addr, misc, mcg_status } } => {
                [11, cpu as u64, bank as u64, status, addr, misc, mcg_status, 0]
            }
            Step::SetSlot { api, slot, flags, gpa, pages, memory } => {
                [12, api.word(), slot as u64, flags as u64, gpa, pages as u64, memory as u64, 0]
            }
            Step::DeleteSlot { api, slot } => [13, api.word(), slot as u64, 0, 0, 0, 0, 0],
            Step::Poke { slot, offset, value, flush } => [14, slot as u64, offset as u64, value, flush as u64, 0, 0, 0],
            Step::Peek { slot, offset, flush } => [15, slot as u64, offset as u64, flush as u64, 0, 0, 0, 0],
            Step::StartCpu { cpu, entry, stack, argument } => [16, cpu as u64, entry, stack, argument, 0, 0, 0],
            Step::Mark => [17, 0, 0, 0, 0, 0, 0, 0],
            Step::PlugDma => [18, 0, 0, 0, 0, 0, 0, 0],
            Step::UnplugDma => [19, 0, 0, 0, 0, 0, 0, 0],
            Step::SetMmioSlot { slot, gpa } => [20, slot as u64, gpa, 0, 0, 0, 0, 0],
            Step::DisableQuirks { quirks } => [21, quirks as u64, 0, 0, 0, 0, 0, 0],
            Step::SetHazardSlot { slot, gpa, hazard } => [32, slot as u64, gpa, hazard as u64, 0, 0, 0, 0],
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                [40, typed as u64, slot as u64, readonly as u64, gpa, pages as u64, 0, 0]
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => [41, typed as u64, slot as u64, gpa, 0, 0, 0, 0],
            Step::Clock { ticks } => [60, ticks, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The step in the words, or nothing if they are none: an unknown number, or an argument out of its range.
    pub fn from_words(words: [u64; 8]) -> Option<Step> {
        let [number, a, b, c, d, e, f, _] = words;
        let cpu = u8::try_from(a);
        let index = u32::try_from(b);
        let api = SlotApi::from_word(a);
        let step = match number {
            1 => Step::SetMsr { cpu: cpu.ok()?, index: index.ok()?, value: c },
            2 => Step::GetMsr { cpu: cpu.ok()?, index: index.ok()? },
            3 => Step::SetOneReg { cpu: cpu.ok()?, index: index.ok()?, value: c },
            4 => Step::GetOneReg { cpu: cpu.ok()?, index: index.ok()? },
            5 => Step::SetCr0 { cpu: cpu.ok()?, value: b },
            6 => Step::GetCr0 { cpu: cpu.ok()? },
            7 => Step::ListsMsr { index: a.try_into().ok()? },
            8 => Step::SetMaxphyaddr { cpu: cpu.ok()?, bits: b.try_into().ok()? },
            9 => Step::CopyState { from: cpu.ok()?, to: b.try_into().ok()? },
            10 => Step::SetupMce { cpu: cpu.ok()?, mcg_cap: b },
            11 => Step::InjectMce {
                cpu: cpu.ok()?,
                event: MceEvent { bank: b.try_into().ok()?, status: c, addr: d, misc: e, mcg_status: f },
            },
            12 => Step::SetSlot {
                api: api?,
                slot: b.try_into().ok()?,
                flags: c.try_into().ok()?,
                gpa: d,
                pages: e.try_into().ok()?,
                memory: SlotMemory::from_word(f)?,
            },
            13 => Step::DeleteSlot { api: api?, slot: b.try_into().ok()? },
            14 => Step::Poke { slot: a.try_into().ok()?, offset: b.try_into().ok()?, value: c, flush: d == 1 },
            15 => Step::Peek { slot: a.try_into().ok()?, offset: b.try_into().ok()?, flush: c == 1 },
            16 => Step::StartCpu { cpu: cpu.ok()?, entry: b, stack: c, argument: d },
            17 => Step::Mark,
            18 => Step::PlugDma,
            19 => Step::UnplugDma,
            20 => Step::SetMmioSlot { slot: a.try_into().ok()?, gpa: b },
            21 => Step::DisableQuirks { quirks: a.try_into().ok()? },
            32 => Step::SetHazardSlot { slot: a.try_into().ok()?, gpa: b, hazard: Hazard::from_word(c)? },
            40 => Step::SetTypedSlot {
                typed: SlotType::from_word(a)?,
                slot: b.try_into().ok()?,
                readonly: c == 1,
                gpa: d,
                pages: e.try_into().ok()?,
            },
            41 => Step::SetTypedMmioSlot { typed: SlotType::from_word(a)?, slot: b.try_into().ok()?, gpa: c },
            60 => Step::Clock { ticks: a },
            _ => return None,
        };
        // Words that the step does not use must be zero: a block that was not filled with care is no step.
        (step.words() == words).then_some(step)
    }
}

impl SlotApi {
    const fn word(self) -> u64 {
        match self {
            SlotApi::V1 => 1,
            SlotApi::V2 => 2,
        }
    }

    const fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(SlotApi::V1),
            2 => Some(SlotApi::V2),
            _ => None,
        }
    }
}

impl SlotMemory {
    /// Every kind.
    pub const ALL: [SlotMemory; 6] = [
        SlotMemory::Small,
        SlotMemory::Thp,
        SlotMemory::Hugetlb2M,
        SlotMemory::Hugetlb1G,
        SlotMemory::Memfd,
        SlotMemory::Sparse,
    ];

    /// Size of its pages in bytes.
    pub const fn page_size(self) -> u64 {
        match self {
            SlotMemory::Small | SlotMemory::Memfd | SlotMemory::Sparse => 1 << 12,
            SlotMemory::Thp | SlotMemory::Hugetlb2M => 1 << 21,
            SlotMemory::Hugetlb1G => 1 << 30,
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        SlotMemory::ALL.into_iter().find(|&kind| kind as u64 == word)
    }
}

impl Status {
    /// The word that goes into a reply.
    pub const fn word(self) -> u64 {
        match self {
            Status::Done => 1,
            Status::Refused => 2,
            Status::Invalid => 3,
            Status::Errno(errno) => (errno as u64) << 8 | 4,
            Status::NoMemory => 5,
        }
    }

    /// The status in a reply's first word; [`Status::Invalid`] for one that no VMM writes.
    pub const fn from_word(word: u64) -> Status {
        match word & 0xff {
            1 => Status::Done,
            2 => Status::Refused,
            4 => Status::Errno((word >> 8) as u32),
            5 => Status::NoMemory,
            _ => Status::Invalid,
        }
    }
}
