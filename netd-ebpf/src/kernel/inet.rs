//! The differences between the families in calls to the kernel.

use aya_ebpf::bindings::bpf_fib_lookup;
use netd_common::abi::FamilyRows;
use netd_common::flow::rewrite::Rewrite;
use netd_common::wire::bytes::{Ipv4, Ipv6};

use super::maps::FamilyMaps;

/// An address family of the kernel.
pub(crate) trait Inet: FamilyRows + FamilyMaps + Rewrite {
    /// The number of the address family (linux/socket.h).
    const AF: u32;

    /// Puts the addresses into a FIB lookup.
    fn set_fib_addresses(question: &mut bpf_fib_lookup, src: Self, dst: Self);

    /// The next hop in the result.
    fn fib_next_hop(answer: &bpf_fib_lookup) -> Self;

    /// The address as the neighbour table's key.
    fn neighbour_key(self) -> [u32; 4];
}

impl Inet for Ipv4 {
    const AF: u32 = 2;

    #[inline(always)]
    fn set_fib_addresses(question: &mut bpf_fib_lookup, src: Self, dst: Self) {
        question.__bindgen_anon_3.ipv4_src = src.word();
        question.__bindgen_anon_4.ipv4_dst = dst.word();
    }

    #[inline(always)]
    fn fib_next_hop(answer: &bpf_fib_lookup) -> Self {
        // SAFETY: every member of the union is made of integers, for which any bits are a value.
        Self::from_word(unsafe { answer.__bindgen_anon_4.ipv4_dst })
    }

    #[inline(always)]
    fn neighbour_key(self) -> [u32; 4] {
        // The kernel reads the first word. With four equal ones the compiler writes aligned double words.
        [self.word(); 4]
    }
}

impl Inet for Ipv6 {
    const AF: u32 = 10;

    #[inline(always)]
    fn set_fib_addresses(question: &mut bpf_fib_lookup, src: Self, dst: Self) {
        question.__bindgen_anon_3.ipv6_src = src.words();
        question.__bindgen_anon_4.ipv6_dst = dst.words();
    }

    #[inline(always)]
    fn fib_next_hop(answer: &bpf_fib_lookup) -> Self {
        // SAFETY: as for IPv4.
        Self::from_words(unsafe { answer.__bindgen_anon_4.ipv6_dst })
    }

    #[inline(always)]
    fn neighbour_key(self) -> [u32; 4] {
        self.words()
    }
}
