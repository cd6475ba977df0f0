//! Decisions: which rows a new connection gets. Pure; whoever calls looks things up before and writes rows after.

use crate::bytes::{Be16, Ipv4};
use crate::checksum::Delta;
use crate::flow::{FlowKey, Zone};
use crate::tables::{EndpointRow, FlowRow, PublicationRow, direction};

/// The two rows of a connection, each under the key that its packets come in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Key of the originator's packets.
    pub original: FlowKey,
    /// What becomes of them.
    pub forward: FlowRow,
    /// Key of the answers.
    pub reply: FlowKey,
    /// What becomes of them.
    pub backward: FlowRow,
}

/// A client outside speaks to a published port: the destination becomes the container's, the source stays.
///
/// `client_port` is what the container sees as the client's port. It is the client's own, unless another connection has
/// the tuple that the answers would come in with: the same client socket at two host addresses, or two host ports, that
/// lead to one container port.
#[inline(always)]
pub fn publish(
    original: FlowKey,
    client_port: Be16,
    publication: &PublicationRow,
    endpoint: &EndpointRow,
) -> Connection {
    let target_port = publication.target_port(original.dst_port);
    let reply = FlowKey::new(
        publication.target,
        original.src,
        target_port,
        client_port,
        original.protocol(),
        Zone::container(endpoint.ifindex),
    );
    let row = |key: &FlowKey, tuple: Tuple, way| FlowRow {
        endpoint: publication.endpoint,
        publication: publication.handle,
        state: way,
        ..translated(key, tuple)
    };
    let inner =
        Tuple { src: original.src, dst: publication.target, src_port: client_port, dst_port: target_port };
    let outer = Tuple {
        src: original.dst,
        dst: original.src,
        src_port: original.dst_port,
        dst_port: original.src_port,
    };
    Connection {
        original,
        forward: row(&original, inner, direction::INWARD),
        reply,
        backward: row(&reply, outer, direction::OUTWARD),
    }
}

/// The addresses and ports of a packet.
#[derive(Clone, Copy)]
struct Tuple {
    src: Ipv4,
    dst: Ipv4,
    src_port: Be16,
    dst_port: Be16,
}

/// A row that turns packets of `key` into `tuple`, with the checksum changes worked out.
#[inline(always)]
fn translated(key: &FlowKey, tuple: Tuple) -> FlowRow {
    let Tuple { src, dst, src_port, dst_port } = tuple;
    FlowRow {
        src,
        dst,
        src_port,
        dst_port,
        addresses: Delta::NONE.double(key.src.word(), src.word()).double(key.dst.word(), dst.word()),
        ports: Delta::NONE
            .word(key.src_port.word(), src_port.word())
            .word(key.dst_port.word(), dst_port.word()),
        ..FlowRow::default()
    }
}
