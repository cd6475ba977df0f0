//! Headers: nothing beyond the end of the packet is read, an independent decoder reads the same fields, and a quoted
//! packet is read like one that is not quoted.

use std::fmt::Debug;
use std::net::IpAddr;

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice,
    Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERNET_LEN, IP_AT, Offset};
use netd_common::wire::ip::{Family, Ip, Part, protocol};
use netd_common::wire::transport::{self as header, Layout, Transport, tcp_flag};

/// A frame, as either family reads it.
pub fn holds(frame: &[u8]) {
    if let Ok(ip) = Ipv4::header(frame, IP_AT) {
        inside(frame, &ip);
        quote(frame, &ip);
        assert_eq!(Ipv4::plain(frame).is_some(), ip.part == Part::Whole);
    }
    if let Ok(ip) = Ipv6::header(frame, IP_AT) {
        inside(frame, &ip);
        quote(frame, &ip);
        let unfinished = matches!(ip.protocol, 0 | 43 | 44 | 60) && !matches!(ip.part, Part::Later(_));
        assert!(!unfinished, "an extension header is not what a packet carries");
    }
    let Some(bytes) = frame.get(ETHERNET_LEN..) else { return };
    if let Ok(theirs) = Ipv4HeaderSlice::from_slice(bytes) {
        let ip = Ipv4::header(frame, IP_AT).expect("the other decoder accepts it");
        as_ipv4(&ip, &theirs);
        transport(&bytes[theirs.slice().len()..], frame, &ip);
    }
    if let Ok(theirs) = Ipv6HeaderSlice::from_slice(bytes) {
        as_ipv6(frame, &theirs, &bytes[theirs.slice().len()..]);
    }
}

/// Nothing beyond the end of the packet is read.
fn inside<A: Family>(frame: &[u8], ip: &Ip<A>) {
    let at = ip.transport_at.get();
    assert!((ETHERNET_LEN + A::HEADER_LEN..=Offset::MAX as usize).contains(&at));
    let headers = [(header::read(frame, ip), [20, 16]), (header::quoted(frame, ip), [8, 8])];
    for (header, [tcp_len, sctp_len]) in headers {
        let Ok(header) = header else { continue };
        let len = match header.layout {
            Layout::Tcp => tcp_len,
            Layout::Sctp => sctp_len,
            Layout::Udp | Layout::EchoRequest | Layout::EchoReply => 8,
            Layout::Bare => 0,
        };
        assert!(len == 0 || at + len <= frame.len(), "{header:?}");
    }
}

/// A quoted packet is read like one that is not quoted.
fn quote<A: Family>(frame: &[u8], ip: &Ip<A>) {
    let Some(at) = u32::try_from(ip.transport_at.get() + 8).ok().and_then(Offset::new) else { return };
    let Ok(quoted) = A::header(frame, at) else { return };
    let shift = at.get() - ETHERNET_LEN;
    let sent = A::header(&frame[shift..], IP_AT).expect("quoted, it was read");
    let moved = |ip: &Ip<A>| (ip.src, ip.dst, ip.protocol, ip.ttl, ip.checksum, ip.part);
    assert_eq!(moved(&quoted), moved(&sent));
    assert_eq!(quoted.transport_at.get(), sent.transport_at.get() + shift);
    assert_eq!(header::quoted(frame, &quoted), header::quoted(&frame[shift..], &sent));
    // The first 8 bytes of a transport header agree with the whole header.
    if let (Ok(part), Ok(whole)) = (header::quoted(frame, &quoted), header::read(frame, &quoted)) {
        let ports = |of: &Transport| (of.src_port, of.dst_port, of.layout, tcp_sequence(of), sctp_tag(of));
        assert_eq!(ports(&part), ports(&whole));
    }
}

/// TCP's sequence number. The tag that an SCTP packet asks for comes later than 8 bytes.
fn tcp_sequence(of: &Transport) -> Option<u32> {
    (of.layout == Layout::Tcp).then_some(of.sequence)
}

/// SCTP's verification tag.
fn sctp_tag(of: &Transport) -> Option<u32> {
    (of.layout == Layout::Sctp).then_some(of.acknowledgement)
}

/// The same fields, by another decoder.
fn as_ipv4(ip: &Ip<Ipv4>, theirs: &Ipv4HeaderSlice<'_>) {
    assert_eq!(ip.src.to_wire(), theirs.source());
    assert_eq!(ip.dst.to_wire(), theirs.destination());
    assert_eq!((ip.protocol, ip.ttl), (theirs.protocol().0, theirs.ttl()));
    assert_eq!(u16::from_be(ip.checksum), theirs.header_checksum());
    assert_eq!(ip.transport_at.get(), ETHERNET_LEN + theirs.slice().len());
    let id = u32::from(theirs.identification().to_be());
    let part = match (theirs.fragments_offset().value(), theirs.more_fragments()) {
        (0, false) => Part::Whole,
        (0, true) => Part::First(id),
        _ => Part::Later(id),
    };
    assert_eq!(ip.part, part);
}

