//! Properties that hold for all inputs: rows translate there and back, an updated checksum is the recomputed one, and no bytes
//! make the parser panic.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use expect_test::expect_file;
use netd_common::abi::{FlowRow, LimitRow, LocalPorts, PublicationRow, direction, pending, port_index, tick};
use netd_common::flow::nat::{self, Connection, Nat, Side};
use netd_common::flow::state::{Seen, State};
use netd_common::flow::{FlowKey, Handle, Tuple, Zone};
use netd_common::policy::source_port;
use netd_common::wire::bytes::{Address, Be16, Ipv4, Ipv6};
use netd_common::wire::checksum::Delta;
use netd_common::wire::ethernet::{self, IP_AT};
use netd_common::wire::ip::{Class, Family, Part, protocol};
use netd_common::wire::transport::tcp_flag::{ACK, FIN, RST, SYN};
use netd_common::wire::transport::{self, Layout};
use proptest::prelude::*;

/// RFC 1071 as it is written, to compare updated checksums with.
fn checksum(words: &[u16]) -> u16 {
    let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether two checksums are equal; both forms of zero count as one.
fn same_sum(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

fn four() -> impl Strategy<Value = Ipv4> + Clone {
    any::<[u8; 4]>().prop_map(Ipv4::from_wire)
}

fn six() -> impl Strategy<Value = Ipv6> + Clone {
    any::<[u8; 16]>().prop_map(|bytes| Ipv6Addr::from(bytes).into())
}

fn tuple<A: Address>(address: impl Strategy<Value = A> + Clone) -> impl Strategy<Value = Tuple<A>> {
    (address.clone(), address, any::<u16>(), any::<u16>()).prop_map(|(src, dst, src_port, dst_port)| Tuple {
        src,
        dst,
        src_port: Be16::new(src_port),
        dst_port: Be16::new(dst_port),
    })
}

/// Outside, or behind an interface.
fn zone() -> impl Strategy<Value = Zone> {
    prop_oneof![Just(Zone::OUTSIDE), (1..=Zone::MAX_IFINDEX).prop_map(Zone::container)]
}

/// A connection between these zones.
fn connection<A: Address>(outer: Tuple<A>, inner: Tuple<A>, from: Zone, to: Zone) -> Connection<A> {
    let mut connection = Connection::default();
    let side = Side { zone: to, endpoint: Handle::new(3, 7) };
    let original = FlowKey::new(outer, protocol::TCP, from);
    let nat = Nat { publication: Handle::new(5, 9), ..Nat::new(original, inner, side, Handle::new(4, 8)) };
    connection.set(&nat, inner.src_port);
    connection
}

fn there_and_back<A: Address>(
    outer: Tuple<A>,
    inner: Tuple<A>,
    from: Zone,
    to: Zone,
) -> Result<(), TestCaseError> {
    let connection = connection(outer, inner, from, to);
    prop_assert_eq!(connection.original.tuple(), outer);
    prop_assert_eq!(connection.forward.tuple(), inner);
    // The answer to the translated packet has the reply's key, and is translated to the answer of the original packet.
    prop_assert_eq!(connection.reply, FlowKey::new(inner.reversed(), protocol::TCP, to));
    prop_assert_eq!(connection.backward.tuple(), outer.reversed());
    prop_assert_eq!(connection.forward.is_outward(), to == Zone::OUTSIDE);
    prop_assert_eq!(connection.backward.is_outward(), from == Zone::OUTSIDE);
    prop_assert!(connection.backward.is_reply() && !connection.forward.is_reply());
    // Each direction's row can be restored from the other's.
    let (key, row) = (connection.reply, connection.backward);
    prop_assert_eq!(nat::partner_key(&key, &row), connection.original);
    let mut restored = FlowRow::default();
    nat::restore(&mut restored, &key, &row, &connection.original, connection.forward.endpoint);
    prop_assert_eq!(restored, connection.forward);
    let (key, row) = (connection.original, connection.forward);
    prop_assert_eq!(nat::partner_key(&key, &row), connection.reply);
    nat::restore(&mut restored, &key, &row, &connection.reply, connection.backward.endpoint);
    prop_assert_eq!(restored, connection.backward);
    // The interface that packets from outside must come in by does not change where they go.
    let (mut forward, input) = (connection.forward, if to == Zone::OUTSIDE { 0 } else { 77 });
    forward.bind(77);
    prop_assert_eq!((forward.input(), forward.zone()), (input, to));
    prop_assert_eq!((forward.is_of_other_input(77), forward.is_of_other_input(78)), (false, input != 0));
    Ok(())
}

/// A tuple's words as they stand in a packet.
fn words<A: Address>(tuple: &Tuple<A>, rest: &[u16]) -> Vec<u16> {
    let mut words = rest.to_vec();
    for address in [tuple.src, tuple.dst] {
        words.extend(
            bytemuck::bytes_of(&address).chunks(2).map(|half| u16::from_ne_bytes([half[0], half[1]])),
        );
    }
    words.extend([tuple.src_port.word(), tuple.dst_port.word()]);
    words
}

fn checksum_changes<A: Address>(outer: Tuple<A>, inner: Tuple<A>, rest: &[u16]) -> Result<(), TestCaseError> {
    let connection = connection(outer, inner, Zone::OUTSIDE, Zone::container(7));
    for (key, row) in [(connection.original, connection.forward), (connection.reply, connection.backward)] {
        let before = checksum(&words(&key.tuple(), rest));
        let after = checksum(&words(&row.tuple(), rest));
        prop_assert!(same_sum(row.addresses.and(row.ports).apply(before), after));
    }
    Ok(())
}

proptest! {
    #[test]
    fn there_and_back_is_identity(
        four in (tuple(four()), tuple(four())), six in (tuple(six()), tuple(six())), from in zone(), to in zone(),
    ) {
        there_and_back(four.0, four.1, from, to)?;
        there_and_back(six.0, six.1, from, to)?;
    }

    #[test]
    fn a_row_knows_what_its_tuple_adds_to_a_checksum(
        four in (tuple(four()), tuple(four())), six in (tuple(six()), tuple(six())), rest: Vec<u16>,
    ) {
        checksum_changes(four.0, four.1, &rest)?;
        checksum_changes(six.0, six.1, &rest)?;
    }

    #[test]
    fn a_range_leads_port_by_port_and_back(first in 1_u16..30_000, target in 1_u16..30_000, ports in 1_u16..30_000, offset: u16) {
        let row = PublicationRow {
            host_port: Be16::new(first),
            target_port: Be16::new(target),
            ports: ports.into(),
            ..PublicationRow::default()
        };
        let host = Be16::new(first + offset % ports);
        prop_assert_eq!(row.target_port(host).get(), target + offset % ports);
        prop_assert_eq!(row.host_port_of(row.target_port(host)), host);
        prop_assert_eq!(row.host_port_of(Be16::new(target.wrapping_sub(1))).get(), first, "no port of it");
    }

    #[test]
    fn a_random_port_is_no_privileged_one(random: u32) {
        prop_assert!(source_port::unprivileged(random).get() >= 1024);
    }

    #[test]
    fn a_port_in_the_hosts_name_is_none_that_the_kernel_gives_to_sockets(a in 1_u16.., b in 1_u16.., own: u16, random: u32) {
        let ports = LocalPorts { first: a.min(b), last: a.max(b) };
        let is_all = ports.first <= 1024 && ports.last == u16::MAX;
        for port in [source_port::stand_in(ports, Be16::new(own)), source_port::outside(ports, random)] {
            prop_assert!(is_all || !ports.contains(port), "{port:?} of {ports:?}");
            prop_assert!(port.get() >= 1024 || port.get() == own);
        }
    }

    #[test]
    fn a_changed_checksum_is_the_recomputed_one(mut words in prop::collection::vec(any::<u16>(), 2..40), changes: Vec<(usize, u16)>) {
        // RFC 1624 gives the right form of zero only for headers that are not all zero, which no real header is.
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
        let _type = ethernet::ethertype(bytes.as_slice());
        read::<Ipv4>(&bytes)?;
        read::<Ipv6>(&bytes)?;
    }

    #[test]
    fn no_ipv6_headers_make_the_parser_panic(kinds in prop::collection::vec(prop::sample::select(vec![0_u8, 43, 44, 60, 6, 17, 58, 59]), 1..10), mut bytes in prop::collection::vec(any::<u8>(), 54..300), lens in prop::collection::vec(0_u8..4, 10)) {
        bytes[14] = 0x60;
        let (mut at, mut next_at) = (20, 54);
        for (kind, len) in kinds.iter().zip(lens) {
            let Some(place) = bytes.get_mut(at) else { break };
            *place = *kind;
            at = next_at;
            if let Some(place) = bytes.get_mut(at + 1) {
                *place = len;
            }
            next_at += if *kind == 44 { 8 } else { 8 + usize::from(len) * 8 };
        }
        read::<Ipv6>(&bytes)?;
    }

    #[test]
    fn a_headers_fields_are_where_the_rfc_draws_them(src: [u8; 4], dst: [u8; 4], ttl: u8, options in 0_u8..=10, ports: [u8; 4], numbers: [u8; 8], flags: u8, id: [u8; 2], bits: [u8; 2]) {
        let mut bytes = vec![0; 14];
        bytes.extend([0x45 + options, 0, 0, 0, id[0], id[1], bits[0], bits[1], ttl, 6, 0xab, 0xcd]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(vec![1; usize::from(options) * 4]);
        bytes.extend(ports);
        bytes.extend(numbers);
        bytes.extend([0x80, flags, 0, 0, 0, 0, 0, 0]);
        let ip = Ipv4::header(bytes.as_slice(), IP_AT).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.ttl), (Ipv4::from_wire(src), Ipv4::from_wire(dst), ttl));
        prop_assert_eq!(ip.checksum.to_ne_bytes(), [0xab, 0xcd]);
        let id = u32::from(u16::from_ne_bytes(id));
        let expected = match (bits[0] & 0x1f != 0 || bits[1] != 0, bits[0] & 0x20 != 0) {
            (true, _) => Part::Later(id),
            (false, true) => Part::First(id),
            (false, false) => Part::Whole,
        };
        prop_assert_eq!(ip.part, expected);
        prop_assert_eq!(ip.transport_at.get(), 14 + 20 + usize::from(options) * 4);
        let transport = transport::read(bytes.as_slice(), &ip).unwrap();
        prop_assert_eq!(transport.src_port.to_wire(), [ports[0], ports[1]]);
        prop_assert_eq!(transport.dst_port.to_wire(), [ports[2], ports[3]]);
        prop_assert_eq!(transport.sequence, u32::from_be_bytes(numbers[..4].try_into().unwrap()));
        prop_assert_eq!(transport.acknowledgement, u32::from_be_bytes(numbers[4..].try_into().unwrap()));
        prop_assert_eq!((transport.tcp_flags, transport.tcp_len), (flags, 32));
        prop_assert_eq!(transport.layout, Layout::Tcp);
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
        prop_assert!(first < netd_common::abi::capacity::PORTS);
    }
}

#[test]
fn a_protocol_without_ports_has_no_row() {
    assert_eq!(port_index(protocol::ICMP, Be16::new(80)), None);
}

/// Reads all headers, and checks that they lie inside the packet.
fn read<A: Family>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(ip) = A::header(bytes, IP_AT) else { return Ok(()) };
    prop_assert!((14 + A::HEADER_LEN..=191).contains(&ip.transport_at.get()));
    for transport in [transport::read(bytes, &ip), transport::quoted(bytes, &ip)].into_iter().flatten() {
        if transport.layout != Layout::Bare {
            prop_assert!(ip.transport_at.get() + 8 <= bytes.len());
        }
    }
    Ok(())
}

