//! The report of a run: its one writer, and the ways in which it ends.

use crate::area::{Area, Death};
use crate::console::{Console, exit};
use crate::smp;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::frame::Writer;
use wire::layout::{EXIT_DONE, EXIT_PANIC};

/// Where a test writes its records.
pub type Out = Writer<Console>;

/// The writer, here and not on a stack so that a trap handler finds it.
struct Slot(UnsafeCell<Option<Out>>);

// SAFETY: only the vCPU that boots uses it. A handler that takes it away from a test does not return to the test.
unsafe impl Sync for Slot {}

static WRITER: Slot = Slot(UnsafeCell::new(None));

static RUN: AtomicU64 = AtomicU64::new(0);

/// The run id that the report goes by, for guests that write lines of their own.
pub fn run() -> u64 {
    RUN.load(Ordering::Relaxed)
}

/// Starts the report; the vCPU that boots calls this once.
pub(crate) fn begin(run: u64, family: &str, test: &str) -> &'static mut Out {
    RUN.store(run, Ordering::Relaxed);
    // SAFETY: called once, and `take` is used by those only who do not return.
    unsafe { (*WRITER.0.get()).insert(Writer::begin(Console, run, family, test)) }
}

/// The writer, for an ending. Starts a report if there is none, so that an early death is heard of too.
fn take() -> Out {
    Console.drop_line();
    // SAFETY: whoever calls this does not return to the code that holds a reference.
    let writer = unsafe { (*WRITER.0.get()).take() };
    writer.unwrap_or_else(|| Writer::begin(Console, 0, "guest", "boot"))
}

/// Ends a run that came to its end.
pub(crate) fn finish() -> ! {
    take().finish();
    exit(EXIT_DONE)
}

/// Ends the guest because it cannot go on.
pub fn give_up(reason: &str) -> ! {
    let mut out = take();
    out.panic(reason);
    out.finish();
    exit(EXIT_PANIC)
}

/// Ends the guest because of an exception that nobody waited for. An application processor leaves it to the vCPU that
/// boots.
pub(crate) fn die(area: &Area, death: Death) -> ! {
    if area.cpu() != 0 {
        smp::bury(area, death);
    }
    dead(0, death)
}

/// Reports the death of vCPU `cpu` and ends the guest.
pub(crate) fn dead(cpu: u8, death: Death) -> ! {
    let mut out = take();
    out.dead(cpu, death.trap, death.rip, death.cr2);
    out.finish();
    exit(EXIT_PANIC)
}

/// A line of text of limited length; what does not fit is cut off.
struct Text {
    bytes: [u8; 200],
    len: usize,
}

impl Text {
    fn push(&mut self, text: &str) {
        for (to, from) in self.bytes[self.len..].iter_mut().zip(text.bytes()) {
            *to = from;
            self.len += 1;
        }
    }

    fn push_number(&mut self, value: u32) {
        if value >= 10 {
            self.push_number(value / 10);
        }
        let digit = [b'0' + (value % 10) as u8];
        self.push(core::str::from_utf8(&digit).unwrap_or_default());
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if Area::current().cpu() != 0 {
        // The console belongs to the vCPU that boots: die of an exception, whose RIP names this place.
        // SAFETY: raises #UD, for which a handler is loaded.
        unsafe { core::arch::asm!("ud2", options(noreturn)) };
    }
    let mut text = Text { bytes: [0; 200], len: 0 };
    text.push(info.message().as_str().unwrap_or("a panic without plain message"));
    if let Some(location) = info.location() {
        text.push(" at ");
        text.push(location.file());
        text.push(":");
        text.push_number(location.line());
    }
    give_up(core::str::from_utf8(&text.bytes[..text.len]).unwrap_or("a panic with a message that is not text"))
}

/// Asked for by precompiled core, which was built to unwind; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
