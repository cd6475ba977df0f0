//! `bytemuck::Pod` → `aya::Pod`: lets aya copy the keys and rows of `netd_common::abi`.

/// A row or key that is copied into or out of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` is derived for every `T` here, which the compiler grants only to types that are `Copy`, have
// no padding and admit every byte pattern; that is all `aya::Pod` asks for. `repr(transparent)` adds nothing to the
// layout.
unsafe impl<T: bytemuck::Pod> aya::Pod for Wire<T> {}
