//! What the programs report: aya-log's ring, read from outside.

use std::cell::RefCell;
use std::net::Ipv4Addr;
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
        let writer =
            SchedClassifier::from_pin(pins.join(PROGRAMS).join(program::UPLINK_INGRESS)).doing(what)?;
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
    pub src: Ipv4Addr,
    /// Source port; zero if there is none.
    pub src_port: u16,
    /// Destination address.
    pub dst: Ipv4Addr,
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
        let numbers: Vec<u32> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [what, src, dst, ports, bytes, interface] = numbers[..] else { return None };
        let [reason, protocol, ..] = what.to_le_bytes();
        let [dst_low, dst_high, src_low, src_high] = ports.to_le_bytes();
        Some(Self {
            reason: Reason::ALL.get(usize::from(reason))?.name(),
            src: Ipv4Addr::from(src),
            src_port: u16::from_le_bytes([src_low, src_high]),
            dst: Ipv4Addr::from(dst),
            dst_port: u16::from_le_bytes([dst_low, dst_high]),
            protocol,
            bytes,
            interface,
        })
    }
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
        let line = format!("{} {} {} {ports} 74 2", 3 | 6 << 8, 0xc612_0002_u32, 0xac11_0002_u32);
        let expected = Dropped {
            reason: "direct_access",
            src: Ipv4Addr::new(198, 18, 0, 2),
            src_port: 40_000,
            dst: Ipv4Addr::new(172, 17, 0, 2),
            dst_port: 80,
            protocol: 6,
            bytes: 74,
            interface: 2,
        };
        assert_eq!(Dropped::read(&line), Some(expected));
        for odd in ["", "1 2 3", "x 1 2 3 4 5", "255 1 2 3 4 5"] {
            assert_eq!(Dropped::read(odd), None);
        }
    }
}
