//! What an instance looks like: records and what the kernel says of them, as reports.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use netd_common::flow::Handle;
use netd_common::flow::state::State;
use netd_common::wire::ip::protocol;

use super::container::INTERFACE;
use super::host::{Host, kernel_release};
use super::network::{BRIDGE, HOST, NONE, gateways_for, is_predefined, no_network};
use super::xdp::attachments;
use crate::dataplane::{self, Connection, PublicationStats};
use crate::error::Result;
use crate::link::Netlink;
use crate::netns::Netns;
use crate::report::{
    Address, ByFamily, Container, Count, Direction, Drop, Features, Flow, Flows, InOut, Member, Network,
    Port, Status, Timeout,
};
use crate::spec::{Name, Protocol, XdpMode};
use crate::store::{self, Attachment, Publication, Sandbox, Target};

impl Host {
    /// Publications with what they counted; of one container if it is given.
    pub fn report_ports(&self, container: Option<&Name>) -> Result<Vec<Port>> {
        if let Some(name) = container {
            self.container(name)?;
        }
        let mut wanted: Vec<&Publication> = self
            .store
            .state
            .publications
            .iter()
            .filter(|publication| container.is_none_or(|name| publication.target.is(name)))
            .collect();
        wanted.sort_by_key(|publication| publication.is_draining());
        let handles: Vec<_> = wanted.iter().map(|publication| publication.handle()).collect();
        let stats = match &self.dataplane {
            Some(dataplane) => dataplane.tables.publication_stats(&handles)?,
            None => vec![PublicationStats::default(); handles.len()],
        };
        self.described_ports(wanted.into_iter().zip(stats))
    }

    /// Publications that have just been made: nothing has passed, so no flow table has to be walked for it.
    pub fn report_new(&self, made: &[Publication]) -> Result<Vec<Port>> {
        self.described_ports(made.iter().map(|one| (one, PublicationStats::default())))
    }

    fn described_ports<'a>(
        &self,
        publications: impl Iterator<Item = (&'a Publication, PublicationStats)>,
    ) -> Result<Vec<Port>> {
        let refused = match &self.dataplane {
            Some(dataplane) if self.xdp() != XdpMode::Off => dataplane.tables.refused()?,
            _ => HashMap::new(),
        };
        publications
            .map(|(publication, stats)| {
                let target_ip = match &publication.target {
                    Target::Container(name) => target_address(publication, self.container(name)?.link()),
                    Target::Remote(remote) => remote.address,
                };
                let counters = stats.counters;
                Ok(Port {
                    proto: publication.proto.name(),
                    host_ip: publication.host_ip,
                    access: publication.access().clone(),
                    interface: publication.interface().map(ToString::to_string),
                    keep_source: publication.target.remote().is_some_and(|remote| remote.keep_source),
                    draining: publication.is_draining(),
                    host_port: publication.host_port,
                    host_port_end: publication.host_port_end,
                    target: publication.target.to_string(),
                    target_ip,
                    target_port: publication.target_port,
                    target_port_end: publication.target_port_end(),
                    packets: InOut { inward: counters.packets_in, out: counters.packets_out },
                    bytes: InOut { inward: counters.bytes_in, out: counters.bytes_out },
                    flows: Flows { active: stats.active, total: counters.flows },
                    dropped: counters.dropped + refused.get(&publication.handle()).copied().unwrap_or(0),
                })
            })
            .collect()
    }

    /// Connections, those with the least idle time first; of one container, protocol or port, if these are given.
    pub fn report_flows(
        &self,
        container: Option<&Name>,
        protocol: Option<Protocol>,
        port: Option<u16>,
    ) -> Result<Vec<Flow>> {
        if let Some(name) = container {
            self.container(name)?;
        }
        let Some(dataplane) = &self.dataplane else { return Ok(Vec::new()) };
        let state = &self.store.state;
        let containers = state.containers.values();
        let owners: HashMap<Handle, &store::Container> =
            containers.filter_map(|one| Some((one.link()?.handle(), one))).collect();
        let publications: HashMap<Handle, &Publication> =
            state.publications.iter().map(|one| (one.handle(), one)).collect();
        // A connection that is forwarded belongs to no container.
        let remotes: HashMap<Handle, IpAddr> = state
            .publications
            .iter()
            .filter_map(|one| one.target.remote().map(|remote| (remote.handle(), remote.address)))
            .collect();
        let mut flows = Vec::new();
        for connection in dataplane.tables.connections()? {
            let owner = owners.get(&connection.endpoint);
            let name = match (owner, remotes.get(&connection.endpoint)) {
                (Some(owner), _) => owner.name.to_string(),
                (None, Some(address)) => address.to_string(),
                (None, None) => continue,
            };
            let Connection { original, reply, .. } = connection;
            let ports = [original.from.port(), original.to.port(), reply.from.port(), reply.to.port()];
            let wanted = container.is_none_or(|name| owner.is_some_and(|owner| owner.name == *name))
                && protocol.is_none_or(|protocol| protocol.number() == connection.protocol)
                && port.is_none_or(|port| ports.contains(&port));
            if !wanted {
                continue;
            }
            let publication = publications.get(&connection.publication).map(|one| one.spec());
            flows.push(Flow {
                proto: protocol_name(connection.protocol),
                state: connection.state.name(),
                idle_ms: connection.idle_millis,
                container: name,
                publication,
                original: direction(&original),
                reply: direction(&reply),
            });
        }
        flows.sort_by_key(|flow| (flow.idle_ms, flow.original.src, flow.original.src_port));
        Ok(flows)
    }

