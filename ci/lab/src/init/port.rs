//! I/O ports: the mailbox, and the ones that turn the machine off.

use super::Fallible;
use crate::mailbox::{self, Event};
use serde::{Deserialize, Serialize};
use std::arch::asm;
use std::io;
use std::thread;
use std::time::Duration;

/// Takes "Shutdown", letter by letter, and ends the emulator: Bochs.
const BOCHS_EXIT: u16 = 0x8900;
/// isa-debug-exit, where the lab puts it in QEMU. No kernel looks for a device there.
pub const QEMU_EXIT: u16 = 0xf4;

/// How the machine is turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// By Bochs' exit port.
    Bochs,
    /// By QEMU's isa-debug-exit.
    Qemu,
}

/// The right to use the ports.
pub struct Port {
    sequence: u32,
}

impl Port {
    /// Asks the kernel for the ports.
    ///
    /// # Errors
    /// It refuses.
    pub fn open() -> io::Result<Port> {
        for port in [mailbox::PORT, BOCHS_EXIT, QEMU_EXIT] {
            // SAFETY: the call takes no pointer; ports that the machine does not have take writes and drop them.
            if unsafe { libc::ioperm(port.into(), 1, 1) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Port { sequence: 0 })
    }

    /// Sends an event, with a piece of a file.
    ///
    /// # Errors
    /// It cannot be written as bytes.
    pub fn send(&mut self, event: &Event, piece: &[u8]) -> Fallible<()> {
        let bytes = mailbox::encode(self.sequence, event, piece)?;
        self.sequence += 1;
        write(mailbox::PORT, &bytes);
        Ok(())
    }

    /// Turns the machine off. Where nobody knew how, tries all ways.
    pub fn power_off(&mut self, power: Option<Power>) -> ! {
        if power != Some(Power::Qemu) {
            write(BOCHS_EXIT, b"Shutdown");
        }
        if power != Some(Power::Bochs) {
            write(QEMU_EXIT, &[0]);
        }
        // Process 1 must not end, or the kernel panics, and that would be told as a panic.
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Writes bytes to a port, one after the other.
fn write(port: u16, bytes: &[u8]) {
    // SAFETY: `rep outsb` reads `len` bytes from `as_ptr`, which are the slice's, and the kernel gave this process the
    // port in `Port::open`. The direction flag is clear, as the ABI says.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags));
    }
}
