//! What hosts do to guests: MSRs, memslots, MMIO, machine checks; and instructions.

use super::support::{DONE, Log, judge, run, run_to};
use crate::judge::{Judgement, Verdict};
use crate::machine::End;
use wire::frame::Writer;
use wire::host::HostRecord;
use wire::insn::Insn;
use wire::layout::{PAT, WINDOW};
use wire::outcome::{Fault, Outcome};
use wire::record::{Access, CpuidLeaf, Trap};
use wire::register::{Place, Register};
use wire::step::{MceEvent, SlotApi, SlotMemory, Status, Step};

const EINVAL: Status = Status::Errno(22);

fn verdict(guest: impl FnOnce(&mut Writer<Log>, &Log)) -> Judgement {
    judge(&run(guest))
}

fn passes(guest: impl FnOnce(&mut Writer<Log>, &Log)) {
    let judgement = verdict(guest);
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Pass, ""));
}

fn fails(reason: &str, guest: impl FnOnce(&mut Writer<Log>, &Log)) {
    let judgement = verdict(guest);
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Fail, reason));
}

#[test]
fn host_and_guest_meet_the_same_checks() {
    passes(|out, log| {
        log.step(Step::SetMsr { cpu: 0, index: PAT, value: 2 }, Status::Refused);
        log.step(Step::SetOneReg { cpu: 0, index: PAT, value: 2 }, EINVAL);
        log.step(Step::SetMsr { cpu: 0, index: PAT, value: 6 }, Status::Done);
        out.reads(Place::msr(PAT)).push(Ok(6));
        out.write(Place::msr(PAT), 4, Outcome::ACCEPTED);
        log.reply(Step::GetMsr { cpu: 0, index: PAT }, 4);
        log.reply(Step::GetOneReg { cpu: 0, index: PAT }, 4);
        log.step(Step::GetMsr { cpu: 0, index: 0x210 }, Status::Refused);
        log.step(Step::GetOneReg { cpu: 0, index: 0x210 }, EINVAL);
        log.reply(Step::ListsMsr { index: PAT }, 1);
        log.reply(Step::ListsMsr { index: 0x2ff }, 0);
    });
    fails("vCPU 0: KVM_GET_MSRS 0x277 IA32_PAT: 0x5, where 0x6 is predicted", |_, log| {
        log.step(Step::SetMsr { cpu: 0, index: PAT, value: 6 }, Status::Done);
        log.reply(Step::GetMsr { cpu: 0, index: PAT }, 5);
    });
}

#[test]
fn set_sregs_refuses_what_mov_cr0_refuses_but_keeps_what_that_drops() {
    passes(|_, log| {
        log.created(1);
        log.step(Step::SetCr0 { cpu: 1, value: 0x10 | 1 << 29 }, EINVAL);
        log.step(Step::SetCr0 { cpu: 1, value: 0x10 | 1 << 32 }, EINVAL);
        log.step(Step::SetCr0 { cpu: 1, value: 1 << 6 }, Status::Done);
        log.reply(Step::GetCr0 { cpu: 1 }, 1 << 6);
    });
}

#[test]
fn a_step_that_the_vmm_will_not_do_is_the_harness_s_fault() {
    let peek = Step::Peek { slot: 1, offset: 0, flush: false };
    let judgement = verdict(|_, log| log.step(peek, Status::Invalid));
    assert_eq!(judgement.verdict, Verdict::Error);
    assert_eq!(judgement.reason, "HVA of slot 1, offset 0x0 read: the VMM would not do the step");
    // Unless KVM is to blame, here for a memslot that it refuses.
    let judgement = verdict(|_, log| {
        log.step(slot(0, 1, WINDOW), EINVAL);
        log.step(peek, Status::Invalid);
    });
    assert_eq!(judgement.verdict, Verdict::Fail);
}

#[test]
fn a_copied_vcpu_is_equal() {
    let copied = |found| {
        verdict(move |out, log| {
            log.created(1);
            out.write(Place::msr(PAT), 6, Outcome::ACCEPTED);
            log.step(Step::CopyState { from: 0, to: 1 }, Status::Done);
            log.reply(Step::GetMsr { cpu: 1, index: PAT }, found);
        })
        .verdict
    };
    assert_eq!((copied(6), copied(0x0007_0406_0007_0406)), (Verdict::Pass, Verdict::Fail));
}

