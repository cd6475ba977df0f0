//! The packet: reading it, changing it, sending it on. The only room that touches its bytes.

use core::arch::asm;
use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_csum_diff, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
    bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_change_type,
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use netd_common::abi::{FlowRow, QueuedFragmentRow};
use netd_common::bytes::{Be16, Ipv4, Ipv6};
use netd_common::checksum::Delta;
use netd_common::crc32c;
use netd_common::flow::protocol;
use netd_common::packet::{
    ETHERNET_LEN, ETHERTYPE_IPV6, IPV6_LEN, Ip, Layout, Offset, PacketBytes, Part, Transport, ipv4_at,
    ipv6_at,
};
use netd_common::verdict::{Reason, Verdict};

use crate::maps::Tables;
use crate::route::Context;

/// The bits of a VLAN tag that name the VLAN.
const VLAN_ID: u32 = 0x0fff;
/// `PACKET_HOST` of if_packet.h: addressed to this host.
const PACKET_HOST: u32 = 0;
/// Ethernet, the longest IPv4 header and TCP's fixed part: all that an established connection's packet is read for.
const HEADERS_LEN: u32 = ETHERNET_LEN as u32 + 60 + 20;
/// What is read of a packet that takes a decision: an ICMP error's headers and the ones that it quotes.
const FRONT_LEN: u32 = Offset::MAX + 1 + 20;

/// What differs between the families in speaking to the kernel and in writing a header.
pub(crate) trait Wire: Tables {
    /// The address family's number (linux/socket.h).
    const AF: u32;

    /// Puts the addresses into a question to the routing table.
    fn ask(question: &mut bpf_fib_lookup, src: Self, dst: Self);

    /// The next hop in its answer.
    fn next_hop(answer: &bpf_fib_lookup) -> Self;

    /// The address as the neighbour table's key.
    fn hop(self) -> [u32; 4];

    /// Where the datagram ends, from the start of the frame: a short frame is filled up behind it.
    fn datagram_end(frame: &Frame) -> Result<u32, Reason>;

    /// Writes addresses into the header that starts at `at`, without its checksum.
    fn write_addresses(frame: &Frame, at: usize, src: Self, dst: Self) -> Result<(), Reason>;

    /// Writes addresses and the decremented TTL into the header of `ip`. No packet pointer is good after it.
    fn rewrite_header(skb: &Skb, frame: &Frame, ip: &Ip<Self>, row: &FlowRow<Self>) -> Result<(), Reason>;
}

impl Wire for Ipv4 {
    const AF: u32 = 2;

    #[inline(always)]
    fn ask(question: &mut bpf_fib_lookup, src: Self, dst: Self) {
        question.__bindgen_anon_3.ipv4_src = src.word();
        question.__bindgen_anon_4.ipv4_dst = dst.word();
    }

    #[inline(always)]
    fn next_hop(answer: &bpf_fib_lookup) -> Self {
        // SAFETY: the kernel wrote an IPv4 address there, as the family says; every member is plain words.
        Self::from_word(unsafe { answer.__bindgen_anon_4.ipv4_dst })
    }

    #[inline(always)]
    fn hop(self) -> [u32; 4] {
        // The kernel reads the first; like this all of them are written in aligned double words.
        [self.word(); 4]
    }

    #[inline(always)]
    fn datagram_end(frame: &Frame) -> Result<u32, Reason> {
        let len = frame.read(ETHERNET_LEN + ipv4_at::TOTAL_LENGTH).ok_or(Reason::Malformed)?;
        Ok(ETHERNET_LEN as u32 + u32::from(Be16::from_wire(len).get()))
    }

    #[inline(always)]
    fn write_addresses(frame: &Frame, at: usize, src: Self, dst: Self) -> Result<(), Reason> {
        frame.write(at + ipv4_at::SOURCE, src.word())?;
        frame.write(at + ipv4_at::DESTINATION, dst.word())
    }

