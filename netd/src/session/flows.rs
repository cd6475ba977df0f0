//! Connections and their timeouts.

use std::collections::HashMap;
use std::net::IpAddr;

use netd_common::flow::Handle;
use netd_common::flow::State;
use netd_common::wire::ip::protocol;

use super::Session;
use crate::dataplane::{self, Connection};
use crate::error::Result;
use crate::model::report::{Direction, Flow, Timeout};
use crate::model::{Container, Name, Protocol, Publication};

impl Session {
    /// Connections, those with the least idle time first; of one container, protocol or port, if these are given.
    pub fn report_flows(
        &self,
        container: Option<&Name>,
        protocol: Option<Protocol>,
        port: Option<u16>,
    ) -> Result<Vec<Flow>> {
        if let Some(name) = container {
            self.state.container(name)?;
        }
        let Some(dataplane) = &self.dataplane else { return Ok(Vec::new()) };
        let state = &self.state;
        let owners: HashMap<Handle, &Container> =
            state.interfaces().map(|(container, interface)| (interface.handle(), container)).collect();
        let publications: HashMap<Handle, &Publication> =
            state.publications.iter().map(|one| (one.handle(), one)).collect();
        // A connection that is forwarded belongs to no container.
        let remotes: HashMap<Handle, IpAddr> = state
            .publications
            .iter()
            .filter_map(|one| one.target().remote().map(|remote| (remote.handle(), remote.address)))
            .collect();
        let mut flows = Vec::new();
        for connection in dataplane.tables.connections()? {
            let owner = owners.get(&connection.endpoint);
            let name = match (owner, remotes.get(&connection.endpoint)) {
                (Some(owner), _) => owner.name.to_string(),
                (None, Some(address)) => address.to_string(),
                (None, None) => continue,
            };
            let Connection { original, reply, .. } = connection;
            let ports = [original.from.port(), original.to.port(), reply.from.port(), reply.to.port()];
            let wanted = container.is_none_or(|name| owner.is_some_and(|owner| owner.name == *name))
                && protocol.is_none_or(|protocol| protocol.number() == connection.protocol)
                && port.is_none_or(|port| ports.contains(&port));
            if !wanted {
                continue;
            }
            let publication = publications.get(&connection.publication).map(|one| one.spec());
            flows.push(Flow {
                proto: protocol_name(connection.protocol),
                state: connection.state.name(),
                idle_ms: connection.idle_millis,
                container: name,
                publication,
                original: direction(&original),
                reply: direction(&reply),
            });
        }
        flows.sort_by_key(|flow| (flow.idle_ms, flow.original.src, flow.original.src_port));
        Ok(flows)
    }

    /// The idle timeout of each conntrack state.
    pub fn report_timeouts(&self) -> Vec<Timeout> {
        let timeout = |state: State| Timeout {
            state: state.name(),
            seconds: self.state.timeouts.seconds(state),
            default_seconds: state.default_timeout(),
            source: state.default_source(),
        };
        State::ALL.into_iter().map(timeout).collect()
    }
}

fn direction(of: &dataplane::Direction) -> Direction {
    Direction {
        src: of.from.ip(),
        src_port: of.from.port(),
        dst: of.to.ip(),
        dst_port: of.to.port(),
        packets: of.packets,
        bytes: of.bytes,
    }
}

/// A protocol as `/etc/protocols` has it, of those that netd knows; else its number.
fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::SCTP => "sctp".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::ICMPV6 => "ipv6-icmp".to_owned(),
        other => other.to_string(),
    }
}
