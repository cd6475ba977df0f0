//! A host for the policy's tests: its networks, containers and publications in plain collections.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netd_common::abi::{
    EndpointRow, FamilyRows, LocalPorts, PortRow, PublicationRow, Subnet, UplinkRow, network_flag,
    publication_flag, uplink_flag,
};
use netd_common::flow::{FlowKey, Handle, Tuple, Zone};
use netd_common::policy::{Lookups, Route, Socket, Tables};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::{Address, Be16, Ipv4, Ipv6};

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
/// Interface indices of the uplinks.
const ETH0: u32 = 1;
const ETH1: u32 = 2;
/// An uplink without addresses.
const BARE: u32 = 3;
/// Interfaces without netd's program. Network 1 trusts the first.
pub(crate) const TUNNEL: u32 = 4;
pub(crate) const STRANGER: u32 = 5;

/// The broadcast address of eth0's network.
pub(crate) const BROADCAST: &str = "192.0.2.255";

/// The MAC address of every bridge.
const BRIDGE: [u8; 6] = [2; 6];

/// The host.
pub(crate) struct World {
    endpoints: Vec<EndpointRow>,
    names: Vec<&'static str>,
    publications: Vec<PublicationRow>,
    ports: HashMap<(u8, u16), PortRow>,
    bound: HashMap<(u8, IpAddr, u16), Handle>,
    /// By endpoint, protocol, port, and whether the family is IPv6.
    targets: HashMap<(Handle, u8, u16, bool), Handle>,
    /// Subnet, mask and number.
    networks: Vec<(IpAddr, IpAddr, u32)>,
    uplinks: HashMap<u32, UplinkRow>,
    locals: HashSet<IpAddr>,
    /// By publication and source.
    access: HashMap<(Handle, Ipv6), bool>,
    /// Publications that have a list.
    lists: HashSet<Handle>,
    /// Local sockets: protocol, own address and port, and the peer of those that have one.
    sockets: Vec<(u8, SocketAddr, Option<SocketAddr>, Socket)>,
    /// With whom the host is in an exchange that no socket tells of: protocol, peer, own port.
    noted: HashSet<(u8, SocketAddr, u16)>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn four(text: &str) -> Ipv4 {
    text.parse::<Ipv4Addr>().unwrap().into()
}

fn six(text: &str) -> Ipv6 {
    text.parse::<Ipv6Addr>().unwrap().into()
}

/// An address as keys of both families have it.
fn unified(address: IpAddr) -> Ipv6 {
    match address {
        IpAddr::V4(address) => Ipv6::mapped(address.into()),
        IpAddr::V6(address) => address.into(),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            endpoints: Vec::new(),
            names: Vec::new(),
            publications: Vec::new(),
            ports: HashMap::new(),
            bound: HashMap::new(),
            targets: HashMap::new(),
            networks: Vec::new(),
            uplinks: HashMap::new(),
            locals: HashSet::new(),
            access: HashMap::new(),
            lists: HashSet::new(),
            sockets: Vec::new(),
            noted: HashSet::new(),
        };
        world.host();
        world.containers();
        world.publish();
        world
    }

    fn host(&mut self) {
        let eth0 =
            UplinkRow { address4: four("192.0.2.1"), address6: six("2001:db8::1"), ..UplinkRow::default() };
        let eth1 = UplinkRow {
            address4: four("198.51.100.1"),
            flags: uplink_flag::STRICT_REVERSE_PATH,
            ..UplinkRow::default()
        };
        self.uplinks = HashMap::from([(ETH0, eth0), (ETH1, eth1), (BARE, UplinkRow::default())]);
        self.locals =
            ["192.0.2.1", "192.0.2.7", "198.51.100.1", "2001:db8::1", "fe80::1", "172.17.0.1"].map(ip).into();
        let own = |port| SocketAddr::new(ip("192.0.2.1"), port);
        let peer = |text: &str| Some(text.parse().unwrap());
        self.sockets = vec![
            (UDP, own(53), None, Socket::Unconnected),
            (UDP, own(3005), peer("203.0.113.9:53"), Socket::Connected),
            (UDP, own(3006), None, Socket::Unconnected),
            (TCP, own(8080), None, Socket::Unconnected),
            (TCP, own(8080), peer("203.0.113.9:443"), Socket::Connected),
            (TCP, own(8080), peer("203.0.113.66:443"), Socket::Connected),
            (TCP, own(8080), peer("203.0.113.9:444"), Socket::TimeWait),
            (TCP, own(8080), peer("172.17.0.3:80"), Socket::Connected),
            (TCP, own(9000), peer("203.0.113.9:443"), Socket::Connected),
        ];
        self.noted =
            [(UDP, "203.0.113.10:53", 3006), (TCP, "203.0.113.13:443", 6000), (GRE, "203.0.113.47:0", 0)]
                .map(|(protocol, peer, port)| (protocol, peer.parse().unwrap(), port))
                .into();
    }

