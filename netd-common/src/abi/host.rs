//! The host itself: what its own sockets use.

use bytemuck::{Pod, Zeroable};

use crate::wire::bytes::Be16;

/// The ports that the kernel gives to the host's sockets that ask for none (`net.ipv4.ip_local_port_range`), as numbers.
/// Zeros before the user side has written it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LocalPorts {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl LocalPorts {
    /// Whether the kernel may give this port to a socket.
    #[inline(always)]
    pub const fn contains(self, port: Be16) -> bool {
        let port = port.get();
        self.first <= port && port <= self.last
    }
}
