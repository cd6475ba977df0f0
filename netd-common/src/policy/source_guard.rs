//! The source guard: a container sends with its own MAC and IP addresses only, and with the addresses that it was allowed.

use crate::abi::{EndpointRow, FamilyRows, network_flag};
use crate::verdict::Reason;
use crate::wire::bytes::{Address, Ipv4, Ipv6};
use crate::wire::ethernet::{ETHERTYPE_ARP, PacketBytes, ethertype};
use crate::wire::icmp::{self, Message};
use crate::wire::ip::{Ip, Part};

use super::Tables;

/// Offset of the receiver's MAC address in an Ethernet frame.
const FRAME_RECEIVER: usize = 0;
/// Offset of the sender's MAC address in an Ethernet frame.
const FRAME_SENDER: usize = 6;
/// Offset of the sender's MAC address in an ARP frame; its IPv4 address follows (RFC 826).
const ARP_SENDER: usize = 22;
/// Offset of the target address in a neighbour advertisement, from its ICMPv6 header (RFC 4861 §4.4).
const ADVERTISED: usize = 8;
/// ICMPv6 types (RFC 4861 §4).
mod kind {
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
}

/// Whether a container may use an address besides its own: never that of its gateway.
#[inline(always)]
pub fn is_allowed<L: Tables>(lookups: &L, endpoint: &EndpointRow, address: Ipv6) -> bool {
    let is_gateway =
        address == endpoint.subnet6.gateway() || address == Ipv6::mapped(endpoint.subnet4.gateway());
    endpoint.flags & network_flag::MORE_ADDRESSES != 0
        && !is_gateway
        && lookups.is_allowed_address(endpoint, address)
}

/// Whether a frame is addressed to another container of the bridge, whose MAC address is made of its IPv4 address. It must be
/// a container's: the bridge hands frames to the MAC address of any of its ports to the host's stack, which may forward them.
#[inline(always)]
pub fn is_to_neighbour<B: PacketBytes + ?Sized, L: Tables>(
    lookups: &L,
    bytes: &B,
    sender: &EndpointRow,
) -> bool {
    let Some(address) = bytes.read(FRAME_RECEIVER + 2) else { return false };
    let neighbour = lookups.container_at(Ipv6::mapped(Ipv4::from_wire(address)));
    neighbour
        .is_some_and(|neighbour| neighbour.network == sender.network && is_addressed_to(bytes, neighbour))
}

/// Checks a frame that is neither IPv4 nor IPv6: only ARP passes, and only with addresses of the container. `allowed` says which
/// it may use besides its own.
#[inline(always)]
pub fn other<B: PacketBytes + ?Sized>(
    bytes: &B,
    endpoint: &EndpointRow,
    allowed: impl FnOnce(Ipv6) -> bool,
) -> Result<(), Reason> {
    if ethertype(bytes) != Some(ETHERTYPE_ARP) {
        return Err(Reason::Foreign);
    }
    let address = Ipv4::from_wire(bytes.read(ARP_SENDER + 6).ok_or(Reason::Malformed)?);
    // An ARP probe for a free address has the unspecified one (RFC 5227 §2.1.1).
    let own = address == endpoint.subnet4.address()
        || address == Ipv4::UNSPECIFIED
        || allowed(Ipv6::mapped(address));
    if own && is_own_mac(bytes, ARP_SENDER, endpoint) && is_own_mac(bytes, FRAME_SENDER, endpoint) {
        Ok(())
    } else {
        Err(Reason::Spoofed)
    }
}

/// Whether a frame is addressed to the container itself, and not to the bridge or to several.
#[inline(always)]
pub fn is_addressed_to<B: PacketBytes + ?Sized>(bytes: &B, endpoint: &EndpointRow) -> bool {
    is_own_mac(bytes, FRAME_RECEIVER, endpoint)
}

