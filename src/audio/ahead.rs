//! Asks for memory before it is needed. Who looks at a thousand rooms in turn
//! finds each of them out of the caches, and would wait for one line of it after
//! the other; asked for together, they come together.

/// Rooms, or batches, whose memory is asked for together: as many loads as a core
/// has under way.
pub const AHEAD: usize = 8;
/// Bytes that come at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has the memory of a value on its way into the cache, without waiting for it.
#[inline]
pub fn ask_for<T>(value: &T) {
    ask_for_slice(std::slice::from_ref(value));
}

/// As [`ask_for`], of several; of none, where the first would be. On processors
/// that have no way to ask it does nothing.
#[inline]
pub fn ask_for_slice<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of_val(values).max(1)).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = values.as_ptr().cast::<i8>().wrapping_add(offset);
        // SAFETY: a prefetch is a hint: it reads nothing that anybody sees, and
        // faults for no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