/// The same fields, by another decoder that follows the extension headers as RFC 8200 §4 says.
fn as_ipv6(frame: &[u8], theirs: &Ipv6HeaderSlice<'_>, mut rest: &[u8]) {
    let (mut number, mut part, mut fragments) = (theirs.next_header().0, Part::Whole, 0);
    let mut headers = 0;
    while matches!(number, 0 | 43 | 44 | 60) && !matches!(part, Part::Later(_)) {
        let len = if number == 44 {
            let Ok(header) = Ipv6FragmentHeaderSlice::from_slice(rest) else { return };
            let id = header.identification().to_be();
            part = match (header.fragment_offset().value(), header.more_fragments()) {
                (0, false) => part,
                (0, true) => Part::First(id),
                _ => Part::Later(id),
            };
            fragments += 1;
            number = header.next_header().0;
            header.slice().len()
        } else {
            let Ok(header) = Ipv6RawExtHeaderSlice::from_slice(rest) else { return };
            number = header.next_header().0;
            header.slice().len()
        };
        rest = &rest[len..];
        headers += 1;
    }
    let at = frame.len() - rest.len();
    let read = Ipv6::header(frame, IP_AT);
    if headers > 6 || at > Offset::MAX as usize {
        assert!(read.is_err(), "more headers than are followed");
        return;
    }
    let ip = read.expect("the other decoder accepts it");
    assert_eq!(IpAddr::V6(ip.src.into()), theirs.source_addr());
    assert_eq!(IpAddr::V6(ip.dst.into()), theirs.destination_addr());
    assert_eq!((ip.protocol, ip.ttl, ip.transport_at.get()), (number, theirs.hop_limit(), at));
    // No host fragments a fragment, so it is undefined which identification counts.
    if fragments < 2 {
        assert_eq!(ip.part, part);
    }
    transport(rest, frame, &ip);
}

/// A transport header, by another decoder. A later fragment has none.
fn transport<A: Family>(bytes: &[u8], frame: &[u8], ip: &Ip<A>) {
    if matches!(ip.part, Part::Later(_)) {
        return;
    }
    let ours = header::read(frame, ip);
    match ip.protocol {
        protocol::TCP => {
            let Ok(theirs) = TcpHeaderSlice::from_slice(bytes) else { return };
            let ours = read(ours);
            assert_eq!(
                (ours.src_port.get(), ours.dst_port.get()),
                (theirs.source_port(), theirs.destination_port())
            );
            assert_eq!(
                (ours.sequence, ours.acknowledgement),
                (theirs.sequence_number(), theirs.acknowledgment_number())
            );
            assert_eq!(usize::from(ours.tcp_len), theirs.slice().len());
            let flags = [
                (tcp_flag::FIN, theirs.fin()),
                (tcp_flag::SYN, theirs.syn()),
                (tcp_flag::RST, theirs.rst()),
                (tcp_flag::ACK, theirs.ack()),
            ];
            for (flag, set) in flags {
                assert_eq!(ours.tcp_flags & flag != 0, set);
            }
        }
        protocol::UDP => {
            let Ok(theirs) = UdpHeaderSlice::from_slice(bytes) else { return };
            let ours = read(ours);
            assert_eq!(
                (ours.src_port.get(), ours.dst_port.get()),
                (theirs.source_port(), theirs.destination_port())
            );
        }
        _ if ip.protocol == A::ICMP => {
            // The other decoder accepts echoes with code 0 only.
            let echo = if A::IS_V6 {
                Icmpv6Slice::from_slice(bytes).ok().and_then(|theirs| match theirs.icmp_type() {
                    Icmpv6Type::EchoRequest(echo) => Some((echo.id, 0)),
                    Icmpv6Type::EchoReply(echo) => Some((0, echo.id)),
                    _ => None,
                })
            } else {
                Icmpv4Slice::from_slice(bytes).ok().and_then(|theirs| match theirs.icmp_type() {
                    Icmpv4Type::EchoRequest(echo) => Some((echo.id, 0)),
                    Icmpv4Type::EchoReply(echo) => Some((0, echo.id)),
                    _ => None,
                })
            };
            if let Some(echo) = echo {
                assert_eq!(ours.ok().map(|ours| (ours.src_port.get(), ours.dst_port.get())), Some(echo));
            }
        }
        _ => {}
    }
}

fn read(header: Result<Transport, impl Debug>) -> Transport {
    header.expect("the other decoder accepts it")
}
