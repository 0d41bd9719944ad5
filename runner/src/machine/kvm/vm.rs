//! One VM: made, run until something ends it, and taken down.

use super::deadline::Deadline;
use super::slots::Slots;
use super::steps::{Then, read_state};
use super::vfio::Vfio;
use super::{Failed, KvmMachine, Lie, boot, linux, sys};
use crate::host::quirks::Quirks;
use crate::machine::log::{Full, Log};
use crate::machine::{End, Job, MachineError, Observed};
use crate::witness::{Watching, Witnessed, stats};
use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuExit, VcpuFd, VmFd};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Scope;
use std::time::Instant;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use wire::host::HostRecord;
use wire::layout::{CONSOLE_PORT, DOORBELL_PORT, EXIT_PORT, LINE_PORT, SERIAL_PORT, YIELD_PORT};
use wire::needs::Needs;
use wire::register::{Place, Register};

/// GPA of the pages for KVM_SET_TSS_ADDR: right above the page at 0xfffbc000 where KVM puts its identity map by
/// default.
pub const TSS_PAGES: usize = 0xfffb_d000;

/// A VM while it runs. The file descriptors come first, so that they close before the memory that they map goes.
pub struct Vm<'a> {
    pub cpus: Vec<Cpu>,
    pub fd: VmFd,
    vfio: Mutex<Vfio>,
    pub machine: &'a KvmMachine,
    pub job: &'a Job<'a>,
    pub ram: GuestMemoryMmap,
    slots: Mutex<Slots>,
    log: Mutex<Log>,
    /// How the VM ended; the first vCPU to say so is right.
    end: OnceLock<Result<End, MachineError>>,
    /// One timer for each thread that runs a vCPU.
    timers: Mutex<Vec<Deadline>>,
    deadline: Instant,
}

/// A vCPU. Its thread holds the lock for as long as it runs.
pub struct Cpu {
    pub fd: Mutex<VcpuFd>,
    claimed: AtomicBool,
}

impl Cpu {
    /// Takes the right to run it, once.
    pub fn claim(&self) -> Result<(), ()> {
        if self.claimed.swap(true, Ordering::SeqCst) { Err(()) } else { Ok(()) }
    }
}

/// Makes the VM of a job, runs it and takes it down.
pub fn run(machine: &KvmMachine, job: &Job<'_>) -> Result<Observed, MachineError> {
    let started = Instant::now();
    let vm = Vm::new(machine, job)?;
    if vm.is_linux() {
        vm.play_firmware();
    }
    std::thread::scope(|scope| {
        if job.needs.has(Needs::APIC) {
            // They wait in the kernel for INIT and SIPI.
            (1..job.needs.cpu_count()).for_each(|cpu| vm.spawn(scope, cpu));
        }
        vm.run_cpu(scope, 0);
    });
    // A timer that has gone off does so again and again, and would interrupt what comes now.
    lock(&vm.timers).clear();
    vm.last_words();
    if vm.is_linux() {
        vm.note_mtrrs();
    }
    let Vm { log, end, .. } = vm;
    let log = log.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    let end = end.into_inner().unwrap_or_else(|| Ok(End::Unexpected("every vCPU stopped without a reason".into())))?;
    Ok(Observed {
        log,
        end,
        micros: started.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
        witness: Witnessed::default(),
    })
}

