//! Frames from outside and from a container: see `netd_fuzz::packet` and `netd_fuzz::source_guard`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    netd_fuzz::packet::holds(bytes);
    netd_fuzz::source_guard::holds(bytes);
});
