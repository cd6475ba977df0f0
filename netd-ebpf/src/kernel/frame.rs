//! The contiguous front of a packet, read and written in place.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_csum_diff;
use bytemuck::Pod;
use netd_common::flow::rewrite::PacketWrite;
use netd_common::verdict::Reason;
use netd_common::wire::checksum::Delta;
use netd_common::wire::crc32c;
use netd_common::wire::ethernet::{Offset, PacketBytes};

/// The contiguous front of a packet. Valid until a helper changes the packet: the verifier refuses a program that uses
/// it after that.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// A number that is opaque to the verifier.
    salt: u32,
    start: usize,
    end: usize,
}

impl Frame {
    /// The bytes from `start` to `end`, as a context has them. `salt` is a number that is opaque to the verifier.
    #[inline(always)]
    pub(super) fn new(salt: u32, start: usize, end: usize) -> Self {
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

    /// Writes destination and source of the Ethernet header.
    #[inline(always)]
    pub(crate) fn write_ethernet(&mut self, ethernet: &[u32; 3]) -> Result<(), Reason> {
        let [first, second, third] = *ethernet;
        self.write(0, first)?;
        self.write(4, second)?;
        self.write(8, third)
    }

    /// The Internet checksum's sum of `N` bytes at an offset; `N` is a multiple of 4, at most 512.
    #[inline(always)]
    pub(crate) fn sum<const N: usize>(&self, at: usize) -> Result<Delta, Reason> {
        let place = self.at::<[u8; N]>(at).ok_or(Reason::Malformed)?;
        // SAFETY: `at` proved that the bytes lie inside the packet; the helper only reads them.
        let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, place.cast(), N as u32, 0) };
        Ok(Delta::of_wsum(sum as u32))
    }
}

/// The same number, made opaque by `salt`, a number that is opaque to the verifier. So the verifier checks the
/// following code once, and not for each possible origin of the number.
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
        // SAFETY: `at` proved the place inside the packet, and the verifier proves it again at load.
        Some(unsafe { place.read_unaligned() })
    }

    /// A new value for the compiler at each call. Otherwise it would rely on bounds that it has proved before, but that
    /// the verifier no longer knows.
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
        // One by one, since the compiler copies an array byte by byte.
        // SAFETY: as in `read`.
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

/// Checksums are updated in place, since before XDP they are complete.
impl PacketWrite for Frame {
    #[inline(always)]
    fn write<T: Pod>(&mut self, at: usize, value: T) -> Result<(), Reason> {
        let place = self.at::<T>(at).ok_or(Reason::Malformed)?;
        // SAFETY: as in `read`; the type is made of integers, by the trait's bound.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    #[inline(always)]
    fn crc32c_change(&self, first: u32, len: u32) -> u32 {
        crc32c_change(first, len)
    }
}

/// A separate function in the object, so that the verifier checks it once, and not on each path that leads to it
/// (kernel 5.6).
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crc32c_change(first: u32, len: u32) -> u32 {
    crc32c::change(first, len)
}
