//! The embedded VMM against guests of a few bytes, one for each way in which a guest can end.

mod common;

use common::{confined, elf, job, kvm, skip};
use kvm_memtype::host::device::{Devices, Named};
use kvm_memtype::host::kvm::Kvm;
use kvm_memtype::host::quirks::{QUIRKS, Quirks};
use kvm_memtype::machine::{End, Job, Limits, Line, Machine, Observed};
use kvm_memtype::plan::vm::VmConfig;
use std::time::Duration;
use wire::host::HostRecord;
use wire::layout::{CONSOLE_PORT, DOORBELL_PORT, EXIT_PORT, LINE_PORT, SERIAL_PORT, YIELD_PORT};
use wire::needs::Needs;
use wire::register::Register;
use wire::step::{SlotApi, SlotMemory, Status, Step};

/// For guests that do not end.
const SHORT: Limits = Limits { timeout: Duration::from_millis(300), output: 1 << 13 };

fn run(code: &[u8]) -> Option<Observed> {
    let machine = confined(kvm()?);
    let (vm, elf) = (VmConfig::default(), elf(code));
    Some(machine.run(&job(&elf, &vm)).expect("the host runs the guest"))
}

fn said(observed: &Observed) -> Vec<&str> {
    let lines = observed.log.iter().filter_map(|line| match line {
        Line::Guest(text) => Some(text.as_str()),
        Line::Console(_) | Line::Host(_) => None,
    });
    lines.collect()
}

#[test]
fn a_guest_that_exits_says_so() {
    // mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 10; out dx, al; mov eax, 16; mov dx, 0xf4; out dx, eax
    let code = b"\x66\xba\xf8\x03\xb0h\xee\xb0\x0a\xee\xb8\x10\0\0\0\x66\xba\xf4\0\xef";
    let Some(observed) = run(code) else { return };
    assert_eq!(observed.end, End::Exit(16));
    assert_eq!(said(&observed), ["h"]);
}

#[test]
fn the_registers_of_a_new_vcpu_are_recorded() {
    let Some(observed) = run(b"\xf4") else { return };
    let reset = |wanted| {
        observed.log.iter().find_map(|line| match line {
            Line::Host(HostRecord::Reset { at, value }) if at.register == wanted => Some(*value),
            _ => None,
        })
    };
    // KVM makes a vCPU as a CPU is after RESET: SDM Vol. 3A, table "IA-32 and Intel 64 Processor States Following
    // Power-up".
    assert_eq!(reset(Register::Cr0), Some(0x6000_0010));
    assert_eq!(reset(Register::Msr(0x2ff)), Some(0));
    assert_eq!(reset(Register::Msr(0x277)), Some(0x0007_0406_0007_0406));
}

#[test]
fn a_guest_that_loops_runs_out_of_time() {
    let Some(machine) = kvm().map(confined) else { return };
    let (vm, elf) = (VmConfig::default(), elf(b"\xeb\xfe"));
    let observed = machine.run(&Job { limits: SHORT, ..job(&elf, &vm) }).expect("the host runs the guest");
    assert_eq!(observed.end, End::Timeout { rip: Some(0x10_0000) });
}

#[test]
fn a_guest_that_halts_is_not_waited_for() {
    let Some(observed) = run(b"\xf4") else { return };
    assert_eq!(observed.end, End::Halt);
}

#[test]
fn a_guest_that_halts_with_an_apic_runs_out_of_time() {
    let Some(machine) = kvm().map(confined) else { return };
    let (vm, elf) = (VmConfig::default(), elf(b"\xf4"));
    let job = Job { needs: Needs::APIC.and(Needs::cpus(2)), limits: SHORT, ..job(&elf, &vm) };
    let observed = machine.run(&job).expect("the host runs the guest");
    assert!(matches!(observed.end, End::Timeout { .. }), "{:?}", observed.end);
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    // lidt of an empty table; ud2
    let code = b"\x0f\x01\x1d\x02\0\0\0\x0f\x0b\0\0\0\0\0\0\0\0\0\0";
    let Some(observed) = run(code) else { return };
    assert_eq!(observed.end, End::Shutdown);
}