impl<'a> Vm<'a> {
    fn new(machine: &'a KvmMachine, job: &'a Job<'a>) -> Result<Self, MachineError> {
        // Before the VM: on an error below, what was made last goes first.
        let kernel = match job.needs.has(Needs::LINUX) {
            true => Some(machine.devices.linux.as_ref().ok_or("none was named").failed("no Linux kernel")?),
            false => None,
        };
        let size = if kernel.is_some() { linux::MEMORY } else { boot::RAM };
        let ram: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).failed("cannot map the guest's RAM")?;
        let fd = machine.kvm.create_vm().failed("cannot make a VM (KVM_CREATE_VM)")?;
        // VMX without unrestricted guest runs real mode in virtual-8086 mode, and a vCPU is in real mode when it is
        // made. It wants three pages for a TSS (Documentation/virt/kvm/api.rst, KVM_SET_TSS_ADDR); other KVMs do not
        // care.
        fd.set_tss_address(TSS_PAGES).failed("cannot place the TSS for real mode (KVM_SET_TSS_ADDR)")?;
        if job.needs.has(Needs::APIC) {
            // Local APICs in the kernel and nothing else: a PIC and an I/O APIC cost milliseconds and are of no use
            // here.
            let split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
            fd.enable_cap(&split).failed("cannot make local APICs (KVM_CAP_SPLIT_IRQCHIP)")?;
        }
        if job.vm.disable_quirks != Quirks::default() {
            // Before the first SPTE is made: that a quirk is disabled zaps none.
            sys::disable_quirks(&fd, job.vm.disable_quirks.0)
                .failed("cannot disable quirks (KVM_CAP_DISABLE_QUIRKS2)")?;
        }
        let mut vfio = Vfio::default();
        if job.vm.non_coherent_dma {
            let provider = machine.dma().ok_or("none was named").failed("no provider of non-coherent DMA")?;
            vfio.add(&fd, provider).failed("cannot make DMA non-coherent (KVM_SET_DEVICE_ATTR)")?;
        }
        if let Some(lie) = machine.lie {
            plant(&fd, lie).failed("cannot plant a lie (KVM_X86_SET_MSR_FILTER)")?;
        }
        let hva = ram.get_host_address(GuestAddress(0)).failed("cannot find the guest's RAM")?;
        // A huge page would map low RAM by one leaf, made at boot, and no page of it could be seen to get its own. A
        // kernel without huge pages refuses, and needs it not.
        // SAFETY: the mapping has this size, and the call does not change what it holds.
        unsafe { libc::madvise(hva.cast(), size, libc::MADV_NOHUGEPAGE) };
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: size as u64,
            userspace_addr: hva as u64,
        };
        // SAFETY: the region is the whole of `ram`, which lives as long as the VM's file descriptors: they are fields
        // of the same struct and are dropped before it.
        unsafe { fd.set_user_memory_region(region) }
            .failed("cannot give the VM its RAM (KVM_SET_USER_MEMORY_REGION)")?;
        let mut log = Log::new(job.limits.output);
        let mut cpus = Vec::new();
        for index in 0..job.needs.cpu_count() {
            let vcpu = fd.create_vcpu(index.into()).failed("cannot make a vCPU (KVM_CREATE_VCPU)")?;
            note_reset(&mut log, index, &vcpu)
                .failed("cannot read a new vCPU's registers (KVM_GET_SREGS, KVM_GET_MSRS)")?;
            let mut cpuid = machine.cpuid(job.vm, index);
            if kernel.is_some() {
                linux::complete(&mut cpuid);
            }
            vcpu.set_cpuid2(&cpuid).failed("cannot set CPUID (KVM_SET_CPUID2)")?;
            cpus.push(Cpu { fd: Mutex::new(vcpu), claimed: AtomicBool::new(false) });
        }
        let boot_cpu = &cpus[0];
        let _ = boot_cpu.claim();
        let entered = match kernel {
            Some(kernel) => {
                let entry = linux::load(&ram, kernel, job.elf, (job.run, job.test), job.needs.cpu_count())?;
                let room = log.host(HostRecord::Kernel { entry: entry.rip, memory: size as u64 });
                room.map_err(|Full| "the output limit is too small").failed("cannot keep what is booted")?;
                linux::enter(&lock(&boot_cpu.fd), entry)
            }
            None => {
                let entry = boot::load(&ram, job.elf, job.module, &boot::command_line(job.run, job.test))?;
                boot::enter(&lock(&boot_cpu.fd), entry, 0, boot::START_INFO)
            }
        };
        entered.failed("cannot set the boot vCPU's registers (KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_REGS)")?;
        Ok(Vm {
            cpus,
            fd,
            vfio: Mutex::new(vfio),
            machine,
            job,
            ram,
            slots: Mutex::default(),
            log: Mutex::new(log),
            end: OnceLock::new(),
            timers: Mutex::default(),
            deadline: Instant::now() + job.limits.timeout,
        })
    }

    /// The slots of the test window.
    pub fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    /// KVM's VFIO device.
    pub fn vfio(&self) -> MutexGuard<'_, Vfio> {
        lock(&self.vfio)
    }

    /// Puts a record of the VMM into the log.
    pub fn note(&self, record: HostRecord) {
        if let Err(Full) = lock(&self.log).host(record) {
            self.finish(Ok(End::Flood));
        }
    }

    /// The witnesses, if they trace.
    fn traced(&self) -> Option<&dyn Watching> {
        self.job.watch.filter(|watch| watch.wants().trace)
    }

    /// Puts into the log how SPTEs have changed since the last time, if that is watched.
    pub fn note_sptes(&self) {
        self.traced().iter().flat_map(|watch| watch.sptes()).for_each(|change| self.note(change));
    }

    /// What the witnesses have to say at the end, while the VM is still there.
    fn last_words(&self) {
        let Some(watch) = self.job.watch else { return };
        for change in self.traced().iter().flat_map(|watch| watch.sptes()) {
            if let Err(Full) = lock(&self.log).host(change) {
                watch.gap("the log has no room for the last changes of SPTEs");
                break;
            }
        }
        if watch.wants().stats {
            let mut sums = BTreeMap::new();
            let read = stats::add(&self.fd, &mut sums);
            let each = self.cpus.iter().map(|cpu| stats::add(&*lock(&cpu.fd), &mut sums));
            for error in std::iter::once(read).chain(each).filter_map(Result::err) {
                watch.gap(&format!("KVM's statistics cannot be read (KVM_GET_STATS_FD): {error}"));
            }
            watch.stats(sums);
        }
    }

    /// Ends the VM, unless it has ended, and wakes every vCPU, which then sees that.
    fn finish(&self, end: Result<End, MachineError>) {
        let _ = self.end.set(end);
        for timer in lock(&self.timers).iter() {
            // It would go off at the deadline all the same.
            let _ = timer.now();
        }
    }

    fn spawn<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, cpu: u8) {
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || self.run_cpu(scope, cpu));
        if let Err(error) = thread.failed("cannot make a thread for a vCPU") {
            self.finish(Err(error));
        }
    }

    fn run_cpu<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, cpu: u8) {
        let mut vcpu = lock(&self.cpus[usize::from(cpu)].fd);
        let _pinned = match self.machine.pin(cpu) {
            Ok(pinned) => pinned,
            Err(error) => return self.finish(Err(error)),
        };
        if let Some(watch) = self.traced() {
            watch.thread(sys::thread_id());
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        match Deadline::new(left).failed("cannot make a timer") {
            Ok(timer) => lock(&self.timers).push(timer),
            Err(error) => return self.finish(Err(error)),
        }
        while self.end.get().is_none() {
            match self.enter(cpu, &mut vcpu) {
                Ok(Left::GoOn) => {}
                Ok(Left::Start(other)) => self.spawn(scope, other),
                Ok(Left::Halted) if cpu != 0 => return,
                Ok(Left::Halted) => self.finish(Ok(End::Halt)),
                Ok(Left::End(end)) => self.finish(Ok(end)),
                Err(error) => self.finish(Err(error)),
            }
        }
    }

    /// KVM_RUN once, and what the VMM does about the exit.
    fn enter(&self, cpu: u8, vcpu: &mut VcpuFd) -> Result<Left, MachineError> {
        let left = match vcpu.run() {
            Ok(VcpuExit::IoOut(SERIAL_PORT, bytes)) => match lock(&self.log).serial(bytes) {
                Ok(()) => Left::GoOn,
                Err(Full) => Left::End(End::Flood),
            },
            Ok(VcpuExit::IoOut(LINE_PORT, bytes)) => {
                let gpa = number(bytes) as u32;
                self.line(gpa).map_or_else(Left::End, |()| Left::GoOn)
            }
            Ok(VcpuExit::IoOut(EXIT_PORT, bytes)) => {
                let end = End::Exit(number(bytes) as u32);
                if self.is_linux() {
                    self.note_clock(cpu, vcpu);
                }
                Left::End(end)
            }
            Ok(VcpuExit::IoOut(CONSOLE_PORT, bytes)) => {
                let feeds = bytes.contains(&b'\n');
                if let Err(Full) = lock(&self.log).console(bytes) {
                    return Ok(Left::End(End::Flood));
                }
                if feeds {
                    // A boot has more of them than the trace has room for.
                    self.note_sptes();
                }
                Left::GoOn
            }
            Ok(VcpuExit::IoOut(DOORBELL_PORT, bytes)) => {
                let gpa = number(bytes) as u32;
                return Ok(match self.doorbell(cpu, vcpu, gpa) {
                    Then::GoOn => Left::GoOn,
                    Then::Start(other) => Left::Start(other),
                    Then::End(end) => Left::End(end),
                });
            }
            Ok(VcpuExit::IoOut(YIELD_PORT, _)) => {
                std::thread::yield_now();
                Left::GoOn
            }
            Ok(VcpuExit::IoOut(..)) => Left::GoOn,
            // No device answers.
            Ok(VcpuExit::IoIn(_, bytes)) => {
                bytes.fill(0xff);
                Left::GoOn
            }
            Ok(VcpuExit::MmioRead(gpa, bytes)) => {
                for (byte, at) in bytes.iter_mut().zip(gpa..) {
                    *byte = (at ^ at >> 8 ^ 0xa5) as u8;
                }
                self.note(HostRecord::MmioRead { cpu, width: bytes.len() as u8, gpa, value: number(bytes) });
                Left::GoOn
            }
            Ok(VcpuExit::MmioWrite(gpa, bytes)) => {
                self.note(HostRecord::MmioWrite { cpu, width: bytes.len() as u8, gpa, value: number(bytes) });
                Left::GoOn
            }
            Ok(VcpuExit::X86Rdmsr(exit)) if self.machine.lie.is_some_and(|lie| lie.index == exit.index) => {
                *exit.data = self.machine.lie.map_or(0, |lie| lie.value);
                Left::GoOn
            }
            Ok(VcpuExit::Intr) => Left::GoOn,
            Ok(VcpuExit::Hlt) => Left::Halted,
            Ok(VcpuExit::Shutdown) => Left::End(End::Shutdown),
            Ok(VcpuExit::FailEntry(reason, _)) => Left::End(End::FailEntry { reason }),
            Ok(VcpuExit::InternalError) => return self.internal_error(vcpu).map(Left::End),
            Ok(other) => Left::End(End::Unexpected(format!("{other:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Left::GoOn,
            Err(error) => return Err(error).failed("KVM_RUN failed"),
        };
        // The boot vCPU alone calls time, so that its RIP is the one that is reported: it never leaves its loop before
        // the end.
        if cpu == 0 && matches!(left, Left::GoOn) && Instant::now() >= self.deadline {
            return Ok(Left::End(End::Timeout { rip: vcpu.get_regs().ok().map(|regs| regs.rip) }));
        }
        Ok(left)
    }

    /// Takes the bytes of the serial line that a guest has left at a GPA, behind their count. A count that the log has
    /// no room for is a flood, whether there is memory for it or not.
    fn line(&self, gpa: u32) -> Result<(), End> {
        let outside = |_| End::Unexpected("the guest left a line outside RAM".into());
        let len: u32 = self.ram.read_obj(GuestAddress(gpa.into())).map_err(outside)?;
        let mut log = lock(&self.log);
        if len as usize > log.room() {
            return Err(End::Flood);
        }
        let mut bytes = vec![0; len as usize];
        self.ram.read_slice(&mut bytes, GuestAddress(u64::from(gpa) + 4)).map_err(outside)?;
        log.serial(&bytes).map_err(|Full| End::Flood)
    }

    fn internal_error(&self, vcpu: &mut VcpuFd) -> Result<End, MachineError> {
        let what = "cannot read the details of KVM_EXIT_INTERNAL_ERROR";
        let error = sys::internal_error(vcpu).ok_or("the exit reason is another").failed(what)?;
        let rip = vcpu.get_regs().failed(what)?.rip;
        let mut bytes = error.bytes;
        if bytes.is_empty() {
            // Guests map memory one to one, so RIP is the GPA too.
            let at = GuestAddress(rip);
            let room = self.ram.last_addr().checked_sub(rip).map_or(0, |last| last.raw_value() + 1).min(15);
            bytes.resize(room as usize, 0);
            if self.ram.read_slice(&mut bytes, at).is_err() {
                bytes.clear();
            }
        }
        Ok(End::InternalError { suberror: error.suberror, rip, bytes })
    }
}

/// Why a vCPU left the guest, as far as its loop cares.
enum Left {
    GoOn,
    Start(u8),
    Halted,
    End(End),
}

/// Has RDMSR of the lie's MSR leave the VM, so that the VMM answers.
fn plant(vm: &VmFd, lie: Lie) -> Result<(), kvm_ioctls::Error> {
    let to_user = u64::from(KVM_MSR_EXIT_REASON_FILTER);
    vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, args: [to_user, 0, 0, 0], ..Default::default() })?;
    let denied = MsrFilterRange { flags: MsrFilterRangeFlags::READ, base: lie.index, msr_count: 1, bitmap: &[0] };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[denied])
}

/// Records the registers of a vCPU that nothing has touched.
fn note_reset(log: &mut Log, cpu: u8, vcpu: &VcpuFd) -> std::io::Result<()> {
    let mut note = |register, value| {
        let full = |Full| std::io::Error::other("the output limit is too small for a vCPU's registers");
        log.host(HostRecord::Reset { at: Place { cpu, register }, value }).map_err(full)
    };
    note(Register::Cr0, vcpu.get_sregs()?.cr0)?;
    read_state(vcpu)?.as_slice().iter().try_for_each(|msr| note(Register::Msr(msr.index), msr.data))
}

/// The little-endian number in up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A lock whose holder panicked still guards values that are whole: each is changed in one step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
