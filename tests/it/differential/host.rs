//! The host's own exchanges beside those of containers and strangers, by real sockets: who gets what must be the same by
//! netd as by the kernel's NAT. Ports that the hosts choose are left out of the comparison.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;

use netd_tests::probe::PATIENCE;
use netd_tests::stimulus::{Body, Stimulus, Tuple, number, view};
use netd_tests::twins::{End, World, far, inside};
use netd_tests::wait_for;
use socket2::{Domain, Protocol, Socket, Type};

use super::dice::Dice;
use super::stay;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
/// The ports that the hosts' kernels give to sockets: those of the ranges that are published.
const OWN_PORTS: &str = "30000 30009";
/// The peers' port.
const PORT: u16 = 53;
/// Protocols without ports: GRE and IPIP.
const TUNNELS: [u8; 2] = [47, 4];
/// A GRE header (RFC 2784): without it conntrack takes what follows for one, and calls it invalid.
const GRE: [u8; 4] = [0, 0, 8, 0];
/// How many exchanges there are.
const EXCHANGES: u16 = 400;

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConnectedUdp,
    Udp,
    Tcp,
    /// The host is first.
    Tunnel,
    /// A container is.
    TunnelOfContainer,
}

/// One exchange: with whom, over which family, by which protocol if it has no ports.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    kind: Kind,
    /// Its number; each has a peer of its own.
    number: u16,
    v6: bool,
    protocol: u8,
    /// The container that sends from the same port to the same peer.
    rival: End,
}

/// A world with an open exchange, and what has happened in it.
struct Scene<'a> {
    world: &'a mut World,
    exchange: Exchange,
    said: Vec<String>,
}

