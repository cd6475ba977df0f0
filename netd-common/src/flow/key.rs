//! The key of a flow: addresses, ports, protocol, and the zone that a packet comes from.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use crate::wire::bytes::{Address, Be16};
use crate::wire::ip::Ip;
use crate::wire::transport::Transport;

/// The zone that a packet comes from. It is part of a flow's key, so networks may have the same addresses, and no
/// container can send a packet that matches another container's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Zone(u32);

impl Zone {
    /// Outside: everything beyond the uplinks.
    pub const OUTSIDE: Self = Self(0);

    /// The largest interface index that fits a key.
    pub const MAX_IFINDEX: u32 = 0x00ff_ffff;

    /// The container behind the host-side veth of this index, which must not exceed [`Self::MAX_IFINDEX`].
    pub const fn container(ifindex: u32) -> Self {
        Self(ifindex & Self::MAX_IFINDEX)
    }

    /// The interface index; 0 for outside.
    pub const fn ifindex(self) -> u32 {
        self.0
    }
}

/// One direction of a connection, as its packets are before translation (16 or 40 bytes, no padding). Aligned, because
/// the verifier accepts no double word that spans two slots of the stack.
///
/// The identifier of an ICMP echo takes the place of a port: the source port of a request, the destination port of a
/// reply. The other port is zero. So the tuple of a reply has source and destination exchanged, as for TCP. For a
/// protocol without ports both are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Protocol number in the low 8 bits, zone above.
    pub(crate) protocol_and_zone: u32,
}

impl<A: Address> FlowKey<A> {
    /// The key of a packet with this tuple, coming in from `zone`.
    #[inline(always)]
    pub const fn new(tuple: Tuple<A>, protocol: u8, zone: Zone) -> Self {
        let Tuple { src, dst, src_port, dst_port } = tuple;
        Self { src, dst, src_port, dst_port, protocol_and_zone: protocol as u32 | (zone.0 << 8) }
    }

    /// The key of a packet with these headers, coming in from `zone`.
    #[inline(always)]
    pub const fn of(ip: &Ip<A>, transport: &Transport, zone: Zone) -> Self {
        let Transport { src_port, dst_port, .. } = *transport;
        Self::new(Tuple { src: ip.src, dst: ip.dst, src_port, dst_port }, ip.protocol, zone)
    }

    /// The addresses and ports.
    #[inline(always)]
    pub const fn tuple(&self) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, src_port: self.src_port, dst_port: self.dst_port }
    }

    /// The protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol_and_zone as u8
    }

    /// Where the packet comes in from.
    #[inline(always)]
    pub const fn zone(&self) -> Zone {
        Zone(self.protocol_and_zone >> 8)
    }
}

/// The addresses and ports of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
}

impl<A: Address> Tuple<A> {
    /// Two addresses, without ports.
    #[inline(always)]
    pub const fn between(src: A, dst: A) -> Self {
        Self { src, dst, src_port: Be16::new(0), dst_port: Be16::new(0) }
    }

    /// The tuple of a reply.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bytes::Ipv4;
    use crate::wire::ip::protocol;

    #[test]
    fn a_key_gives_back_its_parts() {
        let tuple = Tuple::<Ipv4> { src_port: Be16::new(1), dst_port: Be16::new(2), ..Tuple::default() };
        let key = FlowKey::new(tuple, protocol::SCTP, Zone::container(Zone::MAX_IFINDEX));
        assert_eq!(key.tuple(), tuple);
        assert_eq!(key.protocol(), protocol::SCTP);
        assert_eq!(key.zone(), Zone::container(Zone::MAX_IFINDEX));
    }
}
