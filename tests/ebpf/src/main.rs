//! The benchmark's BPF programs. `generate` makes packets in the kernel (live frames of BPF_PROG_TEST_RUN), `sink` (TC)
//! and `sink_xdp` (XDP) count them where they arrive. `bare_in`, `bare_out` and `drop_xdp` redirect or drop packets
//! without reading them: no program on that hook can be faster.
//!
//! The loader sets constants for what a run sends and expects, so the programs need no lookup.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, unreachable_pub, reason = "the macros add public functions of their own")]
#![expect(clippy::needless_pass_by_value, reason = "the macros hand contexts over by value")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the kernel's helpers speak in C's integers, and checksums are halves of words"
)]

use core::arch::asm;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_peer};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Ethernet, IPv4 and UDP headers and the first bytes of the payload, as the wire's words.
const FRAME_WORDS: usize = 7;
const PORTS_AT: usize = 34;
const UDP_CHECKSUM_AT: usize = 40;
/// Where the payload begins.
const MARK_AT: usize = 42;

/// What every frame has in common, see `live::Frame` of the benchmark.
#[unsafe(no_mangle)]
static FRAME: [u64; FRAME_WORDS] = [0; FRAME_WORDS];
/// The interface that frames leave by.
#[unsafe(no_mangle)]
static OUT: u32 = 0;
/// The number of flows, from [`FIRST`] on. Frames belong to them in turn.
#[unsafe(no_mangle)]
static FLOWS: u32 = 1;
/// The number of the first flow.
#[unsafe(no_mangle)]
static FIRST: u32 = 0;
/// Whether the flow's address and port are the destination; the source if zero.
#[unsafe(no_mangle)]
static AT_DESTINATION: u32 = 0;
/// The flows' first address, host byte order; one address has [`PORTS_EACH`] flows.
#[unsafe(no_mangle)]
static ADDRESS: u32 = 0;
/// The sum of the IP header without the flow's address, and of pseudo header, UDP header and payload without its
/// address and port: host byte order, folded to less than 2^17.
#[unsafe(no_mangle)]
static SUMS: [u32; 2] = [0; 2];
/// What a packet must have to be counted: destination address and ports, in wire order; zero in the mask means any.
#[unsafe(no_mangle)]
static EXPECTED: [u32; 3] = [0; 3];
#[unsafe(no_mangle)]
static EXPECTED_MASK: [u32; 3] = [0; 3];
/// The payload's first word, as the wire's.
#[unsafe(no_mangle)]
static MARK: u32 = 0;

/// Flows that share an address; a power of two.
const PORTS_EACH: u32 = 1 << 15;
/// The first port of each address.
const FIRST_PORT: u32 = 1 << 14;

/// How many frames were made.
#[map]
static MADE: Array<u32> = Array::with_max_entries(1, 0);
/// What the redirects count.
#[map]
static TALLY: Array<u64> = Array::with_max_entries(1, 0);
/// How many arrived as expected, and how many otherwise.
#[map]
static ARRIVED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// A constant that the loader sets.
macro_rules! set {
    ($name:ident) => {
        // SAFETY: an aligned static that lives as long as the program; volatile, since its value at compile time is not
        // the one that it has.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

/// The ones' complement sum of 16-bit words, folded and inverted.
#[inline(always)]
fn checksum(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Writes the frame of the next flow over the previous one in this memory, and sends it.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(made) = MADE.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: an array's row; one CPU makes frames.
    let number = unsafe { *made };
    let next = if number + 1 >= set!(FLOWS) { 0 } else { number + 1 };
    // SAFETY: as above.
    unsafe { *made = next };
    let flow = number + set!(FIRST);
    let address = set!(ADDRESS) + flow / PORTS_EACH;
    let port = FIRST_PORT + flow % PORTS_EACH;
    let halves = (address >> 16) + (address & 0xffff);
    let sums = set!(SUMS);
    let at_destination = set!(AT_DESTINATION) as usize & 1;

    let start = ctx.data();
    if start + 60 > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let frame = set!(FRAME);
    for (at, word) in frame.into_iter().enumerate() {
        write(start + 8 * at, word);
    }
    write(start + 24, checksum(sums[0] + halves).to_be());
    write(start + 26 + 4 * at_destination, address.to_be());
    write(start + PORTS_AT + 2 * at_destination, (port as u16).to_be());
    let udp = checksum(sums[1] + halves + port);
    write(start + UDP_CHECKSUM_AT, if udp == 0 { 0xffff } else { udp.to_be() });
    let out = set!(OUT);
    // SAFETY: the helper only notes where the frame shall go.
    unsafe { bpf_redirect(out, 0) as u32 }
}

#[inline(always)]
fn write<T>(at: usize, value: T) {
    // SAFETY: the caller has proved that the first 60 bytes are the frame's, and every place is among them; the
    // verifier proves it again.
    unsafe { (at as *mut T).write_unaligned(value) };
}

#[inline(always)]
fn read<T>(at: usize) -> T {
    // SAFETY: the caller has proved that the first 46 bytes are the frame's, and every place is among them; the
    // verifier proves it again.
    unsafe { (at as *const T).read_unaligned() }
}

/// Counts a frame if the run expects it; returns whether it does.
#[inline(always)]
fn count(start: usize, end: usize) -> bool {
    if start + 46 > end {
        return false;
    }
    let words = [read::<u32>(start + 26), read(start + 30), read(start + PORTS_AT)];
    let (label, protocol) = (read::<u32>(start + MARK_AT), read::<u8>(start + 23));
    if protocol != 17 || label != set!(MARK) {
        return false;
    }
    let (expected, mask) = (set!(EXPECTED), set!(EXPECTED_MASK));
    let same = words[0] & mask[0] == expected[0]
        && words[1] & mask[1] == expected[1]
        && words[2] & mask[2] == expected[2];
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: this CPU's copy.
        unsafe { (*arrived)[usize::from(!same)] += 1 };
    }
    true
}

/// Drops the load's packets on the container's interface before its stack sees them; passes everything else.
#[classifier]
pub fn sink(ctx: TcContext) -> i32 {
    if count(ctx.data(), ctx.data_end()) { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// The same before there is an skb.
#[xdp]
pub fn sink_xdp(ctx: XdpContext) -> u32 {
    if count(ctx.data(), ctx.data_end()) { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// Drops every packet.
#[xdp]
pub fn drop_xdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Whether the redirects count.
#[unsafe(no_mangle)]
static COUNTED: u32 = 0;

/// Redirects every packet into the container behind [`OUT`].
#[classifier]
pub fn bare_in(_ctx: TcContext) -> i32 {
    tally();
    let out = set!(OUT);
    // SAFETY: the helper only notes where the packet shall go.
    unsafe { bpf_redirect_peer(out, 0) as i32 }
}

/// Redirects every packet out by [`OUT`].
#[classifier]
pub fn bare_out(_ctx: TcContext) -> i32 {
    tally();
    let out = set!(OUT);
    // SAFETY: as above.
    unsafe { bpf_redirect(out, 0) as i32 }
}

#[inline(always)]
fn tally() {
    if set!(COUNTED) != 0
        && let Some(row) = TALLY.get_ptr_mut(0)
    {
        // SAFETY: an aligned word of a map's value; one instruction reads and writes it.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) row, in(reg) 1_u64, options(nostack)) }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
