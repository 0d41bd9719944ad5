//! A hypervisor as small as can be: one guest of this guest's own memory and page tables, under EPT, that times accesses
//! and comes back by VMCALL.
//!
//! For a CPU with VMX that no hypervisor is on. SDM Vol. 3C, "Virtual Machine Control Structures" to "VMX Support for
//! Address Translation".

mod controls;
mod ept;
mod segments;
mod vmcs;

use crate::area::Area;
use crate::paging::{self, Page};
use crate::report::Out;
use crate::{cpu, msr, timed};
use controls::Controls;
use core::arch::asm;
use core::ptr::NonNull;
use ept::Ept;
use vmcs::{Field, read, write};
use volatile::VolatilePtr;
use wire::memtype::EptType;
use wire::probe::Probe;
use wire::record::Timed;

unsafe extern "C" {
    /// See asm/nested.s. Runs the guest of the current VMCS with RDI and RSI from the first two registers, and leaves its EBX
    /// in the third. Gives 0 after a VM exit, 1 where VM entry failed.
    fn vmx_enter(registers: *mut [u64; 3]) -> u64;
    /// Where the guest starts in 64-bit mode; not to be called.
    static nested_64: u8;
    /// Where it starts in 32-bit protected mode with paging off; not to be called.
    static nested_32: u8;
}

/// CPUID.1:ECX.VMX.
const CPUID_VMX: u32 = 1 << 5;
/// CR4.VMXE.
const CR4_VMXE: u64 = 1 << 13;
/// IA32_FEATURE_CONTROL, its lock, and "enable VMX outside SMX operation".
const FEATURE_CONTROL: u32 = 0x3a;
const LOCK: u64 = 1;
const OUTSIDE_SMX: u64 = 1 << 2;
/// IA32_VMX_BASIC; its low 31 bits are the revision of a VMCS.
const VMX_BASIC: u32 = 0x480;
/// Basic exit reason of VMCALL, SDM Vol. 3D "VMX Basic Exit Reasons".
const EXIT_VMCALL: u64 = 18;

/// VMX root operation on the vCPU that boots, with one guest. It ends when this is dropped.
pub struct Hypervisor {
    vmcs: u64,
    ept: Ept,
    controls: Controls,
}

impl Hypervisor {
    /// Enters VMX root operation and makes a guest.
    ///
    /// # Errors
    /// The reason for which it cannot be done here.
    pub fn start() -> Result<Hypervisor, &'static str> {
        if cpu::leaf(1, 0).registers[2] & CPUID_VMX == 0 {
            return Err("CPUID shows no VMX");
        }
        let feature = msr::rdmsr(FEATURE_CONTROL);
        if feature & LOCK == 0 {
            // SAFETY: allows VMXON and changes nothing else.
            if unsafe { msr::write(FEATURE_CONTROL, feature | LOCK | OUTSIDE_SMX) }.fault().is_some() {
                return Err("IA32_FEATURE_CONTROL refuses to be written, so VMX stays off");
            }
        } else if feature & OUTSIDE_SMX == 0 {
            return Err("IA32_FEATURE_CONTROL is locked without VMX");
        }
        let controls = Controls::of_this_cpu()?;
        let (vmxon, vmcs) = (region(), region());
        // SAFETY: CPUID shows VMX. Nothing here depends on it being off.
        unsafe { asm!("mov cr4, {}", in(reg) cpu::cr4() | CR4_VMXE, options(nostack, preserves_flags)) };
        let failed: u8;
        // SAFETY: a fresh region with the revision; CR0 of 64-bit mode and CR4 are as VMX wants them.
        unsafe { asm!("vmxon [{}]", "setbe {}", in(reg) &raw const vmxon, out(reg_byte) failed, options(nostack)) };
        assert!(failed == 0, "VMXON failed");
        let hypervisor = Hypervisor { vmcs, ept: Ept::new(), controls };
        hypervisor.load();
        segments::host();
        segments::guest();
        Ok(hypervisor)
    }

    /// Has the guest's page of that size at `gpa`, which is the same address here, be of this type.
    pub fn map(&mut self, gpa: u64, page: Page, ept: EptType) {
        self.ept.map(gpa, page, ept);
    }

    /// Whether the guest can run with paging off.
    pub fn can_run_unpaged(&self) -> bool {
        self.controls.unrestricted
    }

    /// Has the guest do one round of a probe at `gpa` at its CPL0: in 64-bit mode, with the page tables that are in use
    /// here, or with paging off. Gives its ticks.
    fn round(&self, gpa: u64, probe: Probe, paged: bool) -> u32 {
        self.load();
        self.controls.write(paged, self.ept.pointer());
        segments::mode(paged);
        let entry = if paged { &raw const nested_64 } else { &raw const nested_32 };
        write(Field::GuestRip, entry.expose_provenance() as u64);
        let mut registers = [gpa, probe.index() as u64, 0];
        // SAFETY: the VMCS is loaded and complete. The guest touches registers and the page at `gpa` only.
        let failed = unsafe { vmx_enter(&raw mut registers) };
        assert!(failed == 0, "VM entry failed: a field of the VMCS is not as this CPU wants it");
        assert!(read(Field::ExitReason) == EXIT_VMCALL, "the nested guest left in another way than by VMCALL");
        registers[2] as u32
    }

    /// Has the guest time the page at `gpa`, and reports it. `pat_entry` is the one through which the page is mapped;
    /// paging is off without one.
    ///
    /// # Panics
    /// The guest left in another way than by VMCALL.
    pub fn time(&self, out: &mut Out, gpa: u64, pat_entry: Option<u8>, ept: EptType) {
        let times = timed::times(&timed::STORED, |probe| self.round(gpa, probe, pat_entry.is_some()));
        out.timed(Timed { cpu: 0, cpl: 0, gpa, pat_entry, nested: Some(ept), times });
    }

    /// Makes the VMCS current, in the state in which VMLAUNCH wants it.
    fn load(&self) {
        let (cleared, loaded): (u8, u8);
        // SAFETY: a region of this hypervisor, which has no other vCPU.
        unsafe {
            asm!(
                "vmclear [{vmcs}]",
                "setbe {cleared}",
                "vmptrld [{vmcs}]",
                "setbe {loaded}",
                vmcs = in(reg) &raw const self.vmcs,
                cleared = out(reg_byte) cleared,
                loaded = out(reg_byte) loaded,
                options(nostack)
            );
        }
        assert!(cleared == 0 && loaded == 0, "VMCLEAR or VMPTRLD failed");
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        // SAFETY: in VMX root operation; the VMCS is not used after this.
        unsafe { asm!("vmclear [{}]", "vmxoff", in(reg) &raw const self.vmcs, options(nostack)) };
        // SAFETY: VMX is off.
        unsafe { asm!("mov cr4, {}", in(reg) cpu::cr4() & !CR4_VMXE, options(nostack, preserves_flags)) };
        // A VM exit leaves limits of its own in GDTR, IDTR and TR.
        Area::current().load();
    }
}

/// A VMXON region or VMCS: a page that starts with the revision.
fn region() -> u64 {
    let page = paging::spare(Page::Small);
    let Some(start) = NonNull::new(core::ptr::with_exposed_provenance_mut(page as usize)) else {
        panic!("a region at address 0")
    };
    // SAFETY: a fresh page of RAM.
    unsafe { VolatilePtr::new(start) }.write(msr::rdmsr(VMX_BASIC) as u32 & 0x7fff_ffff);
    page
}
