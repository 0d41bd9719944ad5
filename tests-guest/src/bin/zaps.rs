//! Family `zaps`: what a boot costs that programs MTRRs on each vCPU: how often KVM zaps, and how many leaves.
//!
//! Each cell holds one boot between two steps `clock`. In between the guest says no more than that a vCPU came up, and
//! what was written is told afterwards, so that its exits are those of the boot. All writes are read back. A vCPU is
//! started when it is its turn, and halts when it is done, so that none takes the time of another.
//!
//! Memory is in memslots as large as the guest's, of which one page in 128 MiB is used: before the boot's first write,
//! after each vCPU's, and between the phases of firmware. Real firmware and Linux use less while vCPUs are started, so
//! the leaves that are zapped are an upper bound; the zaps are those of a real boot.
//!
//! What: replays the MTRR programming of SeaBIOS, OVMF and Linux on 1, 2, 4 and 8 vCPUs of a guest with 2 GiB or 16 GiB
//! of memory, and uses that memory before, between and after.
//!
//! Why: KVM up to 6.10 zaps all leaves of a VM with non-coherent DMA whenever one vCPU writes its default type, so a
//! boot pays for each vCPU; later ones never do. `report --zaps` counts it.
//!
//! Source: SeaBIOS, `src/fw/mtrr.c:mtrr_setup` and `src/fw/smp.c:handle_smp`; OVMF,
//! `OvmfPkg/Sec/SecMain.c:SecMtrrSetup`, `OvmfPkg/Library/PlatformInitLib/MemDetect.c:PlatformQemuInitializeRam`,
//! `UefiCpuPkg/Library/MtrrLib/MtrrLib.c:MtrrSetAllMtrrs` and `UefiCpuPkg/Library/MpInitLib/MpLib.c:ApInitializeSync`;
//! Linux, `arch/x86/kernel/cpu/mtrr/generic.c:prepare_set` and `arch/x86/kernel/cpu/cacheinfo.c:cache_cpu_init`; KVM's
//! `arch/x86/kvm/mtrr.c:update_mtrr`.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use guest::doorbell::ring;
use guest::mmio;
use guest::report::Out;
use guest::smp::Cpu;
use guest::startup::{self, Done, OVMF_PEI, Op};
use guest::touch::SLOT;
use guest::{cpu, paging, slot};
use wire::firmware::ON;
use wire::layout::{HIGH_MEMORY, HOLE, RAM, WINDOW};
use wire::needs::Needs;
use wire::record::Start;
use wire::register::Place;
use wire::step::{SlotMemory, Step};

guest::family!();

const VM: Needs = Needs::STEPS.and(Needs::SLOTS);
const PAGE: u64 = paging::Page::Small.size();
const GIB: u64 = 1 << 30;
/// Pages of the test window whose leaves are judged.
const JUDGED: u32 = 2;
/// The memory's first page that is used, and how far the next is.
const FIRST: u64 = 16 << 20;
const STRIDE: u64 = 128 << 20;
/// CPUID.1:EDX.SS.
const SELF_SNOOP: u32 = 1 << 27;
/// More writes than any boot does to one vCPU at a time.
const MOST: usize = 128;

/// A test: its name and summary, the boot, the vCPUs and the memory in GiB.
macro_rules! boot {
    ($name:literal, $summary:literal, $boot:ident, $cpus:literal, $gib:literal, points = $points:literal) => {
        guest::test!($name, $summary, VM.and(Needs::cpus($cpus)), points = $points, |out| run(
            out, &$boot, $cpus, $gib
        ));
    };
}

