//! The fields of keys and rows. They are stored with the maps, so that another version of netd can carry the rows over to its own
//! maps: by the names of the fields. A field that gets another meaning therefore needs another name.

use super::{
    AllowedAddressKey, BoundPortKey, DenyCacheRow, DropEvent, DropRow, EndpointRow, FillRow, FlowRow,
    FragmentKey, FragmentRow, LimitRow, LocalPorts, PortRow, PublicationCounters, PublicationRow,
    QueuedFragmentKey, QueuedFragmentRow, SocketKey, SocketRow, SourceKey, TargetPortKey, TrustKey,
    UplinkRow, UsageRow, VersionRow,
};
use crate::flow::{FlowKey, Handle};
use crate::wire::bytes::{Ipv4, Ipv6};

/// A field of a key or row. Fields in fields are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; empty if the row is one word.
    pub name: &'static str,
    /// Where it begins, bytes.
    pub at: u32,
    /// Its length, bytes.
    pub size: u32,
}

/// A key or row.
pub trait Fields {
    /// Its fields, in the order of their places.
    const FIELDS: &'static [Field];
}

/// A type of the contract, as the record of the contract shows it.
#[cfg(test)]
pub(super) struct Type {
    /// Its name and its family.
    pub(super) name: &'static str,
    /// Its length, bytes.
    pub(super) size: usize,
    /// Its fields.
    pub(super) fields: &'static [Field],
}

const fn size_of_field<T, F>(_field: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Lists the fields of types. A field that is forgotten here does not compile.
macro_rules! fields {
    ($($type:ident $(<$family:ty>)? { $($field:ident),* $(,)? })*) => {
        $(
            #[expect(clippy::cast_possible_truncation, reason = "rows are small")]
            impl Fields for $type$(<$family>)? {
                const FIELDS: &'static [Field] = {
                    const fn _has_all_fields(row: &$type$(<$family>)?) {
                        let $type { $($field: _),* } = row;
                    }
                    type Row = $type$(<$family>)?;
                    &[$(Field {
                        name: stringify!($field),
                        at: core::mem::offset_of!(Row, $field) as u32,
                        size: size_of_field::<Row, _>(|row| &row.$field) as u32,
                    }),*]
                };
            }
        )*

        /// All of them.
        #[cfg(test)]
        pub(super) const TYPES: &[Type] = &[$(Type {
            name: concat!(stringify!($type) $(, " ", stringify!($family))?),
            size: size_of::<$type$(<$family>)?>(),
            fields: <$type$(<$family>)? as Fields>::FIELDS,
        }),*];
    };
}

fields! {
    FlowKey<Ipv4> { src, dst, src_port, dst_port, protocol_and_zone }
    FlowKey<Ipv6> { src, dst, src_port, dst_port, protocol_and_zone }
    FlowRow<Ipv4> {
        src, dst, src_port, dst_port, addresses, ports, endpoint, publication, bits, last, oif, acknowledged, next_hop,
        packets_low, pad, pending, bytes_and_packets,
    }
    FlowRow<Ipv6> {
        src, dst, src_port, dst_port, addresses, ports, endpoint, publication, bits, last, oif, acknowledged, next_hop,
        packets_low, pad, pending, bytes_and_packets,
    }
    FragmentKey<Ipv4> { src, dst, id, protocol_and_zone }
    FragmentKey<Ipv6> { src, dst, id, protocol_and_zone }
    QueuedFragmentKey<Ipv4> { datagram, number, pad }
    QueuedFragmentKey<Ipv6> { datagram, number, pad }
    BoundPortKey<Ipv4> { address, protocol, port }
    BoundPortKey<Ipv6> { address, protocol, port }
    DenyCacheRow<Ipv4> {
        stamp, mac, ifindex, port_and_protocol, reason, peer, pending, publication, src, dst, bytes,
    }
    DenyCacheRow<Ipv6> {
        stamp, mac, ifindex, port_and_protocol, reason, peer, pending, publication, src, dst, bytes,
    }
    FragmentRow { src_port, dst_port, last, first, pad, queued }
    QueuedFragmentRow { len, pad, frame }
    EndpointRow { handle, ifindex, mtu, ethernet, bridge, network, flags, subnet4, subnet6 }
    PublicationRow { handle, endpoint, host_port, target_port, ports, interface, flags, address, counters }
    PublicationCounters { packets_in, bytes_in, packets_out, bytes_out, flows, dropped }
    PortRow { any, bound }
    TargetPortKey { endpoint, protocol, port }
    SourceKey { publication, source }
    AllowedAddressKey { endpoint, address }
    UplinkRow { address4, mtu, address6, mac, flags }
    TrustKey { network, ifindex }
    LocalPorts { first, last }
    SocketKey { cookie, target, target_port, protocol, pad }
    SocketRow { address, port, pad, rest }
    LimitRow { room, share, places, pad }
    FillRow { connections, hand }
    UsageRow { connections }
    DropRow { packets, bytes, reported, left }
    DropEvent { src, dst, src_port, dst_port, reason, protocol, len, ifindex, pad }
    VersionRow { abi, digest, version }
}

/// Types that are one word to the contract.
macro_rules! words {
    ($($type:ty),*) => {$(
        #[expect(clippy::cast_possible_truncation, reason = "words are small")]
        impl Fields for $type {
            const FIELDS: &'static [Field] = &[Field { name: "", at: 0, size: size_of::<Self>() as u32 }];
        }
    )*};
}

words! { (), u32, u64, Handle, Ipv4, Ipv6, super::LayoutRow }