/// Whether the container's MAC address is at `at`. Compared by words, since the verifier loses track of single bytes.
#[inline(always)]
fn is_own_mac<B: PacketBytes + ?Sized>(bytes: &B, at: usize, endpoint: &EndpointRow) -> bool {
    let (head, tail) = endpoint.mac_words();
    bytes.read(at).is_some_and(|word| u32::from_ne_bytes(word) == head)
        && bytes.read(at + 4).is_some_and(|half| u16::from_ne_bytes(half) == tail)
}

/// Checks the source of an IP packet, and the addresses that it advertises to neighbours. `allowed` says which addresses the
/// container may use besides its own. Returns whether the packet stays on the link: it is for a group, for a link-local address,
/// or neighbour discovery with a neighbour.
#[inline(always)]
pub fn sender<A: FamilyRows, B: PacketBytes + ?Sized>(
    bytes: &B,
    ip: &Ip<A>,
    endpoint: &EndpointRow,
    allowed: impl Fn(Ipv6) -> bool,
) -> Result<bool, Reason> {
    let subnet = A::subnet(endpoint);
    let address = subnet.address();
    let mut own = ip.src == address && address != A::UNSPECIFIED;
    if !own && !A::is_own_on_link(ip.src, endpoint.mac()) {
        own = allowed(ip.src.to_ipv6());
        if !own {
            return Err(Reason::Spoofed);
        }
    }
    if !is_own_mac(bytes, FRAME_SENDER, endpoint) {
        return Err(Reason::Spoofed);
    }
    let is_message = ip.protocol == A::ICMP && !matches!(ip.part, Part::Later(_));
    let kind = if is_message { icmp::kind(bytes, ip.transport_at)? } else { 0 };
    if is_message && A::message(kind) == Message::Link {
        advertises(bytes, ip, kind, endpoint, allowed)?;
        if address != A::UNSPECIFIED && ip.dst.same_network(address, subnet.mask()) {
            return Ok(true);
        }
    }
    if ip.dst.is_group() || ip.dst.is_link_local() {
        return Ok(true);
    }
    // A link-local source must not leave the link.
    if own { Ok(false) } else { Err(Reason::Spoofed) }
}