    /// A container of a network `a.b.0.0/16`, with flags of its network.
    pub(crate) fn container(
        &mut self,
        name: &'static str,
        network: u32,
        address: &str,
        flags: u32,
    ) -> &mut EndpointRow {
        let [a, b, c, d] = address.parse::<Ipv4Addr>().unwrap().octets();
        let (mask, gateway) = (four("255.255.0.0"), Ipv4::from(Ipv4Addr::new(a, b, 0, 1)));
        let number = u32::try_from(self.endpoints.len()).unwrap() + 1;
        self.networks.push((Ipv4Addr::new(a, b, 0, 0).into(), ip("255.255.0.0"), network));
        self.names.push(name);
        self.endpoints.push(EndpointRow {
            handle: Handle::new(u16::try_from(number).unwrap(), 1),
            ifindex: 100 + number,
            ethernet: EndpointRow::ethernet([2, 0x42, a, b, c, d], BRIDGE),
            bridge: 50 + network,
            network,
            flags,
            subnet4: Subnet::new(four(address), mask, gateway, Ipv4::UNSPECIFIED),
            ..EndpointRow::default()
        });
        self.endpoints.last_mut().unwrap()
    }

    fn containers(&mut self) {
        let web = self.container("web", 1, "172.17.0.2", 0);
        let mask = six("ffff:ffff:ffff:ffff::");
        web.subnet6 = Subnet::new(six("fd00:17::2"), mask, six("fd00:17::1"), Ipv6::UNSPECIFIED);
        self.networks.push((ip("fd00:17::"), ip("ffff:ffff:ffff:ffff::"), 1));
        self.container("db", 1, "172.17.0.3", 0);
        self.container("routed", 2, "10.2.0.2", network_flag::ROUTED);
        self.container("vault", 3, "10.3.0.2", network_flag::INTERNAL);
        self.container("open", 4, "10.4.0.2", network_flag::UNPROTECTED);
        self.container("lone", 5, "10.5.0.2", network_flag::NO_ICC);
        self.container("alone", 5, "10.5.0.4", network_flag::NO_ICC);
        self.container("four", 6, "10.6.0.2", 0);
        self.container("plain", 7, "10.7.0.2", network_flag::NO_MASQUERADE);
        let snat = self.container("snat", 8, "10.8.0.2", 0);
        snat.subnet4 =
            Subnet::new(four("10.8.0.2"), four("255.255.0.0"), four("10.8.0.1"), four("192.0.2.7"));
        self.container("bad", 9, "10.9.0.2", 0);
        self.container("vpn", 11, "10.11.0.2", network_flag::MORE_ADDRESSES);
        for (name, address, flags) in [
            ("remote", "203.0.113.200", 0),
            ("keep", "203.0.113.201", network_flag::NO_MASQUERADE),
            ("gone", "203.0.115.200", 0),
        ] {
            let target = self.container(name, 0, address, flags);
            target.ifindex = 0;
            target.subnet4 =
                Subnet::new(four(address), Ipv4::UNSPECIFIED, Ipv4::UNSPECIFIED, Ipv4::UNSPECIFIED);
            self.networks.pop();
        }
    }

