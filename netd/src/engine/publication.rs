//! Published ports.

use std::collections::HashSet;
use std::net::IpAddr;

use netd_common::bytes::{Address as _, Ipv4, Ipv6};
use netd_common::flow::Handle;
use netd_common::tables::{EndpointRow, Subnet, network_flag};
use netd_common::track;

use super::Host;
use super::container::no_container;
use super::network::BRIDGE;
use crate::dataplane;
use crate::error::{Error, Result};
use crate::listeners::{self, Listeners};
use crate::spec::{self, Access, HostPorts, IfName, Name, PortRange, PortSpec, Source, UnpublishSpec};
use crate::store::{Attachment, Container, Phase, Publication, Remote, Target};

/// Ports to be published.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// Whose.
    pub target: spec::Target,
    /// Which.
    pub port: PortSpec,
    /// How.
    pub terms: Terms,
    /// Whether a target that is no container sees the clients' own addresses.
    pub keep_source: bool,
    /// What becomes of a publication that has the ports already; refused if none.
    pub replace: Option<Replace>,
}

/// How ports are published.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Who may use them.
    pub access: Access,
    /// The one interface that their clients come in by; any if none.
    pub interface: Option<IfName>,
}

/// What becomes of the connections of a publication that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// They go on until they end.
    Drain,
    /// They end at once.
    Cut,
}

/// Host ports that somebody has or is about to have, for looking for free ones.
struct Taken<'a> {
    publications: &'a [Publication],
    listeners: Listeners,
}

impl Taken<'_> {
    /// Who has one of the ports that `wanted` wants, in words.
    fn holder(&self, planned: &[Publication], wanted: &Publication) -> Option<String> {
        let holds = |other: &&Publication| !other.is_draining() && other.overlaps(wanted);
        if let Some(other) = self.publications.iter().chain(planned).find(holds) {
            let by =
                other.interface.as_ref().map_or_else(String::new, |name| format!(" by interface {name}"));
            return Some(format!("published for {} as {}{by}", other.target, other.spec()));
        }
        self.listeners.holder(wanted.proto, wanted.host_ip, wanted.host_port..=wanted.host_port_end)
    }
}

impl Host {
    /// Publishes a port, all or nothing. Returns what was made of it.
    pub async fn publish(&mut self, request: &PublishRequest) -> Result<Publication> {
        let PublishRequest { target, port, terms, .. } = request;
        let target = self.target(target, request.keep_source).await?;
        check_family(port, &target)?;
        let old = if request.replace.is_some() { self.replaced(port)?.cloned() } else { None };
        let publication = match &old {
            Some(old) => self.plan_replacement(old, target, port, terms).await?,
            None => self.plan_ports(&target, &[*port], terms).await?.remove(0),
        };
        if publication.target.remote().is_some() {
            // The routing table is asked as if packets came in by its bridge.
            self.network_for_use(&BRIDGE.parse()?).await?;
        }
        self.store.state.publications.push(publication.clone());
        self.store.save()?;
        let made = match self.raise(&publication, old.as_ref()).await {
            Ok(()) => self.finish(&publication, old.as_ref()),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            if let Err(second) = self.give_back(&publication).await {
                tracing::warn!("undoing: {}", second.chain());
            }
            return Err(error);
        }
        if let (Some(old), Some(Replace::Cut)) = (old, request.replace) {
            self.take_back(&[old])?;
        }
        Ok(publication)
    }

    /// Records that a publication is whole, and that the one whose ports it took has none any more.
    fn finish(&mut self, publication: &Publication, old: Option<&Publication>) -> Result<()> {
        for one in &mut self.store.state.publications {
            if one.handle() == publication.handle() {
                one.phase = Phase::Ready;
            }
            if old.is_some_and(|old| one.handle() == old.handle()) {
                one.phase = Phase::Draining;
            }
        }
        self.store.save()
    }

