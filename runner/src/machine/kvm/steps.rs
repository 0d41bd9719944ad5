//! Host steps: what a guest asks for at the doorbell, done and recorded.

use super::slots::Wanted;
use super::vm::Vm;
use super::{boot, sys};
use crate::host::mmio::HostMmio;
use crate::host::slot_type;
use crate::machine::End;
use kvm_bindings::{KVM_MEM_READONLY, Msrs, kvm_msr_entry, kvm_x86_mce};
use kvm_ioctls::VcpuFd;
use std::io;
use vm_memory::{Bytes, GuestAddress};
use wire::host::HostRecord;
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, VARIABLE_MTRRS};
use wire::step::{STEP_BYTES, SlotApi, SlotMemory, Status, Step};

/// A reply: how it went, and the value for a step that replies with one (else 0).
pub type Reply = (Status, u64);

const INVALID: Reply = (Status::Invalid, 0);

/// The vCPU that rang the doorbell: its thread holds it, so that it alone can be asked without its lock.
#[derive(Clone, Copy)]
struct Caller<'a> {
    cpu: u8,
    vcpu: &'a VcpuFd,
}

/// What a doorbell asks for besides a reply.
pub enum Then {
    /// Nothing.
    GoOn,
    /// Run this vCPU from now on.
    Start(u8),
    /// End the VM: nothing can be recorded of what the guest asks for.
    End(End),
}

/// The MSRs that a VMM saves and restores for memory types: PAT, the default type, fixed and variable MTRRs. The list
/// is wired in, as in every VMM, because KVM_GET_MSR_INDEX_LIST names no MTRR.
pub fn state_msrs() -> impl Iterator<Item = u32> {
    let variable = MTRR_PHYSBASE0..MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS;
    [PAT, MTRR_DEF_TYPE].into_iter().chain(FIXED_MTRRS).chain(variable)
}

/// KVM_GET_MSRS of [`state_msrs`]. It stops at the first MSR that it does not read, and what comes after is left out.
///
/// # Errors
/// What the ioctl says.
pub fn read_state(vcpu: &VcpuFd) -> Result<Msrs, io::Error> {
    let entries: Vec<_> = state_msrs().map(|index| kvm_msr_entry { index, ..Default::default() }).collect();
    let mut msrs = Msrs::from_entries(&entries).map_err(io::Error::other)?;
    let read = vcpu.get_msrs(&mut msrs)?;
    Msrs::from_entries(&msrs.as_slice()[..read]).map_err(io::Error::other)
}