    #[inline(always)]
    fn rewrite_header(_skb: &Skb, frame: &Frame, ip: &Ip<Self>, row: &FlowRow<Self>) -> Result<(), Reason> {
        let change = row.addresses.and(Delta::TTL_DECREMENTED);
        frame.write(ETHERNET_LEN + ipv4_at::TTL, ip.ttl - 1)?;
        frame.write(ETHERNET_LEN + ipv4_at::CHECKSUM, change.apply(ip.checksum))?;
        Self::write_addresses(frame, ETHERNET_LEN, row.src, row.dst)
    }
}

impl Wire for Ipv6 {
    const AF: u32 = 10;

    #[inline(always)]
    fn ask(question: &mut bpf_fib_lookup, src: Self, dst: Self) {
        question.__bindgen_anon_3.ipv6_src = src.words();
        question.__bindgen_anon_4.ipv6_dst = dst.words();
    }

    #[inline(always)]
    fn next_hop(answer: &bpf_fib_lookup) -> Self {
        // SAFETY: the kernel wrote an IPv6 address there, as the family says; every member is plain words.
        Self::from_words(unsafe { answer.__bindgen_anon_4.ipv6_dst })
    }

    #[inline(always)]
    fn hop(self) -> [u32; 4] {
        self.words()
    }

    #[inline(always)]
    fn datagram_end(frame: &Frame) -> Result<u32, Reason> {
        let len = frame.read(ETHERNET_LEN + ipv6_at::LENGTH_WORD).ok_or(Reason::Malformed)?;
        Ok((ETHERNET_LEN + IPV6_LEN) as u32 + u32::from(Be16::from_wire(len).get()))
    }

    #[inline(always)]
    fn write_addresses(frame: &Frame, at: usize, src: Self, dst: Self) -> Result<(), Reason> {
        frame.write(at + ipv6_at::SOURCE, src.words())?;
        frame.write(at + ipv6_at::DESTINATION, dst.words())
    }

    /// By the helper that keeps a device's checksum over the whole packet (CHECKSUM_COMPLETE) right: IPv6 has no header
    /// checksum that would cancel the change out, as IPv4's does.
    #[inline(always)]
    fn rewrite_header(skb: &Skb, frame: &Frame, ip: &Ip<Self>, row: &FlowRow<Self>) -> Result<(), Reason> {
        let start = ETHERNET_LEN + ipv6_at::LENGTH_WORD;
        let [len0, len1, next, _]: [u8; 4] = frame.read(start).ok_or(Reason::Malformed)?;
        let (src, dst) = (row.src.words(), row.dst.words());
        let value = [
            u32::from_ne_bytes([len0, len1, next, ip.ttl - 1]),
            src[0],
            src[1],
            src[2],
            src[3],
            dst[0],
            dst[1],
            dst[2],
            dst[3],
        ];
        skb.store(start, &Placed { pad: 0, value }.value)
    }
}

/// Both ports after translation, as they stand in front of a transport header.
#[inline(always)]
pub(crate) fn ports_of<A: Wire>(row: &FlowRow<A>) -> u32 {
    let [a, b] = row.src_port.to_wire();
    let [c, d] = row.dst_port.to_wire();
    u32::from_ne_bytes([a, b, c, d])
}

/// Writes new ports into an SCTP header and keeps its checksum right; `len` is the packet's length from there on. A checksum
/// of zero is left: the device is to make it.
#[inline(always)]
fn change_sctp(frame: &Frame, at: usize, ports: u32, len: u32) -> Result<(), Reason> {
    let old = u32::from_ne_bytes(frame.read(at).ok_or(Reason::Malformed)?);
    let checksum = u32::from_ne_bytes(frame.read(at + 8).ok_or(Reason::Malformed)?);
    if old == ports {
        return Ok(());
    }
    frame.write(at, ports)?;
    if checksum == 0 {
        return Ok(());
    }
    frame.write(at + 8, checksum ^ crc32c_change(old ^ ports, len))
}

/// A global function to the kernel, whose verifier looks at it once and not on each way that leads to it (kernel 5.6).
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crc32c_change(first: u32, len: u32) -> u32 {
    crc32c::change(first, len)
}