impl Scene<'_> {
    fn peer(&self) -> IpAddr {
        far(self.exchange.v6, 30_000 + self.exchange.number)
    }

    /// Notes what has arrived at the ends after they sent this, and returns it.
    fn send(&mut self, from: End, packets: &[Vec<u8>]) -> Vec<(End, Vec<u8>)> {
        let arrived = self.world.exchange(from, packets).arrived;
        for (end, packet) in &arrived {
            let ip = view(packet).unwrap();
            let skip = match ip.protocol {
                number::TCP => usize::from(packet[ip.start + 12] >> 4) * 4,
                number::UDP => 8,
                _ => 0,
            };
            let payload = String::from_utf8_lossy(&packet[ip.start + skip..]);
            let flags = if ip.protocol == number::TCP { packet[ip.start + 13] } else { 0 };
            self.said.push(format!(
                "{end:?} gets protocol {} from {} to {}, flags {flags:#x}: {payload}",
                ip.protocol, ip.src, ip.dst
            ));
        }
        arrived
    }

    /// What has come from the host or a container to the peer: the headers' view and the source port.
    fn at_peer(&mut self, from: End, packets: &[Vec<u8>]) -> Option<(Vec<u8>, IpAddr, u16)> {
        let arrived = self.send(from, packets);
        let (_, packet) = arrived.into_iter().find(|(end, _)| *end == End::Outside)?;
        let ip = view(&packet)?;
        let port = u16::from_be_bytes([packet[ip.start], packet[ip.start + 1]]);
        Some((packet, ip.src, port))
    }

    /// A packet of the rival's, from a port.
    fn rivals(&self, body: Body, text: &str, port: u16) -> Vec<u8> {
        let own = inside(self.exchange.v6, if self.exchange.rival == End::First { 2 } else { 3 });
        packet(body, text, own, self.peer(), [port, PORT])
    }

    fn udp(&mut self) {
        let (v6, peer) = (self.exchange.v6, self.peer());
        let to = SocketAddr::new(peer, PORT);
        let is_connected = self.exchange.kind == Kind::ConnectedUdp;
        let any: IpAddr = if v6 { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        let socket = self.world.lab.host.run(|| UdpSocket::bind((any, 0)).unwrap());
        socket.set_nonblocking(true).unwrap();
        if is_connected {
            socket.connect(to).unwrap();
            socket.send(b"question").unwrap();
        } else {
            socket.send_to(b"question", to).unwrap();
        }
        let Some((_, own, port)) = self.at_peer(End::Outside, &[]) else { return };
        // A container sends from the same port to the same peer.
        let rival = self.exchange.rival;
        let question = self.rivals(Body::Udp, "rival", port);
        let rivals = self.at_peer(rival, &[question]);
        let answer = packet(Body::Udp, "answer", peer, own, [PORT, port]);
        self.send(End::Outside, &[answer]);
        self.hear("the host's socket", |buffer| socket.recv(buffer));
        if let Some((_, theirs, theirs_port)) = rivals {
            let answer = packet(Body::Udp, "rival's answer", peer, theirs, [PORT, theirs_port]);
            self.send(End::Outside, &[answer]);
            self.hear("the host's socket", |buffer| socket.recv(buffer));
        }
        // Somebody else sends to the same port, which is published.
        let stranger = far(v6, 40_000 + self.exchange.number);
        let question = packet(Body::Udp, "stranger", stranger, own, [PORT, port]);
        self.send(End::Outside, &[question]);
        self.hear("the host's socket", |buffer| socket.recv(buffer));
    }

    fn tcp(&mut self) {
        let to = SocketAddr::new(self.peer(), PORT);
        let domain = if self.exchange.v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = self.world.lab.host.run(|| {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _in_progress = socket.connect(&to.into());
            socket
        });
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let mut stream = TcpStream::from(socket);
        let Some((syn, own, port)) = self.at_peer(End::Outside, &[]) else { return };
        let at = view(&syn).unwrap().start + 4;
        let first = u32::from_be_bytes(syn[at..at + 4].try_into().unwrap());
        let tcp = |flags, seq, ack| Body::Tcp { flags, seq, ack, options: Vec::new() };
        let ack = first.wrapping_add(1);
        let peer = self.peer();
        let answer = packet(tcp(SYN | ACK, 1000, ack), "", peer, own, [PORT, port]);
        self.send(End::Outside, &[answer]);
        self.said.push(format!("connected: {}", stream.peer_addr().is_ok()));
        if stream.write_all(b"question").is_err() {
            return;
        }
        self.send(End::Outside, &[]);
        let answer = packet(tcp(ACK | PSH, 1001, ack.wrapping_add(8)), "answer", peer, own, [PORT, port]);
        self.send(End::Outside, &[answer]);
        self.hear("the host's connection", |buffer| stream.read(buffer));
        drop(stream);
        // A child that another test has forked may hold the connection until it calls exec: the reset comes only then.
        wait_for("the connection's reset", PATIENCE, || {
            let arrived = self.send(End::Outside, &[]);
            arrived.iter().any(|(_, packet)| {
                view(packet).is_some_and(|ip| ip.protocol == number::TCP && packet[ip.start + 13] & RST != 0)
            })
        });
    }

    /// The host and a container send the same protocol to the same peer. Whoever was first keeps the answers. A host that is
    /// second is not compared: the kernel does not let it send at all.
    fn tunnel(&mut self) {
        let (protocol, peer) = (self.exchange.protocol, self.peer());
        let socket = self.world.lab.host.run(|| {
            let kind = Protocol::from(i32::from(protocol));
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(kind)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let is_hosts = self.exchange.kind == Kind::Tunnel;
        if is_hosts {
            socket.send_to(&wrapped(protocol, "question"), &SocketAddr::new(peer, 0).into()).unwrap();
        }
        let own = if is_hosts { self.at_peer(End::Outside, &[]) } else { None };
        if let Some((_, own, _)) = own {
            // netd knows of the host's tunnels by what comes in for them.
            let answer = packet(Body::Other(protocol), "first answer", peer, own, [0, 0]);
            self.send(End::Outside, &[answer]);
        }
        let rivals = self.rivals(Body::Other(protocol), "rival", 0);
        let own = own.or(self.at_peer(self.exchange.rival, &[rivals]));
        let Some((_, own, _)) = own else { return };
        for _time in 0..2 {
            let answer = packet(Body::Other(protocol), "answer", peer, own, [0, 0]);
            self.send(End::Outside, &[answer]);
            self.hear("the host's tunnel", |buffer| {
                nix::unistd::read(socket.as_fd(), buffer).map_err(Into::into)
            });
        }
    }

    /// Notes what a socket has got.
    fn hear(&mut self, who: &str, mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>) {
        let mut buffer = [0; 256];
        while let Ok(len @ 1..) = read(&mut buffer) {
            // Of a raw socket, behind the IP header.
            let start = if buffer[0] == 0x45 { 20 } else { 0 };
            self.said.push(format!("{who} gets: {}", String::from_utf8_lossy(&buffer[start..len])));
        }
    }
}

/// A packet of an exchange.
fn packet(body: Body, text: &str, src: IpAddr, dst: IpAddr, ports: [u16; 2]) -> Vec<u8> {
    let payload = match (text, &body) {
        ("", _) => Vec::new(),
        (_, Body::Other(protocol)) => wrapped(*protocol, text),
        _ => text.into(),
    };
    let tuple = Tuple { src, dst, sport: ports[0], dport: ports[1] };
    Stimulus { payload, ..Stimulus::new(body) }.packets(&tuple).remove(0)
}

/// What a packet of a protocol without ports carries.
fn wrapped(protocol: u8, text: &str) -> Vec<u8> {
    let header: &[u8] = if protocol == TUNNELS[0] { &GRE } else { &[] };
    [header, text.as_bytes()].concat()
}

/// What happens in an exchange.
fn play(world: &mut World, exchange: Exchange) -> Vec<String> {
    let mut scene = Scene { world, exchange, said: Vec::new() };
    match exchange.kind {
        Kind::ConnectedUdp | Kind::Udp => scene.udp(),
        Kind::Tcp => scene.tcp(),
        Kind::Tunnel | Kind::TunnelOfContainer => scene.tunnel(),
    }
    scene.said
}

#[test]
fn the_hosts_own_exchanges_are_as_by_the_kernel() {
    let mut worlds = [World::nftables(), World::netd()];
    for world in &worlds {
        world.lab.host.sh(&format!("sysctl -qw net.ipv4.ip_local_port_range='{OWN_PORTS}'"));
    }
    stay();
    let mut dice = Dice::new(1);
    let mut differ: BTreeMap<Kind, (u32, String)> = BTreeMap::new();
    for number in 0..EXCHANGES {
        let kind =
            dice.pick(&[Kind::ConnectedUdp, Kind::Udp, Kind::Tcp, Kind::Tunnel, Kind::TunnelOfContainer]);
        let has_ports = matches!(kind, Kind::ConnectedUdp | Kind::Udp | Kind::Tcp);
        let exchange = Exchange {
            kind,
            number,
            v6: has_ports && dice.chance(40),
            protocol: dice.pick(&TUNNELS),
            rival: dice.pick(&[End::First, End::Second]),
        };
        let [nft, netd] = worlds.each_mut().map(|world| play(world, exchange));
        if nft != netd {
            let text = format!("{exchange:?}\n  nftables: {nft:#?}\n  netd: {netd:#?}");
            differ.entry(kind).or_insert((0, text)).0 += 1;
        }
    }
    let mut text = String::new();
    for (kind, (count, first)) in &differ {
        writeln!(text, "{count} of kind {kind:?}, the first: {first}").unwrap();
    }
    assert!(differ.is_empty(), "{text}");
}
