//! Published ports, with what has passed through them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Session;
use crate::dataplane::PublicationStats;
use crate::error::Result;
use crate::model::report::{Flows, InOut, Port};
use crate::model::{Interface, Name, Publication, Target, XdpMode};

impl Session {
    /// Publications with what they counted; of one container if it is given.
    pub fn report_ports(&self, container: Option<&Name>) -> Result<Vec<Port>> {
        if let Some(name) = container {
            self.state.container(name)?;
        }
        let mut wanted: Vec<&Publication> = self
            .state
            .publications
            .iter()
            .filter(|publication| container.is_none_or(|name| publication.target().is(name)))
            .collect();
        wanted.sort_by_key(|publication| publication.is_draining());
        let handles: Vec<_> = wanted.iter().map(|publication| publication.handle()).collect();
        let stats = match &self.dataplane {
            Some(dataplane) => dataplane.tables.publication_stats(&handles)?,
            None => vec![PublicationStats::default(); handles.len()],
        };
        self.described_ports(wanted.into_iter().zip(stats))
    }

    /// Publications that have just been made: nothing has passed, so no flow table has to be walked for it.
    pub fn report_new(&self, made: &[Publication]) -> Result<Vec<Port>> {
        self.described_ports(made.iter().map(|one| (one, PublicationStats::default())))
    }

    fn described_ports<'a>(
        &self,
        publications: impl Iterator<Item = (&'a Publication, PublicationStats)>,
    ) -> Result<Vec<Port>> {
        let refused = match &self.dataplane {
            Some(dataplane) if self.state.preferences.xdp != XdpMode::Off => dataplane.tables.refused()?,
            _ => HashMap::new(),
        };
        publications
            .map(|(publication, stats)| {
                let target_ip = match publication.target() {
                    Target::Container(name) => {
                        target_address(publication, self.state.container(name)?.primary())
                    }
                    Target::Remote(remote) => remote.address,
                };
                let counters = stats.counters;
                Ok(Port {
                    proto: publication.proto.name(),
                    host_ip: publication.host_ip,
                    access: publication.access().clone(),
                    interface: publication.interface().map(ToString::to_string),
                    keep_source: publication.target().remote().is_some_and(|remote| remote.keep_source),
                    draining: publication.is_draining(),
                    host_port: publication.host_port,
                    host_port_end: publication.host_port_end,
                    target: publication.target().to_string(),
                    target_ip,
                    target_port: publication.target_port,
                    target_port_end: publication.target_port_end(),
                    packets: InOut { inward: counters.packets_in, out: counters.packets_out },
                    bytes: InOut { inward: counters.bytes_in, out: counters.bytes_out },
                    flows: Flows { active: stats.active, total: counters.flows },
                    dropped: counters.dropped + refused.get(&publication.handle()).copied().unwrap_or(0),
                })
            })
            .collect()
    }
}

/// The container's address that a publication leads to: of the family of its host address, else IPv4.
fn target_address(publication: &Publication, interface: Option<&Interface>) -> IpAddr {
    let six = publication.host_ip.is_some_and(|address| address.is_ipv6());
    let addresses = interface.map_or(&[][..], |interface| &interface.addresses);
    let same = addresses.iter().find(|address| address.is_ipv6() == six);
    same.or(addresses.first()).copied().unwrap_or(IpAddr::from([0, 0, 0, 0]))
}
