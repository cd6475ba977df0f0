//! The storm's ground with everybody on it: their sockets, their flows, and what the administrator has made.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use netd_tests::lab::Lab;
use netd_tests::netns::{run_in, sandbox};

use crate::actors::Kind;
use crate::ground::{
    self, ANYCAST, CLIENT, GROUPS, HOST, HOST_OUTSIDE, OUTSIDE, PLACES, Room, SERVED, TUNNEL_PEER, service,
};
use crate::judge::Judge;
use crate::label::{Meant, Party};
use crate::plan::{Deed, Opening};
use crate::sockets::{self, Socket};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Waits for TCP clients.
    Listens,
    /// Answers a TCP client, or whoever sends a datagram.
    Serves,
    /// Asks in this flow.
    Asks(u32),
    /// Asks and answers by this protocol.
    Raw(u8),
    /// Sees what comes to a container, or by an uplink to the peer if `wire`.
    Sees { wire: bool },
}

/// An open socket and whose it is.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) socket: Socket,
    pub(crate) party: Party,
    pub(crate) role: Role,
}

/// A container that is there.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) party: Party,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its addresses, IPv4 and IPv6.
    pub(crate) addresses: [IpAddr; 2],
    /// Sends packets as they are.
    pub(crate) sender: OwnedFd,
}

/// A flow that has begun.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) opening: Opening,
    pub(crate) kind: Kind,
    pub(crate) asker: Party,
    /// For whom its payloads are.
    pub(crate) meant: Meant,
    /// Where they are sent.
    pub(crate) to: SocketAddr,
    /// The last one's number.
    pub(crate) seq: u32,
    /// Since when it waits for an answer, or to be connected.
    pub(crate) waits: Option<Instant>,
    pub(crate) connecting: bool,
    /// Who answered last.
    pub(crate) peer: Option<Party>,
    /// Whether somebody who may has ended it, or has changed what it needs.
    pub(crate) excused: bool,
    pub(crate) socket: u64,
}

/// What the administrator has made of the host, and what is being done.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    /// The place whose container holds each group.
    pub(crate) holders: [Option<u8>; GROUPS.len()],
    /// How many containers each place has had.
    pub(crate) lives: [u16; PLACES as usize],
    pub(crate) pending: Option<Pending>,
    pub(crate) second: bool,
    pub(crate) route: bool,
    pub(crate) rule: bool,
    pub(crate) spare: bool,
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) child: Child,
    pub(crate) words: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) deed: Deed,
}

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The last looks at what was refused.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) looks: Vec<(Instant, Counts)>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) room: Room,
    pub(crate) judge: Judge,
    pub(crate) counters: Counters,
    pub(crate) admin: Admin,
    pub(crate) places: [Option<Container>; PLACES as usize],
    pub(crate) flows: BTreeMap<u32, Flow>,
    pub(crate) sockets: BTreeMap<u64, Entry>,
    /// The raw sockets of those who have such.
    pub(crate) raws: HashMap<(Party, u8), u64>,
    /// What neighbour, outsider and the internal network's container send packets by as they are.
    pub(crate) senders: [OwnedFd; 3],
    next: u64,
    /// For what is read.
    pub(crate) buffer: Vec<u8>,
}

