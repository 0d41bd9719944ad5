//! The boot module: what the loader was given for the guest besides its ELF file, as blocks of eight words.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use volatile::VolatilePtr;
use wire::history::{BLOCK, Block};

static ADDRESS: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicU64 = AtomicU64::new(0);

/// Says where it is.
///
/// # Safety
/// There must be that much memory, mapped one to one, which nobody writes to.
pub(crate) unsafe fn set(address: u64, size: u64) {
    ADDRESS.store(address, Ordering::Relaxed);
    SIZE.store(size, Ordering::Relaxed);
}

/// Block number `n`, if it has that many.
pub fn block(n: u64) -> Option<Block> {
    let blocks = SIZE.load(Ordering::Relaxed) / BLOCK as u64;
    let at = ADDRESS.load(Ordering::Relaxed) + n.checked_mul(BLOCK as u64).filter(|_| n < blocks)?;
    let pointer = NonNull::new(core::ptr::with_exposed_provenance_mut::<Block>(at as usize))?;
    pointer.is_aligned().then_some(())?;
    // SAFETY: `set` was promised that the module's bytes are there and stay as they are; eight words lie in it.
    Some(unsafe { VolatilePtr::new_read_only(pointer) }.read())
}
