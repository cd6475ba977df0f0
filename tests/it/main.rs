//! The privileged tests, one binary: a module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod access;
mod bad_input;
mod bulk;
mod differential;
mod flows;
mod host;
mod ipv6;
mod lifecycle;
mod network;
mod outside;
mod packets;
mod path;
mod publish;
mod run;
mod verifier;
