//! netd's BPF programs. This is the doormat: each program is one line, and a reason becomes an action in one place.
//!
//! | room | owns |
//! |---|---|
//! | [`uplink`] | packets from outside |
//! | [`container`] | packets from containers |
//! | [`socket`] | connections that the host's own processes make |
//! | [`flow`] | sending a packet on by a row of the flow table |
//! | [`publication`] | who has a host port |
//! | [`route`] | questions to the kernel's routing table |
//! | [`skb`] | reading and changing the packet |
//! | [`maps`] | the maps |
//! | [`report`] | what is told of a dropped packet |

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
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a field's address and the atomic operation on it are one step"
)]

mod container;
mod flow;
mod maps;
mod publication;
mod report;
mod route;
mod skb;
mod socket;
mod uplink;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SockAddrContext, TcContext};
use netd_common::verdict::{Reason, Verdict};

use crate::skb::Skb;

/// On the ingress of each uplink.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    action(&ctx, &skb, uplink::ingress(&skb))
}

/// On the ingress of each container's host-side veth: what the container sends.
#[classifier]
pub fn container_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    action(&ctx, &skb, container::ingress(&skb))
}

/// What TC is told. A packet that is not ours goes on to the next program (TCX_NEXT is TC_ACT_UNSPEC's number too), so
/// netd ends nobody else's chain.
#[inline(always)]
fn action(ctx: &TcContext, skb: &Skb, outcome: Result<Verdict, Reason>) -> i32 {
    match outcome {
        Ok(Verdict::Pass) => TC_ACT_UNSPEC,
        Ok(Verdict::Redirected(code)) => code,
        Err(reason) => {
            if maps::count_drop(reason, skb.len(), flow::now()) {
                report::drop(ctx, skb, reason);
            }
            TC_ACT_SHOT
        }
    }
}

/// A host process connects (IPv4).
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4(&ctx)
}

/// A host process connects (IPv6 socket: `::1` and IPv4-mapped addresses).
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    socket::outgoing6(&ctx)
}

/// A host process sends a datagram to an address (IPv4, from an IPv6 socket too; for `::1` the kernel takes no IPv4 address
/// in exchange, so that needs a connected socket or IPv6).
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4(&ctx)
}

/// A host process asks where a datagram came from (IPv4).
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::peer4(&ctx)
}

/// A host process asks where a datagram came from (IPv6 socket).
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::peer6(&ctx)
}

/// A host process asks whom it is connected to (IPv4).
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    socket::peer4(&ctx)
}

/// A host process asks whom it is connected to (IPv6 socket).
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    socket::peer6(&ctx)
}

/// A loop without end, so that a panic which survives the optimiser is refused by the verifier instead of running.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: the kernel reads the section by this name as the programs' licence; nothing else has it.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
