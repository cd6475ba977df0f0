//! The host's own processes: connections that they make to localhost or to an address of the host, and ports that they bind.
//!
//! The destination is replaced by the container's when the socket connects or sends, so the packets need no
//! translation. getpeername and recvfrom return the address that the application asked for. Only sockets of the host's
//! network namespace are changed, since a container's 127.0.0.1 is its own.

use aya_ebpf::programs::{SockAddrContext, SockContext};
use netd_common::abi::{FamilyRows as _, PortRow, SocketKey, SocketRow};
use netd_common::flow::{FlowKey, Handle, Tuple, Zone};
use netd_common::policy::publication::{self, Found};
use netd_common::wire::bytes::{Address as _, Be16, Ipv4, Ipv6};
use netd_common::wire::ip::protocol;

use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::sock::{self, EADDRINUSE, Sock, SockAddr};
use crate::kernel::{host_flows, seen_peers, tables};

/// The return value of a cgroup program that allows the call.
const ALLOW: i32 = 1;
/// What it returns to refuse it.
const REFUSE: i32 = 0;

/// The call that gives a socket its destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// connect. An IPv6 socket may get an IPv4-mapped address.
    Connect,
    /// sendmsg, for each datagram. The kernel does not accept an IPv4-mapped address instead of an IPv6 one here.
    Send,
}

/// connect and sendmsg of an IPv4 socket.
#[inline(always)]
pub(crate) fn outgoing4(ctx: &SockAddrContext, call: Call) -> i32 {
    if let Some(mut addr) = SockAddr::of_host(ctx) {
        if let Some(replacement) = lookup(&addr, addr.address4(), call)
            && let Some(target) = replacement.target.as_mapped()
        {
            addr.set4(target, replacement.target_port);
            remember(&addr, call, &replacement);
        }
        if call == Call::Send {
            note(&addr, Ipv6::mapped(addr.address4()));
        }
    }
    ALLOW
}

/// connect and sendmsg of an IPv6 socket.
#[inline(always)]
pub(crate) fn outgoing6(ctx: &SockAddrContext, call: Call) -> i32 {
    if let Some(mut addr) = SockAddr::of_host(ctx) {
        let address = addr.address6();
        let replacement = match address.as_mapped() {
            Some(address) => lookup(&addr, address, call),
            None => lookup(&addr, address, call),
        };
        if let Some(replacement) = replacement {
            addr.set6(replacement.target, replacement.target_port);
            remember(&addr, call, &replacement);
        }
        if call == Call::Send {
            note(&addr, addr.address6());
        }
    }
    ALLOW
}

/// bind of an IPv4 socket: a published port is taken.
#[inline(always)]
pub(crate) fn bind4(ctx: &SockAddrContext) -> i32 {
    let is_taken = SockAddr::of_host(ctx).is_some_and(|addr| is_taken(&addr, addr.address4()));
    if is_taken { refuse() } else { ALLOW }
}

/// bind of an IPv6 socket. One on all addresses is taken for one of both families: whether it is for IPv6 only is not to be seen
/// here.
#[inline(always)]
pub(crate) fn bind6(ctx: &SockAddrContext) -> i32 {
    let is_taken = SockAddr::of_host(ctx).is_some_and(|addr| {
        let address = addr.address6();
        match address.as_mapped() {
            Some(address) => is_taken(&addr, address),
            None if address == Ipv6::UNSPECIFIED => {
                is_taken(&addr, address) || is_taken(&addr, Ipv4::UNSPECIFIED)
            }
            None => is_taken(&addr, address),
        }
    });
    if is_taken { refuse() } else { ALLOW }
}

/// Refuses a bind as the kernel does if another socket has the port.
#[inline(always)]
fn refuse() -> i32 {
    sock::set_error(EADDRINUSE);
    REFUSE
}

/// Whether a publication has the port that a socket is to be bound to. One for one interface leaves it to sockets that get packets
/// from others. The kernel chooses port 0 itself, and publications take no packets to groups.
#[inline(always)]
fn is_taken<A: Inet>(addr: &SockAddr<'_>, address: A) -> bool {
    let (number, port) = (addr.protocol(), addr.port());
    if port == Be16::default() || address.is_not_one_hosts() {
        return false;
    }
    let Some(row) = tables::port(number, port) else { return false };
    // All addresses are also those that somebody has published the port on.
    if address == A::UNSPECIFIED && row.bound != 0 {
        return true;
    }
    let lookups = Kernel(addr.context());
    let found = publication::find(&lookups, number, address, port);
    found.is_some_and(|found| found.is_for(addr.device()))
}

