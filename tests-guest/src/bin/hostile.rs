//! Family `hostile`: guests that do all that they should not.
//!
//! What: the guest hangs in each way, dies in each way, floods the serial line and the log, garbles, repeats, forges and
//! miscounts its records, touches every port and memory that is not there, and rings the doorbell with garbage. Between
//! that it does nothing: no register of memory types is touched.
//!
//! Why: such a guest may cost its own cell and nothing else. What each of them has to come to, in a run in which it stands
//! between good cells, is in the table of docs/robustness.md.
//!
//! Source: SDM Vol. 3A, "Interrupt 8—Double Fault Exception (#DF)" has the shutdown on a triple fault;
//! `Documentation/virt/kvm/api.rst` has the exits of KVM_RUN; docs/wire.md has what a report must be.

#![no_std]
#![no_main]

use core::arch::asm;
use guest::attempt;
use guest::console::{Console, exit};
use guest::doorbell::ring;
use guest::mce::{self, EN, MCIP, PCC, RIPV, UC, VAL};
use guest::report::{self, Out};
use guest::smp::Cpu;
use guest::{cpu, msr, traps};
use wire::frame::{Sink, checksum};
use wire::layout::{CONSOLE_PORT, DOORBELL_PORT, EXIT_DONE, EXIT_PORT, LINE_PORT, PAT, RAM, SERIAL_PORT, YIELD_PORT};
use wire::needs::Needs;
use wire::record::{Access, Start};
use wire::register::Place;
use wire::step::Step;

guest::family!();

// Ways to hang. A guest has a single vCPU and no local APIC, if it does not say so.

guest::test!("loop", "Loops for ever, interrupts unmasked.", Needs::NONE, points = 1, |_| {
    unmask();
    spin()
});
guest::test!("loop-masked", "Loops for ever, interrupts masked.", Needs::NONE, points = 1, |_| spin());
guest::test!("loop-2", "Loops for ever on both of two vCPUs.", TWO, points = 1, |out: &mut Out| {
    Cpu::start(out, 1, Start::Direct).beside(|| spin(), || spin());
});
guest::test!("pause", "Executes PAUSE for ever.", Needs::NONE, points = 1, |_| loop {
    core::hint::spin_loop();
});
guest::test!("vmcall", "Executes VMCALL for ever, or what becomes of it.", Needs::NONE, points = 1, |_| loop {
    let number = 0xffff_ffff_u64;
    // SAFETY: a hypercall of a number that nobody has; or it faults, here.
    let _ = unsafe { attempt!("vmcall", inout("rax") number => _, options(nostack)) };
});
guest::test!("halt", "Halts with interrupts masked; nothing can wake it.", Needs::NONE, points = 1, |_| cpu::halt());
guest::test!("halt-unmasked", "Halts with interrupts unmasked.", Needs::NONE, points = 1, |_| {
    unmask();
    cpu::halt()
});
guest::test!("halt-apic", "Halts with a local APIC that no interrupt comes to.", Needs::APIC, points = 1, |_| {
    cpu::halt();
});

// Ways to die.

guest::test!("triple-fault", "Raises #UD without an IDT.", Needs::NONE, points = 1, |_| {
    let none = [0u8; 10];
    // SAFETY: the processor shuts down.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const none, options(noreturn)) }
});
guest::test!("exception", "Raises #UD that nobody waits for.", Needs::NONE, points = 1, |_| {
    // SAFETY: raises #UD, whose handler ends the guest.
    unsafe { asm!("ud2", options(noreturn)) }
});
guest::test!("give-up", "Gives up, with a reason.", Needs::NONE, points = 1, |_| report::give_up("of its own will"));
guest::test!("exit-value", "Ends with a value that says nothing.", Needs::NONE, points = 1, |_| exit(0x77));
guest::test!(
    "mc-storm",
    "Has the VMM inject fatal machine checks for ever, and goes on after each.",
    Needs::STEPS.and(Needs::MCE),
    points = 1,
    |out: &mut Out| {
        mce::set_up(out, 32);
        loop {
            let event = mce::event(5, VAL | UC | EN | PCC, MCIP | RIPV);
            let inject = || ring(Step::InjectMce { cpu: 0, event });
            let _ = traps::awaiting(1 << traps::MACHINE_CHECK, inject);
            // SAFETY: a machine check is over.
            let _ = unsafe { msr::write(msr::MCG_STATUS, 0) };
        }
    }
);

// Floods.

