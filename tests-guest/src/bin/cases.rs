//! Family `cases`: memory types as real firmware and real drivers set them.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: sets MTRRs up as SeaBIOS and OVMF do, and has a blob of Venus, a BAR and a framebuffer mapped as Linux does, with
//! its PAT; touches and times pages there and below 1 MiB.
//!
//! Why: these are the settings in which a wrong type is met: a display that crawls because its framebuffer is UC, a blob that
//! guest and host see through different types, a BAR whose driver wants WC where firmware said UC.
//!
//! Source: SeaBIOS, `src/fw/mtrr.c:mtrr_setup`; OVMF, `OvmfPkg/Sec/SecMain.c:SecMtrrSetup` and
//! `OvmfPkg/Library/PlatformInitLib/MemDetect.c:PlatformQemuInitializeRam`; QEMU,
//! `hw/display/virtio-gpu-virgl.c:virtio_gpu_virgl_map_resource_blob`; Linux, `drivers/gpu/drm/virtio/virtgpu_vram.c`,
//! `drivers/gpu/drm/tiny/bochs.c:bochs_hw_init`, `arch/x86/mm/pat/memtype.c` for the PAT, and `arch/x86/mm/ioremap.c`, where
//! ioremap asks for UC- and ioremap_wc for WC.

#![no_std]
#![no_main]

