//! Short names for long ones.

/// A number that stays the same across versions of netd, as 16 hexadecimal digits: 64-bit FNV-1a.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_texts_have_different_digests() {
        assert_ne!(digest(b"/run/netd"), digest(b"/run/netd2"));
        assert_eq!(digest(b""), "cbf29ce484222325");
        assert_eq!(digest(b"a"), "af63dc4c8601ec8c");
    }
}
