//! Arguments of the command line: see `netd_fuzz::spec`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netd_fuzz::spec::holds(bytes));
