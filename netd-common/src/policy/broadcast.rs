//! Packets that are broadcast on an uplink's link, as programs do to find a game or a device in the LAN.

use crate::abi::FamilyRows as _;
use crate::wire::bytes::{Address as _, Ipv4};
use crate::wire::ip::{Part, protocol};

use super::{Lookups, Packet, may_open, publication};

/// The host's address that a broadcast datagram is taken to be sent to; none if it is for the host's stack. A published UDP port
/// gets it, as a socket on all addresses would, and answers from that address.
#[inline(always)]
pub fn receiver<L: Lookups<Ipv4>>(lookups: &L, packet: &Packet<'_, Ipv4>) -> Option<Ipv4> {
    let ip = packet.ip;
    let transport = packet.transport().ok()?;
    if ip.protocol != protocol::UDP || ip.part != Part::Whole || !may_open(ip.src) {
        return None;
    }
    if ip.dst != Ipv4::LIMITED_BROADCAST && !lookups.is_broadcast(ip.dst) {
        return None;
    }
    // A port on one address is not found, since nobody publishes on a broadcast address.
    let found = publication::find(lookups, ip.protocol, ip.dst, transport.dst_port)?;
    if !found.is_for(packet.ifindex) || lookups.is_in_network(ip.src) {
        return None;
    }
    let address = Ipv4::masquerade(lookups.uplink(packet.ifindex)?);
    (address != Ipv4::UNSPECIFIED).then_some(address)
}
