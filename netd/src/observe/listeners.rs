//! The listening sockets of the host.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries, UdpState};
use procfs::{FromReadSI as _, ProcResult, current_system_info};

use crate::error::{Doing as _, Error, Holder, PublicationError, Result};
use crate::model::Protocol;
use crate::netns::Netns;

/// The socket tables of the reading thread's namespace; `/proc/net` is that of the process's first thread.
const TABLES: &str = "/proc/thread-self/net";

/// A listening socket.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its protocol.
    pub proto: Protocol,
    /// The address and port that it is bound to.
    pub address: SocketAddr,
    /// Its inode, which identifies its process.
    pub inode: u64,
}

/// The listening sockets of a namespace at the time of the call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<Listener>,
}

impl Listeners {
    /// No sockets.
    pub(super) const NONE: Self = Self { sockets: Vec::new() };

    /// These sockets.
    #[cfg(test)]
    pub(crate) const fn new(sockets: Vec<Listener>) -> Self {
        Self { sockets }
    }

    /// Reads the sockets of `netns` from the kernel.
    pub(crate) fn read(netns: &Netns) -> Result<Self> {
        netns.run(sockets)?.map(|sockets| Self { sockets }).doing(|| "list the host's sockets".into())
    }

    /// The ports in use and their addresses; none means all addresses, since a socket on IPv6's wildcard also receives
    /// IPv4 packets.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (Protocol, Option<IpAddr>, u16)> {
        self.sockets.iter().map(|socket| {
            let address = socket.address.ip().to_canonical();
            let everywhere = address.is_ipv6() && address.is_unspecified();
            (socket.proto, (!everywhere).then_some(address), socket.address.port())
        })
    }

    /// The socket that would receive a packet to one of these ports. `address` none means any address of the host, an
    /// unspecified one any of its family. [`Self::process`] finds the process.
    pub(crate) fn holder(
        &self,
        proto: Protocol,
        address: Option<IpAddr>,
        ports: RangeInclusive<u16>,
    ) -> Option<Holder> {
        let held = self.sockets.iter().find(|socket| {
            socket.proto == proto
                && ports.contains(&socket.address.port())
                && meets(socket.address.ip(), address)
        })?;
        Some(Holder::Process { process: None, address: held.address, protocol: proto.name() })
    }

    /// Names the process that has a port, if that is why something failed.
    pub(crate) fn name_process(&self, mut error: Error) -> Error {
        match &mut error {
            Error::Publication(PublicationError::Taken {
                holder: Holder::Process { process, address, protocol },
                ..
            }) => *process = self.process(*address, protocol),
            Error::InFile { error, .. } => {
                let inner = std::mem::replace(&mut **error, Error::Many(Vec::new()));
                **error = self.name_process(inner);
            }
            _ => {}
        }
        error
    }

    /// Name and number of the process of the socket on `address`; none if it cannot be found. Searches /proc.
    pub(crate) fn process(&self, address: SocketAddr, protocol: &str) -> Option<(String, i32)> {
        let is_it = |socket: &&Listener| socket.address == address && socket.proto.name() == protocol;
        self.sockets.iter().find(is_it).and_then(|socket| process_with(socket.inode))
    }
}

/// The listening sockets of the thread's namespace.
fn sockets() -> io::Result<Vec<Listener>> {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        let entries = read(table, |file| Ok(TcpNetEntries::from_read(file, current_system_info())?.0))?;
        let listening = entries.into_iter().filter(|entry| entry.state == TcpState::Listen);
        sockets.extend(listening.map(|entry| Listener {
            proto: Protocol::Tcp,
            address: entry.local_address,
            inode: entry.inode,
        }));
    }
    for table in ["udp", "udp6"] {
        let entries = read(table, |file| Ok(UdpNetEntries::from_read(file, current_system_info())?.0))?;
        // An unconnected UDP socket is in state "close".
        let unconnected = entries.into_iter().filter(|entry| entry.state == UdpState::Close);
        sockets.extend(unconnected.map(|entry| Listener {
            proto: Protocol::Udp,
            address: entry.local_address,
            inode: entry.inode,
        }));
    }
    sockets.extend(sctp_endpoints());
    Ok(sockets)
}

/// Reads a table of sockets. A host without IPv6 has no tables for it.
fn read<T: Default>(table: &str, parse: impl FnOnce(File) -> ProcResult<T>) -> io::Result<T> {
    match File::open(format!("{TABLES}/{table}")) {
        Ok(file) => parse(file).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => Ok(T::default()),
        Err(error) => Err(error),
    }
}

/// SCTP's endpoints; none where the kernel has no SCTP. The table does not say which of them listen, so all count
/// (net/sctp/proc.c, `sctp_eps_seq_show`: port in the sixth column, inode in the eighth, addresses behind them).
fn sctp_endpoints() -> Vec<Listener> {
    let table = fs::read_to_string(format!("{TABLES}/sctp/eps")).unwrap_or_default();
    let endpoint = |line: &str| -> Option<Listener> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let address: IpAddr = columns.get(8)?.parse().ok()?;
        Some(Listener {
            proto: Protocol::Sctp,
            address: SocketAddr::new(address, columns.get(5)?.parse().ok()?),
            inode: columns.get(7)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(endpoint).collect()
}

/// Whether a socket on `bound` receives packets to an address of the host: one on IPv6's wildcard also receives IPv4
/// packets.
fn meets(bound: IpAddr, address: Option<IpAddr>) -> bool {
    let Some(address) = address else { return true };
    match bound.to_canonical() {
        IpAddr::V6(bound) if bound.is_unspecified() => true,
        bound if bound.is_ipv4() != address.is_ipv4() => false,
        bound => bound.is_unspecified() || address.is_unspecified() || bound == address,
    }
}

/// Name and number of a process that has the socket open.
fn process_with(inode: u64) -> Option<(String, i32)> {
    let link = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))
            .then(|| fs::read_to_string(entry.path().join("comm")).ok())
            .flatten()
            .map(|name| (name.trim().to_owned(), pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_socket_conflicts_with_every_address() {
        let meets = |bound: &str, address: Option<&str>| {
            super::meets(bound.parse().unwrap(), address.map(|address| address.parse().unwrap()))
        };
        let host = Some("192.0.2.1");
        assert!(meets("0.0.0.0", host) && meets("::", host) && meets("::ffff:192.0.2.1", host));
        assert!(meets("192.0.2.1", None) && meets("::1", None) && meets("192.0.2.1", Some("0.0.0.0")));
        assert!(!meets("192.0.2.2", host) && !meets("::1", host) && !meets("::1", Some("0.0.0.0")));
        assert!(meets("::", Some("fd00::1")) && meets("fd00::1", Some("::")));
        assert!(!meets("0.0.0.0", Some("::")) && !meets("fd00::2", Some("fd00::1")));
    }

    #[test]
    fn a_listener_of_this_process_is_found_by_name() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let listeners = Listeners { sockets: sockets().unwrap() };
        let holder = listeners.holder(Protocol::Tcp, None, port..=port);
        let Some(Holder::Process { address, .. }) = holder else { panic!("nobody has port {port}") };
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(listeners.process(address, "tcp"), Some((_, pid)) if pid == own));
    }
}