#[test]
fn short_and_lying_headers_are_refused() {
    let mut packet = [0_u8; 54];
    packet[14] = 0x45;
    packet[23] = 6;
    assert!(Ipv4::header(packet.as_slice(), IP_AT).is_ok());
    assert!(Ipv4::header(&packet[..33], IP_AT).is_err());
    for version in [0x44, 0x65, 0x40, 0x00] {
        packet[14] = version;
        assert!(Ipv4::header(packet.as_slice(), IP_AT).is_err(), "{version:#x}");
    }
    packet[14] = 0x46;
    let ip = Ipv4::header(packet.as_slice(), IP_AT).unwrap();
    assert!(transport::read(packet.as_slice(), &ip).is_err());
}

/// An IPv6 packet with these extension headers, each after its protocol number, and UDP at the end.
fn chain(headers: &[(u8, [u8; 8])]) -> Vec<u8> {
    let mut bytes = vec![0; 54];
    bytes[14] = 0x60;
    let mut at = 20;
    for (kind, header) in headers {
        bytes[at] = *kind;
        at = bytes.len();
        bytes.extend(header);
    }
    bytes[at] = protocol::UDP;
    bytes.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    bytes
}

#[test]
fn extension_headers_are_passed_over() {
    let part = |headers: &[(u8, [u8; 8])]| {
        let bytes = chain(headers);
        Ipv6::header(bytes.as_slice(), IP_AT).map(|ip| {
            assert_eq!(ip.protocol, protocol::UDP);
            assert_eq!(ip.transport_at.get(), bytes.len() - 8);
            ip.part
        })
    };
    let fragment = |offset_and_flags: u16| {
        let [a, b] = Be16::new(offset_and_flags).to_wire();
        (44, [0, 0, a, b, 1, 2, 3, 4])
    };
    let id = u32::from_ne_bytes([1, 2, 3, 4]);
    assert_eq!(part(&[]), Ok(Part::Whole));
    assert_eq!(part(&[(0, [0; 8]), (60, [0; 8]), (43, [0; 8])]), Ok(Part::Whole));
    assert_eq!(part(&[fragment(0)]), Ok(Part::Whole), "an atomic fragment");
    assert_eq!(part(&[(0, [0; 8]), fragment(1)]), Ok(Part::First(id)));
    assert_eq!(part(&[fragment(8 | 1)]), Ok(Part::Later(id)));
    assert_eq!(part(&[fragment(8)]), Ok(Part::Later(id)), "the last");
    assert_eq!(part(&[fragment(0x1000)]), Ok(Part::Later(id)));
    // A later fragment's payload is not read as a header.
    let mut bytes = chain(&[fragment(8)]);
    bytes[54] = 0;
    let ip = Ipv6::header(bytes.as_slice(), IP_AT).unwrap();
    assert_eq!((ip.protocol, ip.part), (0, Part::Later(id)));
    // A chain without an end is refused.
    assert!(part(&[(60, [0, 255, 0, 0, 0, 0, 0, 0])]).is_err());
}