boot!("seabios-1-2g", "SeaBIOS: 1 vCPU, 2 GiB.", SEABIOS, 1, 2, points = 46);
boot!("seabios-2-2g", "SeaBIOS: 2 vCPUs, 2 GiB.", SEABIOS, 2, 2, points = 78);
boot!("seabios-4-2g", "SeaBIOS: 4 vCPUs, 2 GiB.", SEABIOS, 4, 2, points = 142);
boot!("seabios-8-2g", "SeaBIOS: 8 vCPUs, 2 GiB.", SEABIOS, 8, 2, points = 270);
boot!("seabios-1-16g", "SeaBIOS: 1 vCPU, 16 GiB.", SEABIOS, 1, 16, points = 47);
boot!("seabios-2-16g", "SeaBIOS: 2 vCPUs, 16 GiB.", SEABIOS, 2, 16, points = 79);
boot!("seabios-4-16g", "SeaBIOS: 4 vCPUs, 16 GiB.", SEABIOS, 4, 16, points = 143);
boot!("seabios-8-16g", "SeaBIOS: 8 vCPUs, 16 GiB.", SEABIOS, 8, 16, points = 271);
boot!("ovmf-1-2g", "OVMF: 1 vCPU, 2 GiB.", OVMF, 1, 2, points = 66);
boot!("ovmf-2-2g", "OVMF: 2 vCPUs, 2 GiB.", OVMF, 2, 2, points = 129);
boot!("ovmf-4-2g", "OVMF: 4 vCPUs, 2 GiB.", OVMF, 4, 2, points = 255);
boot!("ovmf-8-2g", "OVMF: 8 vCPUs, 2 GiB.", OVMF, 8, 2, points = 507);
boot!("ovmf-1-16g", "OVMF: 1 vCPU, 16 GiB.", OVMF, 1, 16, points = 67);
boot!("ovmf-2-16g", "OVMF: 2 vCPUs, 16 GiB.", OVMF, 2, 16, points = 130);
boot!("ovmf-4-16g", "OVMF: 4 vCPUs, 16 GiB.", OVMF, 4, 16, points = 256);
boot!("ovmf-8-16g", "OVMF: 8 vCPUs, 16 GiB.", OVMF, 8, 16, points = 508);
boot!("linux-1-2g", "Linux after SeaBIOS: 1 vCPU, 2 GiB.", LINUX, 1, 2, points = 51);
boot!("linux-2-2g", "Linux after SeaBIOS: 2 vCPUs, 2 GiB.", LINUX, 2, 2, points = 88);
boot!("linux-4-2g", "Linux after SeaBIOS: 4 vCPUs, 2 GiB.", LINUX, 4, 2, points = 162);
boot!("linux-8-2g", "Linux after SeaBIOS: 8 vCPUs, 2 GiB.", LINUX, 8, 2, points = 310);
boot!("linux-1-16g", "Linux after SeaBIOS: 1 vCPU, 16 GiB.", LINUX, 1, 16, points = 52);
boot!("linux-2-16g", "Linux after SeaBIOS: 2 vCPUs, 16 GiB.", LINUX, 2, 16, points = 89);
boot!("linux-4-16g", "Linux after SeaBIOS: 4 vCPUs, 16 GiB.", LINUX, 4, 16, points = 163);
boot!("linux-8-16g", "Linux after SeaBIOS: 8 vCPUs, 16 GiB.", LINUX, 8, 16, points = 311);

/// What is done to one vCPU.
type Steps<'a> = dyn Fn(&mut dyn FnMut(Op)) + Sync + 'a;

/// A boot under way.
struct Boot {
    /// Where the hole for PCI below 4 GiB starts.
    hole: u64,
    /// Linear addresses of the pages that are used.
    pages: Vec<u64>,
    /// How many vCPUs there are.
    cpus: u8,
    /// What was written, and on which vCPU.
    done: Vec<(u8, Done)>,
}

impl Boot {
    /// Does something on the vCPU that boots, and uses memory then.
    fn here(&mut self, what: impl FnOnce(&mut dyn FnMut(Op))) {
        what(&mut |op| self.done.extend(op.perform().map(|done| (0, done))));
        self.use_memory();
    }

