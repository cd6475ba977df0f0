//! Sockets of a namespace, found and ended through sock_diag(7).

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::exchange::{receive, send};
use crate::error::{Doing as _, Result};
use crate::netns::Netns;

/// The states of a socket that has a peer. A connected UDP socket is in the first of them.
const CONNECTED: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE_WAIT)
    .union(StateFlags::LAST_ACK)
    .union(StateFlags::CLOSING);

/// Ends the connected TCP and UDP sockets of `netns` that have one of these cookies (`SO_COOKIE`) and one of these
/// peers: their next call fails with ECONNABORTED. Needs a kernel with `CONFIG_INET_DIAG_DESTROY` (4.5).
pub(crate) fn end_sockets(netns: &Netns, cookies: &HashSet<u64>, peers: &[IpAddr]) -> Result<()> {
    let end = || {
        for family in [AF_INET, AF_INET6] {
            for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
                end(family, protocol, |id| {
                    cookies.contains(&cookie(id)) && peers.contains(&id.destination_address.to_canonical())
                })?;
            }
        }
        Ok::<(), io::Error>(())
    };
    netns.run(end)?.doing(|| "end the host's sockets that are connected to a container".into())
}

/// Ends the sockets of one kind that `is_meant`.
fn end(family: u8, protocol: u8, is_meant: impl Fn(&SocketId) -> bool) -> io::Result<()> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    let request = |socket_id| {
        let states = CONNECTED;
        let extensions = ExtensionFlags::empty();
        SockDiagMessage::InetRequest(InetRequest { family, protocol, extensions, states, socket_id })
    };
    send(&socket, NLM_F_REQUEST | NLM_F_DUMP, request(SocketId::new_v4()))?;
    let mut found = Vec::new();
    receive(&socket, |message| {
        if let SockDiagMessage::InetResponse(response) = message
            && is_meant(&response.header.socket_id)
        {
            found.push(response.header.socket_id);
        }
    })?;
    for id in found {
        send(&socket, NLM_F_REQUEST | NLM_F_ACK, SockDiagDestroy::new(request(id)))?;
        match receive(&socket, |_: SockDiagMessage| ()) {
            // The socket has already ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            ended => ended?,
        }
    }
    Ok(())
}

/// The kernel writes a cookie as two words, the low one first.
fn cookie(id: &SocketId) -> u64 {
    let [a, b, c, d, e, f, g, h] = id.cookie;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32
}
