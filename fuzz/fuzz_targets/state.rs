//! The state file: see `netd_fuzz::state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netd_fuzz::state::holds(bytes));
