//! The heap: RAM from the end of the image on. One vCPU allocates: the one that boots.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use linked_list_allocator::Heap;

struct Allocator(UnsafeCell<Heap>);

// SAFETY: only the vCPU that boots allocates and frees; application processors run closures that do neither.
unsafe impl Sync for Allocator {}

// SAFETY: hands out what linked_list_allocator hands out.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one vCPU, no interrupts: nobody else is in the heap.
        let heap = unsafe { &mut *self.0.get() };
        heap.allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; the caller got `memory` from `alloc` with this layout.
        unsafe { (*self.0.get()).deallocate(NonNull::new_unchecked(memory), layout) }
    }
}

#[global_allocator]
static HEAP: Allocator = Allocator(UnsafeCell::new(Heap::empty()));

unsafe extern "C" {
    static __image_end: u8;
}

/// Address of the first byte after the image, on a page boundary.
fn image_end() -> usize {
    (&raw const __image_end).addr()
}

/// Gives the heap the part of the RAM range `start..end` that follows the image, if the image lies in it.
///
/// # Safety
/// The range must be RAM that nothing uses but the image; called once.
pub(crate) unsafe fn init(start: u64, end: u64) {
    let from = image_end();
    let Ok(end) = usize::try_from(end.min(crate::paging::MAPPED)) else { return };
    if start <= from as u64 && from < end {
        // SAFETY: mapped RAM that nobody uses.
        unsafe { (*HEAP.0.get()).init(core::ptr::with_exposed_provenance_mut(from), end - from) };
    }
}