    /// The idle timeout of each conntrack state.
    pub fn report_timeouts(&self) -> Vec<Timeout> {
        let timeout = |state: State| Timeout {
            state: state.name(),
            seconds: self.store.state.timeouts.seconds(state),
            default_seconds: state.default_timeout(),
            source: state.default_source(),
        };
        State::ALL.into_iter().map(timeout).collect()
    }

    /// Networks, the predefined ones first, with how many containers are on each.
    pub fn report_networks(&self) -> Vec<Network<usize>> {
        let state = &self.store.state;
        let on = |name: &str| {
            state.containers.values().filter(|container| container.network.as_str() == name).count()
        };
        let mut networks = Vec::new();
        match state.networks.values().find(|network| network.name.as_str() == BRIDGE) {
            Some(bridge) => networks.push(described(bridge, on(BRIDGE))),
            None => networks.push(predefined(BRIDGE, "bridge", on(BRIDGE))),
        }
        networks.push(predefined(HOST, "host", on(HOST)));
        networks.push(predefined(NONE, "null", on(NONE)));
        for network in state.networks.values().filter(|network| !is_predefined(&network.name)) {
            networks.push(described(network, on(network.name.as_str())));
        }
        networks
    }

    /// One network with its containers.
    pub fn report_network(&self, name: &Name) -> Result<Network<Vec<Member>>> {
        let members: Vec<Member> = self
            .store
            .state
            .containers
            .values()
            .filter(|container| container.network == *name)
            .map(|container| Member {
                name: container.name.to_string(),
                addresses: container
                    .link()
                    .map_or_else(Vec::new, |link| link.addresses.iter().map(ToString::to_string).collect()),
                mac: container.link().map(|link| link.mac.to_string()),
            })
            .collect();
        match self.store.state.networks.get(name) {
            Some(network) => Ok(described(network, members)),
            None if name.as_str() == NONE => Ok(predefined(NONE, "null", members)),
            None if is_predefined(name) => Ok(predefined(name.as_str(), name.as_str(), members)),
            None => Err(no_network(name)),
        }
    }

    /// Every container.
    pub async fn report_containers(&self) -> Result<Vec<Container>> {
        let mut reports = Vec::new();
        let ports = self.report_ports(None)?;
        for container in self.store.state.containers.values() {
            let own = ports.iter().filter(|port| port.target == container.name.as_str()).cloned().collect();
            reports.push(self.describe(container, own).await?);
        }
        Ok(reports)
    }

    /// One container.
    pub async fn report_container(&self, name: &Name) -> Result<Container> {
        let container = self.container(name)?;
        self.describe(container, self.report_ports(Some(name))?).await
    }

    async fn describe(&self, container: &store::Container, ports: Vec<Port>) -> Result<Container> {
        let mut report = Container {
            name: container.name.to_string(),
            network: container.network.to_string(),
            sandbox: match &container.sandbox {
                Sandbox::Host => self.netns.path().display().to_string(),
                Sandbox::Namespace { path, .. } => path.display().to_string(),
            },
            interface: None,
            host_interface: None,
            mac: None,
            mtu: None,
            addresses: Vec::new(),
            ports,
            counters: InOut { inward: Count::default(), out: Count::default() },
        };
        if let Attachment::Bridge(link) = &container.attachment {
            let network = self.store.state.networks.get(&container.network);
            report.interface = Some(INTERFACE.to_owned());
            report.host_interface = Some(link.host_interface.to_string());
            report.mac = Some(link.mac.to_string());
            report.mtu = Some(link.mtu);
            for address in &link.addresses {
                let subnet = network.and_then(|network| network.subnet_of(*address));
                let gateway = network.and_then(|network| {
                    gateways_for(network).find(|gateway| gateway.is_ipv4() == address.is_ipv4())
                });
                let longest = if address.is_ipv4() { 32 } else { 128 };
                report.addresses.push(Address {
                    ip: *address,
                    prefix_len: subnet.map_or(longest, |subnet| subnet.net.prefix_len()),
                    gateway,
                });
            }
            report.counters = inner_counters(container).await.unwrap_or_default();
        }
        Ok(report)
    }

