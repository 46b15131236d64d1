//! How much memory a piece of code asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The most bytes that `work` has held at once in this thread.
pub fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    work();
    usize::try_from(PEAK_BYTES.get() - before).unwrap()
}

thread_local! {
    // Negative where a thread frees what another has allocated.
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// Two `Cell`s without destructors: counting neither allocates nor outlives its thread.
fn count(more: usize, less: usize) {
    let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let live = LIVE_BYTES.get() + bytes(more) - bytes(less);
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, so what that
// one guarantees holds; counting touches no memory of the caller and does not unwind: the sums stay
// far from i64's ends, as no process has that much memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise for `alloc`, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise for `alloc_zeroed`, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        count(new_bytes, layout.size());
        // SAFETY: the caller's promise for `realloc`, passed on; `block` came from `System`.
        unsafe { System.realloc(block, layout, new_bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise for `dealloc`, passed on; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}