guest::test!("flood-bytes", "Writes bytes to the serial port for ever.", Needs::NONE, points = 1, |_| loop {
    out_byte(SERIAL_PORT, b'A');
});
guest::test!("flood-lines", "Leaves 64 KiB for the port for lines, for ever.", Needs::STEPS, points = 1, |_| loop {
    leave_line(64 << 10);
});
guest::test!("huge-line", "Leaves a line of 512 KiB, and ends well.", Needs::STEPS, points = 1, |_| {
    leave_line(512 << 10);
    text("\n");
});
guest::test!("claimed-line", "Leaves a line that says it has 4 GiB less one byte.", Needs::STEPS, points = 1, |_| {
    leave_line(u32::MAX);
});
guest::test!("line-outside", "Leaves a line where no RAM is.", Needs::STEPS, points = 1, |_| {
    out_word(LINE_PORT, 0xffff_fff0);
});
guest::test!("line-across", "Leaves a line that goes beyond the end of RAM.", Needs::STEPS, points = 1, |_| {
    leave_line_at(RAM - 8, 64);
});

// Reports that are none. Each ends as a good one does, but for what its name says.

guest::test!("partial", "Ends in the middle of a record.", Needs::NONE, points = 1, |_| {
    text("1 r 277 1=70");
    text("\n");
    exit(EXIT_DONE)
});
guest::test!("no-end", "Makes a record and stops without an end.", Needs::NONE, points = 1, |out: &mut Out| {
    read_pat(out);
    exit(EXIT_DONE)
});
guest::test!("corrupted", "Makes a record of which one bit is wrong.", Needs::NONE, points = 1, |_| {
    send("1 r 277 1=7040600070407", checksum(report::run(), RECORD));
    end("2 end 1");
});
guest::test!("unknown", "Makes a record of a kind that there is not.", Needs::NONE, points = 1, |_| {
    line("1 zz 277");
    end("2 end 1");
});
guest::test!("replayed", "Repeats the report of another run.", Needs::NONE, points = 1, |_| {
    let other = report::run() ^ 1;
    [RECORD, "2 end 1"].into_iter().for_each(|body| send(body, checksum(other, body)));
    exit(EXIT_DONE)
});
guest::test!("duplicated", "Makes a record twice.", Needs::NONE, points = 1, |_| {
    line(RECORD);
    line(RECORD);
    end("2 end 1");
});
guest::test!("lost", "Leaves a record out.", Needs::NONE, points = 1, |_| {
    line("2 r 277 1=7040600070406");
    end("3 end 2");
});
guest::test!("too-few", "Makes fewer records than its end says.", Needs::NONE, points = 1, |_| {
    line(RECORD);
    end("2 end 5");
});
guest::test!("too-many", "Makes more records than its end says.", Needs::NONE, points = 1, |_| {
    line(RECORD);
    end("2 end 0");
});
guest::test!("after-end", "Goes on after its end.", Needs::NONE, points = 1, |_| {
    line(RECORD);
    line("2 end 1");
    end("3 end 2");
});
guest::test!("few-points", "Makes fewer points than it says.", Needs::NONE, points = 9, |out: &mut Out| {
    read_pat(out);
});
guest::test!("forged", "Writes what only the VMM may record.", Needs::NONE, points = 1, |_| {
    text(">reset 0 277 0\n");
    line(RECORD);
    end("2 end 1");
});
guest::test!("no-text", "Writes bytes that are no text.", Needs::NONE, points = 1, |_| {
    (0..=255).filter(|&byte| byte != b'\n').for_each(|byte| Console.put(byte));
    text("\n");
    line(RECORD);
    end("2 end 1");
});
guest::test!("other-test", "Says that it runs another test.", Needs::NONE, points = 1, |_| {
    line("0 kmt2 1 boot/hello");
    end("1 end 0");
});

// What no device answers to.