use guest::cpu;
use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mmio::read;
use guest::paging::{self, Page};
use guest::report::Out;
use guest::startup::{self, LINUX_PAT, OVMF_PEI};
use guest::sweep::msr_once;
use guest::touch::{SLOT, touch_all, touch_by};
use guest::{cache, slot, timed};
use wire::layout::{HOLE, PAT, WINDOW};
use wire::needs::Needs;
use wire::step::{SlotApi, SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const PAGE: u64 = Page::Small.size();
const SLOT_PAGES: u32 = 0x10;

/// Entries of [`LINUX_PAT`].
const WB: u8 = 0;
const WC: u8 = 1;
const UC_MINUS: u8 = 2;

/// Memory below 640 KiB, of the legacy VGA hole, and where option ROMs and the firmware itself are.
const LOW: [u64; 4] = [0x7_0000, 0x9_0000, 0xa_0000, 0xd_0000];

guest::test!(
    "seabios",
    "Sets MTRRs up as SeaBIOS does, and touches pages below 1 MiB and in the hole for PCI.",
    RAM,
    points = 64,
    |out| {
        let _guard = Guard::new();
        if start(out) {
            seabios(out);
            ring(Step::Mark);
            touch_all(out, &LOW);
            touch_all(out, &[WINDOW, WINDOW + PAGE]);
        }
    }
);

guest::test!(
    "ovmf",
    "Sets MTRRs up as OVMF does, and touches pages below 1 MiB after each phase but the last, then in the hole for PCI.",
    RAM,
    points = 111,
    |out| {
        let _guard = Guard::new();
        if start(out) {
            ovmf(out, |out| touch_all(out, &LOW));
            touch_all(out, &[WINDOW, WINDOW + PAGE]);
        }
    }
);

// QEMU, hw/display/virtio-gpu-virgl.c:virtio_gpu_virgl_map_resource_blob maps the renderer's memory, host RAM, into the BAR as
// a memslot, while the guest runs. The renderer says which type the guest should map it with, and the guest does:
// Linux, drivers/gpu/drm/virtio/virtgpu_vram.c:virtio_gpu_vram_mmap, where VIRTIO_GPU_MAP_CACHE_WC gives pgprot_writecombine
// and VIRTIO_GPU_MAP_CACHE_UNCACHED pgprot_noncached, which is UC- (arch/x86/include/asm/pgtable_types.h). Unmapping takes the
// memslot away again.
guest::test!(
    "venus-blob",
    "A blob that the host maps in and writes: mapped WC by the guest, then UC-, then WB, and WC again once the host made it anew.",
    RAM,
    points = 67,
    |out| {
        let _guard = Guard::new();
        prepare(out);
        seabios(out);
        linux(out);
        if !map_blob(out) {
            return;
        }
        for entry in [WC, UC_MINUS, WB] {
            remap(WINDOW, entry);
            touch_by(out, WINDOW, entry);
            // The host's renderer reads what the guest wrote.
            ring(Step::Peek { slot: SLOT, offset: 0, flush: false });
        }
        ring(Step::DeleteSlot { api: SlotApi::V1, slot: SLOT });
        if map_blob(out) {
            remap(WINDOW, WC);
            touch_by(out, WINDOW, WC);
        }
    }
);

// Linux, arch/x86/mm/pat/memtype.c:pat_x_mtrr_type asks what MTRRs say only for a mapping that is to be WB: a driver that wants
// WC gets WC, and by the SDM that is what comes of a UC MTRR and PAT type WC.
guest::test!(
    "bar-uc-mtrr-wc",
    "A BAR that firmware has MTRRs make UC, with RAM of the host behind it: one page mapped WC as a driver asks, one UC-.",
    RAM,
    points = 53,
    |out| {
        let _guard = Guard::new();
        if start(out) {
            seabios(out);
            linux(out);
            for (gpa, entry) in [(WINDOW, WC), (WINDOW + PAGE, UC_MINUS)] {
                remap(gpa, entry);
                touch_by(out, gpa, entry);
            }
        }
    }
);

// Loads alone: a store might make the device do something.
guest::test!(
    "bar-uc-mtrr-wc-mmio",
    "The same with a BAR of the host behind it: one page, by loads, mapped WC and then UC-.",
    RAM.and(Needs::HOST_MMIO),
    points = 53,
    |out| {
        let _guard = Guard::new();
        prepare(out);
        ring(Step::SetMmioSlot { slot: SLOT, gpa: WINDOW });
        ring(Step::Mark);
        seabios(out);
        linux(out);
        for entry in [WC, UC_MINUS] {
            remap(WINDOW, entry);
            read(out, 0, WINDOW, 4);
            ring(Step::Mark);
            timed::device(out, WINDOW, entry);
        }
    }
);

// Linux, drivers/gpu/drm/tiny/bochs.c:bochs_hw_init maps the framebuffer by ioremap, later kernels by ioremap_wc. QEMU's
// framebuffer is host RAM: where KVM honours the guest's PAT, each pixel written through UC- goes to memory alone.
guest::test!(
    "bochs-drm",
    "A framebuffer of host RAM in a BAR, mapped WB, then UC- as bochs-drm does by ioremap, then WC as by ioremap_wc.",
    RAM,
    points = 80,
    |out| {
        let _guard = Guard::new();
        if start(out) {
            ovmf(out, |_| {});
            linux(out);
            for entry in [WB, UC_MINUS, WC] {
                remap(WINDOW, entry);
                touch_by(out, WINDOW, entry);
            }
        }
    }
);

/// Reports on what masks depend and by what times are read.
fn prepare(out: &mut Out) {
    cpu::report_mtrrs_and_width(out);
    timed::calibrate(out);
}

/// The same, with a memslot in the hole for PCI. Whether it is there.
fn start(out: &mut Out) -> bool {
    prepare(out);
    let made = slot::make(out, SLOT, WINDOW, SLOT_PAGES, SlotMemory::Small);
    ring(Step::Mark);
    made
}

/// Makes a memslot whose memory the host writes first. Whether it is there.
fn map_blob(out: &mut Out) -> bool {
    let made = slot::make(out, SLOT, WINDOW, SLOT_PAGES, SlotMemory::Memfd);
    ring(Step::Poke { slot: SLOT, offset: 0, value: !WINDOW, flush: false });
    ring(Step::Mark);
    made
}

/// MTRRs as SeaBIOS sets them.
fn seabios(out: &mut Out) {
    startup::seabios(HOLE, &mut |op| op.report(out));
}

/// MTRRs as OVMF sets them. `between` is done after each phase but the last.
fn ovmf(out: &mut Out, between: impl Fn(&mut Out)) {
    startup::ovmf_sec(&mut |op| op.report(out));
    ring(Step::Mark);
    for phase in OVMF_PEI {
        between(out);
        phase(HOLE, &mut |op| op.report(out));
        ring(Step::Mark);
    }
}

/// The kernel takes over: Linux keeps the firmware's MTRRs and writes its own PAT.
fn linux(out: &mut Out) {
    msr_once(out, PAT, LINUX_PAT);
    cache::write_back();
    paging::flush();
    ring(Step::Mark);
}

/// Maps a page through another entry of the PAT, with nothing of it left in a cache.
fn remap(gpa: u64, pat_entry: u8) {
    paging::map(gpa, Page::Small, pat_entry);
    cache::write_back();
}
