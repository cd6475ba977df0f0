//! Packets from containers that have no flow.

use crate::abi::{EndpointRow, FamilyRows, UplinkRow, network_flag};
use crate::flow::key::{FlowKey, Tuple, Zone};
use crate::flow::nat::{Nat, Side};
use crate::verdict::Reason;
use crate::wire::ethernet::PacketBytes;
use crate::wire::ip::Ip;
use crate::wire::transport::tcp_flag;

use super::publication::{self, Found, is_routed};
use super::{
    Decision, Lookups, Packet, Refusal, Route, Then, host, is_masqueraded, snat_address, source_guard,
};

/// Checks the sender of a packet, and decides where it goes: neighbours and the host are reached through the bridge,
/// published ports and the outside by a flow. [`direct`](super::direct) decides whether another network accepts it.
#[inline(always)]
pub fn decide<A: FamilyRows, B: PacketBytes + ?Sized, L: Lookups<A>>(
    lookups: &L,
    bytes: &B,
    packet: &Packet<'_, A>,
    sender: &EndpointRow,
) -> Result<Decision, Reason> {
    let ip = packet.ip;
    if sender.is_unmanaged() {
        return Ok(unmanaged(lookups, packet, sender));
    }
    let allowed = |address| source_guard::is_allowed(lookups, sender, address);
    if source_guard::sender(bytes, ip, sender, allowed)? {
        return Ok(on_link(lookups, bytes, ip, sender));
    }
    let subnet = A::subnet(sender);
    let is_internal = sender.flags & network_flag::INTERNAL != 0;
    // The container's own routes may lead by a neighbour, as to a VPN that runs in a container.
    let by_neighbour = source_guard::is_to_neighbour(lookups, bytes, sender);
    if ip.dst == subnet.gateway() && !by_neighbour {
        // An internal network has no published ports.
        return Ok(if is_internal { Decision::Local } else { Decision::Hairpin });
    }
    if by_neighbour || ip.dst.same_network(subnet.address(), subnet.mask()) {
        let is_isolated = sender.flags & network_flag::NO_ICC != 0;
        return if is_isolated { Err(Reason::Isolated) } else { Ok(on_link(lookups, bytes, ip, sender)) };
    }
    if is_internal {
        return Err(Reason::NoWayOut);
    }
    if ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    let is_in_network = lookups.is_in_network(ip.dst);
    if is_in_network && lookups.endpoint_at(ip.dst).is_some() {
        return Ok(Decision::Direct);
    }
    match lookups.route(sender.bridge, ip.protocol, &packet.tuple()) {
        // The gateway of another network, too.
        Route::Local => Ok(Decision::Hairpin),
        _ if is_in_network => Ok(Decision::Direct),
        Route::Via(_, _) if ip.ttl <= 1 => Err(Reason::TtlExceeded),
        Route::Via(oif, _) => Ok(Decision::Leave(oif)),
        Route::Refused(reason) => Err(reason),
    }
}

/// A packet from a container whose network the host's stack routes: netd takes only what may be for a published port of the host,
/// or an answer to an IPv6 client of the container, which has the gateway's address. A reply without a flow is not known to be one:
/// a client may use the container's own address.
#[inline(always)]
fn unmanaged<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    sender: &EndpointRow,
) -> Decision {
    let (dst, number) = (packet.ip.dst, packet.ip.protocol);
    let Ok(transport) = packet.transport() else { return Decision::Pass };
    let is_odd = dst.is_group() || dst.is_link_local() || dst.is_loopback();
    let may_be_nat46 = !A::IS_V6
        && dst == A::subnet(sender).gateway()
        && lookups.target_port(sender.handle, number, transport.src_port).is_some();
    let is_published = || lookups.port(number, transport.dst_port).is_some_and(|row| row.has_any());
    let is_local = || lookups.route(sender.bridge, number, &packet.tuple()) == Route::Local;
    if !is_odd && (may_be_nat46 || is_published()) && is_local() { Decision::Hairpin } else { Decision::Pass }
}

/// A packet that stays on the link. Only one that the stack forwards in no case keeps its TTL: to a group of the link or a
/// link-local address, to a neighbour's MAC address, or neighbour discovery with the gateway, which must have 255 (RFC 4861 §7.1).
#[inline(always)]
fn on_link<A: FamilyRows, B: PacketBytes + ?Sized, L: Lookups<A>>(
    lookups: &L,
    bytes: &B,
    ip: &Ip<A>,
    sender: &EndpointRow,
) -> Decision {
    let is_bound_to_link = ip.dst.is_group_of_link()
        || ip.dst.is_link_local()
        || ip.dst == A::subnet(sender).gateway()
        || source_guard::is_to_neighbour(lookups, bytes, sender)
        || lookups.endpoint_at(ip.dst).is_some_and(|it| source_guard::is_addressed_to(bytes, it));
    if is_bound_to_link { Decision::Pass } else { Decision::Local }
}