guest::test!("ports", "Writes to and reads from each port that does nothing.", Needs::STEPS, points = 1, |out| {
    let ours = [SERIAL_PORT, CONSOLE_PORT, EXIT_PORT, DOORBELL_PORT, LINE_PORT, YIELD_PORT];
    for port in (0..=u16::MAX).filter(|port| !ours.contains(port)) {
        out_byte(port, port as u8);
        in_byte(port);
    }
    read_pat(out);
});
guest::test!("own-ports", "Reads from the ports of the VMM, in each width.", Needs::STEPS, points = 1, |out| {
    for port in [SERIAL_PORT, CONSOLE_PORT, EXIT_PORT, DOORBELL_PORT, LINE_PORT, YIELD_PORT] {
        in_byte(port);
        // SAFETY: the VMM answers, and does nothing to memory.
        unsafe {
            asm!("in ax, dx", in("dx") port, out("eax") _, options(nomem, nostack, preserves_flags));
            asm!("in eax, dx", in("dx") port, out("eax") _, options(nomem, nostack, preserves_flags));
        }
    }
    read_pat(out);
});
guest::test!("unbacked", "Writes and reads in each 64 MiB without RAM below 4 GiB.", Needs::SLOTS, points = 1, |out| {
    for gpa in (RAM..1 << 32).step_by(64 << 20).filter(|gpa| !(0xfee0_0000..0xff00_0000).contains(gpa)) {
        let at = core::ptr::with_exposed_provenance_mut::<u32>(gpa as usize);
        // SAFETY: nothing of the guest is there.
        let value = unsafe {
            at.write_volatile(0x5eed);
            at.read_volatile()
        };
        let access = Access { cpu: 0, write: true, width: 4, cpl: 0, gpa, value: 0x5eed, fault: None };
        out.access(access);
        out.access(Access { write: false, value: value.into(), ..access });
    }
});
guest::test!("doorbell-outside", "Rings the doorbell with a step where no RAM is.", Needs::STEPS, points = 1, |_| {
    out_word(DOORBELL_PORT, 0xffff_ff00);
});
guest::test!("doorbell-garbage", "Rings the doorbell with words that are no step.", Needs::STEPS, points = 1, |_| {
    let words = [0xdead_beef_0bad_f00d_u64; 10];
    out_word(DOORBELL_PORT, (&raw const words).expose_provenance() as u32);
});
guest::test!(
    "doorbell-edge",
    "Rings the doorbell with a step whose reply is outside RAM.",
    Needs::STEPS,
    points = 1,
    |out| {
        let step = (RAM - 64) as usize;
        for (n, word) in Step::Mark.words().into_iter().enumerate() {
            // SAFETY: the last 64 bytes of RAM, which the heap has not reached.
            unsafe { core::ptr::with_exposed_provenance_mut::<u64>(step + 8 * n).write_volatile(word) };
        }
        out_word(DOORBELL_PORT, step as u32);
        read_pat(out);
    }
);

/// A second vCPU, started by the VMM.
const TWO: Needs = Needs::STEPS.and(Needs::cpus(2));

/// A read of IA32_PAT as the first record, with the value after RESET.
const RECORD: &str = "1 r 277 1=7040600070406";

fn spin() -> ! {
    // SAFETY: touches nothing.
    unsafe { asm!("2: jmp 2b", options(noreturn, nomem, nostack)) }
}

fn unmask() {
    // SAFETY: no device raises an interrupt.
    unsafe { asm!("sti", options(nomem, nostack)) };
}

fn out_byte(port: u16, value: u8) {
    // SAFETY: no device writes to memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

fn in_byte(port: u16) {
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") _, options(nomem, nostack, preserves_flags)) };
}

fn out_word(port: u16, value: u32) {
    // SAFETY: the VMM reads memory, and may write a reply to where nothing is.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Leaves a line that says that it has so many bytes. They are zeros, in the middle of RAM.
fn leave_line(len: u32) {
    leave_line_at(RAM / 2, len);
}

/// The same, where the heap has not reached.
fn leave_line_at(gpa: u64, len: u32) {
    // SAFETY: aligned, and nothing of the guest is there.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(gpa as usize).write_volatile(len) };
    out_word(LINE_PORT, gpa as u32);
}

fn text(text: &str) {
    text.bytes().for_each(|byte| Console.put(byte));
}

/// Sends a line with its checksum.
fn line(body: &str) {
    send(body, checksum(report::run(), body));
}

fn send(body: &str, sum: u16) {
    text(body);
    Console.put(b'*');
    (0..4).for_each(|n| Console.put(b"0123456789abcdef"[usize::from(sum >> (12 - 4 * n) & 0xf)]));
    Console.put(b'\n');
}

/// Sends the last line and ends as a good guest does.
fn end(body: &str) {
    line(body);
    exit(EXIT_DONE)
}

/// Reads IA32_PAT.
fn read_pat(out: &mut Out) {
    out.reads(Place::msr(PAT)).push(msr::try_rdmsr(PAT));
}
