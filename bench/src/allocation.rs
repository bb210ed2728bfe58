//! An allocator that counts what one thread asks for: how a test shows that an append allocates nothing per sample.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// Counts calls of the thread, then hands them to another allocator.
#[derive(Debug)]
pub struct Counting<A>(pub A);

thread_local! {
    // Const-initialised and without a destructor: an allocator may touch it at any time of a thread's life.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Allocations (growing ones included) and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocations {
    /// Number of calls.
    pub count: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

/// What `f` allocates on this thread.
pub fn count<T>(f: impl FnOnce() -> T) -> (T, Allocations) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let result = f();
    let count = ALLOCATIONS.get() - before.0;
    (result, Allocations { count, bytes: BYTES.get() - before.1 })
}

fn note(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
}

// SAFETY: every call goes to the inner allocator with the arguments as they came; counting allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: the caller's promise about `block`, `layout` and `new_size` is passed on.
        unsafe { self.0.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `block` and `layout` is passed on.
        unsafe { self.0.dealloc(block, layout) }
    }
}
