//! Bytes of a packet → headers. Depends on no table and no row.
//!
//! | room | owns |
//! |---|---|
//! | [`bytes`] | addresses and numbers in network order |
//! | [`checksum`] | the Internet checksum, updated by differences (RFC 1624) |
//! | [`crc32c`] | SCTP's checksum, updated by differences |
//! | [`ethernet`] | access to a packet's bytes, and the Ethernet header |
//! | [`icmp`] | types of ICMP messages |
//! | [`ip`] | IPv4 and IPv6 headers |
//! | [`transport`] | TCP, UDP, SCTP and ICMP echo headers |

pub mod bytes;
pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod transport;
