//! The host's IPsec policies (net/xfrm, `ip xfrm policy`), through the kernel's NETLINK_XFRM.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_XFRM;

use super::exchange::{receive, send};
use crate::error::{Doing as _, Result};
use crate::model::IpsecPolicy;
use crate::netns::Netns;

/// include/uapi/linux/xfrm.h.
const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRMA_TMPL: u16 = 5;
const XFRM_POLICY_OUT: u8 = 1;
const XFRM_POLICY_FWD: u8 = 2;
const XFRM_POLICY_ALLOW: u8 = 0;
/// Length of `struct xfrm_userpolicy_id`.
const ID_LEN: usize = 64;
/// Length of `struct xfrm_userpolicy_info`, and offsets in it; its selector comes first, and the action follows the direction.
const INFO_LEN: usize = 168;
const SOURCE: usize = 16;
const FAMILY: usize = 40;
const PREFIX_LENS: usize = 42;
const DIRECTION: usize = 160;

/// The policies that are not for a single socket; none if the kernel has no IPsec.
///
/// # Errors
/// What the kernel says but that it has no such protocol.
pub(crate) fn ipsec_policies(netns: &Netns) -> Result<Vec<IpsecPolicy>> {
    match netns.run(dump)? {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(Vec::new()),
        policies => policies.doing(|| "list IPsec policies".into()),
    }
}

fn dump() -> io::Result<Vec<IpsecPolicy>> {
    let socket = Socket::new(NETLINK_XFRM)?;
    send(
        &socket,
        NLM_F_REQUEST | NLM_F_DUMP,
        Message { kind: XFRM_MSG_GETPOLICY, content: vec![0; ID_LEN] },
    )?;
    let mut policies = Vec::new();
    receive(&socket, |message: Message| {
        if message.kind == XFRM_MSG_NEWPOLICY {
            policies.extend(policy(&message.content));
        }
    })?;
    Ok(policies)
}

/// A message of the protocol as it is.
struct Message {
    kind: u16,
    content: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.content.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.content);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, Infallible> {
        Ok(Self { kind: header.message_type, content: payload.to_vec() })
    }
}

/// What a policy says; none for one of a single socket, and for what cannot be read.
fn policy(message: &[u8]) -> Option<IpsecPolicy> {
    let [direction, action] = bytes(message, DIRECTION)?;
    if direction > XFRM_POLICY_FWD {
        return None;
    }
    let family = u16::from_ne_bytes(bytes(message, FAMILY)?);
    let [len_dst, len_src] = bytes(message, PREFIX_LENS)?;
    let prefix = |at, len| {
        let address = if i32::from(family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::from(bytes::<4>(message, at)?))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes::<16>(message, at)?))
        };
        IpNet::new(address, len).ok().map(|net| net.trunc())
    };
    let (dst, src) = (prefix(0, len_dst)?, prefix(SOURCE, len_src)?);
    let (local, remote) = if direction == XFRM_POLICY_OUT { (src, dst) } else { (dst, src) };
    let passes = action == XFRM_POLICY_ALLOW && !has_template(message.get(INFO_LEN..)?);
    Some(IpsecPolicy { local, remote, passes })
}

/// Whether a policy's attributes say how to transform packets.
fn has_template(mut attributes: &[u8]) -> bool {
    while let (Some(len), Some(kind)) = (bytes(attributes, 0), bytes(attributes, 2)) {
        if u16::from_ne_bytes(kind) == XFRMA_TMPL {
            return true;
        }
        let len = usize::from(u16::from_ne_bytes(len)).max(4);
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy from 192.0.2.1/32 to 198.51.100.0/24, as the kernel tells it.
    fn told(direction: u8, action: u8, template: bool) -> Vec<u8> {
        let mut message = vec![0; INFO_LEN];
        message[..4].copy_from_slice(&[198, 51, 100, 0]);
        message[SOURCE..SOURCE + 4].copy_from_slice(&[192, 0, 2, 1]);
        message[FAMILY..FAMILY + 4].copy_from_slice(&[2, 0, 24, 32]);
        message[DIRECTION..DIRECTION + 2].copy_from_slice(&[direction, action]);
        // A mark before it.
        message.extend([12, 0, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        if template {
            message.extend([68, 0, 5, 0]);
            message.resize(message.len() + 64, 0);
        }
        message
    }

    #[test]
    fn a_policy_says_who_is_where() {
        let (host, peer): (IpNet, IpNet) =
            ("192.0.2.1/32".parse().unwrap(), "198.51.100.0/24".parse().unwrap());
        let is = |local, remote, passes| Some(IpsecPolicy { local, remote, passes });
        assert_eq!(policy(&told(1, 0, true)), is(host, peer, false), "out, to be encrypted");
        assert_eq!(policy(&told(1, 0, false)), is(host, peer, true), "out, as it is");
        assert_eq!(policy(&told(1, 1, false)), is(host, peer, false), "out, blocked");
        assert_eq!(policy(&told(0, 1, false)), is(peer, host, false), "in");
        assert_eq!(policy(&told(3, 0, false)), None, "of a socket");
        assert_eq!(policy(&told(1, 0, true)[..100]), None, "cut short");
    }
}
