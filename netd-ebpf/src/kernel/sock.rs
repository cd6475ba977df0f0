//! A socket of the host in a cgroup hook.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use aya_ebpf::{EbpfContext, Global};
use netd_common::wire::bytes::{Be16, Ipv4, Ipv6};

use super::context::Context;
use super::inet::Inet as _;

/// The cookie of the network namespace that is the host; the loader sets it.
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static HOST_NETNS: Global<u64> = Global::new(0);

/// Whether a socket is in the host's namespace.
#[inline(always)]
fn is_of_host<C: EbpfContext>(ctx: &C) -> bool {
    // SAFETY: the context is valid; the helper reads the socket's namespace (kernel 5.8 for these programs).
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    cookie == HOST_NETNS.load()
}

/// The kernel's number for a socket.
#[inline(always)]
fn cookie<C: EbpfContext>(ctx: &C) -> u64 {
    // SAFETY: the context is valid; the helper gives the socket a number if it has none.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Somebody has the port (asm-generic/errno.h).
pub(crate) const EADDRINUSE: i32 = 98;

/// What a call that is refused returns to its process, for the programs on bind (kernel 6.1).
#[inline(always)]
pub(crate) fn set_error(errno: i32) {
    // SAFETY: the helper reads its argument only.
    let _always = unsafe { bpf_set_retval(-errno) };
}

/// A call that names an address: bind, connect, sendmsg, recvmsg, getpeername.
pub(crate) struct SockAddr<'a> {
    raw: &'a mut bpf_sock_addr,
    ctx: &'a SockAddrContext,
}

impl<'a> SockAddr<'a> {
    /// The call, if the socket is the host's own.
    #[inline(always)]
    pub(crate) fn of_host(ctx: &'a SockAddrContext) -> Option<Self> {
        // SAFETY: the kernel passes a valid context, which only this program uses as long as it runs.
        is_of_host(ctx).then(|| Self { raw: unsafe { &mut *ctx.sock_addr }, ctx })
    }

    /// The context, for helpers.
    #[inline(always)]
    pub(crate) fn context(&self) -> Context {
        Context::new(self.ctx.sock_addr)
    }

    /// The kernel's number for the socket.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        cookie(self.ctx)
    }

    /// The protocol number.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        self.raw.protocol as u8
    }

    /// The port.
    #[inline(always)]
    pub(crate) fn port(&self) -> Be16 {
        // A __be16 in the low half of the word (uapi/linux/bpf.h, struct bpf_sock_addr).
        Be16::from_wire((self.raw.user_port as u16).to_ne_bytes())
    }

    /// Index of the interface that the socket is bound to; 0 if to none.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        // SAFETY: as in `local_port`.
        unsafe { (*self.raw.__bindgen_anon_1.sk).bound_dev_if }
    }

    /// The socket's own port.
    #[inline(always)]
    pub(crate) fn local_port(&self) -> Be16 {
        // SAFETY: the kernel passes the socket of the call (struct bpf_sock_addr, 5.1); its port is a number.
        Be16::new(unsafe { (*self.raw.__bindgen_anon_1.sk).src_port } as u16)
    }

    /// The address of an IPv4 call.
    #[inline(always)]
    pub(crate) fn address4(&self) -> Ipv4 {
        Ipv4::from_word(self.raw.user_ip4)
    }

    /// The address of an IPv6 call.
    #[inline(always)]
    pub(crate) fn address6(&self) -> Ipv6 {
        let raw = &*self.raw;
        Ipv6::from_words([raw.user_ip6[0], raw.user_ip6[1], raw.user_ip6[2], raw.user_ip6[3]])
    }

    /// Replaces address and port of an IPv4 call.
    #[inline(always)]
    pub(crate) fn set4(&mut self, address: Ipv4, port: Be16) {
        self.raw.user_ip4 = address.word();
        self.raw.user_port = u32::from(port.word());
    }

    /// Replaces address and port of an IPv6 call.
    #[inline(always)]
    pub(crate) fn set6(&mut self, address: Ipv6, port: Be16) {
        let [a, b, c, d] = address.words();
        self.raw.user_ip6[0] = a;
        self.raw.user_ip6[1] = b;
        self.raw.user_ip6[2] = c;
        self.raw.user_ip6[3] = d;
        self.raw.user_port = u32::from(port.word());
    }
}

/// A socket that is released.
pub(crate) struct Sock<'a> {
    raw: &'a bpf_sock,
    ctx: &'a SockContext,
}

impl<'a> Sock<'a> {
    /// The socket of a program's context.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a SockContext) -> Self {
        // SAFETY: the kernel passes a valid context that lives as long as the program runs, and the verifier turns
        // every field access into the one that the real socket needs.
        Self { raw: unsafe { &*ctx.sock }, ctx }
    }

    /// Whether it is the host's own.
    #[inline(always)]
    pub(crate) fn is_of_host(&self) -> bool {
        is_of_host(self.ctx)
    }

    /// The kernel's number for it.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        cookie(self.ctx)
    }

    /// The protocol number.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        self.raw.protocol as u8
    }

    /// The address that it is connected to, IPv4 in its mapped form.
    #[inline(always)]
    pub(crate) fn peer(&self) -> Ipv6 {
        if self.raw.family == Ipv6::AF {
            let [a, b, c, d] = self.raw.dst_ip6;
            return Ipv6::from_words([a, b, c, d]);
        }
        // SAFETY: as in `new`. Volatile, since the compiler would otherwise read both words by one access whose offset
        // depends on the family, which the verifier refuses.
        Ipv6::mapped(Ipv4::from_word(unsafe { (&raw const self.raw.dst_ip4).read_volatile() }))
    }

    /// The port that it is connected to.
    #[inline(always)]
    pub(crate) fn peer_port(&self) -> Be16 {
        Be16::from_wire(self.raw.dst_port.to_ne_bytes())
    }
}