#[test]
fn a_flood_is_cut_off() {
    // mov dx, 0x3f8; again: out dx, al; jmp again
    let Some(observed) = run(b"\x66\xba\xf8\x03\xee\xeb\xfd") else { return };
    assert_eq!(observed.end, End::Flood);
    assert!(said(&observed).concat().len() <= 1 << 13);
}

/// A guest that writes the GPA of a line to its port, and halts; the line is at 0x100040.
fn line_guest(gpa: u32, len: u32, line: &[u8]) -> Vec<u8> {
    let mut code = [&b"\xb8"[..], &gpa.to_le_bytes(), b"\xe7\xe4\xf4"].concat();
    code.resize(64, 0x90);
    code.extend(len.to_le_bytes());
    code.extend(line);
    code
}

#[test]
fn whole_lines_are_taken_in_one_exit() {
    let Some(observed) = run(&line_guest(0x10_0040, 5, b"a\nb\xffcd")) else { return };
    assert_eq!(observed.end, End::Halt);
    assert_eq!(said(&observed), ["a", r"b\xffc"]);
}

#[test]
fn a_line_that_is_none_ends_the_vm() {
    let Some(machine) = kvm().map(confined) else { return };
    let end = |gpa, len| {
        let (vm, elf) = (VmConfig::default(), elf(&line_guest(gpa, len, b"a\n")));
        machine.run(&Job { limits: SHORT, ..job(&elf, &vm) }).expect("the host runs the guest").end
    };
    let outside = End::Unexpected("the guest left a line outside RAM".to_owned());
    // RAM is 8 MiB: a count behind it, one that crosses its end, and one whose line does.
    assert_eq!(end(0xffff_fff0, 2), outside);
    assert_eq!(end(0x7f_fffe, 2), outside);
    assert_eq!(end(0x10_0040, 0), End::Halt);
    assert_eq!(end(0x10_0040, 2), End::Halt);
    assert_eq!(end(0x10_0040, 1 << 13), End::Flood);
    assert_eq!(end(0x10_0040, u32::MAX), End::Flood);
}

#[test]
fn a_flood_of_lines_is_cut_off() {
    // again: mov eax, 0x100040; out 0xe4, eax; jmp again
    let mut code = line_guest(0x10_0040, 2, b"a\n");
    code[7..9].copy_from_slice(b"\xeb\xf7");
    let Some(observed) = run(&code) else { return };
    assert_eq!(observed.end, End::Flood);
    assert!(said(&observed).len() > 1000, "{}", said(&observed).len());
}

#[test]
fn a_flood_of_mmio_is_cut_off() {
    // mov ebx, 0xd0000000; again: mov al, [rbx]; jmp again
    let Some(observed) = run(b"\xbb\0\0\0\xd0\x8a\x03\xeb\xfc") else { return };
    assert_eq!(observed.end, End::Flood);
    let first = observed.log.iter().find_map(|line| match line {
        Line::Host(HostRecord::MmioRead { cpu, width, gpa, value }) => Some((*cpu, *width, *gpa, *value)),
        _ => None,
    });
    assert_eq!(first, Some((0, 1, 0xd000_0000, 0xa5)));
}

