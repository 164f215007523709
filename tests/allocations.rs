//! What the audio path allocates, counted: nothing for a frame, at most once for
//! a batch.

#[path = "../bench/counted/workloads.rs"]
#[allow(dead_code, reason = "others take what is left out here")]
mod workloads;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use workloads::FRAMES;

/// Counts what the thread that asks allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is being taken down counts no more.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + 1));
}

// SAFETY: all of it is the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Steps until everything has the size it keeps: a ring is full after 50, and
/// pools go round a few times.
const WARM_UP: u64 = 500;
/// Steps that are counted.
const STEPS: u64 = 1_000;

/// Allocations in `STEPS` steps of a workload.
fn allocations(name: &str) -> u64 {
    let mut step = (workloads::named(name).expect("a piece of work of this name").make)();
    (0..WARM_UP).for_each(|_| step());
    let before = ALLOCATED.get();
    (0..STEPS).for_each(|_| step());
    ALLOCATED.get() - before
}

#[test]
fn a_frame_allocates_nothing_and_a_batch_once_at_most() {
    // Ten frames and one batch a step, from the read of the pipe to the payload
    // that is kept.
    let whole = allocations("room");
    assert!(whole <= STEPS, "{whole} in {STEPS} batches of {FRAMES} frames");
    let mixed = allocations("mix");
    assert!(mixed <= 2 * STEPS, "{mixed} in {STEPS} batches and as many of a mix");
    assert_eq!(allocations("pipe"), 0, "reading frames");
}

#[test]
fn encoding_and_keeping_a_batch_goes_into_memory_that_is_there() {
    for name in ["writer", "encode", "heartbeat", "ring"] {
        assert!(allocations(name) * 100 <= STEPS, "{name}: {}", allocations(name));
    }
}

#[test]
fn what_allocates_is_seen() {
    let before = ALLOCATED.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(ALLOCATED.get() - before, 1);
}
