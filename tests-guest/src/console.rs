//! The serial line: a 16550 UART under firmware and QEMU, a bare port or whole lines in the embedded VMM.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use wire::frame::Sink;
use wire::layout::{DEBUG_PORT, EXIT_LINE, EXIT_PORT, LINE_PORT, SERIAL_PORT, SHUTDOWN_PORT, SHUTDOWN_WORD};

/// Line status register, as an offset from the data port.
const LSR: u16 = 5;
/// LSR: the transmit holding register is empty.
const THR_EMPTY: u8 = 1 << 5;
/// LSR: the transmitter is empty, the last bit is out.
const IDLE: u8 = 1 << 6;

/// Whether there is a UART that must be waited for. The embedded VMM has none, and takes a byte at any time: asking it
/// first would cost an exit a byte.
static UART: AtomicBool = AtomicBool::new(false);
/// Whether the VMM takes whole lines at [`LINE_PORT`].
static LINES: AtomicBool = AtomicBool::new(false);

/// Says whether a real UART is behind the port.
pub(crate) fn init(uart: bool) {
    UART.store(uart, Ordering::Relaxed);
}

/// Whether the machine is Bochs, which has no exit port.
static BOCHS: AtomicBool = AtomicBool::new(false);

/// Says that the machine is Bochs.
pub(crate) fn in_bochs() {
    BOCHS.store(true, Ordering::Relaxed);
}

/// Says that the VMM takes whole lines at [`LINE_PORT`].
pub(crate) fn whole_lines() {
    LINES.store(true, Ordering::Relaxed);
}

/// Bytes that wait for the end of their line, so that an unfinished one can be dropped, and one instruction sends all:
/// laid out as [`LINE_PORT`] wants them. Without that port it is a string instruction. KVM leaves to user space once a
/// byte all the same. But where it emulates CPL0, a loop has five instructions a byte to emulate in place of one: it
/// took about 4 us a byte more under `kvm_pvm`.
#[repr(C)]
struct Pending {
    len: u32,
    bytes: [u8; 256],
}

struct Buffer(UnsafeCell<Pending>);

// SAFETY: only the vCPU that boots writes to the console, and a handler that takes over from it does not return.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new(Pending { len: 0, bytes: [0; 256] }));

/// Writes bytes to the line.
#[derive(Debug)]
pub struct Console;

impl Console {
    /// Drops a line that was left unfinished: without its checksum nobody could believe it.
    pub(crate) fn drop_line(&mut self) {
        // SAFETY: see `Buffer`.
        unsafe { (*BUFFER.0.get()).len = 0 };
    }
}

impl Sink for Console {
    fn put(&mut self, byte: u8) {
        // SAFETY: see `Buffer`.
        let pending = unsafe { &mut *BUFFER.0.get() };
        // The mask keeps the index in range without a branch: `len` is below 256 here.
        pending.bytes[pending.len as usize & 0xff] = byte;
        pending.len += 1;
        if byte == b'\n' || pending.len == 256 {
            send(pending);
            pending.len = 0;
        }
    }
}

fn send(pending: &Pending) {
    let bytes = &pending.bytes[..pending.len.min(256) as usize];
    if LINES.load(Ordering::Relaxed) {
        let address = core::ptr::from_ref(pending).expose_provenance() as u32;
        // SAFETY: the VMM reads the count and the bytes, and writes nothing.
        unsafe {
            asm!("out dx, eax", in("dx") LINE_PORT, in("eax") address, options(readonly, nostack, preserves_flags))
        };
    } else if UART.load(Ordering::Relaxed) {
        for byte in bytes {
            wait_for(THR_EMPTY);
            out(SERIAL_PORT, core::slice::from_ref(byte));
        }
    } else {
        out(SERIAL_PORT, bytes);
    }
}

fn out(port: u16, bytes: &[u8]) {
    // SAFETY: a port that takes bytes and does nothing to memory; the bytes are read.
    unsafe {
        asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags)
        );
    }
}

fn wait_for(bit: u8) {
    while UART.load(Ordering::Relaxed) && lsr() & bit == 0 {
        core::hint::spin_loop();
    }
}

fn lsr() -> u8 {
    let value;
    // SAFETY: reading the line status register clears error bits at most.
    unsafe { asm!("in al, dx", in("dx") SERIAL_PORT + LSR, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Ends the guest with `code`, once all bytes are out.
pub fn exit(code: u32) -> ! {
    wait_for(IDLE);
    if BOCHS.load(Ordering::Relaxed) {
        let digit = |n: u32| char::from_digit(code >> (28 - 4 * n) & 0xf, 16).map_or(b'?', |digit| digit as u8);
        out(DEBUG_PORT, b"\n");
        out(DEBUG_PORT, EXIT_LINE.as_bytes());
        (0..8).for_each(|n| out(DEBUG_PORT, &[digit(n)]));
        out(DEBUG_PORT, b"\n");
        out(SHUTDOWN_PORT, SHUTDOWN_WORD);
    }
    // SAFETY: the exit port; where nothing is behind it, the guest halts.
    unsafe { asm!("out dx, eax", in("dx") EXIT_PORT, in("eax") code, options(nomem, nostack, preserves_flags)) };
    crate::cpu::halt()
}
