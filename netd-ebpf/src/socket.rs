//! Connections that the host's own processes make: to localhost or to an address of the host.
//!
//! The destination is exchanged for the container's when the socket connects or sends, so the packets need no
//! translation at all; the application is told the address that it asked for. Only sockets of the instance's own
//! network namespace are touched. A container's 127.0.0.1 is its own.

use aya_ebpf::EbpfContext;
use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use netd_common::abi::{SocketKey, SocketRow, network_flag};
use netd_common::bytes::{Address as _, Be16, Ipv4, Ipv6};
use netd_common::flow::protocol;

use crate::maps::{self, Tables};
use crate::publication::{self, Found};
use crate::skb::Wire as _;

/// The cookie of the network namespace that is "the host"; the loader sets it.
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static HOST_NETNS: Global<u64> = Global::new(0);

/// What a cgroup program says to let the call go on; these programs refuse nothing.
const ALLOW: i32 = 1;

/// How a socket comes to an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Once for all. An IPv6 socket may get an IPv4 address in its mapped form.
    Connect,
    /// With each datagram. The kernel takes no IPv4 address in exchange for an IPv6 one here.
    Send,
}

/// connect and sendmsg of an IPv4 socket.
#[inline(always)]
pub(crate) fn outgoing4(ctx: &SockAddrContext, call: Call) -> i32 {
    if let Some(addr) = of_host(ctx)
        && let Some((target, port)) = exchange(ctx, addr, Ipv4::from_word(addr.user_ip4), call)
        && let Some(target) = target.as_mapped()
    {
        addr.user_ip4 = target.word();
        addr.user_port = u32::from(port.word());
    }
    ALLOW
}

/// connect and sendmsg of an IPv6 socket.
#[inline(always)]
pub(crate) fn outgoing6(ctx: &SockAddrContext, call: Call) -> i32 {
    if let Some(addr) = of_host(ctx) {
        let address = address6(addr);
        let target = match address.as_mapped() {
            Some(address) => exchange(ctx, addr, address, call),
            None => exchange(ctx, addr, address, call),
        };
        if let Some((target, port)) = target {
            set_address6(addr, target);
            addr.user_port = u32::from(port.word());
        }
    }
    ALLOW
}

/// recvmsg and getpeername of an IPv4 socket.
#[inline(always)]
pub(crate) fn peer4(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx)
        && let Some(row) = asked_for(ctx, addr, Ipv6::mapped(Ipv4::from_word(addr.user_ip4)))
        && let Some(address) = row.address.as_mapped()
    {
        addr.user_ip4 = address.word();
        addr.user_port = u32::from(row.port.word());
    }
    ALLOW
}

/// recvmsg and getpeername of an IPv6 socket.
#[inline(always)]
pub(crate) fn peer6(ctx: &SockAddrContext) -> i32 {
    if let Some(addr) = of_host(ctx)
        && let Some(row) = asked_for(ctx, addr, address6(addr))
    {
        set_address6(addr, row.address);
        addr.user_port = u32::from(row.port.word());
    }
    ALLOW
}

/// The end of a socket: what was remembered of its connection goes with it. What an unconnected socket sent to is left to
/// the table's own order.
pub(crate) fn closed(ctx: &SockContext) -> i32 {
    // SAFETY: the kernel hands the program a valid context that lives as long as the run, and the verifier turns every
    // field access into the one that the real socket needs.
    let socket = unsafe { &*ctx.sock };
    let number = socket.protocol as u8;
    if (number == protocol::TCP || number == protocol::UDP) && is_of_host(ctx) {
        let target = if socket.family == Ipv6::AF {
            let [a, b, c, d] = socket.dst_ip6;
            Ipv6::from_words([a, b, c, d])
        } else {
            // SAFETY: as above. Volatile, since the verifier takes no field whose place depends on the family, to which the
            // compiler would make both words one.
            Ipv6::mapped(Ipv4::from_word(unsafe { (&raw const socket.dst_ip4).read_volatile() }))
        };
        // Most sockets were never in the table, and to find that out there takes some 200 ns of cache misses.
        if maps::may_be_seen_peer(maps::seen_peers_bit(target)) {
            let port = Be16::from_wire(socket.dst_port.to_ne_bytes());
            maps::forget_socket(&key(ctx, number, target, port));
        }
    }
    ALLOW
}

