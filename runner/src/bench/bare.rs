//! The yardstick of `bench`: a loop of the same ioctls that the embedded VMM makes for a guest, and nothing else.

use crate::machine::MachineError;
use crate::machine::kvm::{Failed, KvmMachine, RAM, TSS_PAGES, boot, steps};
use crate::plan::vm::VmConfig;
use kvm_bindings::{CpuId, kvm_userspace_memory_region};
use kvm_ioctls::VcpuExit;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use wire::layout::EXIT_PORT;

const PAGE: usize = 0x1000;

/// A guest prepared once, so that the loop only copies.
#[derive(Debug)]
pub struct Bare {
    /// The pages that are not zero, by GPA.
    pages: Vec<(GuestAddress, Vec<u8>)>,
    entry: u64,
    cpuid: CpuId,
}

impl Bare {
    /// Prepares `elf` with this command line.
    ///
    /// # Errors
    /// An ELF file that cannot be loaded.
    pub fn new(machine: &KvmMachine, elf: &[u8], command_line: &str) -> Result<Self, MachineError> {
        let ram = ram()?;
        let entry = boot::load(&ram, elf, &[], command_line)?;
        let mut pages = Vec::new();
        for gpa in (0..RAM).step_by(PAGE) {
            let mut page = vec![0; PAGE];
            ram.read_slice(&mut page, GuestAddress(gpa as u64)).failed("cannot read the prepared guest")?;
            if page.iter().any(|&byte| byte != 0) {
                pages.push((GuestAddress(gpa as u64), page));
            }
        }
        Ok(Bare { pages, entry, cpuid: machine.cpuid(&VmConfig::default(), 0) })
    }

    /// Makes a VM, runs the guest until it writes to the exit port, and takes the VM down. What the guest says is
    /// dropped.
    ///
    /// # Errors
    /// An ioctl failed, or the guest ended in another way.
    pub fn run(&self, machine: &KvmMachine) -> Result<(), MachineError> {
        let ram = ram()?;
        let vm = machine.kvm().create_vm().failed("KVM_CREATE_VM")?;
        vm.set_tss_address(TSS_PAGES).failed("KVM_SET_TSS_ADDR")?;
        let hva = ram.get_host_address(GuestAddress(0)).failed("the guest's RAM")?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: RAM as u64,
            userspace_addr: hva as u64,
        };
        // SAFETY: the region is the whole of `ram`, which is unmapped after the VM's last file descriptor is closed:
        // locals go in the reverse order of their making.
        unsafe { vm.set_user_memory_region(region) }.failed("KVM_SET_USER_MEMORY_REGION")?;
        let mut vcpu = vm.create_vcpu(0).failed("KVM_CREATE_VCPU")?;
        vcpu.get_sregs().failed("KVM_GET_SREGS")?;
        steps::read_state(&vcpu).failed("KVM_GET_MSRS")?;
        vcpu.set_cpuid2(&self.cpuid).failed("KVM_SET_CPUID2")?;
        for (gpa, page) in &self.pages {
            ram.write_slice(page, *gpa).failed("the guest's RAM")?;
        }
        boot::enter(&vcpu, self.entry, 0, boot::START_INFO).failed("KVM_SET_SREGS or KVM_SET_REGS")?;
        loop {
            match vcpu.run().failed("KVM_RUN")? {
                VcpuExit::IoOut(EXIT_PORT, _) => break,
                VcpuExit::IoOut(..) => {}
                other => return Err(format!("{other:?}")).failed("the bare guest ended otherwise"),
            }
        }
        Ok(())
    }
}

fn ram() -> Result<GuestMemoryMmap, MachineError> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).failed("cannot map the guest's RAM")
}
