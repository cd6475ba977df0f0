//! ICMP errors about a flow's packets: the packet that they quote is told in the words of whoever sent it.
//!
//! A flow is neither made nor kept alive by them (RFC 5508 §4.2, REQ-3 to REQ-6).

use netd_common::abi::{FlowRow, cb};
use netd_common::checksum::Delta;
use netd_common::flow::{FlowKey, Zone};
use netd_common::packet::{
    self, IP_AT, Ip, Layout, Message, Offset, PacketBytes as _, Part, Transport, ipv4_at,
};
use netd_common::verdict::{Reason, Verdict};

use crate::cross;
use crate::flow;
use crate::route::{self, Route};
use crate::skb::{Frame, Skb, Wire};

/// Where a message quotes the packet that it is about, from its own start (RFC 792, RFC 4443 §3).
const QUOTE: u32 = 8;

/// ICMP's type of a redirect (RFC 792). It names a router of one link, which means nothing on the flow's other side; it is
/// for the host, which chose the way. IPv6's is no error message.
const REDIRECT: u8 = 5;

/// Whether a packet is an ICMP error.
#[inline(always)]
pub(crate) fn is_error<A: Wire>(frame: &Frame, ip: &Ip<A>) -> bool {
    ip.protocol == A::ICMP
        && ip.part == Part::Whole
        && packet::icmp_type(frame, ip.transport_at).is_ok_and(|kind| A::message(kind) == Message::Error)
}

/// Translates an error and sends it on; `None` if it is about no flow.
#[inline(always)]
pub(crate) fn pass<A: Wire>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT).ok()?;
    let quoted = Offset::new(ip.transport_at.get() as u32 + QUOTE)?;
    let inner = A::header(&frame, quoted).ok()?;
    let transport = packet::quoted(&frame, &inner).ok()?;
    let is_first = !matches!(inner.part, Part::Later(_));
    if !is_first || ip.ttl <= 1 || packet::icmp_type(&frame, ip.transport_at) == Ok(REDIRECT) {
        return None;
    }
    // The quoted packet is as it left by this side; its answer would have come in under this key.
    let sent = packet::flow_key(&inner, &transport, zone).tuple();
    let own = sent.dst;
    let (row, endpoint) = flow::peek(FlowKey::new(sent.reversed(), inner.protocol, zone))?;
    if ip.dst != sent.src {
        return None;
    }
    if A::IS_V6 && row.is_nat64() {
        let key = FlowKey::new(sent.reversed(), inner.protocol, zone);
        return Some(cross::told(&frame, &ip, &key, row, endpoint));
    }
    // A container's own address is the only one that it may tell of.
    if zone != Zone::OUTSIDE && ip.src != own {
        return Some(Err(Reason::Spoofed));
    }
    let mut quote = Quote { frame: &frame, change: Delta::NONE };
    if let Err(reason) = quote.translate(quoted, &inner, &transport, row) {
        return Some(Err(reason));
    }
    let change = quote.change;
    // Whoever tells of it keeps its name, unless it is the far end itself.
    if ip.src != own {
        row.src = ip.src;
    }
    row.addresses = ip.src.change(row.src).and(ip.dst.change(row.dst));
    let verdict = if row.is_outward() {
        match route::lookup(skb, endpoint.bridge, row.src, row.dst) {
            Route::Via(oif, next_hop) => Skb::redirect_to_neighbour(oif, next_hop),
            Route::Local | Route::None => return Some(Err(Reason::NoRoute)),
        }
    } else {
        if let Err(reason) = Skb::write_ethernet(&frame, &endpoint.ethernet) {
            return Some(Err(reason));
        }
        skb.redirect_to_peer(endpoint.ifindex)
    };
    Some(skb.translate_message(&frame, &ip, row, change).map(|()| verdict))
}

/// A quoted packet, with what has been changed of it.
struct Quote<'a> {
    frame: &'a Frame,
    change: Delta,
}

impl Quote<'_> {
    /// Puts a word in the place of another.
    #[inline(always)]
    fn put(&mut self, at: usize, old: u16, new: u16) -> Result<(), Reason> {
        self.change = self.change.word(old, new);
        self.frame.write(at, new)
    }

    /// Tells the packet as it was before `row`'s connection translated it: what was sent to the flow's answerer came from
    /// the flow's asker.
    #[inline(always)]
    fn translate<A: Wire>(
        &mut self,
        at: Offset,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        let addresses = ip.src.change(row.dst).and(ip.dst.change(row.src));
        A::write_addresses(self.frame, self.frame.place(at), row.dst, row.src)?;
        self.change = self.change.and(addresses);
        if !A::IS_V6 {
            self.put(self.frame.place(at) + ipv4_at::CHECKSUM, ip.checksum, addresses.apply(ip.checksum))?;
        }
        let start = self.frame.place(ip.transport_at);
        let ports = match transport.layout {
            Layout::Tcp | Layout::Udp | Layout::Sctp => {
                self.put(start, transport.src_port.word(), row.dst_port.word())?;
                self.put(start + 2, transport.dst_port.word(), row.src_port.word())?;
                Delta::NONE
                    .word(transport.src_port.word(), row.dst_port.word())
                    .word(transport.dst_port.word(), row.src_port.word())
            }
            Layout::EchoRequest => {
                self.put(start + 4, transport.src_port.word(), row.dst_port.word())?;
                Delta::NONE.word(transport.src_port.word(), row.dst_port.word())
            }
            Layout::EchoReply => {
                self.put(start + 4, transport.dst_port.word(), row.src_port.word())?;
                Delta::NONE.word(transport.dst_port.word(), row.src_port.word())
            }
            Layout::Bare => return Ok(()),
        };
        let (checksum_at, change) = match transport.layout {
            Layout::Tcp => (start + 16, addresses.and(ports)),
            // It covers the whole packet, of which a part is quoted: nobody can check it.
            Layout::Sctp => return Ok(()),
            Layout::Udp => (start + 6, addresses.and(ports)),
            _ if A::IS_V6 => (start + 2, addresses.and(ports)),
            _ => (start + 2, ports),
        };
        // A quote may end before the checksum, and a datagram may do without one.
        let Some(old) = self.frame.read::<2>(checksum_at).map(u16::from_ne_bytes) else { return Ok(()) };
        let is_udp = transport.layout == Layout::Udp;
        if is_udp && old == 0 {
            return Ok(());
        }
        // A sum of zero is told as all ones, since zero is none (RFC 768).
        let new = match change.apply(old) {
            0 if is_udp => 0xffff,
            new => new,
        };
        self.put(checksum_at, old, new)
    }
}