impl Vm<'_> {
    /// Answers a doorbell that vCPU `caller` rang with the GPA of a step block. A block that is none ends the VM.
    pub fn doorbell(&self, caller: u8, vcpu: &VcpuFd, gpa: u32) -> Then {
        let mut bytes = [0; STEP_BYTES];
        let at = GuestAddress(gpa.into());
        let reply_at = GuestAddress(u64::from(gpa) + STEP_BYTES as u64);
        if self.ram.read_slice(&mut bytes, at).is_err() {
            return Then::End(End::Unexpected("the guest rang the doorbell with a block outside RAM".into()));
        }
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let Some(step) = Step::from_words(words) else {
            return Then::End(End::Unexpected("the guest rang the doorbell with a block that is no step".into()));
        };
        let (status, value) = self.note_step(caller, vcpu, step);
        let reply = [status.word().to_le_bytes(), value.to_le_bytes()].concat();
        // A block at the very end of RAM has no room for the reply: its guest finds none.
        let _ = self.ram.write_slice(&reply, reply_at);
        match step {
            Step::StartCpu { cpu, .. } if status == Status::Done => Then::Start(cpu),
            _ => Then::GoOn,
        }
    }

    /// Does a step as vCPU `cpu` asks for it, or in its place, and records it behind what the witnesses have seen.
    pub fn note_step(&self, cpu: u8, vcpu: &VcpuFd, step: Step) -> Reply {
        let (status, value) = self.step(Caller { cpu, vcpu }, step);
        self.note_sptes();
        self.note(HostRecord::Step { step, status, value });
        (status, value)
    }

    /// Does something with the vCPU of index `cpu`. One that runs holds its own lock: nothing can be asked of it.
    fn on(&self, caller: Caller<'_>, cpu: u8, f: impl FnOnce(&VcpuFd) -> Reply) -> Reply {
        if cpu == caller.cpu {
            return f(caller.vcpu);
        }
        self.cpus.get(usize::from(cpu)).and_then(|cpu| cpu.fd.try_lock().ok()).map_or(INVALID, |vcpu| f(&vcpu))
    }

    fn step(&self, caller: Caller<'_>, step: Step) -> Reply {
        match step {
            Step::SetMsr { cpu, index, value } => self.on(caller, cpu, |vcpu| set_msr(vcpu, index, value)),
            Step::GetMsr { cpu, index } => self.on(caller, cpu, |vcpu| get_msr(vcpu, index)),
            Step::SetOneReg { cpu, index, value } => self.on(caller, cpu, |vcpu| {
                reply(vcpu.set_one_reg(sys::one_reg_msr(index), &value.to_le_bytes()).map(|_| 0))
            }),
            Step::GetOneReg { cpu, index } => self.on(caller, cpu, |vcpu| {
                let mut value = [0; 8];
                reply(vcpu.get_one_reg(sys::one_reg_msr(index), &mut value).map(|_| u64::from_le_bytes(value)))
            }),
            Step::SetCr0 { cpu, value } => self.on(caller, cpu, |vcpu| reply(set_cr0(vcpu, value).map(|()| 0))),
            Step::GetCr0 { cpu } => self.on(caller, cpu, |vcpu| reply(vcpu.get_sregs().map(|sregs| sregs.cr0))),
            Step::ListsMsr { index } => (Status::Done, self.machine.listed_msrs.contains(&index).into()),
            Step::SetMaxphyaddr { cpu, bits } => self.on(caller, cpu, |vcpu| {
                let vm = crate::plan::vm::VmConfig { maxphyaddr: Some(bits), ..self.job.vm.clone() };
                reply(vcpu.set_cpuid2(&self.machine.cpuid(&vm, cpu)).map(|()| 0))
            }),
            Step::CopyState { from, to } => self.copy_state(caller, from, to),
            Step::SetupMce { cpu, mcg_cap } => self.on(caller, cpu, |vcpu| io_reply(sys::setup_mce(vcpu, mcg_cap))),
            Step::InjectMce { cpu, event } => {
                let mce = kvm_x86_mce {
                    bank: event.bank,
                    status: event.status,
                    addr: event.addr,
                    misc: event.misc,
                    mcg_status: event.mcg_status,
                    ..Default::default()
                };
                self.on(caller, cpu, |vcpu| io_reply(sys::set_mce(vcpu, &mce)))
            }
            Step::SetSlot { api, slot, flags, gpa, pages, memory } => {
                let flags = flags | slot_type::flag(self.job.vm.slot_type);
                (self.slots().set(&self.fd, api, Wanted { slot, flags, gpa, pages }, memory), 0)
            }
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                let flags = slot_type::flag(typed) | if readonly { KVM_MEM_READONLY } else { 0 };
                let wanted = Wanted { slot, flags, gpa, pages };
                (self.slots().set(&self.fd, SlotApi::V1, wanted, SlotMemory::Small), 0)
            }
            Step::DeleteSlot { api, slot } => (self.slots().delete(&self.fd, api, slot), 0),
            Step::Poke { slot, offset, value, flush } => (self.slots().poke(slot, offset, value, flush), 0),
            Step::Peek { slot, offset, flush } => self.slots().peek(slot, offset, flush),
            Step::DisableQuirks { quirks } => reply(sys::disable_quirks(&self.fd, quirks).map(|()| 0)),
            Step::StartCpu { cpu, .. } if self.cpus.get(usize::from(cpu)).is_none_or(|cpu| cpu.claim().is_err()) => {
                INVALID
            }
            Step::Mark => (Status::Done, 0),
            Step::Clock { .. } => (Status::Done, nanoseconds()),
            Step::PlugDma => {
                self.machine.dma().map_or(INVALID, |provider| reply(self.vfio().add(&self.fd, provider).map(|()| 0)))
            }
            Step::UnplugDma => {
                self.machine.dma().map_or(INVALID, |provider| reply(self.vfio().delete(&self.fd, provider).map(|()| 0)))
            }
            Step::SetMmioSlot { slot, gpa } => {
                self.mmio_slot(self.machine.devices.mmio.as_ref(), slot, slot_type::flag(self.job.vm.slot_type), gpa)
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => {
                self.mmio_slot(self.machine.devices.mmio.as_ref(), slot, slot_type::flag(typed), gpa)
            }
            Step::SetHazardSlot { slot, gpa, hazard } => {
                self.mmio_slot(self.machine.devices.hazard(hazard), slot, 0, gpa)
            }
            Step::StartCpu { cpu, entry, stack, argument } => {
                self.on(caller, cpu, |vcpu| reply(boot::enter(vcpu, entry, stack, argument).map(|()| 0)))
            }
        }
    }

    /// Makes or moves a slot of a page that no memory of the host is behind.
    fn mmio_slot(&self, page: Option<&HostMmio>, slot: u8, flags: u32, gpa: u64) -> Reply {
        page.map_or(INVALID, |page| (self.slots().set_mmio(&self.fd, page, Wanted { slot, flags, gpa, pages: 1 }), 0))
    }

    /// Saves one vCPU's special registers and [`state_msrs`] and restores them on another, in the order of QEMU:
    /// special registers, then MSRs. What says which vCPU it is (the APIC base with its BSP bit) stays.
    fn copy_state(&self, caller: Caller<'_>, from: u8, to: u8) -> Reply {
        let mut saved = None;
        let read = self.on(caller, from, |vcpu| match (vcpu.get_sregs(), read_state(vcpu)) {
            (Ok(sregs), Ok(msrs)) if msrs.as_slice().len() == state_msrs().count() => {
                saved = Some((sregs, msrs));
                (Status::Done, 0)
            }
            (Ok(_), Ok(_)) => (Status::Refused, 0),
            (Err(error), _) => reply(Err(error)),
            (_, Err(error)) => io_reply(Err(error)),
        });
        let Some((mut sregs, msrs)) = saved else { return read };
        self.on(caller, to, |vcpu| {
            let restored = vcpu.get_sregs().and_then(|own| {
                sregs.apic_base = own.apic_base;
                vcpu.set_sregs(&sregs)?;
                vcpu.set_msrs(&msrs)
            });
            match restored {
                Ok(n) if n == msrs.as_slice().len() => (Status::Done, 0),
                Ok(_) => (Status::Refused, 0),
                Err(error) => reply(Err(error)),
            }
        })
    }
}

