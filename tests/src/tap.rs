//! Sending and receiving frames on an interface, without the stack of its namespace.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};

use crate::netns::run_in;

/// Buffer for frames that wait to be read, bytes.
const BUFFER: usize = 8 << 20;

/// A packet socket on an interface of a namespace.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    /// The interface's MAC address.
    pub mac: [u8; 6],
}

impl Tap {
    /// Opens one on an interface of the namespace at `netns`.
    pub fn open(netns: &Path, interface: &str) -> Self {
        run_in(netns, || {
            let link = link(interface);
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .expect("a packet socket");
            bind(socket.as_raw_fd(), &link).expect("bind a packet socket");
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a larger buffer");
            Self { socket, mac: link.addr().expect("an Ethernet interface") }
        })
    }

    /// Sends an IP packet to a neighbour.
    pub fn send(&self, to: [u8; 6], packet: &[u8]) {
        let ethertype: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        self.send_as(to, ethertype, packet);
    }

    /// The same with any EtherType.
    pub fn send_as(&self, to: [u8; 6], ethertype: [u8; 2], packet: &[u8]) {
        let mut frame = Vec::with_capacity(14 + packet.len());
        frame.extend(to);
        frame.extend(self.mac);
        frame.extend(ethertype);
        frame.extend(packet);
        let sent = send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()).expect("send a frame");
        assert_eq!(sent, frame.len());
    }

    /// The next packet to this interface's own MAC address. None if no packet waits.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65_536];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(len) if len > 14 && frame[..6] == self.mac => return Some(frame[14..len].to_vec()),
                // Multicast that the host itself sends.
                Ok(_) => {}
                Err(Errno::EAGAIN) => return None,
                Err(error) => panic!("receive a frame: {error}"),
            }
        }
    }
}

/// A socket that sends IP packets as they are, from the calling thread's namespace.
pub fn raw(family: AddressFamily) -> OwnedFd {
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).expect("a raw socket")
}

/// The MAC address of an interface in the namespace at `netns`.
pub fn mac(netns: &Path, interface: &str) -> [u8; 6] {
    run_in(netns, || link(interface)).addr().expect("an Ethernet interface")
}

/// An interface of the calling thread's namespace.
fn link(interface: &str) -> LinkAddr {
    getifaddrs()
        .expect("the interfaces")
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
        .unwrap_or_else(|| panic!("there is no interface {interface}"))
}

/// Waits until one of the taps has a frame.
pub fn wait_for_any(taps: &[&Tap], deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    assert!(left > Duration::ZERO, "waited in vain for the last packet of an exchange");
    let mut waits: Vec<PollFd<'_>> =
        taps.iter().map(|tap| PollFd::new(tap.socket.as_fd(), PollFlags::POLLIN)).collect();
    let limit = PollTimeout::try_from(left).expect("a short time");
    poll(&mut waits, limit).expect("poll");
}