/// A guest has the ports of wire/src/layout.rs and no other.
#[test]
fn behind_other_ports_there_is_nothing() {
    let Some(machine) = kvm().map(confined) else { return };
    const LAST: u32 = 0x1000;
    let known = [SERIAL_PORT, CONSOLE_PORT, DOORBELL_PORT, LINE_PORT, EXIT_PORT, YIELD_PORT];
    // in al, dx; cmp al, 0xff; jne to the last exit; mov al, 0; out dx, al
    let access = |to_fail: u8| [&b"\xec\x3c\xff\x75"[..], &[to_fail], b"\xb0\0\xee"].concat();
    // inc edx; cmp edx, LAST; jne to the loop; mov eax, 16; out 0xf4, eax
    let next = |to_loop: i32| {
        let last = LAST.to_le_bytes();
        [&b"\xff\xc2\x81\xfa"[..], &last, b"\x0f\x85", &to_loop.to_le_bytes(), b"\xb8\x10\0\0\0\xe7\xf4"].concat()
    };
    let (access_size, next_size) = (access(0).len(), next(0).len());
    // cmp dx, port; je to the next
    let mut body = Vec::new();
    for (left, port) in known.into_iter().enumerate().map(|(at, port)| (known.len() - 1 - at, port)) {
        let skipped = (left * 7 + access_size) as u8;
        body.extend([&b"\x66\x81\xfa"[..], &port.to_le_bytes(), &[0x74, skipped]].concat());
    }
    body.extend(access((3 + next_size) as u8));
    let to_loop = -((body.len() + 14) as i32);
    // xor edx, edx; the loop; mov eax, 17; out 0xf4, eax
    let code = [&b"\x31\xd2"[..], &body, &next(to_loop), b"\xb8\x11\0\0\0\xe7\xf4"].concat();
    let (vm, elf) = (VmConfig::default(), elf(&code));
    let limits = Limits { timeout: Duration::from_secs(60), output: 1 << 13 };
    let observed = machine.run(&Job { limits, ..job(&elf, &vm) }).expect("the host runs the guest");
    assert_eq!(observed.end, End::Exit(16), "a port gives another byte than 0xff");
    let silent = |line: &Line| matches!(line, Line::Host(HostRecord::Reset { .. }));
    assert!(observed.log.iter().all(silent), "{:?}", observed.log);
}

#[test]
fn a_step_is_done_recorded_and_answered() {
    let Some(machine) = kvm().map(confined) else { return };
    let step = Step::GetMsr { cpu: 0, index: 0x277 };
    // mov eax, block; out 0xe0, eax; mov rax, [block + 64] (the status); out 0xf4, eax; then the block, 64-byte aligned
    let block = 0x10_0040u32;
    let mut code = [&b"\xb8"[..], &block.to_le_bytes(), b"\xe7\xe0\x8b\x04\x25", &(block + 64).to_le_bytes()].concat();
    code.extend(b"\xe7\xf4");
    code.resize(64, 0x90);
    code.extend(step.words().iter().flat_map(|word| word.to_le_bytes()));
    code.extend([0; 16]);
    let (vm, elf) = (VmConfig::default(), elf(&code));
    let observed = machine.run(&job(&elf, &vm)).expect("the host runs the guest");
    assert_eq!(observed.end, End::Exit(Status::Done.word() as u32));
    let record = HostRecord::Step { step, status: Status::Done, value: 0x0007_0406_0007_0406 };
    assert_eq!(observed.log.last(), Some(&Line::Host(record)));
}

#[test]
fn quirks_are_disabled_or_named_as_lacking() {
    let Some(machine) = kvm().map(confined) else { return };
    let elf = elf(b"\xf4");
    for (bit, (name, _)) in QUIRKS.into_iter().enumerate() {
        let vm = VmConfig { disable_quirks: Quirks(1 << bit), ..VmConfig::default() };
        match machine.lacks(Needs::NONE, &vm) {
            Some(reason) => {
                let offered = Kvm::probe().unwrap().quirks;
                let said = format!("this KVM has no quirk {name} (KVM_CAP_DISABLE_QUIRKS2 is {offered:#x})");
                assert_eq!((reason, offered >> bit & 1), (said, 0));
            }
            None => assert_eq!(machine.run(&job(&elf, &vm)).expect("the host runs the guest").end, End::Halt),
        }
    }
    // A KVM that took bits that it does not know would have disabled nothing above.
    let vm = VmConfig { disable_quirks: Quirks(1 << 31), ..VmConfig::default() };
    let error = machine.run(&job(&elf, &vm)).expect_err("no KVM has this quirk");
    assert_eq!(error.to_string(), "cannot disable quirks (KVM_CAP_DISABLE_QUIRKS2)");
}

