//! Laws: there and back is identity, a changed checksum is the recomputed one, and no bytes make the parser panic.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use netd_common::bytes::{Be16, Ipv4};
use netd_common::checksum::Delta;
use netd_common::flow::{FlowKey, Handle, Zone, protocol};
use netd_common::nat::{self, Connection};
use netd_common::packet;
use netd_common::tables::{EndpointRow, FlowRow, PublicationRow, pending, port_index, tick};
use proptest::prelude::*;

/// RFC 1071, straight from its text: the oracle for changed checksums.
fn checksum(words: &[u16]) -> u16 {
    let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Equal, taking both forms of zero for one.
fn same_sum(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

prop_compose! {
    fn tuple()(src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, udp: bool) -> FlowKey {
        let protocol = if udp { protocol::UDP } else { protocol::TCP };
        FlowKey::new(Ipv4::from_wire(src), Ipv4::from_wire(dst), Be16::new(src_port), Be16::new(dst_port), protocol, Zone::OUTSIDE)
    }
}

prop_compose! {
    fn publication()(target: [u8; 4], first in 1_u16..=60_000, target_first in 1_u16..=60_000, ifindex in 1_u32..1 << 24)
        -> (PublicationRow, EndpointRow)
    {
        let endpoint = EndpointRow { handle: Handle::new(3, 7), ifindex, address: Ipv4::from_wire(target), ..EndpointRow::default() };
        let publication = PublicationRow {
            handle: Handle::new(5, 9),
            endpoint: endpoint.handle,
            target: endpoint.address,
            host_port: Be16::new(first),
            target_port: Be16::new(target_first),
            ..PublicationRow::default()
        };
        (publication, endpoint)
    }
}

/// What a row makes of a key's tuple.
fn translated(row: &FlowRow, key: &FlowKey, zone: Zone) -> FlowKey {
    FlowKey::new(row.src, row.dst, row.src_port, row.dst_port, key.protocol(), zone)
}

/// The tuple of the answer to a packet.
fn answer(key: &FlowKey, zone: Zone) -> FlowKey {
    FlowKey::new(key.dst, key.src, key.dst_port, key.src_port, key.protocol(), zone)
}

proptest! {
    #[test]
    fn there_and_back_is_identity(mut key in tuple(), (publication, endpoint) in publication(), offset in 0_u16..5000, port: u16) {
        key.dst_port = Be16::new(publication.host_port.get() + offset);
        let Connection { original, forward, reply, backward } = nat::publish(key, Be16::new(port), &publication, &endpoint);
        prop_assert_eq!(original, key);
        let inside = translated(&forward, &key, Zone::container(endpoint.ifindex));
        prop_assert_eq!(inside.dst, publication.target);
        prop_assert_eq!(inside.dst_port.get(), publication.target_port.get() + offset);
        prop_assert_eq!(inside.src, key.src);
        // The container's answer comes in under the reply's key, and leaves as the answer to what the client sent.
        prop_assert_eq!(reply, answer(&inside, Zone::container(endpoint.ifindex)));
        prop_assert_eq!(translated(&backward, &reply, Zone::OUTSIDE), answer(&key, Zone::OUTSIDE));
    }

    #[test]
    fn a_row_knows_what_its_tuple_adds_to_a_checksum(key in tuple(), (publication, endpoint) in publication(), port: u16, rest: Vec<u16>) {
        let connection = nat::publish(key, Be16::new(port), &publication, &endpoint);
        for (key, row) in [(connection.original, connection.forward), (connection.reply, connection.backward)] {
            let words = |src: Ipv4, dst: Ipv4, src_port: Be16, dst_port: Be16| {
                let halves = |address: Ipv4| [address.word() as u16, (address.word() >> 16) as u16];
                let mut words = rest.clone();
                words.extend(halves(src).into_iter().chain(halves(dst)).chain([src_port.word(), dst_port.word()]));
                words
            };
            let before = checksum(&words(key.src, key.dst, key.src_port, key.dst_port));
            let after = checksum(&words(row.src, row.dst, row.src_port, row.dst_port));
            prop_assert!(same_sum(row.addresses.and(row.ports).apply(before), after));
        }
    }

    #[test]
    fn a_changed_checksum_is_the_recomputed_one(mut words in prop::collection::vec(any::<u16>(), 2..40), changes: Vec<(usize, u16)>) {
        // A real header is never all zero, and of two forms of zero RFC 1624 keeps the right one only then.
        words[0] |= 1;
        let before = checksum(&words);
        let mut delta = Delta::NONE;
        let last = words.len() - 1;
        for (at, new) in changes {
            let at = 1 + at % last;
            delta = delta.word(words[at], new);
            words[at] = new;
        }
        prop_assert_eq!(delta.apply(before), checksum(&words));
    }

    #[test]
    fn decrementing_ttl_changes_the_header_checksum_as_recomputed(ttl in 1_u8..=255, protocol: u8, mut rest in prop::collection::vec(any::<u16>(), 8)) {
        rest[0] |= 1;
        let with = |ttl: u8| {
            let mut words = rest.clone();
            words.push(u16::from_ne_bytes([ttl, protocol]));
            checksum(&words)
        };
        prop_assert_eq!(Delta::TTL_DECREMENTED.apply(with(ttl)), with(ttl - 1));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        let _type = packet::ethertype(bytes.as_slice());
        if let Ok(ip) = packet::ipv4(bytes.as_slice()) {
            prop_assert!((34..=74).contains(&ip.transport_at.get()));
            if let Ok(Some(transport)) = packet::transport(bytes.as_slice(), &ip) {
                prop_assert!(transport.checksum_at + 2 <= bytes.len());
            }
        }
    }

    #[test]
    fn a_headers_fields_are_where_the_rfc_draws_them(src: [u8; 4], dst: [u8; 4], ttl: u8, options in 0_u8..=10, ports: [u8; 4], flags: u8, bits: [u8; 2]) {
        let mut bytes = vec![0; 14];
        bytes.extend([0x45 + options, 0, 0, 0, 0, 0, bits[0], bits[1], ttl, 6, 0xab, 0xcd]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(vec![1; usize::from(options) * 4]);
        bytes.extend(ports);
        bytes.extend([0; 9]);
        bytes.extend([flags, 0, 0, 0, 0, 0, 0]);
        let ip = packet::ipv4(bytes.as_slice()).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.ttl), (Ipv4::from_wire(src), Ipv4::from_wire(dst), ttl));
        prop_assert_eq!(ip.checksum.to_ne_bytes(), [0xab, 0xcd]);
        prop_assert_eq!(ip.fragment, bits[0] & 0x3f != 0 || bits[1] != 0);
        let transport = packet::transport(bytes.as_slice(), &ip).unwrap().unwrap();
        prop_assert_eq!(transport.src_port.to_wire(), [ports[0], ports[1]]);
        prop_assert_eq!(transport.dst_port.to_wire(), [ports[2], ports[3]]);
        prop_assert_eq!(transport.tcp_flags, flags);
        prop_assert_eq!(transport.checksum_at, 14 + 20 + usize::from(options) * 4 + 16);
    }

    #[test]
    fn packets_and_bytes_share_a_word_without_meeting(lens in prop::collection::vec(0_u32..65_600, 0..100)) {
        let word = lens.iter().fold(0, |word, len| word + pending::packet(*len));
        prop_assert_eq!(pending::packets(word), lens.len() as u64);
        prop_assert_eq!(pending::bytes(word), lens.iter().map(|len| u64::from(*len)).sum::<u64>());
    }

    #[test]
    fn every_port_has_a_row_of_its_own(a: u16, b: u16, p in prop::sample::select(vec![6_u8, 17, 132]), q in prop::sample::select(vec![6_u8, 17, 132])) {
        let (first, second) = (port_index(p, Be16::new(a)).unwrap(), port_index(q, Be16::new(b)).unwrap());
        prop_assert_eq!(first == second, (a, p) == (b, q));
        prop_assert!(first < netd_common::tables::capacity::PORTS);
    }
}

#[test]
fn a_protocol_without_ports_has_no_row() {
    assert_eq!(port_index(protocol::ICMP, Be16::new(80)), None);
}

#[test]
fn short_and_lying_headers_are_refused() {
    let mut packet = [0_u8; 54];
    packet[14] = 0x45;
    packet[23] = 6;
    assert!(packet::ipv4(packet.as_slice()).is_ok());
    assert!(packet::ipv4(&packet[..33]).is_err());
    for version in [0x44, 0x65, 0x40, 0x00] {
        packet[14] = version;
        assert!(packet::ipv4(packet.as_slice()).is_err(), "{version:#x}");
    }
    packet[14] = 0x46;
    let ip = packet::ipv4(packet.as_slice()).unwrap();
    assert!(packet::transport(packet.as_slice(), &ip).is_err());
}

#[test]
fn a_new_connection_on_an_old_row_is_told_from_a_retransmission() {
    use netd_common::packet::tcp_flag::{ACK, FIN, RST, SYN};
    let row = |flags: u8| FlowRow { state: u32::from(flags) << 8, ..FlowRow::default() };
    assert!(row(SYN | ACK | FIN).begins_anew(SYN));
    assert!(row(SYN | RST).begins_anew(SYN));
    assert!(!row(SYN).begins_anew(SYN));
    assert!(!row(SYN | ACK | FIN).begins_anew(ACK));
    assert!(!row(SYN | ACK | FIN).begins_anew(SYN | ACK));
    let mut ended = row(SYN | FIN);
    ended.forget_flags();
    assert_eq!(ended.tcp_flags(), 0);
}

#[test]
fn a_tick_is_about_a_second() {
    assert_eq!(tick::of_nanos(10 << 30), 10);
    assert_eq!(tick::to_millis(10), 10_737);
}
