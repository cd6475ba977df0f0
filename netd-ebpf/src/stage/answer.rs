//! ICMP errors about dropped packets: the TTL has run out, the packet is larger than the next link's MTU, or a route refuses the
//! destination (RFC 792, RFC 1191, RFC 1812 §5.2.7.1, RFC 4443 §3.1 to §3.3).
//!
//! The packet itself becomes the ICMP error: it is cut to what is quoted, gets new headers in front, and goes back to
//! where it came from.

use netd_common::abi::cb;
use netd_common::flow::Zone;
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::bytes::{self, Be16, Ipv4, Ipv6};
use netd_common::wire::checksum::Delta;
use netd_common::wire::ethernet::{ETHERNET_LEN, IP_AT, PacketBytes as _};
use netd_common::wire::ip::{IPV6_LEN, Ip, Part, protocol};
use netd_common::wire::transport::{self, Layout};

use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;
use crate::kernel::stack::Aligned;
use crate::kernel::{drops, scratch, tables};

/// How many bytes of a packet are quoted, padded with zeros: as many as RFC 4884 §5.1 requires before extensions.
const QUOTE: usize = 128;
/// TTL or hop limit of an answer (RFC 1700).
const TTL: u8 = 64;

/// The differences between the families in ICMP errors.
pub(crate) trait Answer: Inet {
    /// Writes the headers of an answer in front of the quote.
    fn write_answer(skb: &Skb, answer: &Content<Self>) -> Result<(), Reason>;
    /// Length of these headers, bytes.
    const HEADERS: usize;
    /// Type and code of "time exceeded in transit".
    const TIME_EXCEEDED: [u8; 2];
    /// Type and code of "too big".
    const TOO_BIG: [u8; 2];
    /// Those of what the kernel says about an `unreachable` route.
    const UNREACHABLE: [u8; 2];
    /// Those of what the kernel says about a `prohibit` route.
    const PROHIBITED: [u8; 2];
}

/// The content of an answer.
pub(crate) struct Content<A> {
    src: A,
    dst: A,
    kind: [u8; 2],
    /// The next link's MTU; zero for other errors.
    mtu: u32,
    /// The sum of the quote, as it will be on the wire.
    quote: Delta,
}

/// Answers a packet; an error if it gets no answer.
#[inline(always)]
pub(crate) fn send<A: Answer>(skb: &Skb) -> Result<Verdict, Reason> {
    let [too_big, unreachable, prohibited] =
        [Reason::TooBig, Reason::Unreachable, Reason::Prohibited].map(|reason| reason as u32);
    let reason = match skb.cb(cb::REASON) {
        number if number == too_big => Reason::TooBig,
        number if number == unreachable => Reason::Unreachable,
        number if number == prohibited => Reason::Prohibited,
        _ => Reason::TtlExceeded,
    };
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    // No error is sent about an error, or about a later fragment (RFC 1122 §3.2.2).
    if ip.is_icmp_error(&frame) || matches!(ip.part, Part::Later(_)) || !drops::may_answer() {
        return Err(reason);
    }
    let zone = skb.cb(cb::ZONE);
    let src = if zone == Zone::OUTSIDE.ifindex() {
        // For a packet that is routed to a container the host is a hop, so the error comes from the host.
        if tables::is_in_network(ip.dst) {
            A::masquerade(tables::uplink(skb.ifindex()).ok_or(reason)?)
        } else {
            ip.dst
        }
    } else {
        A::subnet(tables::endpoint_behind(zone).ok_or(reason)?).gateway()
    };
    if src == A::UNSPECIFIED {
        return Err(reason);
    }
    let (kind, mtu) = match reason {
        Reason::TooBig => (A::TOO_BIG, skb.cb(cb::MTU)),
        Reason::Unreachable => (A::UNREACHABLE, 0),
        Reason::Prohibited => (A::PROHIBITED, 0),
        _ => (A::TIME_EXCEEDED, 0),
    };
    let ethernet = turned(&frame).ok_or(Reason::Malformed)?;
    let quote = cut(skb, &frame, &ip)?;
    skb.make_room(A::HEADERS)?;
    skb.frame().write_ethernet(&ethernet)?;
    A::write_answer(skb, &Content { src, dst: ip.src, kind, mtu, quote })?;
    Ok(skb.send_back())
}

/// The Ethernet header of an answer.
#[inline(always)]
fn turned(frame: &Frame) -> Option<[u32; 3]> {
    let [a, b, c, d] = frame.read::<4>(0)?;
    let [e, f, g, h] = frame.read::<4>(4)?;
    let [i, j, k, l] = frame.read::<4>(8)?;
    Some([
        u32::from_ne_bytes([g, h, i, j]),
        u32::from_ne_bytes([k, l, a, b]),
        u32::from_ne_bytes([c, d, e, f]),
    ])
}

