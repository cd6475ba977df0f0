//! What a scrape tells. Nothing here costs more if there are more connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use netd_common::flow::Handle;

use super::Session;
use super::status::{described_follower, drops, table_fill};
use crate::dataplane::{self, Dataplane};
use crate::error::Result;
use crate::model::Interface;
use crate::model::report::{ContainerFill, Metrics, Port};

impl Session {
    /// Counters and gauges of the instance.
    pub fn report_metrics(&self) -> Result<Metrics> {
        let handles = |container: &crate::model::Container| -> Vec<Handle> {
            container.interfaces.iter().map(Interface::handle).collect()
        };
        let containers: Vec<Vec<Handle>> = self.state.containers.values().map(handles).collect();
        let usage = match &self.dataplane {
            Some(dataplane) => dataplane.tables.usage(&containers)?,
            None => Vec::new(),
        };
        let names = self.state.containers.keys();
        let quotas = names.zip(usage).map(|(name, tables)| ContainerFill {
            container: name.to_string(),
            tables: tables.iter().map(table_fill).collect(),
        });
        let quota = self.report_quota()?;
        Ok(Metrics {
            build: dataplane::own_version(),
            programs: self.dataplane.as_ref().map(Dataplane::version),
            networks: self.state.networks.len(),
            containers: self.state.containers.len(),
            ports: merged(self.report_ports(None, false)?),
            tables: quota.tables,
            quota_percent: quota.percent,
            quotas: quotas.collect(),
            drops: self.dataplane.as_ref().map_or_else(|| Ok(Vec::new()), drops)?,
            follower: self.follower()?.map(described_follower),
        })
    }
}

/// Adds up publications of the same ports and target: if a target gets its ports back, the earlier publication may still drain.
fn merged(ports: Vec<Port>) -> Vec<Port> {
    if !ports.iter().any(|port| port.draining) {
        return ports;
    }
    let mut merged: Vec<Port> = Vec::with_capacity(ports.len());
    let mut places = HashMap::new();
    for port in ports {
        let Port { proto, host_ip, host_port, host_port_end, target_port, .. } = port;
        let key = (
            proto,
            host_ip,
            host_port,
            host_port_end,
            port.interface.clone(),
            port.target.clone(),
            target_port,
        );
        match places.entry(key) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(port);
            }
            Entry::Occupied(place) => {
                if let Some(sum) = merged.get_mut(*place.get()) {
                    add(sum, &port);
                }
            }
        }
    }
    merged
}

/// Adds what a publication has counted to another one.
fn add(sum: &mut Port, port: &Port) {
    sum.packets.inward += port.packets.inward;
    sum.packets.out += port.packets.out;
    sum.bytes.inward += port.bytes.inward;
    sum.bytes.out += port.bytes.out;
    sum.flows.total += port.flows.total;
    sum.dropped += port.dropped;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::{Flows, InOut};

    fn port(target: &str, draining: bool, count: u64) -> Port {
        Port {
            target: target.to_owned(),
            draining,
            packets: InOut { inward: count, out: count },
            bytes: InOut { inward: count, out: count },
            flows: Flows { active: None, total: count },
            dropped: count,
            ..Port::example()
        }
    }

    #[test]
    fn one_target_has_one_series_of_a_port() {
        let all = vec![port("a", false, 1), port("b", true, 10), port("a", true, 100)];
        assert_eq!(merged(all), [port("a", false, 101), port("b", true, 10)]);
    }
}
