//! The allowed differences. docs/nat-differences.md explains each of them.

use std::net::IpAddr;

use netd_tests::stimulus::{Body, Lie, is_right, number, residues, view};
use netd_tests::twins::{End, host};

use super::play::Side;
use super::seen::{Arrived, Seen, scrub};

/// An allowed difference.
pub(super) struct Rule {
    /// Its name, which has a row in docs/nat-differences.md.
    pub(super) name: &'static str,
    /// Whether a difference is this one.
    pub(super) holds: fn(&Seen<'_>) -> bool,
}

/// Every allowed difference; if several match, the first one counts.
pub(super) const RULES: [Rule; 25] = [
    Rule { name: "between-containers", holds: between_containers },
    Rule { name: "tcp-flags", holds: |seen| is_judged(seen) && is_odd_tcp(seen) },
    Rule { name: "tcp-length", holds: |seen| is_judged(seen) && matches!(seen.lie(), Lie::TcpLength(_)) },
    Rule { name: "udp-length", holds: |seen| is_judged(seen) && matches!(seen.lie(), Lie::UdpLength(_)) },
    Rule { name: "cut-short", holds: |seen| is_judged(seen) && matches!(seen.lie(), Lie::Cut(_)) },
    Rule { name: "header-checksum", holds: header_checksum },
    Rule { name: "header-length", holds: header_length },
    Rule { name: "length-beyond", holds: |seen| netd_alone(seen) && matches!(seen.lie(), Lie::Length(_)) },
    Rule { name: "trailer", holds: trailer },
    Rule { name: "source-route", holds: |seen| netd_alone(seen) && matches!(seen.option(), Some(131 | 137)) },
    Rule { name: "malformed-option", holds: malformed_option },
    Rule { name: "recorded-route", holds: recorded_route },
    Rule { name: "hop-by-hop", holds: hop_by_hop },
    Rule { name: "error-checksum", holds: error_checksum },
    Rule { name: "error-quote", holds: error_quote },
    Rule { name: "error-source", holds: error_source },
    Rule { name: "after-reset", holds: after_reset },
    Rule { name: "answer-quote", holds: |seen| answers_alike(seen, false) },
    Rule { name: "answer-source", holds: |seen| uses_published_port(seen) && answers_alike(seen, true) },
    Rule { name: "martian-source", holds: martian_source },
    Rule { name: "link-local", holds: link_local },
    Rule { name: "source-port", holds: source_port },
    Rule { name: "quoted-ttl", holds: quoted_ttl },
    Rule { name: "icmp-query", holds: icmp_query },
    Rule { name: "foreign-source", holds: |seen| seen.case.what == "spoofed source" && seen.netd.is_empty() },
];

/// Differences that do not happen in every run, since the kernel's choice is random.
pub(super) const RARE: [&str; 1] = ["source-port"];

impl Seen<'_> {
    fn lie(&self) -> Lie {
        self.case.stimulus.lie
    }

    /// The first IPv4 option.
    fn option(&self) -> Option<u8> {
        self.case.stimulus.options.first().copied()
    }
}

/// Whether it is TCP with random flags or sequence numbers.
fn is_odd_tcp(seen: &Seen<'_>) -> bool {
    let is_tcp = matches!(seen.case.stimulus.body, Body::Tcp { .. });
    is_tcp && seen.lie() == Lie::None && (seen.case.what == "flags" || seen.case.flow.is_none())
}

/// Whether the kernel drops a packet that netd translates.
fn netd_alone(seen: &Seen<'_>) -> bool {
    seen.nft.is_empty() && seen.netd_translates()
}

/// Whether conntrack called the packet invalid, and netd translated it; or, if it has no flow, opened one or passed it
/// to the host.
fn is_judged(seen: &Seen<'_>) -> bool {
    let may = seen.netd.is_empty() || seen.case.flow.is_none() || seen.netd_translates();
    seen.judged && seen.nft.is_empty() && may
}

