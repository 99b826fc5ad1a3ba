//! Memory for objects and for devices: taken from the front, given back all at once after each scenario.

use crate::physical::PAGE_BYTES;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Enough for the hungriest scenario.
const HEAP_BYTES: usize = 24 * 1024 * 1024;

#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; HEAP_BYTES]>);

// SAFETY: only `take` hands out parts of it, each once until `release`.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; HEAP_BYTES]));
/// Bytes handed out.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static HEAP: Heap = Heap;

struct Heap;

// SAFETY: `take` gives memory of the size and alignment asked for, to one owner.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size(), layout.align()).unwrap_or(core::ptr::null_mut())
    }

    unsafe fn dealloc(&self, _pointer: *mut u8, _layout: Layout) {}
}

/// So many pages of zeroes.
pub fn pages(count: usize) -> *mut u8 {
    let bytes = count * PAGE_BYTES;
    let start = take(bytes, PAGE_BYTES).expect("the heap is large enough for every scenario");
    // SAFETY: just taken, so nobody else knows it.
    unsafe { start.write_bytes(0, bytes) };
    start
}

/// How much is taken, for [`release`].
pub fn mark() -> usize {
    TAKEN.load(Ordering::SeqCst)
}

/// Takes back all that was handed out since `mark`.
///
/// # Safety
/// No object and no device may use it any more.
pub unsafe fn release(mark: usize) {
    TAKEN.store(mark, Ordering::SeqCst);
}

/// Takes `bytes`; both processors may.
fn take(bytes: usize, alignment: usize) -> Option<*mut u8> {
    let start = |taken: usize| taken.next_multiple_of(alignment);
    let end = |taken| Some(start(taken) + bytes).filter(|end| *end <= HEAP_BYTES);
    let before = TAKEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, end).ok()?;
    Some(MEMORY.0.get().cast::<u8>().wrapping_add(start(before)))
}