    /// Publishes `count` host ports at ports of an endpoint, on one address or on all.
    pub(crate) fn port(
        &mut self,
        protocol: u8,
        on: Option<&str>,
        host: u16,
        count: u16,
        to: &str,
        target: u16,
    ) -> Handle {
        let endpoint = *self.container_row(to);
        let handle = Handle::new(u16::try_from(self.publications.len()).unwrap(), 1);
        self.publications.push(PublicationRow {
            handle,
            endpoint: endpoint.handle,
            host_port: Be16::new(host),
            target_port: Be16::new(target),
            ports: count.into(),
            address: on.map_or(Ipv6::UNSPECIFIED, |address| unified(ip(address))),
            ..PublicationRow::default()
        });
        for offset in 0..count {
            let row = self.ports.entry((protocol, host + offset)).or_default();
            match on {
                None => row.any = handle,
                Some(address) => {
                    row.bound += 1;
                    self.bound.insert((protocol, ip(address), host + offset), handle);
                }
            }
            for is_v6 in [false, true] {
                self.targets.insert((endpoint.handle, protocol, target + offset, is_v6), handle);
            }
        }
        handle
    }

    fn publish(&mut self) {
        let web = self.port(TCP, None, 8080, 1, "web", 80);
        self.port(UDP, None, 3000, 10, "db", 5000);
        self.port(TCP, Some("192.0.2.7"), 8443, 1, "db", 443);
        // An address that the host does not have.
        self.port(TCP, Some("192.0.2.50"), 8444, 1, "db", 444);
        let on_eth1 = self.port(TCP, None, 5000, 1, "web", 50);
        self.row(on_eth1).interface = ETH1;
        self.port(TCP, None, 6000, 1, "four", 60);
        self.port(TCP, None, 2200, 1, "routed", 22);
        let draining = self.port(TCP, None, 8081, 1, "web", 81);
        self.row(draining).flags = publication_flag::DRAINING;
        self.ports.remove(&(TCP, 8081));
        self.port(TCP, None, 40000, 1, "web", 82);
        self.port(UDP, None, 40000, 1, "web", 82);
        for shared in [
            self.port(TCP, None, 7000, 1, "web", 70),
            self.port(TCP, None, 7001, 1, "web", 70),
            self.port(UDP, None, 7000, 1, "web", 70),
            self.port(UDP, None, 7001, 1, "web", 70),
        ] {
            self.row(shared).flags = publication_flag::SHARED_TARGET;
        }
        // Two containers behind one port of two addresses.
        self.port(TCP, Some("192.0.2.1"), 4430, 1, "web", 443);
        self.port(TCP, Some("192.0.2.7"), 4430, 1, "db", 444);
        self.port(TCP, None, 9000, 1, "remote", 90);
        self.port(TCP, None, 9001, 1, "keep", 90);
        self.port(TCP, None, 9002, 1, "gone", 90);
        for source in ["203.0.113.66", "203.0.114.66", "10.9.0.2"] {
            self.access.insert((web, unified(ip(source))), false);
        }
        self.access.insert((Handle::NONE, unified(ip("203.0.113.77"))), false);
        self.lists.extend([web, Handle::NONE]);
    }

    /// Removes all access lists.
    pub(crate) fn forget_lists(&mut self) {
        self.lists.clear();
    }

    fn row(&mut self, handle: Handle) -> &mut PublicationRow {
        &mut self.publications[usize::from(handle.slot())]
    }

    fn container_row(&self, name: &str) -> &EndpointRow {
        &self.endpoints[self.names.iter().position(|known| *known == name).expect("a container")]
    }

    /// The interface index of an uplink or a container.
    pub(crate) fn ifindex(&self, name: &str) -> u32 {
        match name {
            "eth0" => ETH0,
            "eth1" => ETH1,
            name => self.container_row(name).ifindex,
        }
    }

    /// A container's row.
    pub(crate) fn of(&self, name: &str) -> &EndpointRow {
        self.container_row(name)
    }

    fn subnet_of(&self, address: IpAddr) -> Option<u32> {
        let is_in = |(network, mask): (&IpAddr, &IpAddr)| match (address, network, mask) {
            (IpAddr::V4(a), IpAddr::V4(n), IpAddr::V4(m)) => a.to_bits() & m.to_bits() == n.to_bits(),
            (IpAddr::V6(a), IpAddr::V6(n), IpAddr::V6(m)) => a.to_bits() & m.to_bits() == n.to_bits(),
            _ => false,
        };
        self.networks.iter().find(|(network, mask, _)| is_in((network, mask))).map(|(_, _, number)| *number)
    }
}

