//! Puts a guest into memory and a vCPU into 64-bit mode, as a boot loader would.

use super::Failed;
use crate::machine::MachineError;
use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::Elf;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use std::io::Cursor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};
use wire::layout::{LINE_PORT_WORD, START_CR0, START_CR4};

/// RAM of a VM, in bytes.
pub const RAM: usize = wire::layout::RAM as usize;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const FIRST_PD: u64 = 0x3000;
/// GPA of `hvm_start_info`, the argument of a guest's entry.
pub const START_INFO: u64 = 0x7000;
const COMMAND_LINE: u64 = 0x7100;
const MODULE_LIST: u64 = 0x7d00;
const MEMORY_MAP: u64 = 0x7e00;

/// Bytes of a page, on whose boundary a boot module starts.
const PAGE: usize = 0x1000;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xd01;
/// `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336e_c578;
/// E820 type of RAM.
const E820_RAM: u32 = 1;

/// What a guest is told: its run, its test, and that the VMM takes whole lines.
pub fn command_line(run: u64, test: &str) -> String {
    format!("run={run:x} test={test} {LINE_PORT_WORD}")
}

/// Loads the guest and writes all that it finds at its start: page tables, `hvm_start_info`, and at the end of RAM its boot
/// module, if that is not empty. Returns its entry.
///
/// # Errors
/// An ELF file that is none, or that does not fit into [`RAM`] with the module.
pub fn load(ram: &GuestMemoryMmap, elf: &[u8], module: &[u8], command_line: &str) -> Result<u64, MachineError> {
    const CANNOT: &str = "cannot load the guest's ELF file";
    // The loader leaves bss as it is: the memory is fresh, so it is zero.
    let loaded = Elf::load(ram, None, &mut Cursor::new(elf), None).failed(CANNOT)?;
    let module_at = (RAM as u64).saturating_sub(module.len().next_multiple_of(PAGE) as u64);
    if loaded.kernel_end > module_at {
        let end = loaded.kernel_end;
        return Err(format!("it ends at {end:#x}, with {module_at:#x} bytes of RAM for it")).failed(CANNOT);
    }
    ram.write_slice(module, GuestAddress(module_at)).failed("cannot write the guest's boot module")?;
    page_tables(ram).failed("cannot write the guest's page tables")?;
    let text: Vec<u8> = [command_line.as_bytes(), &[0]].concat();
    ram.write_slice(&text, GuestAddress(COMMAND_LINE)).failed("cannot write the guest's command line")?;
    let start_info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: 1,
        modlist_paddr: MODULE_LIST,
        nr_modules: (!module.is_empty()).into(),
        ..Default::default()
    };
    let list = hvm_modlist_entry { paddr: module_at, size: module.len() as u64, ..Default::default() };
    let map = hvm_memmap_table_entry { addr: 0, size: RAM as u64, type_: E820_RAM, reserved: 0 };
    let mut parameters = BootParams::new(&start_info, GuestAddress(START_INFO));
    parameters.set_sections(&[map], GuestAddress(MEMORY_MAP));
    parameters.set_modules(&[list], GuestAddress(MODULE_LIST));
    PvhBootConfigurator::write_bootparams(&parameters, ram).failed("cannot write hvm_start_info")?;
    Ok(loaded.kernel_load.raw_value())
}

/// Maps the first 4 GiB one to one by 2 MiB pages that CPL 3 may use too.
fn page_tables(ram: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    const PRESENT_WRITABLE_USER: u64 = 7;
    const PAGE_SIZE: u64 = 0x80;
    let table = |entries: &mut dyn Iterator<Item = u64>| -> Vec<u8> { entries.flat_map(u64::to_le_bytes).collect() };
    let pml4 = table(&mut std::iter::once(PDPT | PRESENT_WRITABLE_USER));
    let pdpt = table(&mut (0..4).map(|i| (FIRST_PD + i * 0x1000) | PRESENT_WRITABLE_USER));
    let pd = table(&mut (0..2048u64).map(|i| i << 21 | PAGE_SIZE | PRESENT_WRITABLE_USER));
    ram.write_slice(&pml4, GuestAddress(PML4))?;
    ram.write_slice(&pdpt, GuestAddress(PDPT))?;
    ram.write_slice(&pd, GuestAddress(FIRST_PD))
}

/// Sets a vCPU's registers to 64-bit mode at `entry`, with RSP and RDI.
///
/// # Errors
/// What KVM_GET_SREGS, KVM_SET_SREGS or KVM_SET_REGS says.
pub fn enter(vcpu: &VcpuFd, entry: u64, stack: u64, argument: u64) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let code = kvm_segment { limit: !0, selector: 8, type_: 0xb, present: 1, l: 1, s: 1, g: 1, ..Default::default() };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    sregs.cs = code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss, &mut sregs.fs, &mut sregs.gs] {
        *segment = data;
    }
    sregs.cr0 = START_CR0;
    sregs.cr3 = PML4;
    sregs.cr4 = START_CR4;
    sregs.efer = EFER;
    // No GDT: the hidden parts of the segment registers hold until the guest loads one of its own.
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rflags: 2, rip: entry, rsp: stack, rdi: argument, ..Default::default() })
}
