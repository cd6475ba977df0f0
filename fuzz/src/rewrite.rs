//! Rewriting: a translated packet has the tuple of its row and correct checksums, and the reply to it is translated
//! back into a reply to the original packet.

use netd_common::flow::nat::{Connection, Nat, Side};
use netd_common::flow::rewrite::{self, Rewrite};
use netd_common::flow::{FlowKey, FlowRow, Handle, Tuple, Zone};
use netd_common::wire::bytes::{Be16, Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERNET_LEN, IP_AT};
use netd_common::wire::ip::{Ip, Part, ipv4_at, ipv6_at, protocol};
use netd_common::wire::transport::{self, Layout, Transport};

/// Bytes of the tuple in front: two addresses, two ports.
const TUPLE_LEN: usize = 2 * 16 + 2 * 2;

/// A tuple, then the frame of a packet that is translated to it.
pub fn holds(bytes: &[u8]) {
    let Some((tuple, frame)) = bytes.split_first_chunk::<TUPLE_LEN>() else { return };
    let address = |at: usize| <[u8; 16]>::try_from(&tuple[at..at + 16]).expect("16 bytes");
    let port = |at: usize| Be16::from_wire([tuple[at], tuple[at + 1]]);
    let (src_port, dst_port) = (port(32), port(34));
    let four = |at| Ipv4::from_wire([tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3]]);
    let six = |at| Ipv6::from(std::net::Ipv6Addr::from(address(at)));
    there_and_back(frame, Tuple { src: four(0), dst: four(16), src_port, dst_port });
    there_and_back(frame, Tuple { src: six(0), dst: six(16), src_port, dst_port });
}

/// Translates a packet to `inner`, makes the receiver's reply, and translates it back.
fn there_and_back<A: Rewritten>(frame: &[u8], inner: Tuple<A>) {
    let Ok(ip) = A::header(frame, IP_AT) else { return };
    let Ok(transport) = transport::read(frame, &ip) else { return };
    let whole = ip.part == Part::Whole && ip.ttl > 2;
    if !whole || !matches!(transport.layout, Layout::Tcp | Layout::Udp) {
        return;
    }
    let mut sent = frame.to_vec();
    finish::<A>(&mut sent, ip.transport_at.get(), ip.protocol);
    let original = FlowKey::of(&ip, &transport, Zone::OUTSIDE);
    let mut connection = Connection::default();
    let to = Side { zone: Zone::container(7), endpoint: Handle::new(1, 1) };
    let nat = Nat { publication: Handle::new(2, 1), ..Nat::new(original, inner, to, to.endpoint) };
    connection.set(&nat, inner.src_port);

    let mut arrived = sent.clone();
    let (ip, transport) = translate(&mut arrived, &connection.forward);
    assert_eq!(FlowKey::of(&ip, &transport, Zone::OUTSIDE).tuple(), inner);
    is_right::<A>(&arrived);

    let mut answer = arrived;
    put_tuple(&mut answer, &ip, &transport, &inner.reversed());
    finish::<A>(&mut answer, ip.transport_at.get(), ip.protocol);
    let (ip, transport) = (read::<A>(&answer).0, read::<A>(&answer).1);
    assert_eq!(FlowKey::of(&ip, &transport, to.zone), connection.reply);
    let (ip, transport) = translate(&mut answer, &connection.backward);
    assert_eq!(FlowKey::of(&ip, &transport, Zone::OUTSIDE).tuple(), original.tuple().reversed());
    is_right::<A>(&answer);
}

/// What differs between the families in changing a packet.
trait Rewritten: Rewrite {
    /// Where the addresses are.
    const SOURCE: usize;
    /// Its bytes.
    fn wire(self) -> Vec<u8>;
}

impl Rewritten for Ipv4 {
    const SOURCE: usize = ipv4_at::SOURCE;
    fn wire(self) -> Vec<u8> {
        self.to_wire().to_vec()
    }
}

impl Rewritten for Ipv6 {
    const SOURCE: usize = ipv6_at::SOURCE;
    fn wire(self) -> Vec<u8> {
        std::net::Ipv6Addr::from(self).octets().to_vec()
    }
}

fn read<A: Rewritten>(frame: &[u8]) -> (Ip<A>, Transport) {
    let ip = A::header(frame, IP_AT).expect("read before");
    let transport = transport::read(frame, &ip).expect("read before");
    (ip, transport)
}

/// Changes a packet as the programs do.
fn translate<A: Rewritten>(frame: &mut [u8], row: &FlowRow<A>) -> (Ip<A>, Transport) {
    let (ip, transport) = read::<A>(frame);
    rewrite::translate(frame, &ip, &transport, row).expect("it has all headers");
    let after = read::<A>(frame);
    assert_eq!(after.0.ttl, ip.ttl - 1);
    after
}

/// Writes addresses and ports, and no checksum.
fn put_tuple<A: Rewritten>(frame: &mut [u8], ip: &Ip<A>, transport: &Transport, tuple: &Tuple<A>) {
    assert!(matches!(transport.layout, Layout::Tcp | Layout::Udp));
    put(frame, ETHERNET_LEN + A::SOURCE, &[tuple.src.wire(), tuple.dst.wire()].concat());
    let ports = [tuple.src_port.to_wire(), tuple.dst_port.to_wire()].concat();
    put(frame, ip.transport_at.get(), &ports);
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Computes every checksum over the whole packet.
fn finish<A: Rewritten>(frame: &mut [u8], transport_at: usize, number: u8) {
    if !A::IS_V6 {
        let at = ETHERNET_LEN + ipv4_at::CHECKSUM;
        put(frame, at, &[0, 0]);
        let sum = !sum(&frame[ETHERNET_LEN..transport_at], 0);
        put(frame, at, &sum.to_be_bytes());
    }
    let at = transport_at + if number == protocol::TCP { 16 } else { 6 };
    put(frame, at, &[0, 0]);
    let sum = !transport_sum::<A>(frame, transport_at, number);
    let sum = if number == protocol::UDP && sum == 0 { 0xffff } else { sum };
    put(frame, at, &sum.to_be_bytes());
}

/// Fails unless every checksum is right (RFC 1071 §1: the sum over everything is all ones).
fn is_right<A: Rewritten>(frame: &[u8]) {
    let (ip, _) = read::<A>(frame);
    let at = ip.transport_at.get();
    if !A::IS_V6 {
        assert_eq!(sum(&frame[ETHERNET_LEN..at], 0), 0xffff, "the header's checksum");
    }
    assert_eq!(transport_sum::<A>(frame, at, ip.protocol), 0xffff, "the transport header's checksum");
}

/// The sum of a transport header, what it carries, and its pseudo header.
fn transport_sum<A: Rewritten>(frame: &[u8], at: usize, number: u8) -> u16 {
    let addresses = &frame[ETHERNET_LEN + A::SOURCE..][..2 * A::BITS as usize / 8];
    let len = u32::try_from(frame.len() - at).expect("a small packet");
    let pseudo = sum(addresses, u32::from(number) + (len >> 16) + (len & 0xffff));
    sum(&frame[at..], u32::from(pseudo))
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum: u64 = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}