/// A quick classification agrees with the parser; returns whether there was one.
fn classification_agrees<A: Family>(frame: &[u8]) -> bool {
    let Some(class) = A::classify(frame) else { return false };
    let read = A::header(frame, IP_AT).and_then(|ip| {
        let transport = transport::read(frame, &ip)?;
        assert!(ip.ttl > 1);
        let service = Class::<A>::service(transport.dst_port, ip.protocol);
        Ok((ip.part, ip.src, ip.dst, service))
    });
    assert_eq!(read, Ok((Part::Whole, class.src, class.dst, class.port_and_protocol)));
    true
}

proptest! {
    #[test]
    fn a_table_has_always_room_for_another_container(
        room in 1024_u32..5000, percent in 1_u32..100, steps in prop::collection::vec((0..15_usize, -2000..5000_i32), 1..60),
    ) {
        let share = (percent * LimitRow::WHOLE).div_ceil(100);
        let limits = LimitRow { room, share, ..LimitRow::default() };
        let mut own = [0_u64; 15];
        for (container, change) in steps {
            let wanted = u64::from(change.max(0).unsigned_abs());
            while own[container] < wanted && limits.admit(own.iter().sum(), own[container]).is_ok() {
                own[container] += 1;
            }
            own[container] = own[container].saturating_sub(u64::from(change.min(0).unsigned_abs()));
            prop_assert!(own[container] <= u64::from(room) * u64::from(share) / 1024 || own[container] == 1);
        }
        prop_assert_eq!(limits.admit(own.iter().sum(), 0), Ok(()), "{:?}", own);
    }

    #[test]
    fn a_quick_classification_sees_what_the_parser_reads(
        mut frame in prop::collection::vec(any::<u8>(), 40..90),
        number in prop::sample::select(vec![protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMP, 44]),
    ) {
        (frame[14], frame[23]) = (0x45, number);
        // More fragments, and the offset.
        let plain = frame[20] << 2 == 0 && frame[21] == 0 && frame[22] > 1;
        let has_ports = protocol::has_ports(number);
        prop_assert_eq!(classification_agrees::<Ipv4>(&frame), plain && has_ports && frame.len() >= 54);
        (frame[20], frame[21]) = (0x40, 0);
        prop_assert_eq!(classification_agrees::<Ipv4>(&frame), frame[22] > 1 && has_ports && frame.len() >= 54);
        (frame[14], frame[20]) = (0x60, number);
        prop_assert_eq!(classification_agrees::<Ipv6>(&frame), frame[21] > 1 && has_ports && frame.len() >= 74);
    }
}