/// Packets between containers without readable ports, or that are no errors for netd, go to the host's stack, which does not
/// forward them.
fn between_containers(seen: &Seen<'_>) -> bool {
    let is_time_exceeded = |packet: &[u8]| {
        let kind = if packet[0] >> 4 == 6 { 3 } else { 11 };
        view(packet).is_some_and(|outer| packet.get(outer.start) == Some(&kind))
    };
    seen.case.is_between_containers()
        && seen.nft.is_empty()
        && !seen.netd.is_empty()
        && seen.netd.iter().all(|(end, packet)| *end == seen.case.from && is_time_exceeded(packet))
}

/// The host answers a container, and the quoted packet differs in its TTL only, which is 1.
fn quoted_ttl(seen: &Seen<'_>) -> bool {
    let blank = |arrived: &Arrived| -> Option<(u8, Arrived)> {
        let [(end, packet)] = &arrived[..] else { return None };
        let start = view(packet).filter(|_outer| is_right(packet))?.start;
        let (mut packet, quote) = (packet.clone(), start + 8);
        packet[start + 2..start + 4].fill(0);
        let inner = packet.get_mut(quote..)?;
        let is_v6 = inner.first()? >> 4 == 6;
        let ttl = std::mem::take(inner.get_mut(if is_v6 { 7 } else { 8 })?);
        if !is_v6 {
            inner.get_mut(10..12)?.fill(0);
        }
        Some((ttl, scrub(&vec![(*end, packet)])))
    };
    let (Some((_, nft)), Some((ttl, netd))) = (blank(&seen.nft), blank(&seen.netd)) else { return false };
    seen.case.from.is_container() && ttl == 1 && nft == netd
}

/// A wrong checksum stays wrong by the same difference; the sum zero has two representations.
fn header_checksum(seen: &Seen<'_>) -> bool {
    let Some(expected) = seen.expected(1) else { return false };
    let residues_of =
        |arrived: &Arrived| arrived.iter().map(|(_, packet)| residues(packet)).collect::<Vec<_>>();
    matches!(seen.lie(), Lie::HeaderChecksum(_))
        && seen.nft.is_empty()
        && scrub(&expected) == scrub(&seen.netd)
        && residues_of(&expected) == residues_of(&seen.netd)
}

fn header_length(seen: &Seen<'_>) -> bool {
    let [(_, packet)] = &seen.netd[..] else { return false };
    matches!(seen.lie(), Lie::HeaderLength(_))
        && seen.nft.is_empty()
        && residues(packet) == residues(&seen.case.packets[1][0])
}

fn trailer(seen: &Seen<'_>) -> bool {
    matches!(seen.lie(), Lie::Padding(_) | Lie::Length(..0))
        && scrub(&trimmed(&seen.nft)) == scrub(&trimmed(&seen.netd))
}

/// Packets without the bytes after their end.
fn trimmed(arrived: &Arrived) -> Arrived {
    let end = |packet: &[u8]| view(packet).map_or(packet.len(), |view| view.end.min(packet.len()));
    arrived.iter().map(|(at, packet)| (*at, packet[..end(packet)].to_vec())).collect()
}

/// If the kernel sends an ICMP error, it goes to the sender.
fn malformed_option(seen: &Seen<'_>) -> bool {
    const PARAMETER_PROBLEM: u8 = 12;
    let is_told =
        |(end, packet): &(End, Vec<u8>)| *end == seen.case.from && packet.get(20) == Some(&PARAMETER_PROBLEM);
    seen.case.stimulus.options[..] == [7, 40, 4, 0] && seen.netd_translates() && seen.nft.iter().all(is_told)
}

/// The kernel's packet is correct and differs only in the option.
fn recorded_route(seen: &Seen<'_>) -> bool {
    let without = |arrived: &Arrived| -> Arrived {
        let blank = |packet: &Vec<u8>| {
            let mut packet = packet.clone();
            if let Some(view) = view(&packet) {
                packet[20..view.start].fill(0);
            }
            packet
        };
        scrub(&arrived.iter().map(|(end, packet)| (*end, blank(packet))).collect::<Arrived>())
    };
    matches!(seen.option(), Some(7 | 68))
        && seen.netd_translates()
        && seen.nft.iter().all(|(_, packet)| is_right(packet))
        && without(&seen.nft) == without(&seen.netd)
}

