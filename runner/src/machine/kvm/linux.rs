//! A Linux kernel in a VM: loaded at its PVH entry, with a guest of ours as its init, and told by a command line and a
//! table of its CPUs what there is. There are local APICs, a console that takes bytes, and nothing else.

use super::steps::{get_msr, state_msrs};
use super::vm::{Vm, lock};
use super::{Failed, LEAF_FEATURES, mptable};
use crate::host::linux::Linux;
use crate::machine::MachineError;
use crate::machine::bochs::{Mtrrs, Pvh};
use crate::machine::cpio::Cpio;
use kvm_bindings::{CpuId, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use wire::firmware::seabios;
use wire::layout::{HOLE, PAT};
use wire::needs::Needs;
use wire::step::Step;

/// MiB of memory: a kernel of a distribution takes 75 MiB before it gives back what only its start needs.
const MEGS: u32 = 128;
/// Bytes of memory.
pub const MEMORY: usize = (MEGS as usize) << 20;

/// CPUID.1:ECX bits that KVM leaves to the VMM to set: there is a hypervisor, so that a kernel looks for KVM's clock; and
/// the timer of a local APIC in the kernel can go off at a time of the time-stamp counter. Without them a kernel looks
/// for timers that are not there.
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
/// IA32_TIME_STAMP_COUNTER.
const TSC: u32 = 0x10;
/// CR0 at a PVH entry: protected mode without paging, and ET.
const CR0: u64 = 0x11;

/// Words of the kernel's command line. The first line is the console: each byte to the port, from early on and for
/// good, without a driver; no wait after each access to a port. The second is what is not there: ACPI, PCI, UARTs, a
/// keyboard controller. The third is the end after a panic: no wait, and a triple fault. The rest is time and chance: the same
/// addresses each time, no calibration against timers that are not there, no tests, nothing that KVM does by itself
/// meanwhile, and no start-up work that MTRRs have nothing to do with.
const COMMAND_LINE: &str = "earlycon=uart8250,io,0x2f8 keep_bootcon io_delay=none \
    acpi=off pci=off 8250.nr_uarts=0 i8042.noaux i8042.nokbd i8042.noprobe nomodeset \
    panic=-1 reboot=t \
    nokaslr tsc=reliable mitigations=off random.trust_cpu=on cryptomgr.notests rodata=off \
    no-kvmapf no-steal-acc nowatchdog audit=0 apparmor=0 \
    initcall_blacklist=jent_mod_init,trace_eval_init,load_system_certificate_list";

/// Where a kernel is entered.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// GPA of the first instruction.
    pub rip: u64,
    /// GPA of `hvm_start_info`.
    start_info: u64,
}

/// Loads the kernel with `init` as its first process, which is told the run and the test.
///
/// # Errors
/// A kernel without PVH entry, or one that does not fit into the memory.
pub fn load(
    ram: &GuestMemoryMmap,
    kernel: &Linux,
    init: &[u8],
    (run, test): (u64, &str),
    cpus: u8,
) -> Result<Entry, MachineError> {
    let mut initrd = Cpio::default();
    initrd.file("init", 0o755, init);
    let (initrd, command_line) = (initrd.finish(), format!("{COMMAND_LINE} -- run={run:x} test={test}"));
    let image = Pvh {
        elf: &kernel.vmlinux,
        command_line: &command_line,
        initrd: Some(&initrd),
        megs: MEGS,
        mtrrs: Mtrrs::Reset,
    };
    let image = image.disk().failed(&format!("cannot load {kernel}"))?;
    let parts = image.segments.iter().map(|segment| (u64::from(segment.address), &segment.bytes[..]));
    let table = mptable::table(cpus);
    for (address, bytes) in parts.chain([(mptable::PLACE, &table[..])]) {
        ram.write_slice(bytes, GuestAddress(address)).failed("cannot write the kernel")?;
    }
    Ok(Entry { rip: image.entry.into(), start_info: image.start_info.into() })
}

/// Sets a vCPU's registers to those of a PVH entry: flat 32-bit segments, no paging, EBX at `hvm_start_info`
/// (xen/docs/misc/pvh.pandoc).
///
/// # Errors
/// What KVM_GET_SREGS, KVM_SET_SREGS or KVM_SET_REGS says.
pub fn enter(vcpu: &VcpuFd, entry: Entry) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let code = kvm_segment { limit: !0, selector: 8, type_: 0xb, present: 1, db: 1, s: 1, g: 1, ..Default::default() };
    let data = kvm_segment { selector: 16, type_: 3, ..code };
    sregs.cs = code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss, &mut sregs.fs, &mut sregs.gs] {
        *segment = data;
    }
    sregs.tr = kvm_segment { limit: 0x67, type_: 0xb, present: 1, ..Default::default() };
    (sregs.cr0, sregs.cr4, sregs.efer) = (CR0, 0, 0);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rflags: 2, rip: entry.rip, rbx: entry.start_info, ..Default::default() })
}