impl World {
    /// The hosts and their servers; nothing is published yet.
    pub(crate) fn new(lab: Lab, room: Room) -> Self {
        let [client, outside, host] =
            [&lab.client, &lab.outside, &lab.host].map(netd_tests::netns::Netns::path);
        let vault = sandbox(&lab.container("vault", &["--network", "vault", "--ip", "10.78.0.9"]));
        run_in(&vault, || {
            let route = ["route", "replace", "default", "via", "10.78.0.1"];
            let status = Command::new("ip").args(route).status().expect("ip (package iproute2) starts");
            assert!(status.success(), "ip {route:?}: {status}");
        });
        let senders = [&client, &outside, &vault].map(|netns| raw_sender(netns));
        let mut world = Self {
            room,
            judge: Judge::default(),
            counters: Counters::default(),
            admin: Admin::default(),
            places: Default::default(),
            flows: BTreeMap::new(),
            sockets: BTreeMap::new(),
            raws: HashMap::new(),
            senders,
            next: 0,
            buffer: vec![0; 1 << 16],
            lab,
        };
        for (party, netns, own) in [(Party::Client, &client, CLIENT), (Party::Outside, &outside, OUTSIDE)] {
            for address in own.all() {
                world.serve(party, netns, address, service::OUTSIDE[0]);
            }
            for address in ANYCAST.all() {
                world.serve(party, netns, address, service::ROUTED);
            }
            world.enter(sockets::capture(netns, "eth0"), party, Role::Sees { wire: true });
        }
        for address in HOST.all().into_iter().chain(HOST_OUTSIDE.all()).chain(ground::GATEWAY.all()) {
            let is_gateway = ground::is_hidden(address);
            if !is_gateway {
                world.serve(Party::Host, &host, address, service::HOST);
            }
        }
        for protocol in service::TUNNELS {
            world.raw(Party::Host, &host, protocol);
            if protocol != service::TUNNELS[0] {
                for at in [OUTSIDE, TUNNEL_PEER] {
                    let socket = sockets::raw(&outside, protocol, Some(at.of(false)));
                    world.enter(socket, Party::Outside, Role::Raw(protocol));
                }
            }
        }
        world
    }

    /// Takes a socket in.
    pub(crate) fn enter(&mut self, socket: Socket, party: Party, role: Role) -> u64 {
        self.next += 1;
        self.sockets.insert(self.next, Entry { socket, party, role });
        self.next
    }

    fn serve(&mut self, party: Party, netns: &Path, address: IpAddr, port: u16) {
        let at = SocketAddr::new(address, port);
        self.enter(sockets::listen(netns, at), party, Role::Listens);
        self.enter(sockets::datagrams(netns, at), party, Role::Serves);
    }

    fn raw(&mut self, party: Party, netns: &Path, protocol: u8) {
        let key = self.enter(sockets::raw(netns, protocol, None), party, Role::Raw(protocol));
        self.raws.insert((party, protocol), key);
    }

    /// Takes a container in, with its servers.
    pub(crate) fn arrive(&mut self, place: u8, container: Container) {
        let (party, path) = (container.party, container.path.clone());
        let any = |port| SocketAddr::new(IpAddr::from([0; 16]), port);
        for range in GROUPS.iter().filter(|group| group.count > 1) {
            for port in range.port..range.port + SERVED {
                let socket = if range.proto == "tcp" {
                    (sockets::listen(&path, any(port)), Role::Listens)
                } else {
                    (sockets::datagrams(&path, any(port)), Role::Serves)
                };
                self.enter(socket.0, party, socket.1);
            }
        }
        for port in service::TCP {
            self.enter(sockets::listen(&path, any(port)), party, Role::Listens);
        }
        for port in service::UDP {
            self.enter(sockets::datagrams(&path, any(port)), party, Role::Serves);
        }
        for protocol in service::TUNNELS {
            self.raw(party, &path, protocol);
        }
        self.enter(sockets::capture(&path, "eth0"), party, Role::Sees { wire: false });
        self.judge.comes(party, container.addresses);
        self.places[usize::from(place)] = Some(container);
    }

    /// Reads what has come to a container once more, and closes all that it has open. What still comes is seen.
    pub(crate) fn leave(&mut self, place: u8) {
        let Some(container) = self.places[usize::from(place)].take() else { return };
        self.close(|entry| entry.party == container.party && !matches!(entry.role, Role::Sees { .. }));
        self.raws.retain(|(party, _), _| *party != container.party);
    }

    /// No longer sees what comes to a container.
    pub(crate) fn forget(&mut self, party: Party) {
        self.close(|entry| entry.party == party);
    }

    /// Closes sockets after a last look.
    fn close(&mut self, which: impl Fn(&Entry) -> bool) {
        let keys: Vec<u64> =
            self.sockets.iter().filter(|(_, entry)| which(entry)).map(|(key, _)| *key).collect();
        for key in keys {
            self.read(key);
            self.sockets.remove(&key);
        }
    }
}

/// A socket that sends IP packets as they are.
pub(crate) fn raw_sender(netns: &Path) -> OwnedFd {
    let Socket::Raw(socket) = sockets::raw(netns, 255, None) else { unreachable!("a raw socket") };
    socket
}
