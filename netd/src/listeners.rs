//! The host's sockets: which process holds which port.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use procfs::FromReadSI as _;
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries, UdpState};

use crate::error::{Doing as _, Result};
use crate::netns::Netns;
use crate::spec::Protocol;

/// A socket that waits for others to speak first.
#[derive(Clone, Debug)]
struct Listener {
    proto: Protocol,
    address: SocketAddr,
    inode: u64,
}

/// The listening sockets of a network namespace, as they were when they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<Listener>,
}

impl Listeners {
    /// Reads the sockets of a network namespace from /proc/net.
    pub(crate) fn read(netns: &Netns) -> Result<Self> {
        netns.run(Self::read_here)?
    }

    /// /proc/thread-self/net shows the namespace of the thread; /proc/net would show that of the process.
    fn read_here() -> Result<Self> {
        const TABLES: &str = "/proc/thread-self/net";
        let what = || format!("read the host's sockets from {TABLES}");
        let system = procfs::current_system_info();
        let tcp = |name| TcpNetEntries::from_file(format!("{TABLES}/{name}"), system);
        let udp = |name| UdpNetEntries::from_file(format!("{TABLES}/{name}"), system);
        let mut sockets = Vec::new();
        // A host without IPv6 has no tables for it.
        let tcp6 = tcp("tcp6").map(|table| table.0).unwrap_or_default();
        for entry in tcp("tcp").doing(what)?.0.into_iter().chain(tcp6) {
            if entry.state == TcpState::Listen {
                sockets.push(Listener {
                    proto: Protocol::Tcp,
                    address: entry.local_address,
                    inode: entry.inode,
                });
            }
        }
        let udp6 = udp("udp6").map(|table| table.0).unwrap_or_default();
        for entry in udp("udp").doing(what)?.0.into_iter().chain(udp6) {
            // An unconnected UDP socket is in state "close".
            if entry.state == UdpState::Close {
                sockets.push(Listener {
                    proto: Protocol::Udp,
                    address: entry.local_address,
                    inode: entry.inode,
                });
            }
        }
        sockets.extend(sctp_endpoints());
        Ok(Self { sockets })
    }

    /// The ports that they hold and on which address, none for all of them: that of IPv6's wildcard gets IPv4's packets as
    /// well.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (Protocol, Option<IpAddr>, u16)> {
        self.sockets.iter().map(|socket| {
            let address = socket.address.ip().to_canonical();
            let everywhere = address.is_ipv6() && address.is_unspecified();
            (socket.proto, (!everywhere).then_some(address), socket.address.port())
        })
    }

    /// Who would get a packet to one of these ports, in words; `address` none means any of the host's, an unspecified one any
    /// of its family.
    pub(crate) fn holder(
        &self,
        proto: Protocol,
        address: Option<IpAddr>,
        ports: RangeInclusive<u16>,
    ) -> Option<String> {
        let held = self.sockets.iter().find(|socket| {
            socket.proto == proto
                && ports.contains(&socket.address.port())
                && meets(socket.address.ip(), address)
        })?;
        let who = process_with(held.inode).unwrap_or_else(|| "a process that cannot be seen".to_owned());
        Some(format!("{who} listens on {}/{proto}", held.address))
    }
}

/// SCTP's endpoints; none where the kernel has no SCTP. Every one is taken for waiting: the table does not tell (net/sctp/proc.c,
/// `sctp_eps_seq_show`: port in the sixth column, inode in the eighth, addresses behind them).
fn sctp_endpoints() -> Vec<Listener> {
    let table = fs::read_to_string("/proc/thread-self/net/sctp/eps").unwrap_or_default();
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

/// Whether a socket on `bound` gets packets to an address of the host: one on IPv6's wildcard gets IPv4's as well.
fn meets(bound: IpAddr, address: Option<IpAddr>) -> bool {
    let Some(address) = address else { return true };
    match bound.to_canonical() {
        IpAddr::V6(bound) if bound.is_unspecified() => true,
        bound if bound.is_ipv4() != address.is_ipv4() => false,
        bound => bound.is_unspecified() || address.is_unspecified() || bound == address,
    }
}

/// Name and number of a process that has the socket open.
fn process_with(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))
            .then(|| fs::read_to_string(entry.path().join("comm")).ok())
            .flatten()
            .map(|name| format!("{} (pid {pid})", name.trim()))
    })
}

/// The ports that the kernel hands out by itself, and those that it must not (`ip_local_port_range` and
/// `ip_local_reserved_ports` of ip-sysctl.rst).
pub(crate) fn ephemeral(netns: &Netns) -> Result<Vec<u16>> {
    netns.run(ephemeral_here)?
}

fn ephemeral_here() -> Result<Vec<u16>> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::read_to_string(&path).doing(|| format!("read {path}"))
    };
    let range: Vec<u16> =
        read("ip_local_port_range")?.split_whitespace().filter_map(|port| port.parse().ok()).collect();
    let (first, last) = match range.as_slice() {
        [first, last] => (*first, *last),
        _ => (32768, 60999),
    };
    let reserved = read("ip_local_reserved_ports")?;
    let reserved: Vec<(u16, u16)> = reserved
        .trim()
        .split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
            None => part.parse().ok().map(|port| (port, port)),
        })
        .collect();
    Ok((first..=last)
        .filter(|port| !reserved.iter().any(|(first, last)| (first..=last).contains(&port)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_socket_meets_every_address() {
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
        let holder = Listeners::read_here().unwrap().holder(Protocol::Tcp, None, port..=port).unwrap();
        assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    }
}