    /// Whom a request means; changes nothing.
    async fn target(&mut self, wanted: &spec::Target, keep_source: bool) -> Result<Target> {
        let address = match wanted {
            spec::Target::Container(name) => return self.container_target(name.clone(), keep_source),
            spec::Target::Address(address) => *address,
        };
        let has_it = |container: &&Container| {
            container.name.as_str() == address.to_string()
                || container.link().is_some_and(|link| link.addresses.contains(&address))
        };
        if let Some(container) = self.store.state.containers.values().find(has_it) {
            return self.container_target(container.name.clone(), keep_source);
        }
        self.check_remote(address).await?;
        let handle = self.store.state.endpoint_slot()?;
        let (slot, generation) = (handle.slot(), handle.generation());
        Ok(Target::Remote(Remote { address, keep_source, slot, generation }))
    }

    /// A container as a target, if it has ports to publish.
    fn container_target(&self, name: Name, keep_source: bool) -> Result<Target> {
        let container = self.container(&name)?;
        if !matches!(container.attachment, Attachment::Bridge(_)) {
            return Err(Error::invalid(format!(
                "container {name} is on network {}, which has no ports to publish",
                container.network
            )));
        }
        if self.store.state.networks.get(&container.network).is_some_and(|network| network.internal) {
            return Err(Error::invalid(format!(
                "network {} is internal: nothing on it can be published",
                container.network
            )));
        }
        if keep_source {
            return Err(Error::invalid(format!("--keep-source is not for container {name}"))
                .hint("containers see their clients' own addresses anyway"));
        }
        Ok(Target::Container(name))
    }

    /// Refuses an address that is no other host's, or that no uplink leads to.
    async fn check_remote(&self, address: IpAddr) -> Result<()> {
        let (broadcast, link_local) = match address {
            IpAddr::V4(four) => (four.is_broadcast(), false),
            IpAddr::V6(six) => (six.to_ipv4_mapped().is_some(), six.is_unicast_link_local()),
        };
        if address.is_unspecified() || address.is_multicast() || broadcast || link_local {
            return Err(Error::invalid(format!("{address} is no address that one host has everywhere"))
                .hint("the target is a container, or the address of a host"));
        }
        let addresses = self.netlink.addresses().await?;
        if address.is_loopback() || addresses.iter().any(|own| own.net.addr() == address) {
            return Err(Error::invalid(format!("{address} is this host itself")).hint(
                "what a program on the host listens on is reachable as it is; a target is a container, or another host",
            ));
        }
        let mut networks = self.store.state.networks.values();
        if let Some(network) =
            networks.find(|network| network.subnets.iter().any(|subnet| subnet.net.contains(&address)))
        {
            return Err(Error::not_found(format!(
                "{address} is an address of network {}, and no container has it",
                network.name
            ))
            .hint("`netd container ls` lists those that are there"));
        }
        let index = self.netlink.interface_towards(address).await?;
        let interfaces = self.netlink.interfaces().await?;
        let uplinks = self.uplinks(&interfaces).await?;
        if uplinks.iter().any(|uplink| uplink.ethernet && Some(uplink.index) == index) {
            return Ok(());
        }
        let by = interfaces.iter().find(|interface| Some(interface.index) == index);
        let by = by.map_or("no interface", |interface| interface.name.as_str());
        Err(Error::invalid(format!("the route to {address} leads out by {by}, which is no uplink"))
            .hint("netd forwards by Ethernet interfaces that hold routes, or by those that --uplink names"))
    }

    /// The publication that has the very ports of a specification; none if nobody has any of them.
    fn replaced(&self, spec: &PortSpec) -> Result<Option<&Publication>> {
        let HostPorts::Range(host) = spec.host else {
            return Err(Error::invalid(format!("'{spec}': what is to be replaced has host ports"))
                .hint("name them as they are published: --replace 8080:80"));
        };
        let has = |one: &&Publication| {
            !one.is_draining() && one.shares(spec.proto, spec.host_ip, host.first()..=host.last())
        };
        match self.store.state.publications.iter().filter(has).collect::<Vec<_>>().as_slice() {
            [] => Ok(None),
            [one]
                if one.host_ip == spec.host_ip
                    && (one.host_port, one.host_port_end) == (host.first(), host.last()) =>
            {
                Ok(Some(one))
            }
            [other, ..] => Err(Error::conflict(format!(
                "'{spec}' takes other ports or addresses than {}, which is published for {}",
                other.spec(),
                other.target
            ))
            .hint("only the very same address and ports can be replaced, a range as a whole")),
        }
    }