/// The name of where a connection goes.
pub(crate) fn name_of_zone(world: &World, zone: Zone) -> &'static str {
    if zone == Zone::OUTSIDE {
        return "outside";
    }
    let at = world.endpoints.iter().position(|endpoint| endpoint.ifindex == zone.ifindex());
    world.names[at.expect("a container")]
}

impl Tables for World {
    fn port(&self, protocol: u8, port: Be16) -> Option<PortRow> {
        matches!(protocol, TCP | UDP)
            .then(|| self.ports.get(&(protocol, port.get())).copied().unwrap_or_default())
    }

    fn publication(&self, handle: Handle) -> Option<&PublicationRow> {
        self.publications.iter().find(|row| row.handle == handle && !handle.is_none())
    }

    fn endpoint(&self, handle: Handle) -> Option<&EndpointRow> {
        self.endpoints.iter().find(|row| row.handle == handle)
    }

    fn endpoint_behind(&self, ifindex: u32) -> Option<&EndpointRow> {
        self.endpoints.iter().find(|row| row.ifindex == ifindex && ifindex != 0)
    }

    fn uplink(&self, ifindex: u32) -> Option<&UplinkRow> {
        self.uplinks.get(&ifindex)
    }

    fn container_at(&self, address: Ipv6) -> Option<&EndpointRow> {
        address.as_mapped().and_then(|address| Lookups::<Ipv4>::endpoint_at(self, address))
    }

    /// `vpn` may use 10.244.1.0/24, and 10.11.0.0/16 and 172.17.0.0/16 as far as nobody else has the address.
    fn is_allowed_address(&self, endpoint: &EndpointRow, address: Ipv6) -> bool {
        let Some(address) = address.as_mapped() else { return false };
        let [a, b, c, _] = Ipv4Addr::from(address).octets();
        let owner = Lookups::<Ipv4>::endpoint_at(self, address);
        endpoint.handle == self.of("vpn").handle
            && ([a, b, c] == [10, 244, 1] || [[10, 11], [172, 17]].contains(&[a, b]))
            && owner.is_none_or(|owner| owner.handle == endpoint.handle)
    }

    fn is_trusted(&self, network: u32, ifindex: u32) -> bool {
        network == 1 && matches!(ifindex, ETH1 | TUNNEL)
    }

    fn access(&self, publication: Handle, source: Ipv6) -> Option<bool> {
        let is_listed = self.lists.contains(&publication);
        is_listed.then(|| self.access.get(&(publication, source)).copied().unwrap_or(true))
    }

    fn local_ports(&self) -> LocalPorts {
        LocalPorts { first: 32768, last: 60999 }
    }
}

impl<A: FamilyRows> Lookups<A> for World {
    fn bound_port(&self, protocol: u8, address: A, port: Be16) -> Option<Handle> {
        self.bound.get(&(protocol, address.to_ip(), port.get())).copied()
    }

