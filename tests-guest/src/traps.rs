//! Exceptions: trying one instruction that may fault, waiting for a trap, and dying of one that nobody asked for.

use crate::area::{AREA_SIZE, Area, Death};
use crate::report;
use core::arch::{asm, global_asm};
use core::sync::atomic::{Ordering, compiler_fence};
use wire::layout::IMAGE;
use wire::outcome::Fault;
use wire::record::Trap;

global_asm!(include_str!("asm/traps.s"), AREA_SIZE = const AREA_SIZE, IMAGE = const IMAGE);

/// Vector of #MC, SDM Vol. 3A "Interrupt 18".
pub const MACHINE_CHECK: u8 = 18;

/// Runs one instruction that may fault; an expression of type [`Came`].
///
/// Takes the instruction and the operands of `asm!`. R11 is taken. An output must have a value before, because a fault
/// leaves it as it was. The instruction gets an entry in the fix-up table and R11 points to that entry: the handler
/// compares one RIP instead of searching a table, which matters where each instruction is emulated.
#[macro_export]
macro_rules! attempt {
    ($instruction:literal, $($operands:tt)*) => {{
        let came: i64;
        core::arch::asm!(
            "lea r11, [rip + 84f]",
            "82:",
            $instruction,
            "83:",
            ".pushsection .kmt_fixups, \"a\"",
            ".balign 16",
            "84: .quad 82b, 83b",
            ".popsection",
            out("r11") came,
            $($operands)*
        );
        $crate::traps::Came::from_r11(came)
    }};
}

/// What came of an attempted instruction: R11 after it. Two of the same instruction in the program are equal if their
/// exceptions are, so that a loop compares one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came(i64);

impl Came {
    /// Came of no attempt: no exception.
    pub const NOTHING: Came = Came(0);

    #[inline(always)]
    #[doc(hidden)]
    pub fn from_r11(r11: i64) -> Self {
        Came(r11)
    }

    /// Whether the instruction raised no exception.
    #[inline(always)]
    pub fn is_nothing(self) -> bool {
        // The address of a fix-up is positive; the handler sets bit 63.
        self.0 >= 0
    }

    /// The exception, if one came.
    #[inline(always)]
    pub fn fault(self) -> Option<Fault> {
        (!self.is_nothing()).then_some(Fault { vector: self.0 as u8, error: (self.0 >> 8) as u32 })
    }
}

/// Does `work`, in which a trap with one of the vectors set in `vectors` is recorded and returned from, at any CPL.
/// Gives the first one that came.
///
/// The handler runs on this vCPU, between two of its instructions, so only the compiler could show it another order
/// than the program's. Plain stores and compiler fences do; a locked instruction would lock the bus where memory is not
/// WB.
pub fn awaiting<R>(vectors: u32, work: impl FnOnce() -> R) -> (R, Option<Trap>) {
    let area = Area::current();
    area.has_caught.store(false, Ordering::Relaxed);
    area.awaited.store(vectors, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    let result = work();
    compiler_fence(Ordering::SeqCst);
    area.awaited.store(0, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    let caught = area.has_caught.load(Ordering::Relaxed);
    // SAFETY: own area, and no handler writes to it any more.
    (result, caught.then(|| unsafe { area.caught.get().read() }))
}

/// What the stubs leave on the stack: SDM Vol. 3A "64-Bit Mode Stack Frame", and the vector.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Called by the stubs for an exception that has no fix-up.
#[unsafe(no_mangle)]
extern "C" fn trap_unfixed(frame: &Frame) {
    let area = Area::current();
    let trap = Trap { vector: frame.vector as u8, error: frame.error as u32, cpl: frame.cs as u8 & 3 };
    if area.awaited.load(Ordering::Relaxed) >> trap.vector & 1 == 0 {
        let cr2: u64;
        // SAFETY: reads CR2.
        unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
        report::die(area, Death { trap, rip: frame.rip, cr2 });
    }
    if !area.has_caught.load(Ordering::Relaxed) {
        area.has_caught.store(true, Ordering::Relaxed);
        // SAFETY: own area; `awaiting` reads it only when no trap is awaited any more.
        unsafe { area.caught.get().write(trap) };
    }
}
