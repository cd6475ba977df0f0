//! What netd's kernel side (netd-ebpf) and user side (netd) both believe: how a packet is read, what is decided about
//! it, and what the rows of the tables between them look like.
//!
//! One rule holds everywhere: **addresses and ports are in network order at rest**, in packets, keys and rows alike.
//! [`bytes`] is the only room that changes byte order. There is no I/O and no clock here, and `unsafe` only in [`plain`], so host tests run
//! the very code that the kernel runs.
//!
//! | room | owns |
//! |---|---|
//! | [`bytes`] | the words that packets and rows are made of |
//! | [`packet`] | bytes → headers |
//! | [`flow`] | the key of a flow, and the generations that tell a live row from a stale one |
//! | [`guard`] | what a container may say on its own link |
//! | [`checksum`] | RFC 1624 arithmetic |
//! | [`crc32c`] | the same for SCTP |
//! | [`nat`] | decisions: which rows a new connection gets |
//! | [`plain`] | the promise that rows are plain words |
//! | [`abi`] | the contract between both sides: maps, programs, rows |
//! | [`track`] | the conntrack state of a connection, and how long it may be idle in it |
//! | [`verdict`] | what becomes of a packet, and why |

#![no_std]
#![deny(unsafe_code)]

pub mod abi;
pub mod bytes;
pub mod checksum;
pub mod crc32c;
pub mod flow;
pub mod guard;
pub mod nat;
pub mod packet;
pub mod plain;

pub mod track;
pub mod verdict;
