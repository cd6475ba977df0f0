//! A packet in TC: its metadata, changing it, sending it on.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_change_type,
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use bytemuck::Pod;
use netd_common::abi::QueuedFragmentRow;
use netd_common::flow::rewrite::{ChecksumUpdate, PacketWrite};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::checksum::Delta;
use netd_common::wire::ethernet::{
    ETHERNET_LEN, ETHERTYPE_AT, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_AT, Offset, PacketBytes,
};

use super::context::Context;
use super::frame::Frame;
use super::inet::Inet;
use super::stack::Aligned;

/// The bits of a VLAN tag that name the VLAN.
const VLAN_ID: u32 = 0x0fff;
/// `PACKET_HOST` of if_packet.h: addressed to this host.
const PACKET_HOST: u32 = 0;
/// `PACKET_BROADCAST` of if_packet.h: addressed to every station of the link.
const PACKET_BROADCAST: u32 = 1;
/// Ethernet, the longest IPv4 header and TCP's fixed part: what is read of an established connection's packet.
const HEADERS_LEN: u32 = ETHERNET_LEN as u32 + 60 + 20;
/// The bytes that are read of a packet that needs a decision: an ICMP error's headers and the quoted ones.
const FRONT_LEN: u32 = Offset::MAX + 1 + 20;

