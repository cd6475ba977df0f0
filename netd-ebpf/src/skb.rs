//! The packet: reading it, changing it, sending it on. The only room that touches its bytes.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_pull_data,
};
use aya_ebpf::programs::TcContext;
use netd_common::bytes::Ipv4;
use netd_common::checksum::Delta;
use netd_common::flow::protocol;
use netd_common::packet::{ETHERNET_LEN, Ipv4Header, PacketBytes, Transport, TransportAt, ipv4_at};
use netd_common::tables::FlowRow;
use netd_common::verdict::{Reason, Verdict};

/// `AF_INET` of the kernel's socket.h.
const AF_INET: u32 = 2;
/// `PACKET_HOST` of if_packet.h: addressed to this host.
const PACKET_HOST: u32 = 0;
/// Ethernet, the longest IPv4 header and TCP's fixed part: all that is ever read.
const HEADERS_LEN: u32 = ETHERNET_LEN as u32 + 60 + 20;

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

    /// Whether the kernel is to cut it into segments that fit the link.
    #[inline(always)]
    pub(crate) fn is_gso(&self) -> bool {
        self.context().gso_size != 0
    }

    /// The interface it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    /// Whether the frame is addressed to this host and carries no VLAN tag: a tagged one belongs to the VLAN's own
    /// interface, which it reaches after this program.
    #[inline(always)]
    pub(crate) fn is_for_this_interface(&self) -> bool {
        self.context().pkt_type == PACKET_HOST && self.context().vlan_present == 0
    }

    /// The frame's bytes, made contiguous as far as headers go.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        let frame = self.linear();
        if frame.end - frame.start >= HEADERS_LEN as usize || frame.end - frame.start >= self.len() as usize {
            return frame;
        }
        let wanted = if self.len() < HEADERS_LEN { self.len() } else { HEADERS_LEN };
        // SAFETY: the context is valid; a refusal leaves the packet as it was, and the reader then finds it short.
        unsafe { bpf_skb_pull_data(self.raw, wanted) };
        self.linear()
    }

    #[inline(always)]
    fn linear(&self) -> Frame {
        let context = self.context();
        Frame { start: context.data as usize, end: context.data_end as usize }
    }

    /// Writes destination and source of the Ethernet header.
    #[inline(always)]
    pub(crate) fn write_ethernet(frame: &Frame, ethernet: &[u32; 3]) -> Result<(), Reason> {
        let [first, second, third] = *ethernet;
        frame.write(0, first)?;
        frame.write(4, second)?;
        frame.write(8, third)
    }

    /// Rewrites addresses, ports and TTL as `row` says, with the checksums.
    ///
    /// The transport checksum is changed by two calls, because a packet whose checksum the device is to finish
    /// (CHECKSUM_PARTIAL) holds only the sum of its pseudo header: the addresses' change must reach it, the ports' must not.
    #[inline(always)]
    pub(crate) fn translate(
        &self,
        frame: &Frame,
        ip: &Ipv4Header,
        transport: &Transport,
        row: &FlowRow,
    ) -> Result<(), Reason> {
        let header_change = row.addresses.and(Delta::TTL_DECREMENTED);
        frame.write(ipv4_at::TTL, ip.ttl - 1)?;
        frame.write(ipv4_at::CHECKSUM, header_change.apply(ip.checksum))?;
        frame.write(ipv4_at::SOURCE, row.src.word())?;
        frame.write(ipv4_at::DESTINATION, row.dst.word())?;
        frame.write_ports(ip.transport_at, row.src_port.word(), row.dst_port.word())?;
        // The stores above must not sink below the helpers, after which the verifier knows no packet pointer.
        compiler_fence(Ordering::SeqCst);
        let mangled = if ip.protocol == protocol::UDP { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        self.change_checksum(transport, row.addresses, mangled | u64::from(BPF_F_PSEUDO_HDR))?;
        if row.ports != Delta::NONE {
            self.change_checksum(transport, row.ports, mangled)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn change_checksum(&self, transport: &Transport, change: Delta, flags: u64) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the offset itself. Size 0 makes `to` the difference.
        let code = unsafe {
            bpf_l4_csum_replace(self.raw, transport.checksum_at as u32, 0, u64::from(change.as_wsum()), flags)
        };
        if code == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Into the container behind this host-side veth, without a second pass through the host's stack (kernel 5.10).
    #[inline(always)]
    pub(crate) fn redirect_to_peer(ifindex: u32) -> Verdict {
        // SAFETY: the helper only notes where the packet shall go.
        Verdict::Redirected(unsafe { bpf_redirect_peer(ifindex, 0) } as i32)
    }

    /// Out by this interface to the next hop, whose link address the kernel finds (kernel 5.10). An unspecified next hop
    /// leaves the route to the kernel as well.
    #[inline(always)]
    pub(crate) fn redirect_to_neighbour(ifindex: u32, next_hop: Ipv4) -> Verdict {
        if next_hop == Ipv4::UNSPECIFIED {
            // SAFETY: no parameters are passed, and the length says so.
            return Verdict::Redirected(
                unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) } as i32
            );
        }
        let mut hop = bpf_redir_neigh {
            nh_family: AF_INET,
            __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: [next_hop.word(), 0, 0, 0] },
        };
        let len = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: the parameters live on this stack for the call and their length is exact.
        Verdict::Redirected(unsafe { bpf_redirect_neigh(ifindex, &raw mut hop, len, 0) } as i32)
    }
}

/// The contiguous front of a packet. Valid until a helper changes the packet.
pub(crate) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    fn at<T>(&self, at: usize) -> Option<*mut T> {
        let address = self.start + at;
        if address + size_of::<T>() > self.end { None } else { Some(address as *mut T) }
    }

    #[inline(always)]
    fn write<T>(&self, at: usize, value: T) -> Result<(), Reason> {
        let place = self.at::<T>(at).ok_or(Reason::Malformed)?;
        // SAFETY: `at` proved the place inside the packet, and the verifier proves it again at load.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    #[inline(always)]
    fn write_ports(&self, at: TransportAt, src: u16, dst: u16) -> Result<(), Reason> {
        self.write(
            at.get(),
            u32::from_ne_bytes({
                let [a, b] = src.to_ne_bytes();
                let [c, d] = dst.to_ne_bytes();
                [a, b, c, d]
            }),
        )
    }
}

impl PacketBytes for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let place = self.at::<[u8; N]>(at)?;
        // SAFETY: as in `write`.
        Some(unsafe { place.read_unaligned() })
    }
}
