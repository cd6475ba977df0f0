//! netd: publishes container ports with eBPF instead of iptables.
//!
//! This is the engine. A front end (the command line in `src/bin/netd`) makes a checked request ([`spec`]), the engine
//! carries it out on interfaces and addresses (`link`, [`netns`]) and on the dataplane ([`dataplane`]), and answers with a
//! result ([`report`]). `link` and [`dataplane`] do not know each other; only the engine sees both.

pub mod dataplane;
pub mod engine;
pub mod error;
mod ipam;
mod link;
mod listeners;
pub mod netns;
mod ports;
pub mod report;
pub mod spec;
pub mod store;
