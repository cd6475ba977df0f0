//! Host ports that are in use, by protocol and host address.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::port::{Protocol, meet};
use super::ports::Ports;

/// Host ports that somebody has or is about to have.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<(Protocol, Option<IpAddr>, Ports)>);

impl Taken {
    /// Adds ports.
    pub(crate) fn insert(&mut self, proto: Protocol, host_ip: Option<IpAddr>, ports: RangeInclusive<u16>) {
        let here = self.0.iter_mut().find(|(other, address, _)| (*other, *address) == (proto, host_ip));
        if let Some((_, _, taken)) = here {
            taken.insert(ports);
        } else {
            let mut taken = Ports::default();
            taken.insert(ports);
            self.0.push((proto, host_ip, taken));
        }
    }

    /// Whether one of these ports is among them.
    pub(crate) fn has_any(
        &self,
        proto: Protocol,
        host_ip: Option<IpAddr>,
        ports: &RangeInclusive<u16>,
    ) -> bool {
        self.0.iter().any(|(other, address, taken)| {
            *other == proto && meet(*address, host_ip) && taken.holds_any(ports.clone())
        })
    }
}