/// recvmsg and getpeername of an IPv4 socket.
#[inline(always)]
pub(crate) fn peer4(ctx: &SockAddrContext) -> i32 {
    if let Some(mut addr) = SockAddr::of_host(ctx)
        && let Some(row) = original(&addr, Ipv6::mapped(addr.address4()))
        && let Some(address) = row.address.as_mapped()
    {
        addr.set4(address, row.port);
    }
    ALLOW
}

/// recvmsg and getpeername of an IPv6 socket.
#[inline(always)]
pub(crate) fn peer6(ctx: &SockAddrContext) -> i32 {
    if let Some(mut addr) = SockAddr::of_host(ctx)
        && let Some(row) = original(&addr, addr.address6())
    {
        addr.set6(row.address, row.port);
    }
    ALLOW
}

/// Deletes the row of a connected socket when it is released. Rows of unconnected sockets are left to eviction.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) -> i32 {
    let sock = Sock::new(ctx);
    let number = sock.protocol();
    if (number == protocol::TCP || number == protocol::UDP) && sock.is_of_host() {
        let target = sock.peer();
        // Most sockets are not in the table, and a lookup costs some 200 ns of cache misses.
        if seen_peers::contains(seen_peers::bit(target)) {
            tables::remove_socket(&key(sock.cookie(), number, target, sock.peer_port()));
        }
    }
    ALLOW
}

#[inline(always)]
fn key(cookie: u64, protocol: u8, target: Ipv6, target_port: Be16) -> SocketKey {
    SocketKey { cookie, target, target_port, protocol: Be16::new(u16::from(protocol)), pad: 0 }
}

/// The replacement of a published destination.
struct Replacement {
    /// The target's address, IPv4 in its mapped form.
    target: Ipv6,
    /// The target's port.
    target_port: Be16,
    /// The address that the application asked for, IPv4 in its mapped form.
    asked_for: Ipv6,
    /// The port that it asked for.
    port: Be16,
    /// The publication.
    publication: Handle,
}

/// Looks up a destination; none if it is not published.
#[inline(always)]
fn lookup<A: Inet>(addr: &SockAddr<'_>, address: A, call: Call) -> Option<Replacement> {
    let port = addr.port();
    let lookups = Kernel(addr.context());
    let found = publication::find(&lookups, addr.protocol(), address, port)?;
    if !found.is_for(0) {
        return None;
    }
    if !address.is_loopback() && !tables::is_local(address) {
        return None;
    }
    Some(Replacement {
        target: target::<A>(&found, call)?,
        target_port: found.row.target_port(port),
        asked_for: address.to_ipv6(),
        port,
        publication: found.row.handle,
    })
}

/// Stores the address that the application asked for, and counts the connection.
#[inline(always)]
fn remember(addr: &SockAddr<'_>, call: Call, replacement: &Replacement) {
    let Replacement { target, target_port, asked_for, port, publication } = replacement;
    let key = key(addr.cookie(), addr.protocol(), *target, *target_port);
    let row = SocketRow::new(*asked_for, *port);
    if call == Call::Send && tables::socket(&key) == Some(row) {
        return;
    }
    if call == Call::Connect {
        // `released` asks the filter before it looks up a row.
        seen_peers::add(*target);
    }
    tables::put_socket(&key, &row);
    tables::count_flow(*publication);
}

/// Notes to whom an unconnected socket sends, if its own port is published: nothing else tells its answers from datagrams to the
/// published port.
#[inline(always)]
fn note(addr: &SockAddr<'_>, peer: Ipv6) {
    let (number, port) = (addr.protocol(), addr.local_port());
    if tables::port(number, port).is_some_and(|row| row != PortRow::default()) {
        let answers = Tuple { src: peer, dst: Ipv6::UNSPECIFIED, src_port: addr.port(), dst_port: port };
        host_flows::note(&FlowKey::new(answers, number, Zone::OUTSIDE));
    }
}

/// The target's address in the requested family, or else its IPv4 address, if the kernel accepts that.
#[inline(always)]
fn target<A: Inet>(found: &Found<'_>, call: Call) -> Option<Ipv6> {
    let same = A::subnet(found.endpoint).address();
    if same != A::UNSPECIFIED {
        return Some(same.to_ipv6());
    }
    let four = Ipv4::subnet(found.endpoint).address();
    let fits = A::IS_V6
        && call == Call::Connect
        && four != Ipv4::UNSPECIFIED
        && !publication::is_routed::<Ipv4>(found.endpoint);
    fits.then(|| Ipv6::mapped(four))
}

/// The address that the application asked for and that was replaced by `target`.
#[inline(always)]
fn original(addr: &SockAddr<'_>, target: Ipv6) -> Option<SocketRow> {
    tables::socket(&key(addr.cookie(), addr.protocol(), target, addr.port()))
}
