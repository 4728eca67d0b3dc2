//! The heap.

#![allow(unsafe_code)]

/// Gives free pages of the heap back to the kernel (malloc_trim(3)), where the C library can.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointer is passed, and the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