    /// What is to take the ports of another publication.
    async fn plan_replacement(
        &mut self,
        old: &Publication,
        target: Target,
        spec: &PortSpec,
        terms: &Terms,
    ) -> Result<Publication> {
        self.check_interface(terms.interface.as_ref()).await?;
        let handle = self.store.state.publication_slots(1)?.remove(0);
        Ok(Publication {
            phase: Phase::Adding,
            access: terms.access.clone(),
            interface: terms.interface.clone(),
            target,
            target_port: spec.target.first(),
            slot: handle.slot(),
            generation: handle.generation(),
            ..old.clone()
        })
    }

    /// Refuses an interface by which no client comes in.
    async fn check_interface(&self, wanted: Option<&IfName>) -> Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let interfaces = self.netlink.interfaces().await?;
        if !interfaces.iter().any(|interface| interface.name == wanted.as_str()) {
            return Err(
                Error::not_found(format!("there is no interface {wanted}")).hint("`ip link` lists them")
            );
        }
        let uplinks = self.uplinks(&interfaces).await?;
        let names: Vec<&str> =
            uplinks.iter().filter(|uplink| uplink.ethernet).map(|uplink| uplink.name.as_str()).collect();
        if names.contains(&wanted.as_str()) {
            return Ok(());
        }
        Err(Error::invalid(format!("interface {wanted} leads nowhere outside")).hint(format!(
            "clients come in by {}; for the host itself publish on 127.0.0.1",
            names.join(", ")
        )))
    }

    /// Checks what is asked for against the host and what is published; changes nothing.
    pub(super) async fn plan_ports(
        &mut self,
        target: &Target,
        specs: &[PortSpec],
        terms: &Terms,
    ) -> Result<Vec<Publication>> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        self.check_interface(terms.interface.as_ref()).await?;
        let own = self.own_addresses().await?;
        let handles = self.store.state.publication_slots(specs.len())?;
        let taken = Taken { publications: &self.store.state.publications, listeners: Listeners::read()? };
        let mut planned = Vec::with_capacity(specs.len());
        for (spec, handle) in specs.iter().zip(handles) {
            let host_ip = host_address(spec, &own)?;
            let at = |host: PortRange| Publication {
                phase: Phase::Adding,
                proto: spec.proto,
                host_ip,
                access: terms.access.clone(),
                interface: terms.interface.clone(),
                host_port: host.first(),
                host_port_end: host.last(),
                target: target.clone(),
                target_port: spec.target.first(),
                slot: handle.slot(),
                generation: handle.generation(),
            };
            let publication = match spec.host {
                HostPorts::Range(host) => {
                    let wanted = at(host);
                    if let Some(holder) = taken.holder(&planned, &wanted) {
                        return Err(Error::conflict(format!("port {} is taken: {holder}", wanted.spec()))
                            .hint("choose another host port, or leave it out to get a free one"));
                    }
                    wanted
                }
                HostPorts::FirstFree(range) => ranges(range.first()..=range.last(), 1)
                    .map(at)
                    .find(|wanted| taken.holder(&planned, wanted).is_none())
                    .ok_or_else(|| Error::conflict(format!("'{spec}': every port of {range} is taken")))?,
                HostPorts::Any => {
                    let ephemeral = listeners::ephemeral()?;
                    let allowed: HashSet<u16> = ephemeral.iter().copied().collect();
                    ranges(ephemeral, spec.target.count())
                        .filter(|range| (range.first()..=range.last()).all(|port| allowed.contains(&port)))
                        .map(at)
                        .find(|wanted| taken.holder(&planned, wanted).is_none())
                        .ok_or_else(|| {
                            Error::conflict(format!(
                                "'{spec}': no {} host ports in a row are free",
                                spec.target.count()
                            ))
                        })?
                }
            };
            planned.push(publication);
        }
        Ok(planned)
    }

    /// The host's addresses.
    pub(super) async fn own_addresses(&self) -> Result<Vec<IpAddr>> {
        let addresses = self.netlink.addresses().await?;
        Ok(addresses.into_iter().filter(|address| address.global).map(|address| address.net.addr()).collect())
    }

    pub(super) async fn raise_publications(&self, publications: &[Publication]) -> Result<()> {
        for publication in publications {
            self.raise(publication, None).await?;
        }
        Ok(())
    }

    /// Lets ports lead to a publication; those that `old` has, from one to the other.
    async fn raise(&self, publication: &Publication, old: Option<&Publication>) -> Result<()> {
        if let Some(remote) = publication.target.remote() {
            self.raise_remote(remote).await?;
        }
        let row = self.whole_row(publication).await?;
        let tables = &self.dataplane()?.tables;
        // Nobody is let in before it is said who may.
        tables.set_access(publication.handle(), &publication.access)?;
        match old {
            None => tables.publish(publication.handle(), &row),
            Some(old) => tables.take_over(publication.handle(), &row, old.handle()),
        }
    }

    /// Makes a target known that is no container.
    async fn raise_remote(&self, remote: &Remote) -> Result<()> {
        let name: Name = BRIDGE.parse()?;
        let network =
            self.store.state.networks.get(&name).ok_or_else(|| super::network::no_network(&name))?;
        let mut row = EndpointRow {
            handle: remote.handle(),
            bridge: self.bridge_of(network).await?,
            network: network.number,
            ..EndpointRow::default()
        };
        if remote.keep_source {
            row.flags = network_flag::NO_MASQUERADE | network_flag::NO_MASQUERADE6;
        }
        match remote.address {
            IpAddr::V4(address) => {
                let none = Ipv4::UNSPECIFIED;
                row.subnet4 = Subnet::new(address.into(), none, none, none);
            }
            IpAddr::V6(address) => {
                let none = Ipv6::UNSPECIFIED;
                row.subnet6 = Subnet::new(address.into(), none, none, none);
            }
        }
        self.dataplane()?.tables.put_endpoint(&row)
    }

    /// Takes publications out of the tables. Absent rows are fine.
    pub(super) fn lower_publications(&self, publications: &[Publication]) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let mut errors = Vec::new();
        for publication in publications {
            let lowered =
                self.row(publication).and_then(|row| dataplane.tables.unpublish(publication.handle(), &row));
            errors.extend(lowered.err());
            errors.extend(dataplane.tables.forget_access(publication.handle(), &publication.access).err());
            if let Some(remote) = publication.target.remote() {
                errors.extend(dataplane.tables.remove_endpoint(remote.handle()).err());
            }
        }
        Error::many(errors).map_or(Ok(()), Err)
    }

    /// Takes publications out of the tables and out of the records.
    pub(super) fn take_back(&mut self, publications: &[Publication]) -> Result<()> {
        let handles: HashSet<_> = publications.iter().map(Publication::handle).collect();
        for publication in &mut self.store.state.publications {
            if handles.contains(&publication.handle()) {
                publication.phase = Phase::Removing;
            }
        }
        self.store.save()?;
        self.lower_publications(publications)?;
        self.store.state.publications.retain(|publication| !handles.contains(&publication.handle()));
        self.store.save()?;
        self.restore_targets(publications)
    }

    /// Lets the ports of containers lead to what is still published of them.
    fn restore_targets(&self, gone: &[Publication]) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let shared = |left: &&Publication| {
            gone.iter().any(|gone| {
                gone.target == left.target
                    && gone.proto == left.proto
                    && gone.target_port <= left.target_port_end()
                    && left.target_port <= gone.target_port_end()
            })
        };
        self.store
            .state
            .publications
            .iter()
            .filter(shared)
            .try_for_each(|left| dataplane.tables.put_target(left.handle(), &self.row(left)?))
    }

    /// Takes back what is half made, or half taken back. Ports that it was taking are those of the other publication again.
    pub(super) async fn give_back(&mut self, half: &Publication) -> Result<()> {
        let whole = |one: &&Publication| one.phase == Phase::Ready && one.overlaps(half);
        let kept = self.store.state.publications.iter().find(whole);
        if let (Some(kept), Some(dataplane)) = (kept, &self.dataplane) {
            let row = self.whole_row(kept).await?;
            dataplane.tables.take_over(kept.handle(), &row, half.handle())?;
        }
        self.take_back(std::slice::from_ref(half))
    }

    /// Takes away the publications whose ports are others' by now and whose connections have all ended.
    pub(super) fn end_drained(&mut self) -> Result<()> {
        let draining = self.store.state.publications.iter().filter(|one| one.is_draining());
        let mut over: Vec<Publication> = draining.cloned().collect();
        if over.is_empty() {
            return Ok(());
        }
        if let Some(dataplane) = &self.dataplane {
            let ended = [track::Phase::TimeWait, track::Phase::Closed];
            let connections = dataplane.tables.connections()?;
            let busy: HashSet<Handle> = connections
                .iter()
                .filter(|connection| !ended.contains(&connection.phase))
                .map(|connection| connection.publication)
                .collect();
            over.retain(|publication| !busy.contains(&publication.handle()));
        }
        if over.is_empty() { Ok(()) } else { self.take_back(&over) }
    }

    /// The publications that need a network though their targets are no containers.
    pub(super) fn remotes_by(&self, network: &Name) -> Vec<Publication> {
        let all = self.store.state.publications.iter();
        all.filter(|one| network.as_str() == BRIDGE && one.target.remote().is_some()).cloned().collect()
    }

    /// What the tables are told of a publication, its interface included.
    async fn whole_row(&self, publication: &Publication) -> Result<dataplane::Publication> {
        let mut row = self.row(publication)?;
        if let Some(name) = &publication.interface {
            let interface = self.netlink.interface(name).await?;
            row.interface = Some(interface.map_or(dataplane::NO_INTERFACE, |interface| interface.index));
        }
        Ok(row)
    }

    fn row(&self, publication: &Publication) -> Result<dataplane::Publication> {
        let endpoint = match &publication.target {
            Target::Container(name) => {
                self.container(name)?.link().ok_or_else(|| no_container(name))?.handle()
            }
            Target::Remote(remote) => remote.handle(),
        };
        Ok(dataplane::Publication {
            protocol: publication.proto.number(),
            host_address: publication.host_ip,
            host_port: publication.host_port,
            host_port_end: publication.host_port_end,
            target_port: publication.target_port,
            interface: None,
            endpoint,
        })
    }

    /// Changes who may use the publications that do not say it themselves. Connections that there are go on.
    pub async fn set_access(&mut self, access: Access) -> Result<()> {
        self.ensure_dataplane().await?;
        let before = std::mem::replace(&mut self.store.state.access, access.clone());
        self.store.save()?;
        let tables = &self.dataplane()?.tables;
        tables.set_access(Handle::NONE, &access)?;
        if access.is_empty() {
            return tables.forget_access(Handle::NONE, &before);
        }
        let stays = [access.allow.as_slice(), access.deny.as_slice()].concat();
        let gone = |list: Vec<Source>| list.into_iter().filter(|source| !stays.contains(source)).collect();
        let old = Access { allow: gone(before.allow), deny: gone(before.deny) };
        tables.forget_rules(Handle::NONE, &old)
    }

    /// Who may use the publications that do not say it themselves.
    pub const fn access(&self) -> &Access {
        &self.store.state.access
    }

    /// Takes back what these words name, all or nothing. Returns it.
    pub fn unpublish(&mut self, specs: &[UnpublishSpec]) -> Result<Vec<Publication>> {
        let mut found: Vec<Publication> = Vec::new();
        for spec in specs {
            let publication = self.named(spec)?.clone();
            if !found.contains(&publication) {
                found.push(publication);
            }
        }
        self.take_back_whole(&found)?;
        Ok(found)
    }

    /// Takes publications back with what is left of those that had their ports before.
    fn take_back_whole(&mut self, publications: &[Publication]) -> Result<()> {
        let before = |one: &&Publication| {
            one.is_draining()
                && !publications.contains(one)
                && publications.iter().any(|new| new.overlaps(one))
        };
        let drained: Vec<_> = self.store.state.publications.iter().filter(before).cloned().collect();
        self.take_back(&[publications, &drained].concat())
    }

    /// Takes back everything that is published, of one container if it is given. Returns it.
    pub fn unpublish_all(&mut self, container: Option<&Name>) -> Result<Vec<Publication>> {
        if let Some(name) = container {
            self.container(name)?;
        }
        let all: Vec<Publication> = self
            .store
            .state
            .publications
            .iter()
            .filter(|publication| container.is_none_or(|name| publication.target.is(name)))
            .cloned()
            .collect();
        self.take_back_whole(&all)?;
        Ok(all)
    }

    /// The one publication that the words mean.
    fn named(&self, spec: &UnpublishSpec) -> Result<&Publication> {
        let means = |host_ip: Option<IpAddr>| match spec.host_ip {
            None => true,
            Some(wanted) => host_ip == Some(wanted) || (wanted.is_unspecified() && host_ip.is_none()),
        };
        let overlapping: Vec<&Publication> = self
            .store
            .state
            .publications
            .iter()
            .filter(|publication| {
                !publication.is_draining()
                    && publication.proto == spec.proto
                    && publication.host_port <= spec.host.last()
                    && spec.host.first() <= publication.host_port_end
                    && means(publication.host_ip)
                    && spec.target.is_none_or(|target| publication.target_port == target.first())
            })
            .collect();
        let exact = |publication: &&&Publication| {
            (publication.host_port, publication.host_port_end) == (spec.host.first(), spec.host.last())
        };
        let whole: Vec<&Publication> = overlapping.iter().filter(exact).copied().collect();
        match (whole.as_slice(), overlapping.as_slice()) {
            ([one], _) => Ok(one),
            // Without an address the publication on all of them is meant, if there is one.
            (several @ [_, _, ..], _) => {
                several.iter().find(|one| one.host_ip.is_none()).copied().ok_or_else(|| {
                    let list = several.iter().map(|one| one.spec()).collect::<Vec<_>>().join(", ");
                    Error::conflict(format!("{spec} is published on several addresses: {list}"))
                        .hint("name the address: 127.0.0.1:8080")
                })
            }
            ([], [part, ..]) => Err(Error::invalid(format!("{spec} is a part of {}", part.spec()))
                .hint("a range is taken back as a whole")),
            ([], []) => Err(not_published(spec)),
        }
    }
}