    fn target_port(&self, endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle> {
        self.targets.get(&(endpoint, protocol, port.get(), A::IS_V6)).copied()
    }

    fn endpoint_at(&self, address: A) -> Option<&EndpointRow> {
        self.endpoints.iter().find(|row| row.ifindex != 0 && A::subnet(row).address() == address)
    }

    fn is_ipsec_peer(&self, address: A) -> bool {
        matches!(address.to_ip(), IpAddr::V4(address) if address.octets()[..3] == [203, 0, 119])
    }

    fn network_of(&self, address: A) -> Option<u32> {
        self.subnet_of(address.to_ip())
    }

    fn is_broadcast(&self, address: A) -> bool {
        address.to_ip() == ip(BROADCAST)
    }

    /// 203.0.114.0/24 is behind eth1, 203.0.117.0/24 for DNS only, 203.0.115.0/24 is forbidden, 203.0.116.0/24 is behind
    /// an uplink without an address, 203.0.118.0/24 behind a tunnel, 240.0.0.0/8 has no route, and everything else is
    /// behind eth0.
    fn is_local(&self, address: A) -> bool {
        self.locals.contains(&address.to_ip())
    }

    fn route(&self, _input: u32, protocol: u8, tuple: &Tuple<A>) -> Route<A> {
        let dst = tuple.dst;
        if tuple.src.is_link_local() || dst.is_link_local() {
            return Route::Local;
        }
        if self.locals.contains(&dst.to_ip()) || self.is_broadcast(dst) {
            return Route::Local;
        }
        let out = match dst.to_ip() {
            IpAddr::V4(address) => match address.octets() {
                [203, 0, 114, _] => ETH1,
                [203, 0, 117, _] if (protocol, tuple.dst_port.get()) == (UDP, 53) => ETH1,
                [203, 0, 115, _] => return Route::Refused(Reason::Prohibited),
                [203, 0, 116, _] => BARE,
                [203, 0, 118, _] => TUNNEL,
                [240, ..] => return Route::Local,
                _ => ETH0,
            },
            IpAddr::V6(_) => ETH0,
        };
        Route::Via(out, A::UNSPECIFIED)
    }

    fn local_socket(&self, key: &FlowKey<A>) -> Option<Socket> {
        let own = SocketAddr::new(key.dst.to_ip(), key.dst_port.get());
        let sender = SocketAddr::new(key.src.to_ip(), key.src_port.get());
        let with = |peer| {
            let is_it = |socket: &&(u8, SocketAddr, Option<SocketAddr>, Socket)| {
                (socket.0, socket.1, socket.2) == (key.protocol(), own, peer)
            };
            self.sockets.iter().find(is_it).map(|socket| socket.3)
        };
        with(Some(sender)).or_else(|| with(None))
    }

    fn is_noted(&self, key: &FlowKey<A>) -> bool {
        let sender = SocketAddr::new(key.src.to_ip(), key.src_port.get());
        self.noted.contains(&(key.protocol(), sender, key.dst_port.get()))
    }
}

/// The frame of a packet, written as `KIND SRC > DST [ttl N]`. A container sends it to the MAC address of the neighbour that
/// has the destination, or to the bridge's; with `by NAME` to that neighbour's, with `via router` to the bridge's. Kinds: tcp
/// (a SYN), ack, synack, rst, udp, ping, gre, later (a later fragment).
pub(crate) fn frame(world: &World, from: &str, packet: &str) -> Vec<u8> {
    let words: Vec<&str> = packet.split(' ').collect();
    let option = |name| words.get(4).filter(|word| **word == name).map(|_| words[5]);
    let (kind, ttl) = (words[0], option("ttl").map_or(64, |ttl| ttl.parse().unwrap()));
    let end = |text: &str| text.parse::<SocketAddr>().unwrap_or_else(|_| SocketAddr::new(ip(text), 0));
    let (src, dst) = (end(words[1]), end(words[3]));
    let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    let tcp = |flags: u8| (TCP, [&ports[..], &[0; 8], &[0x50, flags, 0, 0, 0, 0, 0, 0]].concat());
    let (protocol, payload) = match kind {
        "tcp" => tcp(0x02),
        "ack" => tcp(0x10),
        "synack" => tcp(0x12),
        "rst" => tcp(0x04),
        "udp" | "later" => (UDP, [&ports[..], &[0, 8, 0, 0]].concat()),
        "ping" => (1, vec![8, 0, 0, 0, 0, 7, 0, 1]),
        "gre" => (GRE, vec![0, 0, 8, 0]),
        kind => panic!("{kind} is not a kind of packet"),
    };
    let mut bytes = vec![0; 14];
    if !from.starts_with("eth") {
        let network = world.of(from).network;
        let has_it = |row: &&EndpointRow| row.network == network && row.subnet4.address().to_ip() == dst.ip();
        let neighbour = world.endpoints.iter().find(has_it);
        let receiver = match (option("by"), option("via"), neighbour) {
            (Some(name), _, _) => world.of(name).mac(),
            (None, None, Some(neighbour)) => neighbour.mac(),
            _ => BRIDGE,
        };
        bytes[..6].copy_from_slice(&receiver);
        bytes[6..12].copy_from_slice(&world.of(from).mac());
    }
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let offset = u8::from(kind == "later");
            bytes.extend([0x45, 0, 0, 0, 0, 1, 0, offset, ttl, protocol, 0, 0]);
            bytes.extend([src.octets(), dst.octets()].concat());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend([0x60, 0, 0, 0, 0, 0, protocol, ttl]);
            bytes.extend([src.octets(), dst.octets()].concat());
        }
        _ => panic!("two families in {packet}"),
    }
    bytes.extend(payload);
    bytes
}
