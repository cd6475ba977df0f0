//! Which ports the kernel gives to the host's sockets that ask for none.

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::link::{Family, Sysctl};
use crate::netns::Netns;

/// The first port that is not privileged.
const UNPRIVILEGED: u16 = 1024;

/// `ip_local_port_range` and `ip_local_reserved_ports` of a namespace (ip-sysctl.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPorts {
    range: RangeInclusive<u16>,
    /// Ports that somebody is to have, and that the kernel gives to nobody.
    reserved: Vec<RangeInclusive<u16>>,
}

impl Default for LocalPorts {
    /// The kernel's defaults.
    fn default() -> Self {
        Self { range: 32768..=60999, reserved: Vec::new() }
    }
}

impl LocalPorts {
    /// Asks the kernel.
    pub(crate) fn read(netns: &Netns) -> Result<Self> {
        let read = |name: &str| Sysctl::global(Family::V4, name).get(netns);
        Ok(Self::parse(&read("ip_local_port_range")?, &read("ip_local_reserved_ports")?))
    }

    pub(crate) fn parse(range: &str, reserved: &str) -> Self {
        let mut ports = Self::default();
        let words: Vec<u16> = range.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if let [first, last] = words.as_slice() {
            ports.range = *first..=*last;
        }
        let part = |part: &str| -> Option<RangeInclusive<u16>> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        ports.reserved = reserved.trim().split(',').filter_map(part).collect();
        ports
    }

    /// The range.
    pub(crate) const fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    /// Whether the kernel may give a port to a socket that asks for none.
    pub(crate) fn are_given(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.is_reserved(port)
    }

    fn is_reserved(&self, port: u16) -> bool {
        self.reserved.iter().any(|ports| ports.contains(&port))
    }

    /// The unprivileged ports that the kernel gives to no socket, the best for a publication that names none first: those above
    /// the range, those below it from the highest down, and at last those that are reserved.
    pub(crate) fn never_given(&self) -> impl Iterator<Item = u16> {
        let above = self.range.end().saturating_add(1).max(UNPRIVILEGED)..=u16::MAX;
        let below = (UNPRIVILEGED..*self.range.start()).rev();
        let free = above.chain(below).filter(|port| !self.range.contains(port) && !self.is_reserved(*port));
        free.chain((UNPRIVILEGED..=u16::MAX).filter(|port| self.is_reserved(*port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_no_socket_is_given_are_outside_the_range_or_reserved() {
        let ports = LocalPorts::parse("1027\t65532\n", "1024,2000-2001,65533\n");
        assert_eq!(
            ports.never_given().collect::<Vec<_>>(),
            [65534, 65535, 1026, 1025, 1024, 2000, 2001, 65533]
        );
        assert!(ports.are_given(1999) && !ports.are_given(2000) && !ports.are_given(1026));
        let all = LocalPorts::parse("1 65535", "");
        assert_eq!(all.never_given().count(), 0);
        assert_eq!(LocalPorts::parse("", "\n"), LocalPorts::default());
        assert_eq!(LocalPorts::default().never_given().next(), Some(61000));
    }
}
