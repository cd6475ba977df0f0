//! Uplinks: the interfaces that lead outside, and those that a network trusts.

use bytemuck::{Pod, Zeroable};

use crate::wire::bytes::{Ipv4, Ipv6};
use crate::wire::ip::Family;

/// An interface that leads outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UplinkRow {
    /// The source address of IPv4 connections that are masqueraded by it; unspecified if it has no address.
    pub address4: Ipv4,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// The source address of masqueraded IPv6 connections.
    pub address6: Ipv6,
    /// Its MAC address, as [`mac_words`](crate::wire::ethernet::mac_words).
    pub mac: [u32; 2],
    /// Flags of [`uplink_flag`].
    pub flags: u32,
}

impl UplinkRow {
    /// Whether packets of this family that come in by it must have a source that is reached by it.
    #[inline(always)]
    pub fn has_strict_reverse_path<A: Family>(&self) -> bool {
        !A::IS_V6 && self.flags & uplink_flag::STRICT_REVERSE_PATH != 0
    }
}

/// What an uplink can do, and what it demands.
pub mod uplink_flag {
    /// The interface accepts frames that XDP redirects to it (`ndo_xdp_xmit`). Without it such a frame is lost without
    /// an error.
    pub const TAKES_FRAMES: u32 = 1;
    /// Answers to an IPv4 packet that comes in by it must leave by it (`rp_filter` is 1, RFC 3704 §2.2).
    pub const STRICT_REVERSE_PATH: u32 = 2;
}

/// A trusted interface: clients that arrive on it may also use the container addresses of this network for published
/// ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct TrustKey {
    /// The network's number, see [`SUBNETS`](super::name::SUBNETS).
    pub network: u32,
    /// The interface's index.
    pub ifindex: u32,
}

/// What an address in [`LOCALS`](super::name::LOCALS) is.
pub mod local {
    /// The host's own.
    pub const OWN: u32 = 1;
    /// The broadcast address of one of its IPv4 networks.
    pub const BROADCAST: u32 = 2;
}
