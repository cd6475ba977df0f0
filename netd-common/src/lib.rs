//! What netd's kernel side (netd-ebpf) and user side (netd) share: how a packet is read, what is decided about it, and
//! what the maps between the two sides hold.
//!
//! **Addresses and ports are in network order at rest**: in packets, keys and rows alike. Only [`wire::bytes`] changes
//! byte order. The crate has no I/O and no clock, so host tests run the very code that the kernel runs. `unsafe` is
//! allowed in `plain` only.
//!
//! | room | owns | may use |
//! |---|---|---|
//! | [`verdict`] | what becomes of a packet, and why | nothing |
//! | [`wire`] | bytes → headers | `verdict` |
//! | [`flow`] | keys and rows of connections, and the rewrite of a packet | `wire` |
//! | [`abi`] | the contract between both sides: maps, programs, rows | `flow`, `wire` |
//! | [`policy`] | who may connect to what, and with which NAT | all of them |
//! | `plain` | the promise that generic keys and rows have no padding | `abi`, `flow`, `wire` |

#![no_std]
#![deny(unsafe_code)]

pub mod abi;
pub mod flow;
mod plain;
pub mod policy;
pub mod verdict;
pub mod wire;
