//! Bochs against guests of a few bytes, one for each way in which a guest can end, and its default suite.

mod common;

use common::{elf, job, skip};
use kvm_memtype::machine::bochs::{Bochs, BochsMachine, Config, Disk, Heard, Mtrrs, Pvh};
use kvm_memtype::machine::{End, Job, Limits, Line, Machine, Observed, memfd};
use kvm_memtype::plan::vm::VmConfig;
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;
use wire::layout::{IMAGE, RESET_LINE, START_LINE};
use wire::needs::Needs;

/// "Shutdown" to port 0x8900, from the end of the guest's page: mov dx, 0x8900; mov esi, WORD; mov ecx, 8; rep outsb; hlt
const SHUTDOWN: &[u8] = b"\x66\xba\x00\x89\xbe\x00\x0f\x10\x00\xb9\x08\0\0\0\xf3\x6e\xf4";
const WORD: usize = 0xf00;

/// Bochs, or a skip where there is none. One that is there and does not work is a failure.
fn bochs() -> Option<BochsMachine> {
    Bochs::find().map_err(|error| skip(&error.to_string())).ok()?;
    Some(BochsMachine::new().expect("the Bochs that is there boots a guest"))
}

fn run(code: &[u8], limits: Limits) -> Option<Observed> {
    let machine = bochs()?;
    let (vm, elf) = (VmConfig::default(), elf(code));
    Some(machine.run(&Job { limits, ..job(&elf, &vm) }).expect("Bochs runs the guest"))
}

/// Code that shuts Bochs down at its end.
fn then_shutdown(code: &[u8]) -> Vec<u8> {
    let mut code = [code, SHUTDOWN].concat();
    code.resize(WORD, 0);
    [&code, &b"Shutdown"[..]].concat()
}

/// Code that writes `line` to the debug port and shuts Bochs down.
fn saying(line: &str) -> Vec<u8> {
    // mov al, byte; out 0xe9, al
    let says: Vec<u8> = line.bytes().flat_map(|byte| [0xb0, byte, 0xe6, 0xe9]).collect();
    then_shutdown(&says)
}

#[test]
fn a_guest_that_exits_says_so() {
    let Some(observed) = run(&saying("\nkvm-memtype-exit 00000010\n"), Limits::default()) else { return };
    assert_eq!(observed.end, End::Exit(0x10));
}

#[test]
fn a_guest_that_shuts_bochs_down_without_a_word_is_told_from_one_that_exits() {
    let Some(observed) = run(&saying("kvm-memtype-exit x\n"), Limits::default()) else { return };
    let End::Unexpected(what) = &observed.end else { panic!("{:?}", observed.end) };
    assert!(what.contains("shutdown requested"), "{what}");
}

#[test]
fn the_serial_line_reaches_the_log() {
    // mov dx, 0x3f8; mov al, 'h'; out dx, al; then wait for LSR bit 6: mov dx, 0x3fd; in al, dx; test al, 0x40; jz back
    let code = b"\x66\xba\xf8\x03\xb0h\xee\x66\xba\xfd\x03\xec\xa8\x40\x74\xfb";
    let Some(observed) = run(&then_shutdown(code), Limits::default()) else { return };
    assert_eq!(observed.log, [Line::Guest("h".to_owned())]);
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    // lidt from a zero pointer behind the code; ud2
    let code = [0x0f, 0x01, 0x1d, 9, 0, 0x10, 0, 0x0f, 0x0b, 0, 0, 0, 0, 0, 0];
    let Some(observed) = run(&code, Limits::default()) else { return };
    assert_eq!(observed.end, End::Shutdown);
}

#[test]
fn a_guest_that_hangs_runs_out_of_time() {
    let limits = Limits { timeout: Duration::from_millis(500), ..Limits::default() };
    // jmp to itself; hlt with interrupts off
    for code in [&[0xeb, 0xfe][..], &[0xf4, 0xeb, 0xfd]] {
        let Some(observed) = run(code, limits) else { return };
        assert_eq!(observed.end, End::Timeout { rip: None });
    }
}

