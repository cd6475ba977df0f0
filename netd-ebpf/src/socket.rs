//! Connections that the host's own processes make: to localhost or to an address of the host.
//!
//! The destination is exchanged for the container's when the socket connects or sends, so the packets need no
//! translation at all; the application is told the address that it asked for. Only sockets of the instance's own
//! network namespace are touched. A container's 127.0.0.1 is its own.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use netd_common::bytes::{Be16, Ipv4};
use netd_common::tables::{PublicationRow, SocketKey, SocketRow};

use crate::maps;
use crate::publication;

/// The cookie of the network namespace that is "the host"; the loader sets it.
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static HOST_NETNS: Global<u64> = Global::new(0);

/// What a cgroup program says to let the call go on; these programs refuse nothing.
const ALLOW: i32 = 1;
/// The third word of an IPv4-mapped address, ::ffff:0:0/96 (RFC 4291 §2.5.5.2).
const MAPPED: u32 = 0x0000_ffff_u32.to_be();
/// The last word of ::1.
const LAST_ONE: u32 = 1_u32.to_be();

/// A destination in the application's words.
struct Destination {
    /// For the tables: ::1 is 127.0.0.1 there.
    address: Ipv4,
    /// As the application wrote it.
    words: [u32; 4],
}

/// connect and sendmsg of an IPv4 socket.
#[inline(always)]
pub(crate) fn outgoing4(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx) {
        let address = Ipv4::from_word(addr.user_ip4);
        let destination = Destination { address, words: [0, 0, MAPPED, address.word()] };
        if let Some((target, port)) = exchange(ctx, addr, &destination) {
            addr.user_ip4 = target.word();
            addr.user_port = u32::from(port.word());
        }
    }
    ALLOW
}

/// connect of an IPv6 socket.
#[inline(always)]
pub(crate) fn outgoing6(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx) {
        let words = [addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]];
        let address = match words {
            [0, 0, MAPPED, last] => Ipv4::from_word(last),
            [0, 0, 0, LAST_ONE] => Ipv4::from_wire([127, 0, 0, 1]),
            _ => return ALLOW,
        };
        if let Some((target, port)) = exchange(ctx, addr, &Destination { address, words }) {
            addr.user_ip6[0] = 0;
            addr.user_ip6[1] = 0;
            addr.user_ip6[2] = MAPPED;
            addr.user_ip6[3] = target.word();
            addr.user_port = u32::from(port.word());
        }
    }
    ALLOW
}

/// recvmsg and getpeername of an IPv4 socket.
#[inline(always)]
pub(crate) fn peer4(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx)
        && let Some(row) = asked_for(ctx, addr, Ipv4::from_word(addr.user_ip4))
    {
        addr.user_ip4 = row.address[3];
        addr.user_port = u32::from(row.port.word());
    }
    ALLOW
}

/// recvmsg and getpeername of an IPv6 socket.
#[inline(always)]
pub(crate) fn peer6(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx)
        && addr.user_ip6[0] == 0
        && addr.user_ip6[1] == 0
        && addr.user_ip6[2] == MAPPED
        && let Some(row) = asked_for(ctx, addr, Ipv4::from_word(addr.user_ip6[3]))
    {
        addr.user_ip6[0] = row.address[0];
        addr.user_ip6[1] = row.address[1];
        addr.user_ip6[2] = row.address[2];
        addr.user_ip6[3] = row.address[3];
        addr.user_port = u32::from(row.port.word());
    }
    ALLOW
}

/// The call's address block, if the socket is the host's own.
#[inline(always)]
fn of_host(ctx: &SockAddrContext) -> Option<&'static mut bpf_sock_addr> {
    // SAFETY: the context is valid; the helper reads the socket's namespace (kernel 5.8 for these programs).
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: the kernel hands the program a valid context, alone in its run, that lives as long as the run.
    if cookie == HOST_NETNS.load() { Some(unsafe { &mut *ctx.sock_addr }) } else { None }
}

#[inline(always)]
fn port_of(addr: &bpf_sock_addr) -> Be16 {
    // A __be16 in the low half of the word (uapi/linux/bpf.h, struct bpf_sock_addr).
    Be16::from_wire((addr.user_port as u16).to_ne_bytes())
}

#[inline(always)]
fn key_of(ctx: &SockAddrContext, addr: &bpf_sock_addr, target: Ipv4, target_port: Be16) -> SocketKey {
    // SAFETY: the context is valid; the helper gives the socket a number if it has none.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    SocketKey { cookie, target, target_port, protocol: Be16::new(addr.protocol as u16) }
}

/// The container's address and port for a destination that is published; remembers what was asked for.
#[inline(always)]
fn exchange(ctx: &SockAddrContext, addr: &bpf_sock_addr, destination: &Destination) -> Option<(Ipv4, Be16)> {
    let port = port_of(addr);
    let found = publication::find(addr.protocol as u8, destination.address, port)?;
    let address = destination.address;
    if found.any_address && !address.is_loopback() && !maps::is_local(address) {
        return None;
    }
    // SAFETY: array rows are never freed, and a publication's row is complete before its port leads to it.
    let publication: &PublicationRow = unsafe { &*found.publication };
    let (target, target_port) = (publication.target, publication.target_port(port));
    let key = key_of(ctx, addr, target, target_port);
    let row = SocketRow { address: destination.words, port, pad: 0 };
    if maps::socket(&key) != Some(row) {
        maps::put_socket(&key, &row);
        // SAFETY: an aligned word of a publication's row.
        unsafe { maps::add(&raw mut (*maps::counters(found.publication)).flows, 1) };
    }
    Some((target, target_port))
}

/// The address that the application asked for when it got to `target`.
#[inline(always)]
fn asked_for(ctx: &SockAddrContext, addr: &bpf_sock_addr, target: Ipv4) -> Option<SocketRow> {
    maps::socket(&key_of(ctx, addr, target, port_of(addr)))
}
