//! SCTP's checksum (RFC 9260 appendix A), updated without reading the whole packet.
//!
//! A CRC is linear: if some bytes change, the CRC changes by a value that depends on the difference of these bytes and
//! on how many bytes follow, but not on the bytes that follow. So for new ports a few dozen exclusive-ors are enough.

/// The polynomial x³² + x²⁸ + … + 1 of Castagnoli, bits reversed, as SCTP uses it.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Length of an IP packet's length field, bits.
const LEN_BITS: usize = 16;

/// A linear map of a remainder: the images of each value of each of its digits of four bits.
type Map = [[u32; 16]; 8];

/// For each n the map that appends 2ⁿ zero bytes.
static ZEROS: [Map; LEN_BITS] = zeros();

const fn zeros() -> [Map; LEN_BITS] {
    let mut maps = [[[0; 16]; 8]; LEN_BITS];
    let mut power = 0;
    while power < LEN_BITS {
        let mut digit = 0;
        while digit < 8 {
            let mut value = 0_u32;
            while value < 16 {
                let remainder = value << (4 * digit);
                maps[power][digit][value as usize] = if power == 0 {
                    with_zero_byte(remainder)
                } else {
                    let before = &maps[power - 1];
                    image(before, image(before, remainder))
                };
                value += 1;
            }
            digit += 1;
        }
        power += 1;
    }
    maps
}

/// The remainder after one more zero byte: the polynomial division, bit by bit.
const fn with_zero_byte(mut remainder: u32) -> u32 {
    let mut shifts = 0;
    while shifts < 8 {
        remainder = (remainder >> 1) ^ (POLYNOMIAL & (remainder & 1).wrapping_neg());
        shifts += 1;
    }
    remainder
}

/// Applies a linear map to a remainder.
#[inline(always)]
const fn image(map: &Map, remainder: u32) -> u32 {
    let mut sum = 0;
    let mut digit = 0;
    while digit < 8 {
        sum ^= map[digit][(remainder >> (4 * digit)) as usize & 15];
        digit += 1;
    }
    sum
}

/// The exclusive-or difference of an SCTP packet's checksum for a difference `first` of its first four bytes. Both are
/// native words of the packet's bytes; `len` is the packet's length from the SCTP header on, bytes.
#[inline(always)]
pub fn change(first: u32, len: u32) -> u32 {
    let mut remainder = u32::from_le_bytes(first.to_ne_bytes());
    // Each bit of the length decides about a map, without a branch: the verifier would follow both sides of sixteen branches.
    for (power, map) in ZEROS.iter().enumerate() {
        let is_set = ((len >> power) & 1).wrapping_neg();
        remainder ^= (image(map, remainder) ^ remainder) & is_set;
    }
    u32::from_ne_bytes(remainder.to_le_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "small numbers")]

    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// The polynomial division, bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        let mut remainder = u32::MAX;
        for byte in bytes {
            remainder ^= u32::from(*byte);
            for _bit in 0..8 {
                remainder = if remainder & 1 == 1 { (remainder >> 1) ^ POLYNOMIAL } else { remainder >> 1 };
            }
        }
        !remainder
    }

    #[test]
    fn the_reference_crc_is_correct() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_updated_checksum_equals_a_computed_one() {
        for len in [12_usize, 13, 16, 29, 100, 1480, 4096, 65_515] {
            let mut packet: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            let old = [packet[0], packet[1], packet[2], packet[3]];
            let before = crc32c(&packet);
            let new = [0x1f, 0x90, 0x00, 0x50];
            packet[..4].copy_from_slice(&new);
            let differs = u32::from_ne_bytes(old) ^ u32::from_ne_bytes(new);
            let changed = before.to_le_bytes().map(u32::from);
            let patch = change(differs, len as u32).to_ne_bytes().map(u32::from);
            let after = crc32c(&packet).to_le_bytes().map(u32::from);
            assert_eq!([0, 1, 2, 3].map(|at| changed[at] ^ patch[at]), after, "{len} bytes");
        }
    }
}