/// A packet in TC.
pub(crate) struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    /// The packet of a TC program's context.
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { raw: ctx.as_ptr().cast() }
    }

    /// The context, for helpers.
    #[inline(always)]
    pub(crate) fn context(&self) -> Context {
        Context::new(self.raw)
    }

    #[inline(always)]
    fn fields(&self) -> &__sk_buff {
        // SAFETY: the kernel passes a valid context that lives as long as the program runs, and the verifier turns
        // every field access into the one that the real sk_buff needs.
        unsafe { &*self.raw }
    }

    /// Length of the frame, bytes; a segmentation-offload packet counts as a whole.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.fields().len
    }

    /// Payload bytes of each segment, if the kernel will segment it; 0 if it is one packet.
    #[inline(always)]
    pub(crate) fn gso_size(&self) -> u32 {
        self.fields().gso_size
    }

    /// Sets a control-block word for the next stages, see [`netd_common::abi::cb`].
    #[inline(always)]
    pub(crate) fn set_cb(&self, at: usize, word: u32) {
        // SAFETY: the context is valid and these words of it are the programs' own; `at` is one of the constants of the
        // contract. Volatile, since the verifier does not accept two of them written as one.
        unsafe { (&raw mut (*self.raw).cb[at]).write_volatile(word) };
    }

    /// A control-block word that an earlier program set.
    #[inline(always)]
    pub(crate) fn cb(&self, at: usize) -> u32 {
        self.fields().cb[at]
    }

    /// The interface that it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.fields().ifindex
    }

    /// The interface that the host's stack has received it by; zero for the host's own packets.
    #[inline(always)]
    pub(crate) fn input(&self) -> u32 {
        // SAFETY: as for the fields. Volatile, since the compiler would read one of two fields by a computed address, which the
        // verifier refuses.
        unsafe { (&raw const (*self.raw).ingress_ifindex).read_volatile() }
    }

    /// Whether it is IPv6, by its EtherType.
    #[inline(always)]
    pub(crate) fn is_v6(&self) -> bool {
        self.fields().protocol == u32::from(ETHERTYPE_IPV6.word())
    }

    /// Whether the frame carried a VLAN tag, which the kernel has removed.
    #[inline(always)]
    pub(crate) fn has_vlan_tag(&self) -> bool {
        self.fields().vlan_present != 0
    }

    /// Whether the frame is addressed to this host and not in a VLAN: one in a VLAN belongs to the VLAN's own
    /// interface, which it reaches after this program. A tag that names no VLAN but a priority (IEEE 802.1Q §9.6) does
    /// not count.
    #[inline(always)]
    pub(crate) fn is_for_this_interface(&self) -> bool {
        self.fields().pkt_type == PACKET_HOST && !self.is_in_vlan()
    }

    /// Whether the frame is addressed to every station of the link, and not in a VLAN.
    #[inline(always)]
    pub(crate) fn is_broadcast(&self) -> bool {
        self.fields().pkt_type == PACKET_BROADCAST && !self.is_in_vlan()
    }

    #[inline(always)]
    fn is_in_vlan(&self) -> bool {
        self.has_vlan_tag() && self.fields().vlan_tci & VLAN_ID != 0
    }

    /// The frame's bytes, contiguous up to the headers that the fast path reads.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        self.contiguous(HEADERS_LEN)
    }

    /// The frame's bytes, contiguous up to the headers that any decision reads.
    #[inline(always)]
    pub(crate) fn front(&self) -> Frame {
        self.contiguous(FRONT_LEN)
    }

    #[inline(always)]
    fn contiguous(&self, len: u32) -> Frame {
        let frame = self.linear();
        if frame.len() >= len || frame.len() >= self.len() {
            return frame;
        }
        let wanted = if self.len() < len { self.len() } else { len };
        // SAFETY: the context is valid. If the helper refuses, the packet is unchanged, and the reader finds it too
        // short.
        unsafe { bpf_skb_pull_data(self.raw, wanted) };
        self.linear()
    }

    #[inline(always)]
    fn linear(&self) -> Frame {
        let salt = self.fields().len;
        // SAFETY: as for the fields. Volatile, since the compiler would otherwise keep an earlier value in half
        // registers, which the verifier no longer accepts as packet pointers.
        let (start, end) = unsafe {
            ((&raw const (*self.raw).data).read_volatile(), (&raw const (*self.raw).data_end).read_volatile())
        };
        Frame::new(salt, start as usize, end as usize)
    }

    /// The packet with `frame`, to be changed in place.
    #[inline(always)]
    pub(crate) fn writer(&self, frame: Frame) -> SkbWriter<'_> {
        SkbWriter { skb: self, frame }
    }

    /// Writes words at an offset, and updates the device's checksum over the whole packet (CHECKSUM_COMPLETE). The
    /// frame is not valid after it.
    #[inline(always)]
    pub(crate) fn store<W: Pod, const N: usize>(&self, at: usize, words: &[W; N]) -> Result<(), Reason> {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        let len = size_of::<[W; N]>() as u32;
        // SAFETY: the context is valid, the words live on this stack or in a map for the call, and the helper checks
        // the offset.
        let code = unsafe { bpf_skb_store_bytes(self.raw, at as u32, words.as_ptr().cast(), len, flags) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Cuts the frame, or pads it with zeros, to this length. The frame is not valid after it.
    #[inline(always)]
    pub(crate) fn set_len(&self, len: usize) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the length.
        let code = unsafe { bpf_skb_change_tail(self.raw, len as u32, 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Puts an Ethernet header without addresses before a packet that has no link-layer header. False, with the packet unchanged, if
    /// it is not an IP packet that begins with its own header: some tunnels leave another before it.
    #[inline(always)]
    pub(crate) fn add_ethernet(&self) -> bool {
        let frame = self.linear();
        // Two bytes: the compiler makes a 32-bit comparison of the bound of one, which the verifier does not take for a bound.
        let is_ip = match frame.read::<2>(0) {
            Some([first, _]) if self.is_v6() => first >> 4 == 6,
            Some([first, _]) => first >> 4 == 4 && self.fields().protocol == u32::from(ETHERTYPE_IPV4.word()),
            None => false,
        };
        // SAFETY: the context is valid; if the helper refuses, the packet is unchanged. It sets the length of the link-layer header,
        // by which the kernel takes it off again, since kernel 5.13.
        if !is_ip || unsafe { bpf_skb_change_head(self.raw, ETHERNET_LEN as u32, 0) } != 0 {
            return false;
        }
        let ethertype = if self.is_v6() { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        self.linear().write(ETHERTYPE_AT, ethertype.word()).is_ok()
    }

    /// Copies what is at an offset; it must be there.
    #[inline(always)]
    pub(crate) fn load<const N: usize>(&self, at: usize, into: &mut [u64; N]) -> Result<(), Reason> {
        let (raw, place) = (self.raw.cast(), into.as_mut_ptr().cast());
        // SAFETY: the context is valid; the buffer has room for the requested bytes, and the helper writes no more.
        let code = unsafe { bpf_skb_load_bytes(raw, at as u32, place, size_of::<[u64; N]>() as u32) };
        if code == 0 { Ok(()) } else { Err(Reason::Malformed) }
    }

    /// Replaces the packet by a queued one, padded to at least this many bytes. The frame is not valid after it.
    #[inline(always)]
    pub(crate) fn become_copy(&self, of: &QueuedFragmentRow, least: usize) -> Result<(), Reason> {
        // First to a length that the verifier knows.
        self.set_len(QueuedFragmentRow::ROOM)?;
        self.store(0, &of.frame)?;
        let len = of.len as usize;
        self.set_len(if len < least { least } else { len })
    }

    /// Makes the kernel receive a copy of the packet again on the same interface. The frame is not valid after it.
    #[inline(always)]
    pub(crate) fn receive_again(&self) -> Result<(), Reason> {
        let flags = u64::from(BPF_F_INGRESS);
        // SAFETY: the context is valid; the helper copies what it needs.
        let code = unsafe { bpf_clone_redirect(self.raw, self.ifindex(), flags) };
        if code == 0 { Ok(()) } else { Err(Reason::Fragment) }
    }

    /// Lets the packet itself come in again on the same interface.
    #[inline(always)]
    pub(crate) fn come_in_again(&self) -> Verdict {
        // SAFETY: the helper reads only its arguments.
        unsafe { bpf_redirect(self.ifindex(), u64::from(BPF_F_INGRESS)) };
        Verdict::Redirected
    }

    /// Replaces the IP header, which has no options, by room for one of family `A`, which is still to be written. The
    /// frame is not valid after it.
    #[inline(always)]
    pub(crate) fn change_family<A: Inet>(&self) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper returns an error if it cannot do it.
        let code = unsafe { bpf_skb_change_proto(self.raw, A::ETHERTYPE.word(), 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Inserts this many bytes after the Ethernet header. The frame is not valid after it.
    #[inline(always)]
    pub(crate) fn make_room(&self, len: usize) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the length.
        let code = unsafe { bpf_skb_adjust_room(self.raw, len as i32, BPF_ADJ_ROOM_MAC, 0) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Passes a container's packet on to the host's stack, which delivers it and does not forward it.
    #[inline(always)]
    pub(crate) fn pass_to_host<A: Inet>(&self) -> Result<Verdict, Reason> {
        let frame = self.front();
        let ip = A::header(&frame, IP_AT)?;
        A::confine(&mut self.writer(frame), &ip)?;
        Ok(Verdict::Pass)
    }

    /// Redirects the packet out by the interface that it came in by.
    #[inline(always)]
    pub(crate) fn send_back(&self) -> Verdict {
        // SAFETY: the helper only notes where the packet goes; without flags it refuses nothing.
        unsafe { bpf_redirect(self.ifindex(), 0) };
        Verdict::Redirected
    }

    /// Redirects the packet into the container behind this host-side veth, without a second pass through the host's
    /// stack (kernel 5.10).
    #[inline(always)]
    pub(crate) fn redirect_to_peer(&self, ifindex: u32) -> Verdict {
        if self.fields().pkt_type != PACKET_HOST {
            // A container's frame is addressed to the bridge, not to the veth, so the packet type is set for the
            // target. From 6.15 on the kernel sets it itself.
            // SAFETY: the context is valid.
            unsafe { bpf_skb_change_type(self.raw, PACKET_HOST) };
        }
        // SAFETY: the helper only notes where the packet goes; without flags it refuses nothing.
        unsafe { bpf_redirect_peer(ifindex, 0) };
        Verdict::Redirected
    }

    /// Redirects the packet out by this interface to the next hop; the kernel resolves its MAC address (kernel 5.10).
    /// If the next hop is unspecified, the kernel also looks up the route.
    #[inline(always)]
    pub(crate) fn redirect_to_neighbour<A: Inet>(ifindex: u32, next_hop: A) -> Verdict {
        if next_hop == A::UNSPECIFIED {
            // SAFETY: no parameters are passed, and the length says so.
            unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
            return Verdict::Redirected;
        }
        let address = bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: next_hop.neighbour_key() };
        // The address in it follows a word.
        let mut place = Aligned::<_, 1>::new(bpf_redir_neigh { nh_family: A::AF, __bindgen_anon_1: address });
        let len = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: the parameters live on this stack for the call and their length is exact.
        unsafe { bpf_redirect_neigh(ifindex, &raw mut place.value, len, 0) };
        Verdict::Redirected
    }

    #[inline(always)]
    fn replace_checksum(&self, at: usize, change: Delta, flags: u64) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the offset. Size 0 makes `to` the difference.
        let code = unsafe { bpf_l4_csum_replace(self.raw, at as u32, 0, u64::from(change.as_wsum()), flags) };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }
}

/// A packet in TC that is changed in place. Checksums are updated by helpers, since the device may complete them later.
///
/// The fences keep the compiler from moving direct writes behind a helper: the verifier refuses them there, since the
/// helper may have moved the packet.
pub(crate) struct SkbWriter<'a> {
    skb: &'a Skb,
    frame: Frame,
}

impl PacketBytes for SkbWriter<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.frame.read(at)
    }

    #[inline(always)]
    fn read_words(&self, at: usize) -> Option<[u32; 4]> {
        self.frame.read_words(at)
    }

    #[inline(always)]
    fn place(&self, at: Offset) -> usize {
        self.frame.place(at)
    }

    #[inline(always)]
    fn opaque(&self, number: u32) -> u32 {
        self.frame.opaque(number)
    }
}

impl PacketWrite for SkbWriter<'_> {
    #[inline(always)]
    fn write<T: Pod>(&mut self, at: usize, value: T) -> Result<(), Reason> {
        self.frame.write(at, value)
    }

    /// Uses the helper that updates CHECKSUM_COMPLETE: unlike IPv4, IPv6 has no header checksum that would cancel the
    /// change.
    #[inline(always)]
    fn write_ipv6(&mut self, at: usize, words: [u32; 9]) -> Result<(), Reason> {
        compiler_fence(Ordering::SeqCst);
        // The addresses in it follow a word.
        self.skb.store(at, &Aligned::<_, 1>::new(words).value)
    }

    #[inline(always)]
    fn update_checksum(&mut self, at: usize, update: ChecksumUpdate) -> Result<(), Reason> {
        compiler_fence(Ordering::SeqCst);
        let flags = if update.zero_means_none { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        if let Some(pseudo_header) = update.pseudo_header {
            self.skb.replace_checksum(at, pseudo_header, flags | u64::from(BPF_F_PSEUDO_HDR))?;
        }
        if update.data != Delta::NONE {
            self.skb.replace_checksum(at, update.data, flags)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn crc32c_change(&self, first: u32, len: u32) -> u32 {
        self.frame.crc32c_change(first, len)
    }
}
