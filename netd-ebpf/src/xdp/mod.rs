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
use netd_common::abi::xdp_stage;
use netd_common::policy::host;
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ethertype};

use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::maps::xdp_tail_call;
use crate::kernel::xdp_buff::XdpBuff;
use crate::kernel::{flows, seen_peers, tables};

/// The result for a packet.
enum Fate {
    /// It goes to TC.
    Pass,
    /// It is dropped, and counted.
    Drop,
    /// It was rewritten and leaves by another uplink.
    Redirect,
    /// It has no flow, and nothing is known about others like it: this stage decides.
    Next(u32),
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
        Fate::Next(stage) => {
            xdp_tail_call(ctx, stage);
            XDP_PASS
        }
    }
}

/// A packet of no flow, about which the policy is asked. A stage of its own for each family, since the policy needs the
/// whole stack.
#[inline(always)]
pub(crate) fn decide<A: Inet>(ctx: &XdpContext) -> u32 {
    let buff = XdpBuff::new(ctx);
    let frame = buff.frame();
    let denied = frame::read::<A>(&buff, &frame)
        .and_then(|(ip, transport, received)| early_drop::decide(&buff, &ip, &transport, &received));
    match denied {
        Some(row) => {
            early_drop::count(row, frame.len());
            XDP_DROP
        }
        None => XDP_PASS,
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
    let Some((ip, transport, received)) = frame::read::<A>(buff, &frame) else { return Fate::Pass };
    let (row, is_assured) = match flows::get(flows::established(), &received.key) {
        Some(row) => (Some(row), true),
        None => (flows::get(flows::unreplied(), &received.key), false),
    };
    if let Some(row) = row {
        // TC knows whether it has been answered.
        if !is_assured && host::may_have_asked(row, received.key.dst_port, tables::local_ports()) {
            return Fate::Pass;
        }
        let sent = forward::send(buff, frame, &ip, &transport, &received, row);
        return if sent.is_some() { Fate::Redirect } else { Fate::Pass };
    }
    match known {
        Some(row) => {
            early_drop::count(row, frame.len());
            Fate::Drop
        }
        None => Fate::Next(if A::IS_V6 { xdp_stage::EARLY_DROP6 } else { xdp_stage::EARLY_DROP }),
    }
}