impl Publication {
    /// As it is written for `-p`.
    pub fn spec(&self) -> String {
        let ports =
            |first, last| PortRange::new(first, last).map_or_else(String::new, |range| range.to_string());
        let address = match self.host_ip {
            None => String::new(),
            Some(IpAddr::V4(address)) => format!("{address}:"),
            Some(IpAddr::V6(address)) => format!("[{address}]:"),
        };
        let host = ports(self.host_port, self.host_port_end);
        format!("{address}{host}:{}/{}", ports(self.target_port, self.target_port_end()), self.proto)
    }
}

/// Every range of `count` ports that begins with one of these.
fn ranges(first: impl IntoIterator<Item = u16>, count: u32) -> impl Iterator<Item = PortRange> {
    first.into_iter().filter_map(move |first| {
        let last = u16::try_from(u32::from(first) + count - 1).ok()?;
        PortRange::new(first, last)
    })
}

/// The one host address of a specification, if it has one; it must be the host's.
fn host_address(spec: &PortSpec, own: &[IpAddr]) -> Result<Option<IpAddr>> {
    match spec.host_ip {
        Some(address) if !(address.is_unspecified() || address.is_loopback() || own.contains(&address)) => {
            let list = own
                .iter()
                .filter(|own| own.is_ipv4() == address.is_ipv4())
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            let list = if list.is_empty() { "none of that family".to_owned() } else { list.join(", ") };
            Err(Error::invalid(format!("'{spec}': {address} is not an address of this host"))
                .hint(format!("the host has {list}")))
        }
        address => Ok(address),
    }
}

/// Refuses a target that no client of the host address could speak to.
fn check_family(spec: &PortSpec, target: &Target) -> Result<()> {
    match (spec.host_ip, target.remote()) {
        (Some(host @ IpAddr::V4(_)), Some(Remote { address: target @ IpAddr::V6(_), .. }))
        | (Some(host @ IpAddr::V6(_)), Some(Remote { address: target @ IpAddr::V4(_), .. })) => {
            Err(Error::invalid(format!("'{spec}': {host} and {target} are of different families"))
                .hint("a target that is no container serves clients of its own family"))
        }
        _ => Ok(()),
    }
}

fn not_published(spec: &UnpublishSpec) -> Error {
    Error::not_found(format!("{spec} is not published")).hint("`netd ports` lists what is")
}
