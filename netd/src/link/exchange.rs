//! Requests to the netlink protocols that rtnetlink does not speak, and the kernel's replies.

use std::io;

use netlink_packet_core::{
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::Socket;

/// Sends a request with these flags (`NLM_F_…`).
pub(super) fn send<M: NetlinkSerializable>(socket: &Socket, flags: u16, message: M) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(|_len| ())
}

/// Reads the kernel's reply up to its end.
pub(super) fn receive<M: NetlinkDeserializable>(socket: &Socket, mut visit: impl FnMut(M)) -> io::Result<()> {
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
            let len = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(len..).unwrap_or(&[]);
            match message.payload {
                NetlinkPayload::InnerMessage(message) => visit(message),
                // An acknowledgement is an error without a code.
                NetlinkPayload::Error(error) => return error.code.map_or(Ok(()), |_| Err(error.to_io())),
                NetlinkPayload::Done(_) => return Ok(()),
                _ => {}
            }
        }
    }
}
