//! The reports of the programs: the ring buffer of drop events.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::{Map, MapData, RingBuf};
use netd_common::abi::{DropEvent, name};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::Address as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pins;
use crate::error::{Doing as _, Result};

/// The ring of one instance. Every event is read once: of several readers, each gets a part.
pub(crate) struct Log {
    ring: RingBuf<MapData>,
}

impl Log {
    /// Opens the ring that the instance's programs write to.
    pub(super) fn open(instance: &Path) -> Result<Self> {
        let path = pins::maps(instance).join(name::EVENTS);
        let what = || format!("open BPF map {}", path.display());
        let map = Map::RingBuf(MapData::from_pin(&path).doing(what)?);
        Ok(Self { ring: RingBuf::try_from(map).doing(what)? })
    }

    /// Waits for a report.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        poll(&mut ring, PollTimeout::NONE).doing(|| "wait for the programs' reports".into())?;
        Ok(())
    }

    /// The reports since the last call, oldest first.
    pub(crate) fn take(&mut self) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        while let Some(event) = self.ring.next() {
            dropped.extend(bytemuck::try_pod_read_unaligned(&event).ok().and_then(Dropped::from_event));
        }
        dropped
    }
}

/// A dropped packet, as a program reported it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Dropped {
    /// The name of the reason.
    pub reason: &'static str,
    /// Source address.
    pub src: IpAddr,
    /// Source port; zero if there is none.
    pub src_port: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port; zero if there is none.
    pub dst_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Length of the frame, bytes.
    pub bytes: u32,
    /// Index of the interface that it came in by.
    pub interface: u32,
}

impl Dropped {
    /// None if the event has numbers that are not in the contract.
    fn from_event(event: DropEvent) -> Option<Self> {
        Some(Self {
            reason: Reason::ALL.get(usize::try_from(event.reason).ok()?)?.name(),
            src: event.src.to_ip().to_canonical(),
            src_port: event.src_port.get(),
            dst: event.dst.to_ip().to_canonical(),
            dst_port: event.dst_port.get(),
            protocol: u8::try_from(event.protocol).ok()?,
            bytes: event.len,
            interface: event.ifindex,
        })
    }
}

#[cfg(test)]
mod tests {
    use netd_common::wire::bytes::{Be16, Ipv6};

    use super::*;

    #[test]
    fn an_event_is_a_dropped_packet() {
        for (src, dst) in [("198.18.0.2", "172.17.0.2"), ("2001:db8::2", "fd00::2")] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let unified = |address: IpAddr| match address {
                IpAddr::V4(address) => Ipv6::from(address.to_ipv6_mapped()),
                IpAddr::V6(address) => Ipv6::from(address),
            };
            let mut event = DropEvent::new(Reason::DirectAccess as u32, 74, 2);
            (event.src, event.dst) = (unified(src), unified(dst));
            (event.src_port, event.dst_port, event.protocol) = (Be16::new(40_000), Be16::new(80), 6);
            let expected = Dropped {
                reason: "direct_access",
                src,
                src_port: 40_000,
                dst,
                dst_port: 80,
                protocol: 6,
                bytes: 74,
                interface: 2,
            };
            assert_eq!(Dropped::from_event(event), Some(expected));
            event.protocol = 256;
            assert_eq!(Dropped::from_event(event), None, "no such protocol");
            event = DropEvent::new(255, 74, 2);
            assert_eq!(Dropped::from_event(event), None, "no such reason");
        }
    }
}
