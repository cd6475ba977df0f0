//! `Pod` for keys and rows that are generic over the family: they have no padding.
//!
//! `derive(Pod)` refuses generic types, since it cannot compute their padding. Here the sizes are asserted for the two
//! families.

#![expect(unsafe_code, reason = "`Pod` is an unsafe trait")]

use bytemuck::{Pod, Zeroable};

use crate::abi::{BoundPortKey, DenyCacheRow, FlowRow, FragmentKey, QueuedFragmentKey};
use crate::flow::FlowKey;
use crate::wire::bytes::{Address, Ipv4, Ipv6};

/// Implements `Pod` for types with one parameter, whose sizes must be the sums of their fields' sizes.
macro_rules! plain {
    ($($type:ident: $four:expr, $six:expr;)*) => {$(
        // SAFETY: every field is `Pod`, for which zero is a value.
        unsafe impl<A: Address> Zeroable for $type<A> {}
        // SAFETY: the type is `repr(C)`, `Copy`, and all of its fields are `Pod`; it has no padding, because for both
        // types that implement the sealed trait `Address` its size is the sum of its fields' sizes, which is asserted
        // below.
        unsafe impl<A: Address> Pod for $type<A> {}
        const _: () = assert!(size_of::<$type<Ipv4>>() == $four && size_of::<$type<Ipv6>>() == $six);
    )*};
}

plain! {
    FlowKey: 2 * 4 + 8, 2 * 16 + 8;
    FlowRow: 3 * 4 + 52 + size_of::<<Ipv4 as Address>::Pad>(), 3 * 16 + 52 + size_of::<<Ipv6 as Address>::Pad>();
    FragmentKey: 2 * 4 + 8, 2 * 16 + 8;
    QueuedFragmentKey: 2 * 4 + 8 + 8, 2 * 16 + 8 + 8;
    BoundPortKey: 4 + 4, 16 + 4;
    DenyCacheRow: 2 * 4 + 48, 2 * 16 + 48;
}
