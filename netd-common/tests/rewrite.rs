//! A packet that is translated, and then quoted by an ICMP error, is restored to what its sender had sent.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::Ipv6Addr;

use netd_common::flow::nat::{Connection, Nat, Side};
use netd_common::flow::rewrite::{self, Rewrite};
use netd_common::flow::{FlowKey, Handle, Tuple, Zone};
use netd_common::wire::bytes::{Be16, Ipv4, Ipv6};
use netd_common::wire::checksum::Delta;
use netd_common::wire::ethernet::{ETHERNET_LEN, IP_AT};
use netd_common::wire::ip::{Ip, protocol};
use netd_common::wire::transport::{self, Layout};
use proptest::prelude::*;

/// An IPv4 packet with this payload.
fn ipv4(src: [u8; 4], dst: [u8; 4], ttl: u8, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET_LEN];
    frame.extend([0x45, 0, 0, 0, 0, 1, 0, 0, ttl, number, 0xab, 0xcd]);
    frame.extend([src, dst].concat());
    frame.extend(payload);
    frame
}

/// An IPv6 packet with this payload.
fn ipv6(src: [u8; 16], dst: [u8; 16], ttl: u8, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET_LEN];
    frame.extend([0x60, 0, 0, 0, 0, 0, number, ttl]);
    frame.extend([src, dst].concat());
    frame.extend(payload);
    frame
}

/// The sum of a frame's packet (RFC 1071), as native words.
fn sum(frame: &[u8]) -> Delta {
    let words = frame[ETHERNET_LEN..].chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_ne_bytes(word)
    });
    words.fold(Delta::NONE, Delta::put)
}

fn read<A: Rewrite>(frame: &[u8]) -> Ip<A> {
    A::header(frame, IP_AT).unwrap()
}

/// Translates a packet to `translated` and restores it as a quote.
fn there_and_back<A: Rewrite>(mut frame: Vec<u8>, translated: Tuple<A>) -> Result<(), TestCaseError> {
    let sent = frame.clone();
    let ip = read::<A>(&frame);
    let header = transport::read(frame.as_slice(), &ip).unwrap();
    let key = FlowKey::of(&ip, &header, Zone::OUTSIDE);
    let to = Side { zone: Zone::container(7), endpoint: Handle::new(1, 1) };
    // An echo has one identifier: the other port stays zero.
    let translated = match header.layout {
        Layout::EchoRequest => Tuple { dst_port: key.dst_port, ..translated },
        Layout::EchoReply => Tuple { src_port: key.src_port, ..translated },
        _ => translated,
    };
    let mut connection = Connection::default();
    connection.set(&Nat::new(key, translated, to, to.endpoint), translated.src_port);
    rewrite::translate(frame.as_mut_slice(), &ip, &header, &connection.forward).unwrap();
    let ip = read::<A>(&frame);
    let header = transport::quoted(frame.as_slice(), &ip).unwrap();
    prop_assert_eq!(FlowKey::of(&ip, &header, Zone::OUTSIDE).tuple(), translated);

    let checksum = ip.transport_at.get() + 6;
    if ip.protocol == protocol::UDP && sent[checksum..checksum + 2] == [0, 0] {
        prop_assert_eq!(&frame[checksum..checksum + 2], &[0, 0], "a datagram without a checksum gets none");
    }

    let before = sum(&frame);
    let row = connection.backward;
    let change = rewrite::restore_quoted(frame.as_mut_slice(), IP_AT, &ip, &header, &row).unwrap();
    // All ones and zero are the same sum.
    let folded = |sum: Delta| match sum.as_wsum() {
        0xffff => 0,
        sum => sum,
    };
    prop_assert_eq!(folded(before.and(change)), folded(sum(&frame)), "the quote's sum");
    let restored = read::<A>(&frame);
    prop_assert_eq!((restored.src, restored.dst, restored.ttl), (key.src, key.dst, sent_ttl::<A>(&sent) - 1));
    let at = ip.transport_at.get();
    prop_assert_eq!(checksums(&frame[at..], ip.protocol), checksums(&sent[at..], ip.protocol));
    Ok(())
}

fn sent_ttl<A: Rewrite>(sent: &[u8]) -> u8 {
    read::<A>(sent).ttl
}

/// A transport header, with both forms of zero of its checksum taken for one.
fn checksums(header: &[u8], number: u8) -> Vec<u8> {
    let mut header = header.to_vec();
    let at = match number {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::SCTP => 8,
        _ => 2,
    };
    if header[at..at + 2] == [0xff, 0xff] {
        header[at..at + 2].fill(0);
    }
    if number == protocol::SCTP {
        // Nobody can check it in a quote, so it is left as it was translated.
        header[at..at + 4].fill(0);
    }
    header
}

/// A payload whose first byte is the type of an echo, if it is one. A UDP header may have no checksum.
fn payload(number: u8, mut bytes: Vec<u8>, is_v6: bool, [is_reply, is_unsummed]: [bool; 2]) -> Vec<u8> {
    if number == protocol::UDP && is_unsummed {
        bytes[6..8].fill(0);
    }
    bytes[0] = match (number, is_v6, is_reply) {
        (protocol::ICMP, _, false) => 8,
        (protocol::ICMP, _, true) => 0,
        (protocol::ICMPV6, _, false) => 128,
        (protocol::ICMPV6, _, true) => 129,
        _ => bytes[0],
    };
    bytes
}

proptest! {
    #[test]
    fn a_translated_packet_is_restored_in_a_quote(
        ends: [[u8; 16]; 4], ports: [u16; 2], ttl in 2_u8..=255, bytes in prop::collection::vec(any::<u8>(), 20..60),
        number in prop::sample::select(vec![protocol::TCP, protocol::UDP, protocol::SCTP, 0]), kind: [bool; 2],
    ) {
        let four = |at: usize| <[u8; 4]>::try_from(&ends[at][..4]).unwrap();
        let six = |at: usize| Ipv6::from(Ipv6Addr::from(ends[at]));
        let [src_port, dst_port] = ports.map(Be16::new);
        let icmp = |icmp: u8| if number == 0 { icmp } else { number };
        let v4 = payload(icmp(protocol::ICMP), bytes.clone(), false, kind);
        let tuple = Tuple { src: Ipv4::from_wire(four(2)), dst: Ipv4::from_wire(four(3)), src_port, dst_port };
        there_and_back(ipv4(four(0), four(1), ttl, icmp(protocol::ICMP), &v4), tuple)?;
        let v6 = payload(icmp(protocol::ICMPV6), bytes, true, kind);
        let tuple = Tuple { src: six(2), dst: six(3), src_port, dst_port };
        there_and_back(ipv6(ends[0], ends[1], ttl, icmp(protocol::ICMPV6), &v6), tuple)?;
    }
}
