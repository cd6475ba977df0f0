//! XDP features of drivers, from the kernel's generic netlink family `netdev` (6.3).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::error::{Doing as _, Result};
use crate::netns::Netns;

/// The family that returns the numbers of other families (include/uapi/linux/genetlink.h).
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// include/uapi/linux/netdev.h.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// The interface accepts redirected frames.
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// include/uapi/linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS_LEN: usize = 16 + 4;

/// Whether an interface accepts frames that XDP redirects to it; none if the kernel is too old to say.
///
/// # Errors
/// An error of the kernel, except that it does not know the family or the attribute.
pub(crate) fn takes_xdp_frames(netns: &Netns, ifindex: u32) -> Result<Option<bool>> {
    netns
        .run(|| features(ifindex))?
        .doing(|| format!("ask what interface {ifindex} can do with XDP"))
        .map(|features| features.map(|features| features & NETDEV_XDP_ACT_NDO_XMIT != 0))
}

fn features(ifindex: u32) -> io::Result<Option<u64>> {
    let socket = Socket::new(NETLINK_GENERIC)?;
    let name = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = match ask(&socket, &name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        answer => attribute::<2>(&answer?, CTRL_ATTR_FAMILY_ID).map(u16::from_ne_bytes),
    };
    let Some(family) = family else { return Ok(None) };
    let device = request(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    Ok(attribute::<8>(&ask(&socket, &device)?, NETDEV_A_DEV_XDP_FEATURES).map(u64::from_ne_bytes))
}

/// A request with one attribute.
fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::new();
    attribute.extend(u16::try_from(4 + value.len()).unwrap_or(0).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let len = u32::try_from(HEADERS_LEN + attribute.len()).unwrap_or(0);
    let mut message = Vec::new();
    message.extend(len.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port, which this socket does not need; then command, version and two reserved bytes.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attribute);
    message
}

/// The answer to a request, without its header.
fn ask(socket: &Socket, message: &[u8]) -> io::Result<Vec<u8>> {
    socket.send_to(message, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let field = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let cut_short = || io::Error::from(io::ErrorKind::InvalidData);
    let [a, b, _, _]: [u8; 4] = field(4).ok_or_else(cut_short)?;
    if u16::from_ne_bytes([a, b]) == NLMSG_ERROR {
        let code = i32::from_ne_bytes(field(16).ok_or_else(cut_short)?);
        return Err(io::Error::from_raw_os_error(-code));
    }
    answer.get(HEADERS_LEN..).map(<[u8]>::to_vec).ok_or_else(cut_short)
}

/// The value of an attribute of this kind and length (RFC 3549 §2.2 has the layout).
fn attribute<const N: usize>(mut attributes: &[u8], wanted: u16) -> Option<[u8; N]> {
    loop {
        let (header, rest) = attributes.split_first_chunk::<4>()?;
        let [a, b, c, d] = *header;
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let value = rest.get(..len.checked_sub(4)?)?;
        if kind == wanted {
            return value.try_into().ok();
        }
        attributes = rest.get(value.len().next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_after_others() {
        let attributes = [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 3, 0, 1, 2, 3, 4];
        assert_eq!(attribute::<4>(&attributes, 3), Some([1, 2, 3, 4]));
        assert_eq!(attribute::<2>(&attributes, 3), None, "another length");
        assert_eq!(attribute::<4>(&attributes, 4), None);
        assert_eq!(attribute::<4>(&attributes[..14], 3), None, "cut short");
        assert_eq!(attribute::<4>(&[0, 0, 0, 0], 3), None, "a length that lies");
    }
}