fn slot(flags: u32, pages: u32, gpa: u64) -> Step {
    Step::SetSlot { api: SlotApi::V1, slot: 1, flags, gpa, pages, memory: SlotMemory::Small }
}

#[test]
fn memslot_flags_are_known_or_refused() {
    passes(|_, log| {
        for bit in 2..32 {
            log.step(slot(1 << bit, 1, WINDOW), EINVAL);
            let step = Step::SetSlot {
                api: SlotApi::V2,
                slot: 1,
                flags: 1 << bit,
                gpa: WINDOW,
                pages: 1,
                memory: SlotMemory::Small,
            };
            log.step(step, EINVAL);
        }
        log.step(slot(3, 1, WINDOW), Status::Done);
        log.step(slot(1, 1, WINDOW), EINVAL);
        log.step(slot(2, 2, WINDOW), EINVAL);
        let other =
            Step::SetSlot { api: SlotApi::V1, slot: 2, flags: 0, gpa: WINDOW, pages: 1, memory: SlotMemory::Small };
        log.step(other, Status::Errno(17));
        log.step(slot(2, 1, WINDOW + 0x1000), Status::Done);
        log.step(other, Status::Done);
        log.step(Step::DeleteSlot { api: SlotApi::V1, slot: 1 }, Status::Done);
        log.step(Step::DeleteSlot { api: SlotApi::V1, slot: 1 }, EINVAL);
    });
    let reason = "KVM_SET_USER_MEMORY_REGION: slot 1 with flags 0x8, 1 pages at GPA 0xd0000000: done, \
                  where fails with EINVAL is predicted";
    fails(reason, |_, log| log.step(slot(8, 1, WINDOW), Status::Done));
}

fn load(gpa: u64, width: u8, value: u64) -> Access {
    Access { cpu: 0, write: false, width, cpl: 0, gpa, value, fault: None }
}

fn store(gpa: u64, width: u8, value: u64) -> Access {
    Access { cpu: 0, write: true, ..load(gpa, width, value) }
}

fn exit(log: &Log, write: bool, width: u8, gpa: u64, value: u64) {
    log.host(if write {
        HostRecord::MmioWrite { cpu: 0, width, gpa, value }
    } else {
        HostRecord::MmioRead { cpu: 0, width, gpa, value }
    });
}

#[test]
fn an_access_leaves_the_vm_where_no_slot_is_and_only_there() {
    passes(|out, log| {
        exit(log, false, 4, WINDOW, 0x1234);
        out.access(load(WINDOW, 4, 0x1234));
        exit(log, true, 2, WINDOW + 2, 0xbeef);
        out.access(store(WINDOW + 2, 2, 0xdead_beef));
        // Across pages: one exit for each.
        exit(log, true, 4, WINDOW + 0xffc, 0x5566_7788);
        exit(log, true, 4, WINDOW + 0x1000, 0x1122_3344);
        out.access(store(WINDOW + 0xffc, 8, 0x1122_3344_5566_7788));
        log.step(slot(0, 1, WINDOW), Status::Done);
        out.access(load(WINDOW, 8, 0));
        out.access(store(WINDOW + 4, 2, 0xbeef));
        out.access(load(WINDOW, 8, 0xbeef_0000_0000));
        log.reply(Step::Peek { slot: 1, offset: 0, flush: false }, 0xbeef_0000_0000);
        log.step(Step::DeleteSlot { api: SlotApi::V1, slot: 1 }, Status::Done);
        exit(log, false, 8, WINDOW, 1);
        out.access(load(WINDOW, 8, 1));
        // Read-only, with the contents from before.
        log.step(slot(2, 1, WINDOW), Status::Done);
        out.access(load(WINDOW + 4, 4, 0xbeef));
        exit(log, true, 1, WINDOW, 0xff);
        out.access(store(WINDOW, 1, 0xff));
        log.step(Step::Poke { slot: 1, offset: 0, value: 7, flush: false }, Status::Done);
        out.access(load(WINDOW, 1, 7));
    });
}