/// Adds to CPUID what a VMM adds.
pub fn complete(cpuid: &mut CpuId) {
    let features = cpuid.as_mut_slice().iter_mut().filter(|entry| entry.function == LEAF_FEATURES);
    features.for_each(|entry| entry.ecx |= ECX_TSC_DEADLINE | ECX_HYPERVISOR);
}

impl Vm<'_> {
    /// Whether a Linux kernel runs in it.
    pub fn is_linux(&self) -> bool {
        self.job.needs.has(Needs::LINUX)
    }

    /// What firmware does before a kernel, on all vCPUs, before they run: sets MTRRs, as SeaBIOS does. The boot that is
    /// measured begins then.
    pub fn play_firmware(&self) {
        let maxphyaddr = self.machine.maxphyaddr(self.job.vm);
        for (cpu, index) in self.cpus.iter().zip(0..) {
            let vcpu = lock(&cpu.fd);
            seabios(HOLE, maxphyaddr, &mut |msr, value| {
                self.note_step(index, &vcpu, Step::SetMsr { cpu: index, index: msr, value });
            });
        }
        let vcpu = lock(&self.cpus[0].fd);
        self.note_step(0, &vcpu, Step::Mark);
        self.note_clock(0, &vcpu);
    }

    /// Records the time, and what vCPU `cpu` has for it.
    pub fn note_clock(&self, cpu: u8, vcpu: &VcpuFd) {
        let (_, ticks) = get_msr(vcpu, TSC);
        self.note_step(cpu, vcpu, Step::Clock { ticks });
    }

    /// Reads and records the MTRRs of all vCPUs, when none runs any more. The PAT is the kernel's own business.
    pub fn note_mtrrs(&self) {
        for (cpu, index) in self.cpus.iter().zip(0..) {
            let vcpu = lock(&cpu.fd);
            for msr in state_msrs().filter(|&msr| msr != PAT) {
                self.note_step(index, &vcpu, Step::GetMsr { cpu: index, index: msr });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::smallest::elf;

    fn ram() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
    }

    fn number<const N: usize>(ram: &GuestMemoryMmap, at: u64) -> u64 {
        let mut bytes = [0; 8];
        ram.read_slice(&mut bytes[..N], GuestAddress(at)).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn a_kernel_finds_its_words_its_init_and_its_cpus() {
        let (ram, kernel) = (ram(), Linux::unnamed(elf(&[0xf4])));
        let entry = load(&ram, &kernel, b"an init", (0x5eed, "boot-2"), 2).unwrap();
        assert_eq!((entry.rip, number::<1>(&ram, entry.rip)), (0x10_0000, 0xf4));
        // hvm_start_info: modlist_paddr is at 16, cmdline_paddr at 24.
        let [modules, words] = [16, 24].map(|offset| number::<8>(&ram, entry.start_info + offset));
        let mut text = vec![0; 4096];
        ram.read_slice(&mut text, GuestAddress(words)).unwrap();
        let text = String::from_utf8(text.split(|&byte| byte == 0).next().unwrap().to_vec()).unwrap();
        assert!(
            text.starts_with("earlycon=uart8250,io,0x2f8 ") && text.ends_with(" -- run=5eed test=boot-2"),
            "{text}"
        );
        let [at, size] = [0, 8].map(|offset| number::<8>(&ram, modules + offset));
        let mut archive = vec![0; size as usize];
        ram.read_slice(&mut archive, GuestAddress(at)).unwrap();
        assert!(archive.starts_with(b"070701") && archive.windows(7).any(|bytes| bytes == b"an init"));
        assert_eq!(number::<4>(&ram, mptable::PLACE), u64::from(u32::from_le_bytes(*b"_MP_")));
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let mut file = elf(&[0xf4]);
        let note = file.windows(4).position(|bytes| bytes == b"Xen\0").unwrap();
        file[note] = b'x';
        let error = load(&ram(), &Linux::unnamed(file), b"", (0, "boot-1"), 1).unwrap_err();
        assert_eq!(error.to_string(), "cannot load Linux 0 at memory");
        assert!(error.source.unwrap().to_string().ends_with("(XEN_ELFNOTE_PHYS32_ENTRY)"));
    }
}
