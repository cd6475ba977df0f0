//! The source guard: what passes has the container's own addresses, and no link-local source leaves the link.

use netd_common::abi::{EndpointRow, FamilyRows, Subnet};
use netd_common::policy::source_guard;
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::{Family as _, Ip, Part};

/// The container's MAC address.
const MAC: [u8; 6] = [2, 0x42, 172, 17, 0, 2];
/// Its addresses.
const FOUR: [u8; 4] = [172, 17, 0, 2];
const SIX: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// The link-local address of its MAC address.
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x42, 0xac, 0xff, 0xfe, 0x11, 0, 2];

/// A container on 172.17.0.0/16 and fd00::/64.
fn endpoint() -> EndpointRow {
    let four = |bytes| Ipv4::from_wire(bytes);
    let six = |bytes: [u8; 16]| Ipv6::from(std::net::Ipv6Addr::from(bytes));
    let mut mask = [0; 16];
    mask[..8].fill(0xff);
    let mut gateway = SIX;
    gateway[15] = 1;
    EndpointRow {
        ethernet: EndpointRow::ethernet(MAC, [2, 0x42, 172, 17, 0, 1]),
        subnet4: Subnet::new(four(FOUR), four([255, 255, 0, 0]), four([172, 17, 0, 1]), Ipv4::UNSPECIFIED),
        subnet6: Subnet::new(six(SIX), six(mask), six(gateway), Ipv6::UNSPECIFIED),
        ..EndpointRow::default()
    }
}

/// A frame from the container.
pub fn holds(frame: &[u8]) {
    let endpoint = endpoint();
    if source_guard::other(frame, &endpoint, |_| false).is_ok() {
        assert_eq!(frame[12..14], [8, 6], "ARP");
        assert_eq!((&frame[6..12], &frame[22..28]), (&MAC[..], &MAC[..]));
        assert!(frame[28..32] == FOUR || frame[28..32] == [0; 4]);
    }
    if let Ok(ip) = Ipv4::header(frame, IP_AT) {
        judge(frame, &ip, &endpoint, &frame[26..30], &[&FOUR]);
    }
    if let Ok(ip) = Ipv6::header(frame, IP_AT) {
        let on_link = judge(frame, &ip, &endpoint, &frame[22..38], &[&SIX, &LINK_LOCAL, &[0; 16]]);
        if on_link.is_some() && ip.protocol == Ipv6::ICMP && !matches!(ip.part, Part::Later(_)) {
            advertises(&frame[ip.transport_at.get()..]);
        }
    }
}

/// Checks a packet whose source is these bytes. Returns whether it stays on the link; none if it does not pass.
fn judge<A: FamilyRows>(
    frame: &[u8],
    ip: &Ip<A>,
    endpoint: &EndpointRow,
    source: &[u8],
    own: &[&[u8]],
) -> Option<bool> {
    let on_link = source_guard::sender(frame, ip, endpoint, |_| false).ok()?;
    assert_eq!(frame[6..12], MAC, "another MAC address");
    assert!(own.contains(&source), "another source address");
    let subnet = A::subnet(endpoint);
    if on_link {
        let near = ip.dst.is_group()
            || ip.dst.is_link_local()
            || ip.dst.same_network(subnet.address(), subnet.mask());
        assert!(near, "a packet that leaves the link must not count as staying on it");
    } else {
        assert_eq!(source, own[0], "a source that is valid on the link only");
        assert!(!ip.dst.is_group());
    }
    Some(on_link)
}

/// A message that passed is not from a router, and advertises only the container's own addresses.
fn advertises(message: &[u8]) {
    match message[0] {
        134 | 137 => panic!("a router's message"),
        136 => assert!(message[8..24] == SIX || message[8..24] == LINK_LOCAL, "another address"),
        _ => {}
    }
}
