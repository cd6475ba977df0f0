//! The privileged tests, one binary: a module per behaviour.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod adopt;
mod allocation;
mod bad_input;
mod bulk;
mod capacity;
mod conntrack;
mod cross;
mod descriptors;
mod differential;
mod endurance;
mod flows;
mod forward;
mod fragment;
mod gateway;
mod host;
mod identity;
mod ipv6;
mod journeys;
mod lifecycle;
mod many;
mod network;
mod outside;
mod packets;
mod path;
mod publish;
mod replace;
mod report;
mod rfc;
mod room;
mod run;
mod testbed;
mod timeouts;
mod verifier;
mod version;
mod xdp;
