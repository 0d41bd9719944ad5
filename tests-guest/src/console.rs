//! The serial line: a 16550 UART under firmware and QEMU, a bare port in the embedded VMM.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};
use wire::frame::Sink;
use wire::layout::{EXIT_PORT, SERIAL_PORT};

/// Line status register, as an offset from the data port.
const LSR: u16 = 5;
/// LSR: the transmit holding register is empty.
const THR_EMPTY: u8 = 1 << 5;
/// LSR: the transmitter is empty, the last bit is out.
const IDLE: u8 = 1 << 6;

/// Whether there is a UART that must be waited for. The embedded VMM has none, and takes a byte at any time: asking it
/// first would cost an exit a byte.
static UART: AtomicBool = AtomicBool::new(false);
/// Whether the last byte was not a line feed.
static MID_LINE: AtomicBool = AtomicBool::new(false);

/// Says whether a real UART is behind the port.
pub(crate) fn init(uart: bool) {
    UART.store(uart, Ordering::Relaxed);
}

/// Writes bytes to the line.
#[derive(Debug)]
pub struct Console;

impl Console {
    /// Ends a line that was left unfinished.
    pub(crate) fn fresh_line(&mut self) {
        if MID_LINE.load(Ordering::Relaxed) {
            self.put(b'\n');
        }
    }
}

impl Sink for Console {
    fn put(&mut self, byte: u8) {
        wait_for(THR_EMPTY);
        MID_LINE.store(byte != b'\n', Ordering::Relaxed);
        // SAFETY: a serial port's data register; memory is not touched.
        unsafe { asm!("out dx, al", in("dx") SERIAL_PORT, in("al") byte, options(nomem, nostack, preserves_flags)) };
    }
}

fn wait_for(bit: u8) {
    while UART.load(Ordering::Relaxed) && lsr() & bit == 0 {}
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
    // SAFETY: the exit port; where nothing is behind it, the guest halts.
    unsafe { asm!("out dx, eax", in("dx") EXIT_PORT, in("eax") code, options(nomem, nostack, preserves_flags)) };
    crate::cpu::halt()
}