fn hop_by_hop(seen: &Seen<'_>) -> bool {
    // The upper bits of an unknown option say whether the packet must be dropped (RFC 8200 §4.2).
    let is_to_be_dropped = |(kind, rest): &(u8, Vec<u8>)| *kind == 0 && rest[0] >> 6 != 0;
    netd_alone(seen) && seen.case.stimulus.extensions.iter().any(is_to_be_dropped)
}

fn is_message(seen: &Seen<'_>) -> bool {
    matches!(seen.case.stimulus.body, Body::Message { .. })
}

/// A wrong checksum stays wrong by the same difference.
fn error_checksum(seen: &Seen<'_>) -> bool {
    let [(_, packet)] = &seen.netd[..] else { return false };
    let sent = residues(&seen.case.packets[1][0]).1;
    is_message(seen)
        && matches!(seen.lie(), Lie::Checksum(_))
        && seen.nft.is_empty()
        && residues(packet).1 == sent
}

/// Both are correct and differ only in the quoted TCP checksum, soon after which the quote ends.
fn error_quote(seen: &Seen<'_>) -> bool {
    let ([(nft_end, nft)], [(netd_end, netd)]) = (&seen.nft[..], &seen.netd[..]) else { return false };
    let Some(outer) = view(nft) else { return false };
    let quote = outer.start + 8;
    let Some(inner) = nft.get(quote..).and_then(view) else { return false };
    let checksum = quote + inner.start + 16;
    let blank = |packet: &[u8]| {
        let mut packet = packet.to_vec();
        packet[checksum..checksum + 2].fill(0);
        packet[outer.start + 2..outer.start + 4].fill(0);
        packet
    };
    is_message(seen)
        && inner.protocol == number::TCP
        && (checksum + 2..checksum + 4).contains(&nft.len())
        && (nft_end, nft.len()) == (netd_end, netd.len())
        && is_right(nft)
        && is_right(netd)
        && if keeps_router(seen, nft, netd) {
            sourceless(&blank(nft)) == sourceless(&blank(netd))
        } else {
            blank(nft) == blank(netd)
        }
}

/// Whether it is one of the host's addresses on its uplinks.
fn is_hosts(address: IpAddr) -> bool {
    [End::Client, End::Outside].map(|end| host(address.is_ipv6(), end)).contains(&address)
}

/// Whether a container sends to an address of the host's.
fn uses_published_port(seen: &Seen<'_>) -> bool {
    seen.case.from.is_container() && view(&seen.case.packets[1][0]).is_some_and(|sent| is_hosts(sent.dst))
}

/// Whether an ICMP error comes from a router whose address netd keeps, and for which the kernel puts the host's.
fn keeps_router(seen: &Seen<'_>, nft: &[u8], netd: &[u8]) -> bool {
    let sources = [nft, netd, &seen.case.packets[1][0]].map(|packet| view(packet).map(|ip| ip.src));
    let [Some(theirs), Some(ours), Some(sent)] = sources else { return false };
    is_message(seen) && !seen.case.from.is_container() && is_hosts(theirs) && ours == sent
}

/// An ICMP error without its source and the checksums that cover it.
fn sourceless(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let source = if packet[0] >> 4 == 6 { 8..24 } else { 10..16 };
    packet[source].fill(0);
    if let Some(ip) = view(&packet) {
        packet[ip.start + 2..ip.start + 4].fill(0);
    }
    packet
}

/// An error by a router on the way to another host to which a published port leads, or to its client: the same but for its
/// source.
fn error_source(seen: &Seen<'_>) -> bool {
    let ([(nft_end, nft)], [(netd_end, netd)]) = (&seen.nft[..], &seen.netd[..]) else { return false };
    keeps_router(seen, nft, netd)
        && nft_end == netd_end
        && is_right(nft)
        && is_right(netd)
        && sourceless(nft) == sourceless(netd)
}

