//! netd: publishes container ports with eBPF instead of iptables.
//!
//! A request walks one way: words ([`cli`]) → a checked request ([`spec`]) → steps ([`engine`]) → interfaces and
//! addresses ([`link`], [`netns`]) and the dataplane ([`dataplane`]) → a result ([`report`]) → text or JSON ([`output`]).
//! [`link`] and [`dataplane`] do not know each other; only the engine sees both.

pub mod cli;
pub mod command;
pub mod dataplane;
pub mod engine;
pub mod error;
pub mod ipam;
pub mod link;
pub mod listeners;
pub mod netns;
pub mod output;
pub mod ports;
pub mod report;
pub mod spec;
pub mod store;