#[test]
fn a_guest_that_floods_is_stopped() {
    let limits = Limits { timeout: Duration::from_secs(60), output: 4096 };
    // mov dx, 0x3f8; mov al, 'A'; out dx, al; jmp back
    let Some(observed) = run(&[0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xeb, 0xfd], limits) else { return };
    assert_eq!(observed.end, End::Flood);
}

#[test]
fn the_mtrrs_are_as_the_disk_says() {
    let Some(machine) = bochs() else { return };
    // mov ecx, 0x2ff; rdmsr; shr eax, 8; add al, '0'; out 0xe9, al; then the end
    let elf = elf(&then_shutdown(b"\xb9\xff\x02\0\0\x0f\x32\xc1\xe8\x08\x04\x30\xe6\xe9"));
    for (mtrrs, wanted) in [(Mtrrs::Reset, '0'), (Mtrrs::Firmware, '<')] {
        let config = Config::default();
        let pvh = Pvh { elf: &elf, command_line: "", initrd: None, megs: config.megs, mtrrs };
        let mut file = memfd::with(&[]).unwrap();
        pvh.disk().unwrap().write(&mut file).unwrap();
        let mut said = Vec::new();
        let heard = |heard: Heard<'_>| {
            if let Heard::Debug(bytes) = heard {
                said.extend_from_slice(bytes);
            }
            ControlFlow::Continue(())
        };
        let ended = machine.bochs().run(&config, &file, Duration::from_secs(60), heard).unwrap();
        assert_eq!(ended.reason(), Some("[UNMAP ] Shutdown port: shutdown requested"), "{}", ended.message);
        let said = String::from_utf8(said).unwrap();
        let (_, after) = said.split_once(&format!("{START_LINE}\n")).expect("the ROM ran");
        assert!(after.starts_with(wanted), "{after}");
    }
}

#[test]
fn the_rom_says_when_there_is_nothing_to_boot() {
    let Some(machine) = bochs() else { return };
    let empty = Disk { entry: IMAGE as u32, start_info: 0, mtrrs: Mtrrs::Reset, segments: Vec::new() };
    let mut image = Vec::new();
    empty.write(&mut image).unwrap();
    image[0] = b'x';
    let file = memfd::with(&image).unwrap();
    let mut said = Vec::new();
    let heard = |heard: Heard<'_>| {
        if let Heard::Debug(bytes) = heard {
            said.extend_from_slice(bytes);
        }
        let done = String::from_utf8_lossy(&said).contains("kvm-memtype-no-boot-disk");
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ended = machine.bochs().run(&Config::default(), &file, Duration::from_secs(60), heard).unwrap();
    assert_eq!(ended.cause, kvm_memtype::machine::process::Cause::Stopped(()));
    assert!(!String::from_utf8_lossy(&said).contains(RESET_LINE));
}

#[test]
fn what_bochs_lacks_is_named() {
    let Some(machine) = bochs() else { return };
    let vm = |maxphyaddr| VmConfig { maxphyaddr, ..VmConfig::default() };
    assert_eq!(machine.lacks(Needs::BARE.and(Needs::APIC).and(Needs::cpus(4)), &vm(None)), None);
    assert_eq!(machine.lacks(Needs::NONE, &vm(Some(40))), None);
    let reason = machine.lacks(Needs::NONE, &vm(Some(52))).unwrap();
    assert!(reason.starts_with("MAXPHYADDR is 40"), "{reason}");
    let reason = machine.lacks(Needs::STEPS, &vm(None)).unwrap();
    assert_eq!(reason, "it needs host steps, which only the machine kvm does");
}

/// Registers, and CPUs that SIPI starts: a model of bare metal that is worth the name has all of that right.
#[test]
fn the_default_suite_is_as_expected() {
    if bochs().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"));
    command.args(["run", "--machine", "bochs", "-j", "2", "--results"]).arg(results.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(" pass, 1 xfail, "), "{text}");
}
