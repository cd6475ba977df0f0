//! The interface to the kernel: packets, maps, clocks, routes, sockets. The only room with `unsafe`: every helper call,
//! raw pointer and atomic operation is behind a safe function here.
//!
//! | room | owns |
//! |---|---|
//! | [`atomic`] | counters that several CPUs change |
//! | [`clock`] | time and random numbers |
//! | [`context`] | the context that a program was started with |
//! | [`deny_cache`] | the deny cache of XDP |
//! | [`drops`] | the drop counters |
//! | [`fib`] | the kernel's routing table |
//! | [`flows`] | rows of the flow tables |
//! | [`fragments`] | rows of fragmented datagrams |
//! | [`frame`] | the contiguous front of a packet |
//! | [`host_socket`] | the host's own sockets |
//! | [`inet`] | the differences between the families in calls to the kernel |
//! | [`lookups`] | the lookups of the policy |
//! | [`maps`] | the maps themselves |
//! | `object` | the licence and the panic handler |
//! | [`scratch`] | per-CPU memory for data that does not fit the stack of 512 bytes |
//! | [`seen_peers`] | the Bloom filter of addresses that have had a connection |
//! | [`skb`] | a packet in TC |
//! | [`sock`] | a socket in a cgroup hook |
//! | [`stack`] | values on the stack that a helper reads |
//! | [`tables`] | rows that the user side writes |
//! | [`xdp_buff`] | a packet in XDP |

pub(crate) mod atomic;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod deny_cache;
pub(crate) mod drops;
pub(crate) mod fib;
pub(crate) mod flows;
pub(crate) mod fragments;
pub(crate) mod frame;
pub(crate) mod host_flows;
pub(crate) mod host_socket;
pub(crate) mod inet;
pub(crate) mod lookups;
pub(crate) mod maps;
mod object;
pub(crate) mod scratch;
pub(crate) mod seen_peers;
pub(crate) mod skb;
pub(crate) mod sock;
pub(crate) mod stack;
pub(crate) mod tables;
pub(crate) mod xdp_buff;
