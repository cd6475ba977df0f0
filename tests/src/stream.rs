//! Streams of bytes that show lost, repeated or foreign bytes.

use std::io::{Read, Write};

/// 2³⁰ bytes.
pub const GIB: u64 = 1 << 30;

/// The block that a stream repeats. Its length is prime, so that a lost or repeated piece changes all bytes after it.
pub fn block() -> Vec<u8> {
    (0..1_048_573_u32).map(|n| n.wrapping_mul(2_654_435_761).to_ne_bytes()[2]).collect()
}

/// Sends `len` bytes of repeated blocks.
#[track_caller]
pub fn send(mut stream: impl Write, len: u64) {
    let block = block();
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        stream.write_all(&block[..part]).unwrap_or_else(|error| panic!("{left} of {len} unsent: {error}"));
        left -= part as u64;
    }
}

/// Receives `len` bytes and fails unless they are those that [`send`] sends.
#[track_caller]
pub fn receive(mut stream: impl Read, len: u64) {
    let block = block();
    let mut buffer = vec![0; block.len()];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        let got = &mut buffer[..part];
        stream.read_exact(got).unwrap_or_else(|error| panic!("{left} of {len} missing: {error}"));
        assert!(got == &block[..part], "other bytes after {} of {len}", len - left);
        left -= part as u64;
    }
}