#[test]
fn quoted_packets_need_eight_bytes() {
    let mut packet = [0_u8; 42];
    packet[14] = 0x45;
    packet[23] = protocol::TCP;
    packet[34..42].copy_from_slice(&[0x9c, 0x40, 0, 80, 0, 0, 0, 7]);
    let ip = Ipv4::header(packet.as_slice(), IP_AT).unwrap();
    let quoted = transport::quoted(packet.as_slice(), &ip).unwrap();
    assert_eq!((quoted.src_port.get(), quoted.dst_port.get(), quoted.sequence), (40_000, 80, 7));
    assert!(transport::quoted(&packet[..41], &ip).is_err());
    assert!(transport::read(packet.as_slice(), &ip).is_err(), "all of TCP's header is not there");
}

#[test]
fn an_echos_number_stands_for_its_port() {
    let echo = |kind: u8| {
        let mut packet = [0_u8; 42];
        packet[14] = 0x45;
        packet[23] = protocol::ICMP;
        packet[34] = kind;
        packet[38..40].copy_from_slice(&[0x12, 0x34]);
        let ip = Ipv4::header(packet.as_slice(), IP_AT).unwrap();
        transport::read(packet.as_slice(), &ip).map(|echo| (echo.src_port.get(), echo.dst_port.get()))
    };
    assert_eq!(echo(8), Ok((0x1234, 0)));
    assert_eq!(echo(0), Ok((0, 0x1234)));
    assert!(echo(13).is_err(), "a timestamp is no echo");
}

