//! Real guests of a few bytes in a real QEMU: every way in which a guest can end.

use super::{Accel, Qemu, program};
use crate::machine::smallest::elf;
use crate::machine::{End, Job, Limits, Line, Machine, Observed};
use crate::plan::vm::VmConfig;
use crate::skip::skip;
use std::sync::LazyLock;
use std::time::Duration;
use wire::needs::Needs;

/// mov eax, 0x10; out 0xf4, eax; hlt
const DONE: [u8; 8] = [0xb8, 0x10, 0, 0, 0, 0xe7, 0xf4, 0xf4];
/// hlt; jmp back
const HALT: [u8; 3] = [0xf4, 0xeb, 0xfd];
/// mov dx, 0x3f8; mov al, 'A'; out dx, al; jmp back
const FLOOD: [u8; 9] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xeb, 0xfd];
/// lidt from a zero pointer behind the code; ud2
const TRIPLE_FAULT: [u8; 15] = [0x0f, 0x01, 0x1d, 9, 0, 0x10, 0, 0x0f, 0x0b, 0, 0, 0, 0, 0, 0];
/// mov eax, 0x80000008; cpuid; movzx eax, al; out 0xf4, eax; hlt
const MAXPHYADDR: [u8; 13] = [0xb8, 8, 0, 0, 0x80, 0x0f, 0xa2, 0x0f, 0xb6, 0xc0, 0xe7, 0xf4, 0xf4];
/// out of the serial line comes the guest's command line: ebx is hvm_start_info, with the pointer at offset 24.
const ECHO: [u8; 28] = [
    0x8b, 0x73, 24, // mov esi, [ebx + 24]
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'\n', 0xee, // mov al, '\n'; out dx, al
    0x8a, 0x06, 0x84, 0xc0, // mov al, [esi]; test al, al
    0x74, 4, // jz over
    0xee, 0x46, 0xeb, 0xf6, // out dx, al; inc esi; jmp back
    0xb8, 0x10, 0, 0, 0, 0xe7, 0xf4, 0xf4, // as DONE
];

/// QEMU with `accel`, or a skip where there is none. A QEMU that is there and does not work is a failure.
fn qemu(accel: Accel) -> Option<&'static Qemu> {
    static KVM: LazyLock<Result<Qemu, String>> = LazyLock::new(|| start(Accel::Kvm));
    static TCG: LazyLock<Result<Qemu, String>> = LazyLock::new(|| start(Accel::Tcg));
    let qemu = match accel {
        Accel::Kvm => KVM.as_ref(),
        Accel::Tcg => TCG.as_ref(),
    };
    qemu.map_err(|reason| skip(reason)).ok()
}

fn start(accel: Accel) -> Result<Qemu, String> {
    program::find().map_err(|error| error.to_string())?;
    if accel == Accel::Kvm {
        let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        kvm.map_err(|error| format!("/dev/kvm: {error}"))?;
    }
    Ok(Qemu::new(accel).unwrap())
}

fn config(maxphyaddr: Option<u8>) -> VmConfig {
    VmConfig { maxphyaddr, ..VmConfig::default() }
}

fn run(qemu: &Qemu, code: &[u8], vm: &VmConfig, limits: Limits) -> Observed {
    qemu.run(&Job { elf: &elf(code), run: 0x5eed, test: "a", needs: Needs::NONE, vm, limits, module: &[], watch: None })
        .unwrap()
}

fn ends(code: &[u8], limits: Limits) -> Vec<End> {
    let qemus = [Accel::Kvm, Accel::Tcg].into_iter().filter_map(qemu);
    qemus.map(|qemu| run(qemu, code, &config(None), limits).end).collect()
}

#[test]
fn a_guest_that_exits() {
    assert!(ends(&DONE, Limits::default()).iter().all(|end| *end == End::Exit(0x10)));
}

#[test]
fn a_guest_that_triple_faults() {
    assert!(ends(&TRIPLE_FAULT, Limits::default()).iter().all(|end| *end == End::Shutdown));
}

#[test]
fn a_guest_that_halts_for_ever() {
    let limits = Limits { timeout: Duration::from_millis(500), ..Limits::default() };
    assert!(ends(&HALT, limits).iter().all(|end| *end == End::Timeout { rip: None }));
}

#[test]
fn a_guest_that_floods() {
    let limits = Limits { output: 4096, ..Limits::default() };
    assert!(ends(&FLOOD, limits).iter().all(|end| *end == End::Flood));
}

#[test]
fn the_command_line_reaches_the_guest_and_its_lines_the_log() {
    for qemu in [Accel::Kvm, Accel::Tcg].into_iter().filter_map(qemu) {
        let observed = run(qemu, &ECHO, &config(None), Limits::default());
        let Some(Line::Guest(last)) = observed.log.last() else { panic!("{observed:?}") };
        assert_eq!(last.trim_start(), "run=5eed test=a");
        assert_eq!(observed.end, End::Exit(0x10));
    }
}

#[test]
fn the_guest_sees_the_configured_maxphyaddr() {
    for qemu in [Accel::Kvm, Accel::Tcg].into_iter().filter_map(qemu) {
        let observed = run(qemu, &MAXPHYADDR, &config(None), Limits::default());
        assert_eq!(observed.end, End::Exit(qemu.maxphyaddr().into()), "{}", qemu.name());
        for bits in [36, 39, 52].into_iter().filter(|&bits| qemu.lacks(Needs::NONE, &config(Some(bits))).is_none()) {
            let observed = run(qemu, &MAXPHYADDR, &config(Some(bits)), Limits::default());
            assert_eq!(observed.end, End::Exit(bits.into()), "{}", qemu.name());
        }
    }
}

#[test]
fn a_maxphyaddr_above_the_hosts_is_lacking_with_kvm_only() {
    if let Some(kvm) = qemu(Accel::Kvm) {
        assert_eq!(kvm.lacks(Needs::NONE, &config(Some(kvm.maxphyaddr()))), None);
        assert!(kvm.lacks(Needs::NONE, &config(Some(kvm.maxphyaddr() + 1))).is_some());
    }
    if let Some(tcg) = qemu(Accel::Tcg) {
        assert_eq!(tcg.lacks(Needs::NONE, &config(Some(52))), None);
    }
}

#[test]
fn what_takes_host_steps_is_lacking() {
    let Some(qemu) = qemu(Accel::Tcg) else { return };
    assert_eq!(qemu.lacks(Needs::cpus(4).and(Needs::APIC), &config(None)), None);
    let reason = qemu.lacks(Needs::STEPS.and(Needs::MCE).and(Needs::APIC), &config(None)).unwrap();
    assert_eq!(reason, "it needs host steps, which only the machine kvm does");
}

#[test]
fn what_is_no_guest_is_the_harness_fault() {
    let Some(qemu) = qemu(Accel::Tcg) else { return };
    let vm = config(None);
    let job = Job {
        elf: b"no ELF",
        run: 0,
        test: "a",
        needs: Needs::NONE,
        vm: &vm,
        limits: Limits::default(),
        module: &[],
        watch: None,
    };
    let error = qemu.run(&job).unwrap_err().to_string();
    assert!(error.contains("(qemu-tcg) failed: it ended with status 1: "), "{error}");
}