#[test]
fn a_doorbell_without_a_step_ends_the_vm() {
    let Some(machine) = kvm().map(confined) else { return };
    let ring = |block: u32, words: [u64; 8]| {
        let mut code = [&b"\xb8"[..], &block.to_le_bytes(), b"\xe7\xe0\xf4"].concat();
        code.resize(64, 0x90);
        code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        code.extend([0; 16]);
        let (vm, elf) = (VmConfig::default(), elf(&code));
        machine.run(&job(&elf, &vm)).expect("the host runs the guest").end
    };
    let said = |what: &str| End::Unexpected(format!("the guest rang the doorbell with a block {what}"));
    let mut words = Step::GetCr0 { cpu: 0 }.words();
    assert_eq!(ring(0x10_0040, words), End::Halt);
    assert_eq!(ring(0xffff_ff00, words), said("outside RAM"));
    words[7] = 1;
    assert_eq!(ring(0x10_0040, words), said("that is no step"));
}

/// A guest that rings the doorbell with a step and halts: what the VMM recorded last.
fn ring(machine: &impl Machine, step: Step) -> Line {
    let block = 0x10_0040u32;
    let mut code = [&b"\xb8"[..], &block.to_le_bytes(), b"\xe7\xe0\xf4"].concat();
    code.resize(64, 0x90);
    code.extend(step.words().iter().flat_map(|word| word.to_le_bytes()));
    code.extend([0; 16]);
    let (vm, elf) = (VmConfig::default(), elf(&code));
    machine.run(&job(&elf, &vm)).expect("the host runs the guest").log.pop().expect("a log")
}

#[test]
fn without_devices_their_steps_are_not_done_and_cells_that_want_them_are_skipped() {
    let Some(machine) = kvm().map(confined) else { return };
    let gpa = 0xd000_0000;
    for step in [Step::PlugDma, Step::UnplugDma, Step::SetMmioSlot { slot: 1, gpa }] {
        let record = HostRecord::Step { step, status: Status::Invalid, value: 0 };
        assert_eq!(ring(&machine, step), Line::Host(record));
    }
    let vm = VmConfig { non_coherent_dma: true, ..VmConfig::default() };
    let plain = VmConfig::default();
    for (needs, vm, option) in
        [(Needs::NONE, &vm, "--dma"), (Needs::DMA, &plain, "--dma"), (Needs::HOST_MMIO, &plain, "--host-mmio")]
    {
        let reason = machine.lacks(needs, vm).expect("there are no devices");
        assert!(reason.contains(option), "{reason}");
    }
    assert_eq!(machine.lacks(Needs::NONE, &plain), None);
    let elf = elf(b"\xf4");
    let error = machine.run(&job(&elf, &vm)).expect_err("there is no provider");
    assert_eq!(error.to_string(), "no provider of non-coherent DMA");
}

#[test]
fn dma_is_plugged_where_there_is_a_provider() {
    let Some(machine) = kvm() else { return };
    let named = Named { dma: Some("stub".parse().unwrap()), ..Named::default() };
    let devices = match Devices::open(&named) {
        Ok(devices) => devices,
        Err(error) => return skip(&error.to_string()),
    };
    let machine = confined(machine.with_devices(devices).expect("KVM takes any file"));
    let done = |step, status| Line::Host(HostRecord::Step { step, status, value: 0 });
    assert_eq!(ring(&machine, Step::PlugDma), done(Step::PlugDma, Status::Done));
    let unplugged = done(Step::UnplugDma, Status::Errno(libc::ENOENT.unsigned_abs()));
    assert_eq!(ring(&machine, Step::UnplugDma), unplugged);
    let vm = VmConfig { non_coherent_dma: true, ..VmConfig::default() };
    assert_eq!(machine.lacks(Needs::DMA, &vm), None);
    let elf = elf(b"\xf4");
    assert_eq!(machine.run(&job(&elf, &vm)).expect("the host runs the guest").end, End::Halt);
}

#[test]
fn a_slot_outside_the_window_is_refused() {
    let Some(machine) = kvm().map(confined) else { return };
    for (slot, gpa, pages) in
        [(0, 0xd000_0000, 1), (1, 0, 1), (1, 0xd000_0000, 0), (1, 0xd100_0000, 1), (1, u64::MAX << 12, 2)]
    {
        let step = Step::SetSlot { api: SlotApi::V1, slot, flags: 0, gpa, pages, memory: SlotMemory::Small };
        let record = HostRecord::Step { step, status: Status::Invalid, value: 0 };
        assert_eq!(ring(&machine, step), Line::Host(record));
    }
}