/// Whether both hosts answer with the same error about the same packet. netd's quote holds at least the headers up to
/// the transport checksum, then zeros; the error may come from another address of the host.
fn answers_alike(seen: &Seen<'_>, other_source: bool) -> bool {
    let ([(nft_end, nft)], [(netd_end, netd)]) = (&seen.nft[..], &seen.netd[..]) else { return false };
    let (Some(theirs), Some(ours)) = (view(nft), view(netd)) else { return false };
    if !is_right(nft) || !is_right(netd) || ![number::ICMP, number::ICMPV6].contains(&theirs.protocol) {
        return false;
    }
    let (nft, netd) = (&nft[theirs.start..], &netd[ours.start..]);
    let (quote, short) = (&nft[8..], &netd[8..]);
    let told = quote.iter().zip(short).take_while(|(theirs, ours)| theirs == ours).count();
    let needed = view(quote).map_or(0, |view| view.start + if view.protocol == number::TCP { 18 } else { 8 });
    nft_end == netd_end
        && (theirs.dst, theirs.protocol, theirs.ttl) == (ours.dst, ours.protocol, ours.ttl)
        && (theirs.src == ours.src) != other_source
        && (&nft[..2], &nft[4..8]) == (&netd[..2], &netd[4..8])
        && told >= needed.min(quote.len())
        && short[told..].iter().all(|byte| *byte == 0)
}

/// The kernel translates it, or drops it later; netd passes it to the host, which may answer.
fn martian_source(seen: &Seen<'_>) -> bool {
    let is_martian = |src: IpAddr| match src {
        IpAddr::V4(src) => src.octets()[0] >= 240,
        IpAddr::V6(six) => {
            let is_hosts = [End::Client, End::Outside].map(|end| host(true, end)).contains(&src);
            is_hosts || src.is_unspecified() || six.to_ipv4_mapped().is_some()
        }
    };
    view(&seen.case.packets[1][0]).is_some_and(|sent| is_martian(sent.src))
        && !seen.netd.iter().any(|(end, _)| end.is_container())
        && seen.nft.iter().all(|(end, _)| end.is_container())
}

/// The kernel gives a source another port now and then, although its own one is free.
fn source_port(seen: &Seen<'_>) -> bool {
    let without_port = |arrived: &Arrived| -> Option<Arrived> {
        let [(end, packet)] = &arrived[..] else { return None };
        let (start, mut packet) = (view(packet)?.start, packet.clone());
        let checksum = if matches!(seen.case.stimulus.body, Body::Udp) { 6 } else { 16 };
        for at in [start, start + checksum] {
            packet.get_mut(at..at + 2)?.fill(0);
        }
        Some(scrub(&vec![(*end, packet)]))
    };
    seen.case.what == "a container's loose end"
        && seen.netd.iter().all(|(_, packet)| is_right(packet))
        && without_port(&seen.nft).is_some_and(|nft| Some(nft) == without_port(&seen.netd))
}

/// netd serves a neighbour that is known by its link-local address only; the kernel forwards none of its packets.
fn link_local(seen: &Seen<'_>) -> bool {
    let is_link_local = |src: IpAddr| matches!(src, IpAddr::V6(src) if src.is_unicast_link_local());
    view(&seen.case.packets[1][0]).is_some_and(|sent| is_link_local(sent.src))
        && seen.nft.is_empty()
        && seen.netd.iter().all(|(end, _)| end.is_container())
}

/// netd still has the connection. For the kernel the packet belongs to no connection, or to the host, or opens a
/// connection.
fn after_reset(seen: &Seen<'_>) -> bool {
    let is_told = is_message(seen) && seen.netd.iter().all(|(_, packet)| is_right(packet));
    let is_another = seen.case.side == Side::Answerer
        && matches!(&seen.nft[..], [(end, packet)] if (seen.case.to == Some(*end) || seen.case.from == *end) && is_right(packet));
    let is_forgotten = seen.judged && seen.nft.is_empty();
    seen.case.reset && (is_forgotten || is_another) && (is_told || seen.netd_translates())
}

/// The kernel translates every ICMP query of a container; netd only echo.
fn icmp_query(seen: &Seen<'_>) -> bool {
    seen.case.what == "a query"
        && seen.case.from.is_container()
        && seen.netd.is_empty()
        && !seen.nft.is_empty()
}
