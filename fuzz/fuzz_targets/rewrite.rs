//! Packets that are translated, there and back: see `netd_fuzz::rewrite`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netd_fuzz::rewrite::holds(bytes));