/// A place for a helper to read double words from: the verifier takes none across two of the stack's.
#[repr(C, align(8))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// A place for a helper to read from, for a value of a word and double words: the verifier takes no double word across two
/// of the stack's.
#[repr(C, align(8))]
struct Placed<T> {
    pad: u32,
    value: T,
}

/// A packet in TC.
pub(crate) struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    /// The context of a TC program.
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { raw: ctx.as_ptr().cast() }
    }

    /// The kernel's pointer, for helpers.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut __sk_buff {
        self.raw
    }

    /// The same, for helpers that take any program's context.
    #[inline(always)]
    pub(crate) fn context_ptr(&self) -> Context {
        self.raw.cast()
    }

    #[inline(always)]
    fn context(&self) -> &__sk_buff {
        // SAFETY: the kernel hands each program a valid context that lives as long as the program runs, and the verifier
        // turns every field access into the one that the real sk_buff needs.
        unsafe { &*self.raw }
    }

    /// Length of the frame, bytes; a segmentation-offload packet counts whole.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.context().len
    }

    /// Payload bytes of each segment that the kernel is to cut it into; 0 if it is one packet.
    #[inline(always)]
    pub(crate) fn gso_size(&self) -> u32 {
        self.context().gso_size
    }

    /// Leaves a word for the program that goes on.
    #[inline(always)]
    pub(crate) fn set_cb(&self, at: usize, word: u32) {
        // SAFETY: the context is valid and these words of it are the programs' own; `at` is one of the constants above.
        // Volatile, since the verifier takes no two of them written as one.
        unsafe { (&raw mut (*self.raw).cb[at]).write_volatile(word) };
    }

    /// What an earlier program left.
    #[inline(always)]
    pub(crate) fn cb(&self, at: usize) -> u32 {
        self.context().cb[at]
    }

    /// The interface it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    /// Whether it is IPv6, by its EtherType.
    #[inline(always)]
    pub(crate) fn is_v6(&self) -> bool {
        self.context().protocol == u32::from(ETHERTYPE_IPV6.word())
    }

    /// Whether the frame carried a VLAN tag, which the kernel has taken off.
    #[inline(always)]
    pub(crate) fn has_vlan_tag(&self) -> bool {
        self.context().vlan_present != 0
    }

    /// Whether the frame is addressed to this host and of no VLAN: one of a VLAN belongs to that one's own interface, which
    /// it reaches after this program. A tag that names no VLAN but a priority (IEEE 802.1Q §9.6) is none to the stack.
    #[inline(always)]
    pub(crate) fn is_for_this_interface(&self) -> bool {
        let of_a_vlan = self.has_vlan_tag() && self.context().vlan_tci & VLAN_ID != 0;
        self.context().pkt_type == PACKET_HOST && !of_a_vlan
    }

    /// The frame's bytes, made contiguous as far as the headers of an established connection's packet go.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        self.contiguous(HEADERS_LEN)
    }

    /// The frame's bytes, made contiguous as far as any decision reads.
    #[inline(always)]
    pub(crate) fn front(&self) -> Frame {
        self.contiguous(FRONT_LEN)
    }

    #[inline(always)]
    fn contiguous(&self, len: u32) -> Frame {
        let frame = self.linear();
        if frame.end - frame.start >= len as usize || frame.end - frame.start >= self.len() as usize {
            return frame;
        }
        let wanted = if self.len() < len { self.len() } else { len };
        // SAFETY: the context is valid; a refusal leaves the packet as it was, and the reader then finds it short.
        unsafe { bpf_skb_pull_data(self.raw, wanted) };
        self.linear()
    }

    #[inline(always)]
    fn linear(&self) -> Frame {
        let salt = self.context().len;
        // SAFETY: as for the context. Volatile, since the compiler keeps what it has read before in halves of registers, of
        // which the verifier knows no more that they point into the packet.
        let (start, end) = unsafe {
            ((&raw const (*self.raw).data).read_volatile(), (&raw const (*self.raw).data_end).read_volatile())
        };
        Frame { salt, start: start as usize, end: end as usize }
    }

    /// Writes destination and source of the Ethernet header.
    #[inline(always)]
    pub(crate) fn write_ethernet(frame: &Frame, ethernet: &[u32; 3]) -> Result<(), Reason> {
        let [first, second, third] = *ethernet;
        frame.write(0, first)?;
        frame.write(4, second)?;
        frame.write(8, third)
    }

    /// Writes words at an offset, keeping a device's checksum over the packet right. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn store<W: Copy, const N: usize>(&self, at: usize, words: &[W; N]) -> Result<(), Reason> {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        let len = size_of::<[W; N]>() as u32;
        // SAFETY: the context is valid, the words live on this stack or in a map for the call, and the helper checks the
        // offset.
        let code = unsafe { bpf_skb_store_bytes(self.raw, at as u32, words.as_ptr().cast(), len, flags) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Rewrites addresses, ports and TTL as `row` says, with the checksums.
    ///
    /// The transport checksum is changed by two calls, because a packet whose checksum the device is to finish
    /// (CHECKSUM_PARTIAL) holds only the sum of its pseudo header: the addresses' change must reach it, the ports' must not.
    #[inline(always)]
    pub(crate) fn translate<A: Wire>(
        &self,
        frame: &Frame,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        let at = frame.place(ip.transport_at);
        Self::write_ports(frame, at, ip, transport, row)?;
        // The stores must not sink below the helpers, after which the verifier knows no packet pointer.
        compiler_fence(Ordering::SeqCst);
        A::rewrite_header(self, frame, ip, row)?;
        compiler_fence(Ordering::SeqCst);
        self.change_checksums(at, ip, transport, row)
    }

    /// The same for what follows the IP header only. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn translate_transport<A: Wire>(
        &self,
        frame: &Frame,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        let at = frame.place(ip.transport_at);
        Self::write_ports(frame, at, ip, transport, row)?;
        compiler_fence(Ordering::SeqCst);
        self.change_checksums(at, ip, transport, row)
    }

    #[inline(always)]
    fn write_ports<A: Wire>(
        frame: &Frame,
        at: usize,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        match transport.layout {
            Layout::Tcp | Layout::Udp => frame.write(at, ports_of(row))?,
            Layout::Sctp => {
                // The checksum of the whole is in the first part, and the rest of what it covers in others.
                if ip.part != Part::Whole && row.ports != Delta::NONE {
                    return Err(Reason::RewriteFailed);
                }
                let end = A::datagram_end(frame)?;
                change_sctp(frame, at, ports_of(row), end.wrapping_sub(ip.transport_at.get() as u32))?;
            }
            Layout::EchoRequest => frame.write(at + 4, row.src_port.word())?,
            Layout::EchoReply => frame.write(at + 4, row.dst_port.word())?,
            Layout::Bare => {}
        }
        Ok(())
    }

    #[inline(always)]
    fn change_checksums<A: Wire>(
        &self,
        at: usize,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        let (checksum_at, flags) = match transport.layout {
            Layout::Tcp => (at + 16, 0),
            Layout::Udp => (at + 6, u64::from(BPF_F_MARK_MANGLED_0)),
            Layout::EchoRequest | Layout::EchoReply => (at + 2, 0),
            // SCTP's checksum covers no addresses, and is changed with the ports.
            Layout::Sctp | Layout::Bare => return Ok(()),
        };
        // ICMP over IPv4 is the one whose checksum does not cover the addresses (RFC 792; RFC 4443 §2.3).
        if A::IS_V6 || ip.protocol != protocol::ICMP {
            self.change_checksum(checksum_at, row.addresses, flags | u64::from(BPF_F_PSEUDO_HDR))?;
        }
        if row.ports != Delta::NONE {
            self.change_checksum(checksum_at, row.ports, flags)?;
        }
        Ok(())
    }

    /// The same for an ICMP error, of which `change` says what has been changed in what it quotes.
    #[inline(always)]
    pub(crate) fn translate_message<A: Wire>(
        &self,
        frame: &Frame,
        ip: &Ip<A>,
        row: &FlowRow<A>,
        change: Delta,
    ) -> Result<(), Reason> {
        compiler_fence(Ordering::SeqCst);
        A::rewrite_header(self, frame, ip, row)?;
        compiler_fence(Ordering::SeqCst);
        let checksum_at = ip.transport_at.get() + 2;
        if A::IS_V6 {
            self.change_checksum(checksum_at, row.addresses, u64::from(BPF_F_PSEUDO_HDR))?;
        }
        self.change_checksum(checksum_at, change, 0)
    }

    /// Cuts the frame or fills it up with zeros to this length. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn set_len(&self, len: usize) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the length.
        let code = unsafe { bpf_skb_change_tail(self.raw, len as u32, 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Copies what is at an offset; it must be there.
    #[inline(always)]
    pub(crate) fn load<const N: usize>(&self, at: usize, into: &mut [u64; N]) -> Result<(), Reason> {
        let (raw, place) = (self.raw.cast(), into.as_mut_ptr().cast());
        // SAFETY: the context is valid, the place has room for as many bytes as are asked for, and the helper writes no more.
        let code = unsafe { bpf_skb_load_bytes(raw, at as u32, place, size_of::<[u64; N]>() as u32) };
        if code == 0 { Ok(()) } else { Err(Reason::Malformed) }
    }

    /// Puts a packet that was held in the place of this one, with at least so many bytes. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn become_copy(&self, of: &QueuedFragmentRow, least: usize) -> Result<(), Reason> {
        // Filled up to a length that the verifier knows.
        self.set_len(QueuedFragmentRow::ROOM)?;
        self.store(0, &of.frame)?;
        let len = of.len as usize;
        self.set_len(if len < least { least } else { len })
    }

    /// Lets a copy of the packet come in anew by the interface that it came in by. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn repeat(&self) -> Result<(), Reason> {
        let flags = u64::from(BPF_F_INGRESS);
        // SAFETY: the context is valid; the helper copies what it needs.
        let code = unsafe { bpf_clone_redirect(self.raw, self.ifindex(), flags) };
        if code == 0 { Ok(()) } else { Err(Reason::Fragment) }
    }

    /// Puts room for an IP header of family `A` in the place of that of the other one. Both are without options, and the new
    /// one is to be written. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn change_family<A: Wire>(&self) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper refuses what it cannot do.
        let code = unsafe { bpf_skb_change_proto(self.raw, A::ETHERTYPE.word(), 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Makes room for so many bytes behind the Ethernet header. No packet pointer is good after it.
    #[inline(always)]
    pub(crate) fn make_room(&self, len: usize) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the length.
        let code = unsafe { bpf_skb_adjust_room(self.raw, len as i32, BPF_ADJ_ROOM_MAC, 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Out by the interface that it came in by.
    #[inline(always)]
    pub(crate) fn send_back(&self) -> Verdict {
        // SAFETY: the helper only notes where the packet shall go; without flags it refuses nothing.
        unsafe { bpf_redirect(self.ifindex(), 0) };
        Verdict::Redirected
    }

    #[inline(always)]
    fn change_checksum(&self, at: usize, change: Delta, flags: u64) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the offset itself. Size 0 makes `to` the difference.
        let code = unsafe { bpf_l4_csum_replace(self.raw, at as u32, 0, u64::from(change.as_wsum()), flags) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Into the container behind this host-side veth, without a second pass through the host's stack (kernel 5.10).
    #[inline(always)]
    pub(crate) fn redirect_to_peer(&self, ifindex: u32) -> Verdict {
        if self.context().pkt_type != PACKET_HOST {
            // A container's frame is for the bridge, not for the veth. What it is marked as is the target's from now on, which
            // the kernel itself sees to from 6.15 on.
            // SAFETY: the context is valid.
            unsafe { bpf_skb_change_type(self.raw, PACKET_HOST) };
        }
        // SAFETY: the helper only notes where the packet shall go; without flags it refuses nothing.
        unsafe { bpf_redirect_peer(ifindex, 0) };
        Verdict::Redirected
    }

    /// Out by this interface to the next hop, whose link address the kernel finds (kernel 5.10). An unspecified next hop
    /// leaves the route to the kernel as well.
    #[inline(always)]
    pub(crate) fn redirect_to_neighbour<A: Wire>(ifindex: u32, next_hop: A) -> Verdict {
        if next_hop == A::UNSPECIFIED {
            // SAFETY: no parameters are passed, and the length says so.
            unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
            return Verdict::Redirected;
        }
        // The address in it follows a word, and is aligned like this.
        let address = bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: next_hop.hop() };
        let mut place =
            Placed { pad: 0, value: bpf_redir_neigh { nh_family: A::AF, __bindgen_anon_1: address } };
        let hop = &raw mut place.value;
        let len = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: the parameters live on this stack for the call and their length is exact.
        unsafe { bpf_redirect_neigh(ifindex, hop, len, 0) };
        Verdict::Redirected
    }
}

/// The contiguous front of a packet. Valid until a helper changes the packet.
pub(crate) struct Frame {
    /// A number that the verifier knows nothing of.
    salt: u32,
    start: usize,
    end: usize,
}

impl Frame {
    /// The bytes from `start` to `end`, as a context has them. `salt` is a number that the verifier knows nothing of.
    #[inline(always)]
    pub(crate) fn new(salt: u32, start: usize, end: usize) -> Self {
        Self { salt, start, end }
    }

    /// Its length, bytes.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        (self.end - self.start) as u32
    }

    #[inline(always)]
    fn at<T>(&self, at: usize) -> Option<*mut T> {
        let address = self.start + at;
        if address + size_of::<T>() > self.end { None } else { Some(address as *mut T) }
    }

    #[inline(always)]
    pub(crate) fn write<T>(&self, at: usize, value: T) -> Result<(), Reason> {
        let place = self.at::<T>(at).ok_or(Reason::Malformed)?;
        // SAFETY: `at` proved the place inside the packet, and the verifier proves it again at load.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }
}

impl Frame {
    /// What `N` bytes at an offset add to a checksum; `N` is a multiple of 4, at most 512.
    #[inline(always)]
    pub(crate) fn sum<const N: usize>(&self, at: usize) -> Result<Delta, Reason> {
        let place = self.at::<[u8; N]>(at).ok_or(Reason::Malformed)?;
        // SAFETY: `at` proved that the bytes lie inside the packet; the helper reads them only.
        let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, place.cast(), N as u32, 0) };
        Ok(Delta::of_wsum(sum as u32))
    }
}

/// The same number, of which the verifier knows as little as of `salt`: what comes after it is walked once, however many ways
/// lead to it.
#[inline(always)]
pub(crate) fn opaque(number: u32, salt: u32) -> u32 {
    let mut number = number;
    // SAFETY: two exclusive-ors with the same word leave the number as it was, and touch nothing else.
    unsafe {
        asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) number, in(reg) salt, options(pure, nomem, nostack));
    }
    number
}

impl PacketBytes for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let place = self.at::<[u8; N]>(at)?;
        // SAFETY: as in `write`.
        Some(unsafe { place.read_unaligned() })
    }

    /// As the compiler sees it, another one each time: what it has proved of the last the verifier has forgotten, and the
    /// other way round.
    #[inline(always)]
    fn place(&self, at: Offset) -> usize {
        const { assert!(Offset::MAX <= 255) };
        let mut place = at.get();
        // SAFETY: the mask leaves an offset as it is, and touches nothing else.
        unsafe { asm!("{0} &= 255", inout(reg) place, options(nomem, nostack)) };
        place
    }

    #[inline(always)]
    fn opaque(&self, number: u32) -> u32 {
        opaque(number, self.salt)
    }

    #[inline(always)]
    fn read_words(&self, at: usize) -> Option<[u32; 4]> {
        let place = self.at::<[u32; 4]>(at)?.cast::<u32>();
        // One by one: an array the compiler copies by bytes.
        // SAFETY: as in `write`.
        Some(unsafe {
            [
                place.read_unaligned(),
                place.add(1).read_unaligned(),
                place.add(2).read_unaligned(),
                place.add(3).read_unaligned(),
            ]
        })
    }
}
