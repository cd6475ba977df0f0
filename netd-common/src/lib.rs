//! What netd believes.
#![no_std]
#![forbid(unsafe_code)]