/// CLOCK_MONOTONIC.
fn nanoseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure, and every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn set_cr0(vcpu: &VcpuFd, value: u64) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.cr0 = value;
    vcpu.set_sregs(&sregs)
}

fn set_msr(vcpu: &VcpuFd, index: u32, data: u64) -> Reply {
    let Ok(msrs) = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }]) else { return INVALID };
    match vcpu.set_msrs(&msrs) {
        Ok(1) => (Status::Done, 0),
        Ok(_) => (Status::Refused, 0),
        Err(error) => reply(Err(error)),
    }
}

/// KVM_GET_MSRS with one entry.
pub fn get_msr(vcpu: &VcpuFd, index: u32) -> Reply {
    let Ok(mut msrs) = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]) else { return INVALID };
    match vcpu.get_msrs(&mut msrs) {
        Ok(1) => (Status::Done, msrs.as_slice()[0].data),
        Ok(_) => (Status::Refused, 0),
        Err(error) => reply(Err(error)),
    }
}

fn reply(result: Result<u64, kvm_ioctls::Error>) -> Reply {
    match result {
        Ok(value) => (Status::Done, value),
        Err(error) => (Status::Errno(sys::errno(&error)), 0),
    }
}

fn io_reply(result: io::Result<()>) -> Reply {
    match result {
        Ok(()) => (Status::Done, 0),
        Err(error) => (Status::Errno(error.raw_os_error().unwrap_or(0).unsigned_abs()), 0),
    }
}
