//! The host's own connections: the address that a socket asked for, which getpeername and recvfrom then return.

use bytemuck::{Pod, Zeroable};

use crate::wire::bytes::{Be16, Ipv6};

/// A host socket and the container's address that its packets are sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SocketKey {
    /// The kernel's number for the socket (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// The container's address, IPv4 in its mapped form.
    pub target: Ipv6,
    /// The container's port.
    pub target_port: Be16,
    /// Protocol number.
    pub protocol: Be16,
    /// Zero.
    pub pad: u32,
}

/// The address and port that the application connected to or sent to. Aligned to 8 bytes, because the verifier refuses
/// a double word that spans two double words of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct SocketRow {
    /// The address, IPv4 in its mapped form (RFC 4291 §2.5.5.2).
    pub address: Ipv6,
    /// The port.
    pub port: Be16,
    /// Zero.
    pub(crate) pad: u16,
    /// Zero. A field of its own, since the verifier refuses a word across two words of the stack.
    pub(crate) rest: u32,
}

impl SocketRow {
    /// The row for this address and port.
    #[inline(always)]
    pub const fn new(address: Ipv6, port: Be16) -> Self {
        Self { address, port, pad: 0, rest: 0 }
    }
}
