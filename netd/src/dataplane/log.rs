//! What the programs report: aya-log's ring, read from outside.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::SchedClassifier;
use aya_log::EbpfLogger;
use netd_common::verdict::Reason;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::object::{PROGRAMS, program};
use crate::error::{Doing as _, Result};

/// The ring of one instance.
pub struct Log {
    ring: EbpfLogger<Lines>,
}

impl Log {
    /// Opens the ring that the instance's programs write to.
    pub(super) fn open(pins: &Path) -> Result<Self> {
        let what = || "open the programs' log".to_owned();
        let writer = SchedClassifier::from_pin(pins.join(PROGRAMS).join(program::REPORT)).doing(what)?;
        let id = writer.info().doing(what)?.id();
        Ok(Self { ring: EbpfLogger::init_from_id_with_logger(id, Lines).doing(what)? })
    }

    /// Waits until something is reported.
    pub fn wait(&self) -> Result<()> {
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        poll(&mut ring, PollTimeout::NONE).doing(|| "wait for the programs' log".into())?;
        Ok(())
    }

    /// What was reported since the last time, oldest first.
    pub fn take(&mut self) -> Vec<Dropped> {
        self.ring.flush();
        LINES.take().iter().filter_map(|line| Dropped::read(line)).collect()
    }
}

/// A dropped packet, as a program told of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Why, by name.
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
    /// Reads the numbers that the programs' `report::drop` writes.
    fn read(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [what, src0, src1, dst0, dst1, ports, bytes, interface] = numbers[..] else {
            return None;
        };
        let [reason, protocol, ..] = what.to_le_bytes();
        let ports = u32::try_from(ports).ok()?;
        let [dst_low, dst_high, src_low, src_high] = ports.to_le_bytes();
        Some(Self {
            reason: Reason::ALL.get(usize::from(reason))?.name(),
            src: address(src0, src1),
            src_port: u16::from_le_bytes([src_low, src_high]),
            dst: address(dst0, dst1),
            dst_port: u16::from_le_bytes([dst_low, dst_high]),
            protocol,
            bytes: u32::try_from(bytes).ok()?,
            interface: u32::try_from(interface).ok()?,
        })
    }
}

/// An address from its halves as they lie in memory; an IPv4-mapped one is IPv4's.
fn address(high: u64, low: u64) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_ne_bytes());
    bytes[8..].copy_from_slice(&low.to_ne_bytes());
    Ipv6Addr::from(bytes).to_canonical()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps lines until they are taken; aya-log hands its logger out by shared reference only.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_numbers_is_a_dropped_packet() {
        let ports = (0x9c40_u32 << 16) | 0x50;
        for (src, dst) in [("198.18.0.2", "172.17.0.2"), ("2001:db8::2", "fd00::2")] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let halves = |address: IpAddr| {
                let bytes = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                let (high, low) = bytes.split_at(8);
                let half = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
                format!("{} {}", half(high), half(low))
            };
            let line = format!("{} {} {} {ports} 74 2", 3 | 6 << 8, halves(src), halves(dst));
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
            assert_eq!(Dropped::read(&line), Some(expected));
        }
        for odd in ["", "1 2 3", "x 1 2 3 4 5 6 7", "255 1 2 3 4 5 6 7"] {
            assert_eq!(Dropped::read(odd), None);
        }
    }
}