#[test]
fn a_wrong_exit_or_value_is_noticed() {
    let load4 = "4-byte load from GPA 0xd0000000 at CPL 0";
    let exit4 = "KVM_EXIT_MMIO 4-byte read of 0x1234 from GPA 0xd0000000";
    fails(&format!("{load4}: gives 0x1235, {exit4}, where gives 0x1234, {exit4} is predicted"), |out, log| {
        exit(log, false, 4, WINDOW, 0x1234);
        out.access(load(WINDOW, 4, 0x1235));
    });
    let total = |guest: &dyn Fn(&mut Writer<Log>, &Log)| verdict(guest).disagreements_total;
    // Two exits for one access; an exit of another width; none; one where a slot is; one that no access explains.
    assert_eq!(
        total(&|out, log| {
            exit(log, true, 2, WINDOW, 0x7788);
            exit(log, true, 2, WINDOW + 2, 0x5566);
            out.access(store(WINDOW, 4, 0x5566_7788));
        }),
        2
    );
    assert_eq!(
        total(&|out, log| {
            exit(log, true, 4, WINDOW, 7);
            out.access(store(WINDOW, 2, 7));
        }),
        1
    );
    assert_eq!(total(&|out, _| out.access(store(WINDOW, 2, 7))), 1);
    assert_eq!(
        total(&|out, log| {
            log.step(slot(0, 1, WINDOW), Status::Done);
            exit(log, true, 2, WINDOW, 7);
            out.access(store(WINDOW, 2, 7));
        }),
        1
    );
    assert_eq!(total(&|_, log| exit(log, true, 2, WINDOW, 7)), 1);
    assert_eq!(
        total(&|out, log| {
            exit(log, true, 2, WINDOW, 7);
            out.access(Access { fault: Some(Fault { vector: 14, error: 2 }), ..store(WINDOW, 2, 7) });
        }),
        1
    );
    // Memory that changed by itself is adopted.
    assert_eq!(
        total(&|out, log| {
            log.step(slot(0, 1, WINDOW), Status::Done);
            out.access(load(WINDOW, 8, 9));
            out.access(load(WINDOW, 8, 9));
        }),
        1
    );
}

#[test]
fn instructions_are_there_where_cpuid_says_so() {
    let leaf7 = |ebx| CpuidLeaf { leaf: 7, subleaf: 0, registers: [0, ebx, 0, 0] };
    passes(|out, _| {
        out.exec(Insn::Wbinvd, 0, None);
        out.exec(Insn::Invd, 3, Some(Fault::GP0));
        out.cpuid(leaf7(1 << 24));
        out.exec(Insn::Clwb, 3, None);
    });
    fails("WBINVD at CPL 3: runs without an exception, where #GP(0) is predicted", |out, _| {
        out.exec(Insn::Wbinvd, 3, None);
    });
    let unsure = |guest: &dyn Fn(&mut Writer<Log>)| verdict(|out, _| guest(out)).verdict;
    // Not reported; not announced, so that it is the host CPU's business.
    assert_eq!(unsure(&|out| out.exec(Insn::Clwb, 0, None)), Verdict::Inconclusive);
    assert_eq!(
        unsure(&|out| {
            out.cpuid(leaf7(0));
            out.exec(Insn::Clwb, 0, Some(Fault::UD));
        }),
        Verdict::Inconclusive
    );
}

const CR4: Place = Place::boot(Register::Cr4);
const MCE: u64 = 0x660;
const MC1_STATUS: Place = Place::msr(0x405);
const MCG_STATUS: Place = Place::msr(0x17a);
/// VAL, UC, EN, PCC.
const FATAL: u64 = 0xb200_0000_0000_0001;
/// VAL and EN.
const CORRECTED: u64 = 0x9000_0000_0000_0001;

fn inject(status: u64, mcg_status: u64) -> Step {
    Step::InjectMce { cpu: 0, event: MceEvent { bank: 1, status, addr: 0xabc, misc: 0xdef, mcg_status } }
}

fn machine_check(out: &mut Writer<Log>) {
    out.trap(0, Trap { vector: 18, error: 0, cpl: 3 });
}

fn set_up(log: &Log) {
    log.step(Step::SetupMce { cpu: 0, mcg_cap: 0x100_0104 }, Status::Done);
}