#[test]
fn an_address_of_one_family_has_a_form_in_the_other() {
    let four = Ipv4::from(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(Ipv6::mapped(four).as_mapped(), Some(four));
    assert_eq!(Ipv6::LOCALHOST.as_mapped(), None);
}

#[test]
fn a_row_counts_beyond_its_words() {
    let mut row = FlowRow::<Ipv4>::default();
    row.add_totals(u64::from(u32::MAX), 1 << 50);
    row.add_totals(3, 7);
    assert_eq!(row.totals(), ((1 << 32) + 2, (1 << 50) + 7));
    row.bits = direction::OUTWARD | direction::REPLY;
    row.add_flags(0x12);
    row.set_mtu(70_000);
    assert_eq!((row.mtu(), row.seen().flags), (0xffff, 0x12));
    assert!(row.is_outward() && row.is_reply());
    row.set_mtu(1280);
    assert_eq!((row.mtu(), row.seen().flags), (1280, 0x12));
}

#[test]
fn only_what_leads_into_a_container_rests_and_not_for_long() {
    let mut inward = FlowRow::<Ipv4>::default();
    inward.publication = Handle::new(1, 1);
    inward.last = 16;
    assert!((17..24).all(|now| inward.may_skip_refresh(now)));
    assert!(!inward.may_skip_refresh(24), "a new round");
    let mut outward = inward;
    outward.bits = direction::OUTWARD;
    assert!(!outward.may_skip_refresh(17), "its route may have changed");
    let mut full = inward;
    full.pending = pending::packet(0) * pending::MANY;
    assert!(!full.may_skip_refresh(17), "its counters are to be handed on");
}

#[test]
fn a_tick_is_about_a_second() {
    assert_eq!(tick::of_nanos(10 << 30), 10);
    assert_eq!(tick::to_millis(10), 10_737);
}

#[test]
fn each_port_of_the_kernel_has_its_own_stand_in() {
    let ports = LocalPorts { first: 32768, last: 60999 };
    let stand_ins: std::collections::BTreeSet<u16> =
        (ports.first..=ports.last).map(|port| source_port::stand_in(ports, Be16::new(port)).get()).collect();
    assert_eq!(stand_ins.len(), 60999 - 32768 + 1);
    assert!(
        (ports.first..=ports.last)
            .all(|port| (source_port::stand_in(ports, Be16::new(port)).get() ^ port) & 1 == 0)
    );
    assert_eq!(source_port::stand_in(ports, Be16::new(443)).get(), 443, "it is none of them");
    // A host whose kernel gives all of them away has none to stand in.
    let all = LocalPorts { first: 1024, last: u16::MAX };
    assert_eq!(source_port::stand_in(all, Be16::new(40_000)).get(), 40_000);
}

#[test]
fn every_port_that_may_be_tried_is_as_likely_as_any_other() {
    // The first random number that gives a port: the ports share 2^32 of them.
    let first = |port: u64| ((port - 1024) << 32).div_ceil(65_536 - 1024);
    for port in 1024..=u16::MAX {
        let (own, next) = (first(port.into()), first(u64::from(port) + 1).min(1 << 32));
        assert_eq!(source_port::unprivileged(own as u32).get(), port);
        assert_eq!(source_port::unprivileged((next - 1) as u32).get(), port);
        assert!((66_575..=66_577).contains(&(next - own)), "{port}: {}", next - own);
    }
}

/// What a side has sent, in tcpdump's letters: `-` for no packet, `.` for packets without one of these flags.
fn letters(seen: Seen) -> String {
    if !seen.any {
        return "-".to_owned();
    }
    let flags = [(SYN, 'S'), (ACK, 'A'), (FIN, 'F'), (RST, 'R')];
    let set: String =
        flags.iter().filter(|(flag, _)| seen.flags & flag != 0).map(|(_, letter)| letter).collect();
    if set.is_empty() { ".".to_owned() } else { set }
}

#[test]
fn the_phases_are_as_written_down() {
    let flags = (0..16).map(|bits| {
        let pick = |bit: u8, flag: u8| if bits & bit == 0 { 0 } else { flag };
        Seen { any: true, flags: pick(1, SYN) | pick(2, ACK) | pick(4, FIN) | pick(8, RST) }
    });
    let sides: Vec<Seen> = std::iter::once(Seen::default()).chain(flags).collect();
    let mut text = String::from(
        "The state of a connection, from everything that its originator (rows) and its replier (columns) have sent.\n\n",
    );
    let short = |state: State| match state {
        State::SynSent => "sent",
        State::SynReceived => "recv",
        State::Established => "est",
        State::FinWait => "fin",
        State::TimeWait => "time",
        State::Closed => "closd",
        _ => "?",
    };
    let line = |text: &mut String, head: &str, cells: &mut dyn Iterator<Item = String>| {
        write!(text, "{head:>4} ").expect("a string takes it");
        for cell in cells {
            write!(text, " {cell:>5}").expect("a string takes it");
        }
        text.push('\n');
    };
    line(&mut text, "TCP", &mut sides.iter().map(|side| letters(*side)));
    for originator in &sides {
        let states = sides.iter().map(|replier| short(State::of(protocol::TCP, *originator, *replier)));
        line(&mut text, &letters(*originator), &mut states.map(str::to_owned));
    }
    let (nothing, some) = (Seen::default(), Seen { any: true, flags: 0 });
    writeln!(text, "\n     {:>9} {:>9}", "silent", "answered").expect("a string takes it");
    for (name, number) in [("UDP", protocol::UDP), ("ICMP", protocol::ICMP), ("GRE", 47)] {
        let state = |replier| State::of(number, some, replier).name();
        writeln!(text, "{name:>4} {:>9} {:>9}", state(nothing), state(some)).expect("a string takes it");
    }
    writeln!(text, "\n{:<12} {:>7} {:>8} {:>11}", "state", "idle s", "assured", "begun anew")
        .expect("a string takes it");
    for state in State::ALL {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let (assured, anew) = (yes(state.is_assured()), yes(state.may_begin_anew(SYN)));
        writeln!(text, "{:<12} {:>7} {assured:>8} {anew:>11}", state.name(), state.default_timeout())
            .expect("a string takes it");
    }
    expect_file!["states.txt"].assert_eq(&text);
}
