//! A guest as the first process of a Linux kernel: from its entry to the test and to the end, and the calls that it
//! needs.
//!
//! Linux keeps what the guest finds as a kernel of its own from it: no traps, no areas, no heap. It writes its report to
//! the serial line's port, a byte an exit.

use crate::{registry, report};
use core::arch::asm;
use core::ffi::CStr;

const SYS_IOPL: usize = 172;
const SYS_EXIT: usize = 60;
const SYS_SCHED_SETAFFINITY: usize = 203;

/// A system call with three arguments (`arch/x86/entry/entry_64.S`); a negative number is an errno.
///
/// # Safety
/// As that call asks for.
unsafe fn call(number: usize, arguments: [usize; 3]) -> isize {
    let result;
    let [first, second, third] = arguments;
    // SAFETY: as the caller promises; the instruction changes RCX and R11 besides.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third,
            out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    result
}

/// Goes on with this process on that CPU only. Whether Linux runs it.
pub fn on(cpu: u8) -> bool {
    let mask = 1u64 << (cpu & 63);
    // SAFETY: the call reads eight bytes at the mask.
    unsafe { call(SYS_SCHED_SETAFFINITY, [0, size_of_val(&mask), (&raw const mask).expose_provenance()]) == 0 }
}

/// Called by the entry with the stack as Linux leaves it to a process: the number of arguments, and pointers to them.
/// Runs the test of `family` that an argument names.
///
/// # Safety
/// It is that stack.
pub unsafe fn start(stack: *const usize, family: &str) -> ! {
    // SAFETY: a call without pointers. With this level of I/O privilege ports can be used; without, Linux says that init
    // has died.
    if unsafe { call(SYS_IOPL, [3, 0, 0]) } != 0 {
        // SAFETY: the process ends.
        unsafe { call(SYS_EXIT, [1, 0, 0]) };
    }
    let value = |key: &[u8]| {
        // SAFETY: as the caller promises.
        let count = unsafe { stack.read() };
        (1..=count).find_map(|n| {
            // SAFETY: as the caller promises; each points to a string that ends with a zero byte.
            let word = unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(stack.add(n).read())) };
            word.to_bytes().strip_prefix(key)
        })
    };
    let run = value(b"run=").map_or(0, crate::boot::hex);
    let Some(test) = registry::find(value(b"test=")) else {
        report::begin(run, family, "none");
        report::give_up("the kernel hands on the name of no test that this guest has")
    };
    let out = report::begin(run, family, registry::name(test));
    (test.run)(out);
    report::finish()
}