    /// The instance as a whole.
    pub async fn report_status(&self) -> Result<Status> {
        let state = &self.store.state;
        let interfaces = self.netlink.interfaces().await?;
        let (programs, flows, drops, pins) = match &self.dataplane {
            Some(dataplane) => (
                attachments(dataplane, &interfaces)?,
                Some(dataplane.tables.flow_fill()?),
                dataplane
                    .tables
                    .drops()?
                    .into_iter()
                    .map(|(reason, row)| Drop {
                        reason: reason.name(),
                        text: reason.text(),
                        count: Count { packets: row.packets, bytes: row.bytes },
                    })
                    .collect(),
                Some(dataplane.pins().display().to_string()),
            ),
            None => (Vec::new(), None, Vec::new(), None),
        };
        let cgroup2 = dataplane::cgroup_root()?.map(|root| root.display().to_string());
        let mut warnings = Vec::new();
        for program in programs.iter().filter(|program| !program.attached) {
            warnings.push(format!("{} is not attached to {}", program.program, program.on));
        }
        if self.dataplane.is_some() {
            let uplinks = self.uplinks(&interfaces).await?;
            warnings.extend(self.xdp_warnings(&uplinks, &interfaces)?);
            for uplink in uplinks.iter().filter(|uplink| !uplink.ethernet) {
                warnings.push(format!(
                    "{} is no Ethernet interface: published ports are not reachable through it",
                    uplink.name
                ));
            }
            if uplinks.is_empty() {
                warnings.push(
                    "no interface holds a route: published ports are reachable from this host only"
                        .to_owned(),
                );
            }
        }
        if cgroup2.is_none() {
            warnings.push(
                "no cgroup v2 is mounted: published ports are not reachable from this host itself".to_owned(),
            );
        }
        Ok(Status {
            instance: self.store.instance.clone(),
            state_dir: self.settings.state_dir.display().to_string(),
            pins,
            networks: state.networks.len(),
            containers: state.containers.len(),
            publications: state.publications.len(),
            xdp: self.xdp().name(),
            programs,
            flows,
            drops,
            features: Features {
                kernel: kernel_release()?,
                tcx: self.settings.tc == dataplane::TcHook::Tcx,
                cgroup2,
                btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            },
            warnings,
        })
    }
}

fn direction(of: &dataplane::Direction) -> Direction {
    Direction {
        src: of.from.ip(),
        src_port: of.from.port(),
        dst: of.to.ip(),
        dst_port: of.to.port(),
        packets: of.packets,
        bytes: of.bytes,
    }
}

/// A protocol as `/etc/protocols` has it, of those that netd knows; else its number.
fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::SCTP => "sctp".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::ICMPV6 => "ipv6-icmp".to_owned(),
        other => other.to_string(),
    }
}

/// The container's address that a publication leads to: of the family of its host address, else IPv4.
fn target_address(publication: &Publication, link: Option<&store::Link>) -> IpAddr {
    let six = publication.host_ip.is_some_and(|address| address.is_ipv6());
    let addresses = link.map_or(&[][..], |link| &link.addresses);
    let same = addresses.iter().find(|address| address.is_ipv6() == six);
    same.or(addresses.first()).copied().unwrap_or(IpAddr::from([0, 0, 0, 0]))
}

/// What the container's own end counted: packets that a program redirects into the container bypass the host's end.
/// None if its namespace is gone.
async fn inner_counters(container: &store::Container) -> Option<InOut<Count>> {
    let Sandbox::Namespace { path, cookie, .. } = &container.sandbox else { return None };
    let inside = Netlink::open(&Netns::proven(path, *cookie).ok()??).ok()?;
    let inner = inside.interface(&INTERFACE.parse().ok()?).await.ok()??;
    Some(InOut { inward: inner.received, out: inner.sent })
}

fn described<Members>(network: &store::Network, containers: Members) -> Network<Members> {
    let mode = |family: fn(&IpAddr) -> bool| {
        network.subnets.iter().find(|subnet| family(&subnet.gateway)).map(|subnet| subnet.mode.name())
    };
    Network {
        name: network.name.to_string(),
        driver: "bridge",
        bridge: Some(network.bridge.to_string()),
        subnets: network.subnets.iter().map(|subnet| subnet.net.to_string()).collect(),
        gateways: network.gated().map(|subnet| subnet.gateway).collect(),
        mtu: Some(network.mtu),
        internal: network.internal,
        icc: network.icc,
        masquerade: network.masquerade,
        gateway_mode: ByFamily { ipv4: mode(IpAddr::is_ipv4), ipv6: mode(IpAddr::is_ipv6) },
        trusted_interfaces: network.trusted.iter().map(ToString::to_string).collect(),
        containers,
    }
}

/// A network that exists without a record: host, none, and bridge before its first use.
fn predefined<Members>(name: &str, driver: &str, containers: Members) -> Network<Members> {
    Network {
        name: name.to_owned(),
        driver: match driver {
            HOST => "host",
            BRIDGE => "bridge",
            _ => "null",
        },
        bridge: None,
        subnets: Vec::new(),
        gateways: Vec::new(),
        mtu: None,
        internal: name == NONE,
        icc: name != NONE,
        masquerade: name == BRIDGE,
        gateway_mode: ByFamily::default(),
        trusted_interfaces: Vec::new(),
        containers,
    }
}
