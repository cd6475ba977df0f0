//! A packet that has been read, and forwarding it by its row.

use netd_common::abi::EndpointRow;
use netd_common::flow::{FlowRow, rewrite};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::ETHERNET_LEN;
use netd_common::wire::ip::{Ip, protocol};
use netd_common::wire::transport::Transport;

use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;

/// The segment size of a packet whose segments have different sizes (linux/skbuff.h).
const GSO_BY_FRAGS: u32 = 0xffff;

/// A packet that has been read.
pub(crate) struct Packet<'a, A> {
    /// The packet itself.
    pub(crate) skb: &'a Skb,
    /// Its contiguous front.
    pub(crate) frame: Frame,
    /// Its IP header.
    pub(crate) ip: Ip<A>,
    /// Its transport header.
    pub(crate) transport: Transport,
}

impl<A: Inet> Packet<'_, A> {
    /// Whether it exceeds this MTU (bytes; 0 if not known). For a packet that the kernel will segment, the size of one
    /// segment counts.
    #[inline(always)]
    pub(crate) fn is_too_big(&self, mtu: u32) -> bool {
        let segment = self.skb.gso_size();
        let size = if segment == 0 {
            self.skb.len() - ETHERNET_LEN as u32
        } else if segment == GSO_BY_FRAGS {
            // SCTP: the sender has chosen the sizes by the path MTU.
            0
        } else {
            let is_tcp = self.ip.protocol == protocol::TCP;
            let transport_len = if is_tcp { u32::from(self.transport.tcp_len) } else { 8 };
            segment + transport_len + self.ip.transport_at.get() as u32 - ETHERNET_LEN as u32
        };
        mtu != 0 && size > mtu
    }

    /// Rewrites it by its row and forwards it.
    #[inline(always)]
    pub(crate) fn send(&self, row: &FlowRow<A>, endpoint: &EndpointRow) -> Result<Verdict, Reason> {
        let (outward, oif, next_hop) = (row.is_outward(), row.oif, row.next_hop);
        let mut frame = self.frame;
        if !outward {
            frame.write_ethernet(&endpoint.ethernet)?;
        }
        rewrite::translate(&mut self.skb.writer(frame), &self.ip, &self.transport, row)?;
        Ok(if outward {
            Skb::redirect_to_neighbour(oif, next_hop)
        } else {
            self.skb.redirect_to_peer(endpoint.ifindex)
        })
    }
}

/// MTU of a row's path, bytes; 0 if not known.
#[inline(always)]
pub(crate) fn mtu<A: Inet>(row: &FlowRow<A>, endpoint: &EndpointRow) -> u32 {
    if row.is_outward() { row.mtu() } else { endpoint.mtu }
}