#[test]
fn the_banks_are_set_up_as_asked_or_refused() {
    passes(|out, log| {
        for mcg_cap in [0, 33, 0x100_0504, 1 << 32 | 4] {
            log.step(Step::SetupMce { cpu: 0, mcg_cap }, EINVAL);
        }
        out.reads(Place::msr(0x179)).push(Ok(0x20));
        set_up(log);
        out.reads(Place::msr(0x179)).push(Ok(0x100_0104));
        out.reads(Place::msr(0x17b)).push(Ok(u64::MAX));
        let mut banks = out.reads(Place::msr(0x40c));
        [Ok(u64::MAX), Ok(0), Ok(0), Ok(0), Err(Fault::GP0)].into_iter().for_each(|outcome| banks.push(outcome));
        drop(banks);
        out.reads(Place::msr(0x280)).push(Err(Fault::GP0));
        out.write(MC1_STATUS, 1, Outcome::REFUSED);
        out.write(MC1_STATUS, 0, Outcome::ACCEPTED);
    });
}

#[test]
fn an_uncorrected_error_raises_a_machine_check() {
    passes(|out, log| {
        set_up(log);
        out.write(CR4, MCE, Outcome::ACCEPTED);
        out.ring(0, 3);
        log.step(inject(FATAL, 5), Status::Done);
        machine_check(out);
        let mut bank = out.reads(MC1_STATUS);
        [FATAL, 0xabc, 0xdef].into_iter().for_each(|value| bank.push(Ok(value)));
        drop(bank);
        out.reads(MCG_STATUS).push(Ok(5));
    });
    let none = verdict(|out, log| {
        set_up(log);
        out.write(CR4, MCE, Outcome::ACCEPTED);
        out.ring(0, 3);
        log.step(inject(FATAL, 5), Status::Done);
    });
    assert_eq!(none.reason, "vCPU 0: machine check: none, where #MC at CPL 3 is predicted");
}

#[test]
fn an_error_that_needs_no_action_only_fills_its_bank() {
    passes(|out, log| {
        set_up(log);
        log.step(inject(CORRECTED, 0), Status::Done);
        log.step(inject(CORRECTED, 0), Status::Done);
        out.reads(MC1_STATUS).push(Ok(CORRECTED | 1 << 62));
        // UCNA: UC without PCC, S and AR.
        log.step(inject(FATAL & !(1 << 57), 0), Status::Done);
        out.reads(MC1_STATUS).push(Ok(FATAL & !(1 << 57)));
        log.step(inject(1, 0), EINVAL);
    });
    fails("vCPU 0: machine check: #MC at CPL 3, where none is predicted", |out, log| {
        set_up(log);
        log.step(inject(CORRECTED, 0), Status::Done);
        machine_check(out);
    });
}

#[test]
fn without_set_up_banks_do_not_report() {
    passes(|out, log| {
        log.step(inject(FATAL, 5), Status::Done);
        out.reads(MC1_STATUS).push(Ok(0));
    });
}

#[test]
fn a_machine_check_that_cannot_be_taken_shuts_down() {
    let ended = |end: End, cr4: u64, twice: bool| {
        judge(&run_to(end, |out, log| {
            set_up(log);
            out.write(CR4, cr4, Outcome::ACCEPTED);
            if twice {
                out.ring(0, 3);
                log.step(inject(FATAL, 5), Status::Done);
                machine_check(out);
            }
            log.step(inject(FATAL, 5), Status::Done);
        }))
    };
    assert_eq!(ended(End::Shutdown, 0x620, false).verdict, Verdict::Pass);
    assert_eq!(ended(End::Shutdown, MCE, true).verdict, Verdict::Pass);
    assert_eq!(ended(End::Shutdown, MCE, false).verdict, Verdict::Crash);
    assert_eq!(ended(DONE, 0x620, false).reason, "triple fault: none, where happened is predicted");
}

#[test]
fn without_cr4_nothing_is_known_of_a_machine_check() {
    for end in [DONE, End::Shutdown] {
        let mut observed = run_to(end, |_, log| {
            set_up(log);
            log.step(inject(FATAL, 5), Status::Done);
        });
        observed.log.retain(|line| !line.to_string().starts_with(">reset"));
        let judgement = judge(&observed);
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert!(judgement.reason.contains("CR4.MCE"), "{}", judgement.reason);
    }
}