    /// Starts each of the others in turn, does these on it, uses memory after each, and has it halt.
    fn on_others(&mut self, out: &mut Out, what: &[&Steps<'_>]) {
        for index in 1..self.cpus {
            let cpu = Cpu::start(out, index, Start::Direct);
            for what in what {
                // Only the vCPU that boots allocates.
                self.done.reserve(MOST);
                let done = &mut self.done;
                cpu.run(|| what(&mut |op| done.extend(op.perform().map(|done| (index, done)))));
                self.use_memory();
            }
            cpu.stop();
        }
    }

    /// Stores to each page.
    fn use_memory(&self) {
        for &page in &self.pages {
            // SAFETY: memory of the VM that nobody else uses, mapped at this address.
            unsafe { core::ptr::with_exposed_provenance_mut::<u64>(page as usize).write_volatile(page) };
        }
    }
}

/// A boot: what firmware has left on a vCPU before it, which the VMM sets, and itself.
struct Kind {
    left: fn(hole: u64, &mut dyn FnMut(Op)),
    boot: fn(&mut Boot, &mut Out),
}

static SEABIOS: Kind = Kind {
    left: |_, _| {},
    boot: |boot, out| {
        let hole = boot.hole;
        boot.here(|op| startup::seabios(hole, op));
        boot.on_others(out, &[&|op| startup::seabios(hole, op)]);
    },
};

/// MpInitLib gives the others the MTRRs of the one that boots twice: CpuMpPei has it do so in PEI, and CpuDxe in DXE.
/// There each goes to all at once; here a vCPU gets both before the next one starts.
static OVMF: Kind = Kind {
    left: |_, _| {},
    boot: |boot, out| {
        let hole = boot.hole;
        boot.here(startup::ovmf_sec);
        OVMF_PEI.into_iter().for_each(|phase| boot.here(|op| phase(hole, op)));
        let sync = |before| move |op: &mut dyn FnMut(Op)| startup::ovmf_sync(hole, before, op);
        boot.on_others(out, &[&sync(0), &sync(ON)]);
    },
};

static LINUX: Kind = Kind {
    left: startup::seabios,
    boot: |boot, out| {
        let self_snoop = cpu::leaf(1, 0).registers[3] & SELF_SNOOP != 0;
        boot.here(|op| startup::linux(self_snoop, op));
        boot.on_others(out, &[&|op| startup::linux(self_snoop, op)]);
    },
};

/// Boots a guest of `count` vCPUs and `gib` GiB of memory.
fn run(out: &mut Out, kind: &Kind, count: u8, gib: u64) {
    cpu::report_mtrrs_and_width(out);
    // QEMU's pc has at most 3 GiB below the hole.
    let (hole, size) = (HOLE.min(gib * GIB), gib * GIB);
    let made = slot::make(out, SLOT, WINDOW, JUDGED, SlotMemory::Small)
        && slot::make(out, SLOT + 1, RAM, pages(hole - RAM), SlotMemory::Sparse)
        && (size == hole || slot::make(out, SLOT + 2, HIGH_MEMORY, pages(size - hole), SlotMemory::Sparse));
    if !made {
        return;
    }
    for cpu in 0..count {
        (kind.left)(hole, &mut |op| {
            if let Op::Msr(index, value) = op {
                ring(Step::SetMsr { cpu, index, value });
            }
        });
    }
    let pages = (FIRST..size).step_by(STRIDE as usize).map(|at| linear(at, hole)).collect();
    let mut boot = Boot { hole, pages, cpus: count, done: Vec::with_capacity(MOST) };
    touch(out);
    clock();
    boot.use_memory();
    (kind.boot)(&mut boot, out);
    clock();
    for &(cpu, (register, value, outcome)) in &boot.done {
        out.write(Place { cpu, register }, value, outcome);
    }
    ring(Step::Mark);
    touch(out);
}

/// A place in the log, with the time.
fn clock() {
    ring(Step::Clock { ticks: cpu::cycles() });
}

/// Stores to the pages whose leaves are judged.
fn touch(out: &mut Out) {
    for page in 0..u64::from(JUDGED) {
        mmio::write(out, 0, WINDOW + page * PAGE, 8, page);
        ring(Step::Mark);
    }
}

/// Pages in so many bytes.
fn pages(bytes: u64) -> u32 {
    (bytes / PAGE) as u32
}

/// The linear address of the page so far into memory, which goes on behind the hole for PCI.
fn linear(at: u64, hole: u64) -> u64 {
    if at < hole {
        return at;
    }
    paging::above(HIGH_MEMORY + (at - hole))
}
