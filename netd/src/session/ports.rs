//! Published ports, with what has passed through them.

use std::collections::HashMap;
use std::net::IpAddr;

use netd_common::abi::PublicationCounters;

use super::Session;
use crate::dataplane::Live;
use crate::error::Result;
use crate::model::report::{Flows, InOut, Port};
use crate::model::{Interface, Name, Publication, Target, XdpMode};

/// What is known of a publication's packets.
#[derive(Clone, Copy, Default)]
struct Counted {
    counters: PublicationCounters,
    /// What its live connections tell, if they were looked at.
    live: Option<Live>,
}

impl Session {
    /// Publications with what they counted; of one container if it is given. Active connections are counted only if it is asked
    /// for, since that looks at every connection of the host.
    pub fn report_ports(&self, container: Option<&Name>, counts_active: bool) -> Result<Vec<Port>> {
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
        let Some(dataplane) = &self.dataplane else {
            return self.described_ports(wanted.into_iter().map(|one| (one, Counted::default())));
        };
        // Before the counters: what a connection adds to them meanwhile is then counted twice at worst, never missed.
        let live = if counts_active { Some(dataplane.tables.live()?) } else { None };
        let counters = dataplane.tables.publication_counters(&handles)?;
        let counted = wanted.into_iter().zip(counters).map(|(publication, counters)| {
            let live = live.as_ref().map(|all| all.get(&publication.handle()).copied().unwrap_or_default());
            (publication, Counted { counters, live })
        });
        self.described_ports(counted)
    }

    /// Publications that have just been made: nothing has passed.
    pub fn report_new(&self, made: &[Publication]) -> Result<Vec<Port>> {
        self.described_ports(made.iter().map(|one| (one, Counted::default())))
    }

    fn described_ports<'a>(
        &self,
        publications: impl Iterator<Item = (&'a Publication, Counted)>,
    ) -> Result<Vec<Port>> {
        let refused = match &self.dataplane {
            Some(dataplane) if self.state.preferences.xdp != XdpMode::Off => dataplane.tables.refused()?,
            _ => HashMap::new(),
        };
        publications
            .map(|(publication, Counted { counters, live })| {
                let target_ip = match publication.target() {
                    Target::Container(name) => {
                        target_address(publication, self.state.container(name)?.primary())
                    }
                    Target::Remote(remote) => remote.address,
                };
                let pending = live.unwrap_or_default().pending;
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
                    packets: InOut {
                        inward: counters.packets_in + pending.packets_in,
                        out: counters.packets_out + pending.packets_out,
                    },
                    bytes: InOut {
                        inward: counters.bytes_in + pending.bytes_in,
                        out: counters.bytes_out + pending.bytes_out,
                    },
                    flows: Flows { active: live.map(|live| live.active), total: counters.flows },
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