/// A container may advertise no routes, and only its own addresses.
#[inline(always)]
fn advertises<A: FamilyRows, B: PacketBytes + ?Sized>(
    bytes: &B,
    ip: &Ip<A>,
    message: u8,
    endpoint: &EndpointRow,
    allowed: impl FnOnce(Ipv6) -> bool,
) -> Result<(), Reason> {
    match message {
        kind::ROUTER_ADVERTISEMENT | kind::REDIRECT => Err(Reason::Spoofed),
        kind::NEIGHBOUR_ADVERTISEMENT => {
            let words =
                bytes.read_words(bytes.place(ip.transport_at) + ADVERTISED).ok_or(Reason::Malformed)?;
            let target = Ipv6::from_words(words);
            let own = target == endpoint.subnet6.address() || target == Ipv6::link_local(endpoint.mac());
            if own || allowed(target) { Ok(()) } else { Err(Reason::Spoofed) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Subnet;
    use crate::wire::ethernet::IP_AT;
    use crate::wire::ip::Family as _;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const MAC: [u8; 6] = [2, 0x42, 172, 17, 0, 2];

    fn endpoint() -> EndpointRow {
        let four = Ipv4::from(Ipv4Addr::new(172, 17, 0, 2));
        let six = Ipv6::from("fd00::2".parse::<Ipv6Addr>().unwrap());
        EndpointRow {
            ethernet: EndpointRow::ethernet(MAC, [2; 6]),
            subnet4: Subnet::new(four, four, four, Ipv4::UNSPECIFIED),
            subnet6: Subnet::new(six, six, six, Ipv6::UNSPECIFIED),
            ..EndpointRow::default()
        }
    }

    fn arp(mac: [u8; 6], address: [u8; 4]) -> [u8; 42] {
        let mut frame = [0; 42];
        frame[6..12].copy_from_slice(&mac);
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[22..28].copy_from_slice(&mac);
        frame[28..32].copy_from_slice(&address);
        frame
    }

    #[test]
    fn arp_passes_with_own_addresses_only() {
        let judge = |frame: &[u8]| other(frame, &endpoint(), |_| false);
        assert_eq!(judge(&arp(MAC, [172, 17, 0, 2])), Ok(()));
        assert_eq!(judge(&arp(MAC, [0; 4])), Ok(()));
        assert_eq!(judge(&arp(MAC, [172, 17, 0, 3])), Err(Reason::Spoofed));
        assert_eq!(judge(&arp([2, 0, 0, 0, 0, 9], [172, 17, 0, 2])), Err(Reason::Spoofed));
        let mut frame = arp(MAC, [172, 17, 0, 2]);
        frame[22] = 4;
        assert_eq!(judge(&frame), Err(Reason::Spoofed), "another sender inside than outside");
        assert_eq!(judge(&arp(MAC, [172, 17, 0, 2])[..30]), Err(Reason::Malformed));
        frame[13] = 0xcc;
        assert_eq!(judge(&frame), Err(Reason::Foreign));
    }

    #[test]
    fn allowed_addresses_are_used_as_own_ones() {
        let allowed = |address: Ipv6| {
            let four = Ipv6::mapped(Ipv4::from(Ipv4Addr::new(172, 17, 0, 3)));
            [four, Ipv6::from("fd00::3".parse::<Ipv6Addr>().unwrap())].contains(&address)
        };
        assert_eq!(other(&arp(MAC, [172, 17, 0, 3])[..], &endpoint(), allowed), Ok(()));
        assert_eq!(other(&arp(MAC, [172, 17, 0, 4])[..], &endpoint(), allowed), Err(Reason::Spoofed));
        let frame = &discovery("fd00::2", 136, "fd00::3")[..];
        let ip = Ipv6::header(frame, IP_AT).unwrap();
        assert_eq!(sender(frame, &ip, &endpoint(), allowed), Ok(true));
        let other_mac = EndpointRow { ethernet: EndpointRow::ethernet([2; 6], [2; 6]), ..endpoint() };
        assert_eq!(sender(frame, &ip, &other_mac, allowed), Err(Reason::Spoofed));
    }

    /// An ICMPv6 message of a type, about an address.
    fn discovery(src: &str, kind: u8, about: &str) -> [u8; 78] {
        let mut frame = [0; 78];
        frame[6..12].copy_from_slice(&MAC);
        frame[14] = 0x60;
        frame[20..22].copy_from_slice(&[58, 255]);
        frame[22..38].copy_from_slice(&src.parse::<Ipv6Addr>().unwrap().octets());
        frame[38..54].copy_from_slice(&"fd00::3".parse::<Ipv6Addr>().unwrap().octets());
        frame[54] = kind;
        frame[62..78].copy_from_slice(&about.parse::<Ipv6Addr>().unwrap().octets());
        frame
    }

    #[test]
    fn only_own_addresses_are_advertised() {
        let judge = |frame: &[u8]| {
            let ip = Ipv6::header(frame, IP_AT)?;
            sender::<Ipv6, _>(frame, &ip, &endpoint(), |_| false)
        };
        for src in ["fd00::2", "fe80::42:acff:fe11:2", "::"] {
            assert_eq!(judge(&discovery(src, 135, "fd00::3")), Ok(true), "a question from {src}");
        }
        assert_eq!(judge(&discovery("fd00::2", 136, "fd00::2")), Ok(true));
        assert_eq!(judge(&discovery("fd00::2", 136, "fe80::42:acff:fe11:2")), Ok(true));
        assert_eq!(judge(&discovery("fd00::2", 136, "fd00::3")), Err(Reason::Spoofed));
        assert_eq!(judge(&discovery("fd00::3", 135, "fd00::3")), Err(Reason::Spoofed));
        assert_eq!(judge(&discovery("fe80::42:acff:fe11:2", 134, "::")), Err(Reason::Spoofed), "a router");
        assert_eq!(judge(&discovery("fd00::2", 128, "::")), Ok(false), "a ping");
        assert_eq!(
            judge(&discovery("fe80::42:acff:fe11:2", 128, "::")),
            Err(Reason::Spoofed),
            "off the link"
        );
    }
}
