//! Sockets of all parties, none of which blocks.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use netd_tests::netns::run_in;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrStorage, bind,
    connect, recvfrom, sendto, setsockopt, socket, sockopt,
};
use socket2::{Domain, Protocol, Type};

/// Room for what waits to be read, bytes: more than a burst.
const BUFFER: usize = 16 << 20;
/// How the kernel marks a frame to the interface that it came by (linux/if_packet.h).
const PACKET_HOST: u8 = 0;
/// … and one that leaves.
const PACKET_OUTGOING: u8 = 4;

/// An open socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP, waiting for clients.
    Listener(TcpListener),
    /// TCP.
    Stream(TcpStream),
    /// UDP.
    Udp(UdpSocket),
    /// Another protocol, or frames.
    Raw(OwnedFd),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Listener(socket) => socket.as_fd(),
            Self::Stream(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Raw(socket) => socket.as_fd(),
        }
    }
}

const FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);

/// A socket of a family with as much room as there can be, bound or not.
fn open(kind: SockType, local: Option<SocketAddr>, v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, kind, FLAGS, None)?;
    if kind == SockType::Stream {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    } else {
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    }
    if let Some(local) = local {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(local))?;
    }
    Ok(socket)
}

/// Listens at an address.
pub(crate) fn listen(netns: &Path, at: SocketAddr) -> Socket {
    let listener = run_in(netns, || TcpListener::bind(at)).expect("listen");
    listener.set_nonblocking(true).expect("nonblocking");
    Socket::Listener(listener)
}

/// A UDP socket at an address.
pub(crate) fn datagrams(netns: &Path, at: SocketAddr) -> Socket {
    let socket = run_in(netns, || open(SockType::Datagram, Some(at), at.is_ipv6())).expect("a UDP socket");
    Socket::Udp(UdpSocket::from(socket))
}

/// A socket from a source port, or from one that the kernel chooses, which begins to connect if `connected`.
pub(crate) fn client(
    netns: &Path,
    is_tcp: bool,
    sport: Option<u16>,
    to: SocketAddr,
    connected: bool,
) -> io::Result<Socket> {
    run_in(netns, || {
        let unspecified = if to.is_ipv6() { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        let local = sport.map(|port| SocketAddr::new(unspecified, port));
        let kind = if is_tcp { SockType::Stream } else { SockType::Datagram };
        let socket = open(kind, local, to.is_ipv6())?;
        if connected {
            match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
                Ok(()) | Err(Errno::EINPROGRESS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if is_tcp { Socket::Stream(socket.into()) } else { Socket::Udp(socket.into()) })
    })
}

/// A socket of a protocol without ports (IPv4), at an address or at all.
pub(crate) fn raw(netns: &Path, protocol: u8, at: Option<IpAddr>) -> Socket {
    let made = run_in(netns, || -> io::Result<OwnedFd> {
        // nix names few protocols only.
        let socket =
            socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        if let Some(at) = at {
            socket.bind(&SocketAddr::new(at, 0).into())?;
        }
        Ok(socket.into())
    });
    Socket::Raw(made.expect("a raw socket"))
}

/// A socket that sees every frame of an interface.
pub(crate) fn capture(netns: &Path, interface: &str) -> Socket {
    Socket::Raw(run_in(netns, || {
        let link = getifaddrs()
            .expect("the interfaces")
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
            .unwrap_or_else(|| panic!("there is no interface {interface}"));
        let socket = socket(AddressFamily::Packet, SockType::Raw, FLAGS, SockProtocol::EthAll)
            .expect("a packet socket");
        bind(socket.as_raw_fd(), &link).expect("bind a packet socket");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a larger buffer");
        socket
    }))
}

/// The next frame that came in: whether it is for this interface, and its packet.
pub(crate) fn next_frame(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(bool, usize)> {
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer) {
            Ok((len, Some(from))) if len > 14 && from.pkttype() != PACKET_OUTGOING => {
                return Some((from.pkttype() == PACKET_HOST, len));
            }
            Ok(_) => {}
            // The interface has gone down, or there is nothing more.
            Err(_) => return None,
        }
    }
}

/// The next packet of a raw socket.
pub(crate) fn next_packet(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    recvfrom::<SockaddrIn>(socket.as_raw_fd(), buffer).ok().map(|(len, _)| len)
}

/// Sends by a raw socket.
pub(crate) fn send_raw(socket: &OwnedFd, to: IpAddr, packet: &[u8]) -> io::Result<()> {
    sendto(socket.as_raw_fd(), packet, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    Ok(())
}

/// Reads what a stream has; none if nothing waits.
pub(crate) fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    match stream.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        read => Some(read),
    }
}

/// Writes a few bytes to a stream, which has room for them.
pub(crate) fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// Lets a stream end by a reset.
pub(crate) fn abort(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).expect("set the linger time");
}