/// A packet to an address of the host: a connection to a published port, or the host's own traffic.
#[inline(always)]
pub fn hairpin<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    nat: &mut Nat<A>,
) -> Result<Decision, Refusal> {
    let sender = lookups.endpoint_behind(packet.ifindex).ok_or(Reason::NoWayOut)?;
    let local = if sender.is_unmanaged() { Decision::Pass } else { Decision::Local };
    if packet.awaits_first_fragment() {
        return Ok(Decision::Queue(Then::Pass));
    }
    let Ok(transport) = packet.transport() else { return Ok(local) };
    let key = FlowKey::of(packet.ip, transport, packet.zone);
    let found = publication::find(lookups, key.protocol(), key.dst, key.dst_port);
    let Some(found) = found.filter(|found| found.is_for(packet.ifindex)) else {
        let is_to_gateway = key.dst == A::subnet(sender).gateway();
        return Ok(if !A::IS_V6 && is_to_gateway { Decision::MayBeNat46 } else { local });
    };
    if let Some(decision) = host::claim(lookups, &key, transport.opens()) {
        return Ok(decision);
    }
    if packet.ip.ttl <= 1 {
        return Err(Reason::TtlExceeded.into());
    }
    if found.endpoint.is_remote() {
        return Ok(Decision::Forward);
    }
    let is_itself = found.endpoint.handle == sender.handle;
    let Some(translated) = found.translated(&key, is_itself) else { return Ok(local) };
    *nat = Nat::new(key, translated, found.endpoint.side(), sender.handle);
    nat.publication = found.row.handle;
    found.admit(lookups, nat.original.src)?;
    Ok(Decision::Open)
}

/// A packet that leaves by the uplink `oif`: a reply of a published port whose flow was lost, or a new connection,
/// which is masqueraded if the container's network has masquerade.
#[inline(always)]
pub fn leave<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    oif: u32,
    nat: &mut Nat<A>,
) -> Result<Decision, Refusal> {
    const ENDS: u8 = tcp_flag::FIN | tcp_flag::RST;
    let sender = lookups.endpoint_behind(packet.ifindex).ok_or(Reason::NoWayOut)?;
    let Some(uplink) = lookups.uplink(oif) else {
        // The host routes between a network and an interface that it trusts and that has no program.
        let is_trusted = lookups.is_trusted(sender.network, oif);
        return if is_trusted { Ok(Decision::Pass) } else { Err(Reason::NoWayOut.into()) };
    };
    if lookups.is_ipsec_peer(packet.ip.dst) {
        return Err(Reason::Ipsec.into());
    }
    if packet.awaits_first_fragment() {
        return Ok(Decision::Queue(Then::End));
    }
    let transport = packet.transport()?;
    let key = FlowKey::of(packet.ip, transport, packet.zone);
    let opens = transport.opens();
    if !opens
        && let Some(found) = publication::of_target(lookups, sender.handle, key.protocol(), key.src_port)
    {
        // A packet with flags belongs to a connection that a client has opened; that client's next packet says by which port.
        // A datagram may be the container's own first one.
        let is_ambiguous = found.shares_target::<A>() && !is_routed::<A>(sender) && transport.tcp_flags != 0;
        if found.is_draining() || is_ambiguous {
            return Err(Reason::OutOfState.into());
        }
        let original = original_of(&key, sender, uplink, &found)?;
        // A datagram need not answer a client. Then it must not take a port from which the host may ask the same peer.
        let is_hosts = transport.tcp_flags == 0
            && !is_routed::<A>(sender)
            && lookups.local_ports().contains(original.dst_port);
        // The host itself may be in an exchange with this peer by the published port: then the packet is no answer to a client.
        if !is_hosts && host::claim(lookups, &original, false).is_none() {
            let back = Side { zone: key.zone(), endpoint: sender.handle };
            *nat = Nat::new(original, key.tuple().reversed(), back, sender.handle);
            nat.publication = found.row.handle;
            nat.is_rebuilt = true;
            return Ok(Decision::Open);
        }
    }
    let flags = transport.tcp_flags;
    if flags & ENDS != 0 || (flags & tcp_flag::SYN != 0 && !opens) {
        return Err(Reason::OutOfState.into());
    }
    let mut translated = key.tuple();
    if is_masqueraded::<A>(sender) {
        translated.src = snat_address(sender, uplink)?;
    }
    *nat = Nat::new(key, translated, Side::outside(sender.handle), sender.handle);
    Ok(Decision::Open)
}

/// The key of the client's packets to which a packet from a published port answers: the publication has the address and port
/// that the client used.
#[inline(always)]
fn original_of<A: FamilyRows>(
    key: &FlowKey<A>,
    sender: &EndpointRow,
    uplink: &UplinkRow,
    found: &Found<'_>,
) -> Result<FlowKey<A>, Reason> {
    let translated = key.tuple().reversed();
    let bound = A::from_ipv6(found.row.address);
    let original = if is_routed::<A>(sender) {
        translated
    } else {
        Tuple {
            dst: if bound == A::UNSPECIFIED { A::masquerade(uplink) } else { bound },
            dst_port: found.row.host_port_of(key.src_port),
            ..translated
        }
    };
    if original.dst == A::UNSPECIFIED {
        return Err(Reason::NoWayOut);
    }
    Ok(FlowKey::new(original, key.protocol(), Zone::OUTSIDE))
}
