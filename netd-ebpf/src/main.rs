//! netd's BPF programs. This file holds the entry points only: each is one line.
//!
//! | room | owns |
//! |---|---|
//! | [`stage`] | the stages: programs that are entered by tail calls |
//! | [`flow`] | the flow tables |
//! | [`xdp`] | packets of uplinks before the stack receives them |
//! | [`cgroup`] | connections of the host's own processes |
//! | [`kernel`] | packets, maps and helpers: the only room with `unsafe` |

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, unreachable_pub, reason = "the macros add public functions of their own")]
#![expect(clippy::needless_pass_by_value, reason = "the macros hand contexts over by value")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the kernel's helpers and contexts speak in C's integers"
)]

mod cgroup;
mod flow;
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a field's address and the operation on it are one step"
)]
#[expect(clippy::mut_from_ref, reason = "a map's values are not part of the map's own static")]
mod kernel;
mod stage;
mod xdp;

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, SockContext, TcContext, XdpContext};
use netd_common::wire::bytes::{Ipv4, Ipv6};

use crate::cgroup::Call;
use crate::stage::dispatch;

/// On each uplink before the stack, if XDP is on.
#[xdp]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    xdp::uplink(&ctx)
}

/// A stage of XDP, see [`netd_common::abi::xdp_stage`].
#[xdp]
pub fn early_drop(ctx: XdpContext) -> u32 {
    xdp::decide::<Ipv4>(&ctx)
}

/// The same, IPv6.
#[xdp]
pub fn early_drop6(ctx: XdpContext) -> u32 {
    xdp::decide::<Ipv6>(&ctx)
}

/// On the ingress of each uplink.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    dispatch::uplink(&ctx)
}

/// On the ingress of each uplink whose packets have no link-layer header: WireGuard, tun, PPP and other tunnels.
#[classifier]
pub fn tunnel_ingress(ctx: TcContext) -> i32 {
    dispatch::tunnel(&ctx)
}

/// On the ingress of each container's host-side veth: what the container sends.
#[classifier]
pub fn container_ingress(ctx: TcContext) -> i32 {
    dispatch::container(&ctx)
}

/// On the egress of each network's bridge: what the host's stack sends into the network.
#[classifier]
pub fn bridge_egress(ctx: TcContext) -> i32 {
    dispatch::bridge(&ctx)
}

/// The stages that exist for each family: the names of the programs for IPv4 and IPv6, and their function.
macro_rules! stages_of_both_families {
    ($($v4:ident, $v6:ident: $run:ident;)*) => {$(
        #[classifier]
        pub fn $v4(ctx: TcContext) -> i32 {
            dispatch::$run::<Ipv4>(&ctx)
        }

        #[classifier]
        pub fn $v6(ctx: TcContext) -> i32 {
            dispatch::$run::<Ipv6>(&ctx)
        }
    )*};
}

stages_of_both_families! {
    conntrack, conntrack6: conntrack;
    conntrack_new, conntrack_new6: conntrack_new;
    icmp_error, icmp_error6: icmp_error;
    uplink_new, uplink_new6: uplink_new;
    container_new, container_new6: container_new;
    hairpin, hairpin6: hairpin;
    masquerade, masquerade6: masquerade;
    direct, direct6: direct;
    forward, forward6: forward;
    fragment_queue, fragment_queue6: fragment_queue;
    fragment_first, fragment_first6: fragment_first;
    answer, answer6: answer;
    enlist, enlist6: enlist;
    move_flow, move_flow6: move_flow;
    reclaim, reclaim6: reclaim;
}

/// An IPv6 packet of a flow that leads to IPv4.
#[classifier]
pub fn nat64(ctx: TcContext) -> i32 {
    dispatch::nat64(&ctx)
}

/// An IPv4 packet of a flow that leads to IPv6.
#[classifier]
pub fn nat46(ctx: TcContext) -> i32 {
    dispatch::nat46(&ctx)
}

/// An IPv4 packet to its network's gateway, which may be a reply to an IPv6 client.
#[classifier]
pub fn nat46_track(ctx: TcContext) -> i32 {
    dispatch::nat46_track(&ctx)
}

/// The same, in the table of unreplied flows.
#[classifier]
pub fn nat46_track_new(ctx: TcContext) -> i32 {
    dispatch::nat46_track_new(&ctx)
}

/// A packet without a flow, while the last flows of another set of programs are carried over.
#[classifier]
pub fn hold(ctx: TcContext) -> i32 {
    dispatch::hold(&ctx)
}

/// An IPv4 packet that was broadcast on an uplink's link.
#[classifier]
pub fn broadcast(ctx: TcContext) -> i32 {
    dispatch::broadcast(&ctx)
}

/// A dropped packet that is reported.
#[classifier]
pub fn report(ctx: TcContext) -> i32 {
    dispatch::report(&ctx)
}

/// A host process connects (IPv4).
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    cgroup::outgoing4(&ctx, Call::Connect)
}

/// A host process connects (IPv6 socket, IPv4-mapped addresses too).
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    cgroup::outgoing6(&ctx, Call::Connect)
}

/// A host process binds a socket (IPv4).
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    cgroup::bind4(&ctx)
}

/// A host process binds a socket (IPv6, for IPv4 too).
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    cgroup::bind6(&ctx)
}

/// A host process sends a datagram to an address (IPv4, from an IPv6 socket too).
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    cgroup::outgoing4(&ctx, Call::Send)
}

/// A host process sends a datagram to an address (IPv6). The kernel does not accept an IPv4 address here, so for a
/// container without IPv6 the socket has to be connected.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    cgroup::outgoing6(&ctx, Call::Send)
}

/// A host process asks where a datagram came from (IPv4).
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    cgroup::peer4(&ctx)
}

/// A host process asks where a datagram came from (IPv6 socket).
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    cgroup::peer6(&ctx)
}

/// A host process asks whom it is connected to (IPv4).
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    cgroup::peer4(&ctx)
}

/// A host process asks whom it is connected to (IPv6 socket).
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    cgroup::peer6(&ctx)
}

/// A host process releases a socket.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    cgroup::released(&ctx)
}
