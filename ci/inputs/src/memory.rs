//! Memory as it is asked for: how much there is, and how much there was at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What there is, and the most that there was since [`mark`].
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Nobody gets more than this: a reader that asks for it is found before the machine is full.
const LIMIT: usize = 1 << 30;

/// The system's allocator, counted.
pub struct Counted;

fn count(more: usize) -> bool {
    let now = NOW.fetch_add(more, Relaxed) + more;
    MOST.fetch_max(now, Relaxed);
    now < LIMIT
}

// SAFETY: all is the system's allocator's, but for requests that are refused, which a null pointer says.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Counts the most anew from now on, and gives what there is.
pub fn mark() -> usize {
    let now = NOW.load(Relaxed);
    MOST.store(now, Relaxed);
    now
}

/// What there is, and the most that there was since the mark.
pub fn seen() -> (usize, usize) {
    (NOW.load(Relaxed), MOST.load(Relaxed))
}
