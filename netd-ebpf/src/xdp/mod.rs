//! XDP on uplinks, if the user turns it on. Before the kernel allocates an skb, packets of forwarded connections are
//! redirected, and denied packets are dropped. All others go to TC unchanged.
//!
//! A row's packets are forwarded here only in a tick in which TC has updated the row. So TC still does the work that is
//! due once a tick, such as looking up the route and resolving the neighbour.
//!
//! | room | owns |
//! |---|---|
//! | [`frame`] | the identification of a packet |
//! | [`forward`] | packets of forwarded connections |
//! | [`early_drop`] | packets that are denied |

pub(crate) mod early_drop;
pub(crate) mod forward;
pub(crate) mod frame;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::programs::XdpContext;
use netd_common::flow::{FlowKey, Zone};
use netd_common::policy::host;
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes as _, ethertype, mac_words};
use netd_common::wire::ip::protocol;
use netd_common::wire::transport;

use crate::flow::table;
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::xdp_buff::XdpBuff;
use crate::kernel::{seen_peers, tables};

use self::frame::Received;

/// The result for a packet.
enum Fate {
    /// It goes to TC.
    Pass,
    /// It is dropped, and counted.
    Drop,
    /// It was rewritten and leaves by another uplink.
    Redirect,
}

/// A packet on an uplink.
#[inline(always)]
pub(crate) fn uplink(ctx: &XdpContext) -> u32 {
    let buff = XdpBuff::new(ctx);
    let frame = buff.frame();
    let fate = match ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => pass::<Ipv4>(&buff, frame),
        Some(ETHERTYPE_IPV6) => pass::<Ipv6>(&buff, frame),
        _ => Fate::Pass,
    };
    match fate {
        Fate::Pass => XDP_PASS,
        Fate::Drop => XDP_DROP,
        Fate::Redirect => XDP_REDIRECT,
    }
}

/// Forwards a packet by its flow, or drops it, or leaves it unchanged.
#[inline(always)]
fn pass<A: Inet>(buff: &XdpBuff, frame: Frame) -> Fate {
    let known = A::classify(&frame).and_then(|class| early_drop::known(&class, buff.ifindex()));
    // A connection that was opened before its source was denied continues. So a source that has had one is looked up
    // first.
    let known = match known {
        Some(row) if !seen_peers::contains(row.peer) => {
            early_drop::count(row, frame.len());
            return Fate::Drop;
        }
        known => known,
    };
    let Some(ip) = A::plain(&frame) else { return Fate::Pass };
    let transport = match ip.protocol {
        protocol::TCP => transport::tcp(&frame, ip.transport_at),
        protocol::UDP => transport::udp(&frame, ip.transport_at),
        protocol::SCTP => transport::sctp(&frame, ip.transport_at),
        _ => return Fate::Pass,
    };
    let (Ok(transport), Some(mac)) = (transport, frame.read::<6>(0)) else { return Fate::Pass };
    // TC answers a packet whose TTL runs out.
    if ip.ttl <= 1 {
        return Fate::Pass;
    }
    let key = FlowKey::of(&ip, &transport, Zone::OUTSIDE);
    let received = Received { key, ifindex: buff.ifindex(), mac: mac_words(mac) };
    if let Some(row) = table::in_either(&received.key) {
        // TC knows whether it has been answered.
        if host::may_have_asked(row, received.key.dst_port, tables::local_ports()) {
            return Fate::Pass;
        }
        let sent = forward::send(buff, frame, &ip, &transport, &received, row);
        return if sent.is_some() { Fate::Redirect } else { Fate::Pass };
    }
    let denied = match known {
        Some(row) => Some(row),
        None => early_drop::decide(buff, &ip, &transport, &received),
    };
    match denied {
        Some(row) => {
            early_drop::count(row, frame.len());
            Fate::Drop
        }
        None => Fate::Pass,
    }
}
