//! netd: publishes container ports with eBPF instead of iptables.

pub mod error;
pub mod dataplane;
