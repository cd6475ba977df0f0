//! Packets that could pass the source guard by mistake.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::Ipv6Addr;

use netd_common::abi::{EndpointRow, Subnet};
use netd_common::policy::source_guard;
use netd_common::verdict::Reason;
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::{Family, Part};

const MAC: [u8; 6] = [2, 0x42, 172, 17, 0, 2];
/// Extension headers (RFC 8200 §4).
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const ICMPV6: u8 = 58;

fn address(text: &str) -> Ipv6 {
    text.parse::<Ipv6Addr>().unwrap().into()
}

/// The container fd00::2/64.
fn endpoint() -> EndpointRow {
    let mask = address("ffff:ffff:ffff:ffff::");
    EndpointRow {
        ethernet: EndpointRow::ethernet(MAC, [2; 6]),
        subnet4: Subnet::new(Ipv4::UNSPECIFIED, Ipv4::UNSPECIFIED, Ipv4::UNSPECIFIED, Ipv4::UNSPECIFIED),
        subnet6: Subnet::new(address("fd00::2"), mask, address("fd00::1"), Ipv6::UNSPECIFIED),
        ..EndpointRow::default()
    }
}

/// A packet from the container: the next header's number and its payload.
fn from_container(dst: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[6..12].copy_from_slice(&MAC);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[20..22].copy_from_slice(&[next, 255]);
    frame[22..38].copy_from_slice(&"fd00::2".parse::<Ipv6Addr>().unwrap().octets());
    frame[38..54].copy_from_slice(&dst.parse::<Ipv6Addr>().unwrap().octets());
    frame.extend(payload);
    frame
}

/// A neighbour discovery message of a type, about an address.
fn discovery(kind: u8, about: &str) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(about.parse::<Ipv6Addr>().unwrap().octets());
    message
}

fn judge(frame: &[u8]) -> Result<bool, Reason> {
    let ip = Ipv6::header(frame, IP_AT)?;
    source_guard::sender(frame, &ip, &endpoint(), |_| false)
}

/// A packet with more extension headers than netd follows is refused: Linux follows them, and there may be an advertisement of
/// another address behind them.
#[test]
fn nothing_hides_behind_more_extension_headers_than_are_followed() {
    let behind = |headers: usize| {
        let mut payload = Vec::new();
        for number in 1..=headers {
            let next = if number == headers { ICMPV6 } else { DESTINATION };
            payload.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend(discovery(136, "fd00::3"));
        from_container("ff02::1", DESTINATION, &payload)
    };
    assert_eq!(judge(&behind(6)), Err(Reason::Spoofed), "read, and in another's name");
    assert_eq!(judge(&behind(7)), Err(Reason::Malformed));
}

/// Neighbour discovery with a destination beyond the link does not count as staying on the link: a host that routes IPv6 would
/// forward it, with the container's own address as its source.
#[test]
fn neighbour_discovery_stays_on_its_link() {
    for near in ["fd00::3", "fe80::3", "ff02::1:ff00:3"] {
        assert_eq!(judge(&from_container(near, ICMPV6, &discovery(135, "fd00::3"))), Ok(true), "{near}");
    }
    let far = from_container("2001:db8::1", ICMPV6, &discovery(135, "2001:db8::1"));
    assert_eq!(judge(&far), Ok(false), "judged as what goes to outside");
}

/// The payload of a later fragment is not read as an ICMP header.
#[test]
fn the_middle_of_a_datagram_is_no_message() {
    for first in [134, 136, 137, 143] {
        let mut payload = vec![ICMPV6, 0, 5, 0xa8, 1, 2, 3, 4];
        payload.extend([first; 32]);
        let frame = from_container("2001:db8::1", FRAGMENT, &payload);
        assert!(matches!(Ipv6::header(frame.as_slice(), IP_AT).unwrap().part, Part::Later(_)));
        assert_eq!(judge(&frame), Ok(false), "{first}");
    }
}