/// Cuts the packet to the quote, and returns the quote's sum as it will be on the wire.
///
/// If the device completes the packet's checksum later (CHECKSUM_PARTIAL), it also completes it in the quote. Then the
/// sum from the transport header on is the current value of the checksum field. Such a packet is recognised by the
/// kernel's refusal to cut the packet within that field.
#[inline(always)]
fn cut<A: Inet>(skb: &Skb, frame: &Frame, ip: &Ip<A>) -> Result<Delta, Reason> {
    let transport = transport::read(frame, ip)?;
    let field = match transport.layout {
        Layout::Tcp => 16,
        Layout::Udp => 6,
        Layout::EchoRequest | Layout::EchoReply => 2,
        Layout::Sctp | Layout::Bare => 0,
    };
    let at = ip.transport_at.get();
    let held =
        frame.read::<2>(frame.place(ip.transport_at) + field).map(u16::from_ne_bytes).unwrap_or_default();
    let has_field = ip.protocol == protocol::TCP || ip.protocol == protocol::UDP;
    if (skb.len() as usize) < ETHERNET_LEN + QUOTE {
        skb.set_len(ETHERNET_LEN + QUOTE)?;
    }
    let quote =
        scratch::packet().and_then(|copy| copy.frame.first_chunk_mut()).ok_or(Reason::RewriteFailed)?;
    skb.load::<{ QUOTE / 8 }>(ETHERNET_LEN, quote)?;
    let is_partial = has_field && skb.set_len(at + field + 1).is_err();
    skb.set_len(ETHERNET_LEN + QUOTE)?;
    if has_field && !is_partial {
        skb.store(ETHERNET_LEN, quote)?;
    }
    let frame = skb.front();
    if is_partial {
        let before = if A::IS_V6 { frame.sum::<IPV6_LEN>(ETHERNET_LEN)? } else { Delta::NONE };
        if at != ETHERNET_LEN + A::HEADER_LEN && A::IS_V6 {
            return Err(Reason::RewriteFailed);
        }
        return Ok(before.word(held, 0xffff));
    }
    frame.sum::<QUOTE>(ETHERNET_LEN)
}

impl Answer for Ipv4 {
    const HEADERS: usize = 28;
    const TIME_EXCEEDED: [u8; 2] = [11, 0];
    const TOO_BIG: [u8; 2] = [3, 4];
    const UNREACHABLE: [u8; 2] = [3, 1];
    const PROHIBITED: [u8; 2] = [3, 13];

    #[inline(always)]
    fn write_answer(skb: &Skb, answer: &Content<Self>) -> Result<(), Reason> {
        const LEN: [u8; 2] = Be16::new(28 + QUOTE as u16).to_wire();
        let first = u32::from_ne_bytes([0x45, 0xc0, LEN[0], LEN[1]]);
        let (src, dst) = (answer.src.word(), answer.dst.word());
        let third = u32::from_ne_bytes([TTL, protocol::ICMP, 0, 0]);
        let header = Delta::NONE.put(first).put(third).put(src).put(dst).checksum();
        let mtu = bytes::word(answer.mtu);
        let [kind, code] = answer.kind;
        let message = u32::from_ne_bytes([kind, code, 0, 0]);
        let checksum = answer.quote.put(message).put(mtu).checksum();
        let (header, checksum) = (header.to_ne_bytes(), checksum.to_ne_bytes());
        let third = u32::from_ne_bytes([TTL, protocol::ICMP, header[0], header[1]]);
        let message = u32::from_ne_bytes([kind, code, checksum[0], checksum[1]]);
        skb.store(ETHERNET_LEN, &Aligned::<_>::new([first, 0]).value)?;
        skb.store(ETHERNET_LEN + 8, &[third])?;
        skb.store(ETHERNET_LEN + 12, &Aligned::<_>::new([src, dst]).value)?;
        skb.store(ETHERNET_LEN + 20, &Aligned::<_>::new([message, mtu]).value)
    }
}

impl Answer for Ipv6 {
    const HEADERS: usize = 48;
    const TIME_EXCEEDED: [u8; 2] = [3, 0];
    const TOO_BIG: [u8; 2] = [2, 0];
    const UNREACHABLE: [u8; 2] = [1, 0];
    const PROHIBITED: [u8; 2] = [1, 1];

    #[inline(always)]
    fn write_answer(skb: &Skb, answer: &Content<Self>) -> Result<(), Reason> {
        const LEN: [u8; 2] = Be16::new(8 + QUOTE as u16).to_wire();
        let ([a, b, c, d], [e, f, g, h]) = (answer.src.words(), answer.dst.words());
        let mtu = bytes::word(answer.mtu);
        let [kind, code] = answer.kind;
        let checksum = answer
            .quote
            .put(u32::from_ne_bytes([kind, code, 0, 0]))
            .put(mtu)
            .put(a)
            .put(b)
            .put(c)
            .put(d)
            .put(e)
            .put(f)
            .put(g)
            .put(h)
            .put(u32::from_ne_bytes([LEN[0], LEN[1], 0, protocol::ICMPV6]))
            .checksum()
            .to_ne_bytes();
        let first = u32::from_ne_bytes([0x60, 0, 0, 0]);
        let second = u32::from_ne_bytes([LEN[0], LEN[1], protocol::ICMPV6, TTL]);
        skb.store(ETHERNET_LEN, &Aligned::<_>::new([first, second]).value)?;
        skb.store(ETHERNET_LEN + 8, &Aligned::<_>::new([a, b, c, d]).value)?;
        skb.store(ETHERNET_LEN + 24, &Aligned::<_>::new([e, f, g, h]).value)?;
        let message = u32::from_ne_bytes([kind, code, checksum[0], checksum[1]]);
        skb.store(ETHERNET_LEN + IPV6_LEN, &Aligned::<_>::new([message, mtu]).value)
    }
}
