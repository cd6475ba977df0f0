//! A packet in XDP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;

use super::context::Context;
use super::frame::Frame;

/// A packet in XDP.
pub(crate) struct XdpBuff {
    raw: *mut xdp_md,
}

impl XdpBuff {
    /// The packet of an XDP program's context.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { raw: ctx.ctx }
    }

    /// The context, for helpers.
    #[inline(always)]
    pub(crate) fn context(&self) -> Context {
        Context::new(self.raw)
    }

    /// Its bytes.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        // SAFETY: the kernel passes a valid context that lives as long as the program runs, and the verifier turns
        // every field access into the one that the real buffer needs.
        let raw = unsafe { &*self.raw };
        Frame::new(raw.rx_queue_index, raw.data as usize, raw.data_end as usize)
    }

    /// The interface that it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: as in `frame`.
        unsafe { (*self.raw).ingress_ifindex }
    }

    /// Sets the interface that the packet leaves by when the program returns `XDP_REDIRECT`.
    #[inline(always)]
    pub(crate) fn redirect(ifindex: u32) {
        // SAFETY: the helper only notes where the packet goes; without flags it refuses nothing.
        unsafe { bpf_redirect(ifindex, 0) };
    }
}