/// The address of an IPv6 call.
#[inline(always)]
fn address6(addr: &bpf_sock_addr) -> Ipv6 {
    Ipv6::from_words([addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]])
}

#[inline(always)]
fn set_address6(addr: &mut bpf_sock_addr, address: Ipv6) {
    let [a, b, c, d] = address.words();
    addr.user_ip6[0] = a;
    addr.user_ip6[1] = b;
    addr.user_ip6[2] = c;
    addr.user_ip6[3] = d;
}

/// The call's address block, if the socket is the host's own.
#[inline(always)]
fn of_host(ctx: &SockAddrContext) -> Option<&'static mut bpf_sock_addr> {
    // SAFETY: the kernel hands the program a valid context, alone in its run, that lives as long as the run.
    if is_of_host(ctx) { Some(unsafe { &mut *ctx.sock_addr }) } else { None }
}

/// Whether a socket is the host's own.
#[inline(always)]
fn is_of_host<C: EbpfContext>(ctx: &C) -> bool {
    // SAFETY: the context is valid; the helper reads the socket's namespace (kernel 5.8 for these programs).
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    cookie == HOST_NETNS.load()
}

#[inline(always)]
fn port_of(addr: &bpf_sock_addr) -> Be16 {
    // A __be16 in the low half of the word (uapi/linux/bpf.h, struct bpf_sock_addr).
    Be16::from_wire((addr.user_port as u16).to_ne_bytes())
}

#[inline(always)]
fn key<C: EbpfContext>(ctx: &C, protocol: u8, target: Ipv6, target_port: Be16) -> SocketKey {
    // SAFETY: the context is valid; the helper gives the socket a number if it has none.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    SocketKey { cookie, target, target_port, protocol: Be16::new(u16::from(protocol)), pad: 0 }
}

/// The container's address and port for a destination that is published; remembers what was asked for.
#[inline(always)]
fn exchange<A: Tables>(
    ctx: &SockAddrContext,
    addr: &bpf_sock_addr,
    address: A,
    call: Call,
) -> Option<(Ipv6, Be16)> {
    let port = port_of(addr);
    let found = publication::find(addr.protocol as u8, address, port)?;
    if !found.is_for(0) {
        return None;
    }
    if found.any_address && !address.is_loopback() && !maps::is_local(address) {
        return None;
    }
    let target = target::<A>(&found, call)?;
    let target_port = found.row().target_port(port);
    let key = key(ctx, addr.protocol as u8, target, target_port);
    let row = SocketRow::new(address.unified(), port);
    if call == Call::Connect {
        // For `closed`.
        maps::add_seen_peer(target);
    }
    if call == Call::Connect || maps::socket(&key) != Some(row) {
        maps::put_socket(&key, &row);
        found.count_flow();
    }
    Some((target, target_port))
}

/// The target's address in the family that was asked for, or else its IPv4 address, if the kernel takes that.
#[inline(always)]
fn target<A: Tables>(found: &Found, call: Call) -> Option<Ipv6> {
    let same = A::subnet(found.endpoint).address();
    if same != A::UNSPECIFIED {
        return Some(same.unified());
    }
    let four = found.endpoint.subnet4.address();
    let routed = found.endpoint.flags & network_flag::ROUTED != 0;
    let fits = A::IS_V6 && call == Call::Connect && four != Ipv4::UNSPECIFIED && !routed;
    if fits { Some(Ipv6::mapped(four)) } else { None }
}

/// The address that the application asked for when it got to `target`.
#[inline(always)]
fn asked_for(ctx: &SockAddrContext, addr: &bpf_sock_addr, target: Ipv6) -> Option<SocketRow> {
    maps::socket(&key(ctx, addr.protocol as u8, target, port_of(addr)))
}
