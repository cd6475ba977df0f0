//! The context that a program was started with.

use core::ffi::c_void;

/// A program's context, as helpers take it. Only this room makes one, from the context that the kernel passed in, so it
/// is valid as long as the program runs.
#[derive(Clone, Copy)]
pub(crate) struct Context(*mut c_void);

impl Context {
    /// From the kernel's pointer.
    #[inline(always)]
    pub(super) fn new<T>(raw: *mut T) -> Self {
        Self(raw.cast())
    }

    /// The kernel's pointer.
    #[inline(always)]
    pub(super) fn as_ptr<T>(self) -> *mut T {
        self.0.cast()
    }
}
