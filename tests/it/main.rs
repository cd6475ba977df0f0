//! The privileged tests, one binary: a module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod access;
mod allocation;
mod bad_input;
mod bulk;
mod flows;
mod host;
mod ipv6;
mod lifecycle;
mod network;
mod outside;
mod packets;
mod path;
mod publish;
mod rfc;
mod run;
mod verifier;
