//! The code that netd's kernel side (netd-ebpf) and user side (netd) share: reading packets, the policy, and the rows
//! of the maps.
//!
//! **Addresses and ports are stored in network order**, in packets, keys and rows. Only [`wire::bytes`] changes byte
//! order. The crate has no I/O and no clock, so host tests run the same code as the kernel. Only `plain` may use
//! `unsafe`.
//!
//! | room | owns | may use |
//! |---|---|---|
//! | [`verdict`] | verdicts, and reasons for drops | nothing |
//! | [`wire`] | bytes → headers | `verdict` |
//! | [`flow`] | keys and rows of connections, and the rewrite of a packet | `wire` |
//! | [`abi`] | the contract between both sides: maps, programs, rows | `flow`, `wire` |
//! | [`policy`] | which connections are allowed, and their NAT | all of them |
//! | `plain` | the proof that generic keys and rows have no padding | `abi`, `flow`, `wire` |

#![no_std]
#![deny(unsafe_code)]

pub mod abi;
pub mod flow;
mod plain;
pub mod policy;
pub mod verdict;
pub mod wire;
