//! The privileged tests, one binary: one module for each behaviour.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod addresses;
mod adopt;
mod allocation;
mod bad_input;
mod broadcast;
mod bulk;
mod capacity;
mod conntrack;
mod cross;
mod descriptors;
mod differential;
mod egress;
mod endurance;
mod flows;
mod forward;
mod forwarded;
mod fragment;
mod gateway;
mod host;
mod identity;
mod ipv6;
mod journeys;
mod kernel_policy;
mod lifecycle;
mod many;
mod network;
mod outside;
mod own;
mod packets;
mod path;
mod publish;
mod replace;
mod report;
mod reverse_path;
mod rfc;
mod room;
mod run;
mod testbed;
mod timeouts;
mod tunnel;
mod verifier;
mod version;
mod xdp;
