//! Family `interpreter`: does the operations of a history, which the loader hands over as a boot module.
//!
//! A mark follows each operation, so that it is certain which came before what. vCPUs other than the one that boots run
//! from the start; each does its own operations, and rings the doorbell itself for host steps that are about it.
//!
//! What: writes MTRRs and the PAT, moves CD and NW to CR0, stores to and loads from pages of the test windows through an
//! entry of the PAT, and asks for host steps, each on the vCPU that the operation names.
//!
//! Why: what KVM makes of memory types depends on the history of a VM: which vCPU touched what before which change.
//! Tests that were thought of cover the histories that somebody thought of; `kvm-memtype fuzz` draws others at random.
//!
//! Source: as for the families of which it has the operations: SDM Vol. 3A, "Memory Type Range Registers (MTRRs)"; KVM's
//! `arch/x86/kvm/mtrr.c`, `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`, `arch/x86/kvm/mmu/spte.c:make_spte`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::report::Out;
use guest::smp::Cpu;
use guest::{cpu, cr0, mmio, module, paging, smp, sweep};
use wire::history::{Head, Op};
use wire::layout::{CR0_CD, CR0_NW};
use wire::needs::Needs;
use wire::outcome::Outcome;
use wire::record::Start;
use wire::register::{Place, Register};
use wire::step::Step;

guest::family!();

/// The most vCPUs that a history has.
const MOST: usize = 8;

guest::test!(
    "history",
    "Does the operations of the history in the boot module; `kvm-memtype fuzz` makes them.",
    Needs::STEPS.and(Needs::SLOTS),
    points = 0,
    |out| {
        let Some(block) = module::block(0) else {
            return out.skip("no history was handed over as a boot module: kvm-memtype fuzz does that");
        };
        let Some(head) = Head::from_block(block) else { panic!("the boot module is no history") };
        assert!(usize::from(head.cpus) <= MOST, "the history has more vCPUs than the guest");
        smp::give_way();
        cpu::report_mtrrs_and_width(out);
        let others: [Option<Cpu>; MOST] = core::array::from_fn(|n| {
            (1..head.cpus).contains(&(n as u8)).then(|| Cpu::start(out, n as u8, Start::Direct))
        });
        ring(Step::Mark);
        for n in 1..=u64::from(head.count) {
            let Some(op) = module::block(n).and_then(Op::from_block) else { panic!("a block is no operation") };
            let on = others.get(usize::from(op.cpu())).and_then(Option::as_ref);
            assert!(op.cpu() == 0 || on.is_some(), "an operation names a vCPU that the history does not have");
            perform(out, on, n, op);
            if op != Op::Host(Step::Mark) {
                ring(Step::Mark);
            }
        }
    }
);

/// Does `work` on the vCPU that boots, or on another.
fn run<R: Send>(on: Option<&Cpu>, work: impl FnOnce() -> R + Send) -> R {
    match on {
        Some(cpu) => cpu.run(work),
        None => work(),
    }
}

/// Does operation number `n`, on an application processor if one is given.
fn perform(out: &mut Out, on: Option<&Cpu>, n: u64, op: Op) {
    match op {
        Op::Wrmsr { cpu, index, value } => {
            let outcome = run(on, || sweep::write_msr(index, value));
            out.write(Place { cpu, register: Register::Msr(index) }, value, outcome);
        }
        Op::MovCr0 { cpu, bits } => {
            let (value, outcome): (u64, Outcome) = run(on, || {
                let value = cr0::read() & !(CR0_CD | CR0_NW) | bits;
                (value, sweep::write_cr0(value))
            });
            out.write(Place { cpu, register: Register::Cr0 }, value, outcome);
        }
        // The number makes each value another one, so that an old one shows.
        Op::Store { gpa, pat_entry, .. } => {
            map(on, gpa, pat_entry);
            let value = n << 32 | gpa & 0xffff_ffff;
            match on {
                Some(cpu) => mmio::write_by(out, cpu, 0, gpa, 8, value),
                None => mmio::write(out, 0, gpa, 8, value),
            }
        }
        Op::Load { gpa, pat_entry, .. } => {
            map(on, gpa, pat_entry);
            match on {
                Some(cpu) => mmio::read_by(out, cpu, 0, gpa, 8),
                None => drop(mmio::read(out, 0, gpa, 8)),
            }
        }
        Op::Host(step) => drop(run(on, || ring(step))),
    }
}

/// Maps the page at `gpa` through an entry of the PAT, for the vCPU that is to access it.
fn map(on: Option<&Cpu>, gpa: u64, pat_entry: u8) {
    paging::map(gpa, paging::Page::Small, pat_entry);
    if let Some(cpu) = on {
        cpu.run(paging::flush);
    }
}
