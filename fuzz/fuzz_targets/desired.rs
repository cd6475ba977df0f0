//! Files of the desired state: see `netd_fuzz::desired`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netd_fuzz::desired::holds(bytes));
