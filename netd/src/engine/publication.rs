//! Published ports.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netd_common::abi::{EndpointRow, Subnet, network_flag};
use netd_common::flow::Handle;
use netd_common::flow::State;
use netd_common::wire::bytes::{Address as _, Ipv4, Ipv6};

use super::container::no_container;
use super::host::Host;
use super::network::BRIDGE;
use crate::dataplane;
use crate::error::{Error, Result};
use crate::listeners::{self, Listeners};
use crate::ports::Ports;
use crate::spec::{
    self, Access, HostPorts, IfName, Name, PortRange, PortSpec, Protocol, Source, UnpublishSpec,
};
use crate::store::{Attachment, Container, Phase, Publication, Remote, Target, Terms, meet};

/// Ports to be published.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// Whose.
    pub target: spec::Target,
    /// Which.
    pub ports: Vec<PortSpec>,
    /// How.
    pub terms: Terms,
    /// Whether a target that is no container sees the clients' own addresses.
    pub keep_source: bool,
    /// What becomes of a publication that has the ports already; refused if none.
    pub replace: Option<Replace>,
}

/// What becomes of the connections of a publication that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// They go on until they end.
    Drain,
    /// They end at once.
    Cut,
}

/// Host ports that somebody has or is about to have.
#[derive(Default)]
struct Taken(Vec<(Protocol, Option<IpAddr>, Ports)>);

impl Taken {
    fn insert(&mut self, proto: Protocol, host_ip: Option<IpAddr>, ports: RangeInclusive<u16>) {
        let here = self.0.iter_mut().find(|(other, address, _)| (*other, *address) == (proto, host_ip));
        if let Some((_, _, taken)) = here {
            taken.insert(ports);
        } else {
            let mut taken = Ports::default();
            taken.insert(ports);
            self.0.push((proto, host_ip, taken));
        }
    }

    fn has_any_of(&self, wanted: &Publication) -> bool {
        self.0.iter().any(|(proto, address, taken)| {
            *proto == wanted.proto && meet(*address, wanted.host_ip) && taken.holds_any(wanted.host_ports())
        })
    }
}

impl Host {
    /// Publishes ports, all or nothing. Returns what was made of them.
    pub async fn publish(&mut self, request: &PublishRequest) -> Result<Vec<Publication>> {
        let PublishRequest { target, ports, terms, .. } = request;
        let target = self.target(target, request.keep_source).await?;
        ports.iter().try_for_each(|port| check_family(port, &target))?;
        let mut old = HashMap::new();
        if request.replace.is_some() {
            for port in ports {
                old.extend(self.replaced(port)?.map(|one| (*port, one.clone())));
            }
        }
        let publications = self.plan_ports(&target, ports, terms, &old).await?;
        if target.remote().is_some() {
            // The routing table is asked as if packets came in by its bridge.
            self.network_for_use(&BRIDGE.parse()?).await?;
        }
        self.store.state.publications.extend(publications.iter().cloned());
        self.store.save()?;
        let replaced: Vec<_> =
            publications.iter().zip(ports).map(|(new, port)| (new, old.get(port))).collect();
        let made = match self.raise(&replaced).await {
            Ok(()) => self.finish(&replaced),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            if let Err(second) = self.give_back(&publications).await {
                tracing::warn!("undoing: {}", second.chain());
            }
            return Err(error);
        }
        if request.replace == Some(Replace::Cut) {
            let old: Vec<Publication> = old.into_values().collect();
            self.take_back(&old)?;
        }
        Ok(publications)
    }

    /// Records that publications are whole, and that those whose ports they took have none any more.
    fn finish(&mut self, publications: &[(&Publication, Option<&Publication>)]) -> Result<()> {
        let mut phases = HashMap::new();
        for (new, old) in publications {
            phases.insert(new.handle(), Phase::Ready);
            phases.extend(old.map(|old| (old.handle(), Phase::Draining)));
        }
        for one in &mut self.store.state.publications {
            if let Some(phase) = phases.get(&one.handle()) {
                one.phase = *phase;
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
        let known = self.store.state.publications.iter().filter_map(|one| one.target.remote());
        if let Some(known) =
            { known }.find(|known| known.address == address && known.keep_source == keep_source)
        {
            return Ok(Target::Remote(*known));
        }
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

    /// Checks what is asked for against the host and what is published; changes nothing. `old` are the publications whose
    /// ports are taken over.
    pub(super) async fn plan_ports(
        &mut self,
        target: &Target,
        specs: &[PortSpec],
        terms: &Terms,
        old: &HashMap<PortSpec, Publication>,
    ) -> Result<Vec<Publication>> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        self.check_interface(terms.interface.as_ref()).await?;
        let shared = terms.clone().shared();
        let own = self.own_addresses().await?;
        let places = self.store.state.places(specs.len())?;
        let listeners = Listeners::read(&self.netns)?;
        let mut taken = Taken::default();
        for one in self.store.state.publications.iter().filter(|one| !one.is_draining()) {
            taken.insert(one.proto, one.host_ip, one.host_ports());
        }
        for (proto, address, port) in listeners.ports() {
            taken.insert(proto, address, port..=port);
        }
        let ephemeral = OnceCell::new();
        let mut new = Taken::default();
        let mut planned: Vec<Publication> = Vec::with_capacity(specs.len());
        for (spec, place) in specs.iter().zip(places) {
            let host_ip = host_address(spec, &own)?;
            let at = |host: PortRange| Publication {
                phase: Phase::Adding,
                number: place.number,
                proto: spec.proto,
                host_ip,
                terms: shared.clone(),
                host_port: host.first(),
                host_port_end: host.last(),
                target: target.clone(),
                target_port: spec.target.first(),
                slot: place.handle.slot(),
                generation: place.handle.generation(),
            };
            let is_free = |wanted: &Publication| {
                !new.has_any_of(wanted) && (old.contains_key(spec) || !taken.has_any_of(wanted))
            };
            let publication = match spec.host {
                HostPorts::Range(host) => {
                    let wanted = at(host);
                    if !is_free(&wanted) {
                        let holder = self.holder(&planned, &listeners, &wanted);
                        return Err(Error::conflict(format!("port {} is taken: {holder}", wanted.spec()))
                            .hint("choose another host port, or leave it out to get a free one"));
                    }
                    wanted
                }
                HostPorts::FirstFree(range) => ranges(range.first()..=range.last(), 1)
                    .map(at)
                    .find(is_free)
                    .ok_or_else(|| Error::conflict(format!("'{spec}': every port of {range} is taken")))?,
                HostPorts::Any => {
                    if ephemeral.get().is_none() {
                        // Nobody else sets it.
                        let _set = ephemeral.set(listeners::ephemeral(&self.netns)?);
                    }
                    let ephemeral: &[u16] = ephemeral.get().map_or(&[], |ports| ports);
                    let allowed = |port| ephemeral.binary_search(&port).is_ok();
                    ranges(ephemeral.iter().copied(), spec.target.count())
                        .filter(|range| (range.first()..=range.last()).all(allowed))
                        .map(at)
                        .find(is_free)
                        .ok_or_else(|| {
                            Error::conflict(format!(
                                "'{spec}': no {} host ports in a row are free",
                                spec.target.count()
                            ))
                        })?
                }
            };
            new.insert(publication.proto, publication.host_ip, publication.host_ports());
            planned.push(publication);
        }
        Ok(planned)
    }

    /// Who has one of the ports that `wanted` wants, in words.
    fn holder(&self, planned: &[Publication], listeners: &Listeners, wanted: &Publication) -> String {
        let holds = |other: &&Publication| !other.is_draining() && other.overlaps(wanted);
        if let Some(other) = self.store.state.publications.iter().chain(planned).find(holds) {
            let by = other.interface().map_or_else(String::new, |name| format!(" by interface {name}"));
            return format!("published for {} as {}{by}", other.target, other.spec());
        }
        let listener = listeners.holder(wanted.proto, wanted.host_ip, wanted.host_ports());
        listener.unwrap_or_else(|| "somebody has it".to_owned())
    }

    /// The host's addresses.
    pub(super) async fn own_addresses(&self) -> Result<Vec<IpAddr>> {
        let addresses = self.netlink.addresses().await?;
        Ok(addresses.into_iter().filter(|address| address.global).map(|address| address.net.addr()).collect())
    }

    /// Lets ports lead to publications; those that others have, from one to the other.
    pub(super) async fn raise(&self, publications: &[(&Publication, Option<&Publication>)]) -> Result<()> {
        if publications.is_empty() {
            return Ok(());
        }
        let remotes: HashSet<&Remote> =
            publications.iter().filter_map(|(publication, _)| publication.target.remote()).collect();
        for remote in remotes {
            self.raise_remote(remote).await?;
        }
        let tables = &self.dataplane()?.tables;
        let mut fresh = Vec::new();
        for (publication, old) in publications {
            let row = self.whole_row(publication).await?;
            // Nobody is let in before it is said who may.
            tables.set_access(publication.handle(), publication.access())?;
            match old {
                None => fresh.push((publication.handle(), row)),
                Some(old) => tables.take_over(publication.handle(), &row, old.handle())?,
            }
        }
        tables.publish(&fresh)
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
        let tables = &dataplane.tables;
        let mut errors = Vec::new();
        errors.extend(self.rows(publications).and_then(|rows| tables.unpublish(&rows)).err());
        for publication in publications {
            errors.extend(tables.forget_access(publication.handle(), publication.access()).err());
        }
        let mut remotes: HashSet<Handle> =
            publications.iter().filter_map(|one| one.target.remote()).map(Remote::handle).collect();
        if !remotes.is_empty() {
            // Others may lead to the same host.
            let gone: HashSet<Handle> = publications.iter().map(Publication::handle).collect();
            for left in self.store.state.publications.iter().filter(|one| !gone.contains(&one.handle())) {
                left.target.remote().map(|remote| remotes.remove(&remote.handle()));
            }
        }
        errors.extend(remotes.into_iter().filter_map(|remote| tables.remove_endpoint(remote).err()));
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
        let mut gone: Vec<&Publication> = gone.iter().collect();
        let whose = |one: &Publication| (one.proto, one.target.clone());
        gone.sort_by_cached_key(|one| whose(one));
        let mut shared = Vec::new();
        for gone in gone.chunk_by(|one, next| whose(one) == whose(next)) {
            let Some(first) = gone.first() else { continue };
            let mut ports = Ports::default();
            for one in gone {
                ports.insert(one.target_ports());
            }
            shared.extend(self.store.state.publications.iter().filter(|left| {
                left.proto == first.proto
                    && left.target == first.target
                    && ports.holds_any(left.target_ports())
            }));
        }
        let rows = shared.into_iter().map(|left| Ok((left.handle(), self.row(left)?)));
        dataplane.tables.put_targets(&rows.collect::<Result<Vec<_>>>()?)
    }

    /// Takes back what is half made, or half taken back. Ports that it was taking are those of the other publications again.
    pub(super) async fn give_back(&mut self, half: &[Publication]) -> Result<()> {
        let mut taken = Taken::default();
        for one in half {
            taken.insert(one.proto, one.host_ip, one.host_ports());
        }
        let whole = |one: &&Publication| one.phase == Phase::Ready && taken.has_any_of(one);
        let kept: Vec<Publication> = self.store.state.publications.iter().filter(whole).cloned().collect();
        if let Some(dataplane) = &self.dataplane {
            for kept in &kept {
                let row = self.whole_row(kept).await?;
                for half in half.iter().filter(|half| half.overlaps(kept)) {
                    dataplane.tables.take_over(kept.handle(), &row, half.handle())?;
                }
            }
        }
        self.take_back(half)
    }

    /// Takes away the publications whose ports are others' by now and whose connections have all ended.
    pub(super) fn end_drained(&mut self) -> Result<()> {
        let draining = self.store.state.publications.iter().filter(|one| one.is_draining());
        let mut over: Vec<Publication> = draining.cloned().collect();
        if over.is_empty() {
            return Ok(());
        }
        if let Some(dataplane) = &self.dataplane {
            let ended = [State::TimeWait, State::Closed];
            let connections = dataplane.tables.connections()?;
            let busy: HashSet<Handle> = connections
                .iter()
                .filter(|connection| !ended.contains(&connection.state))
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
    async fn whole_row(&self, publication: &Publication) -> Result<dataplane::PublishedPorts> {
        let mut row = self.row(publication)?;
        if let Some(name) = publication.interface() {
            let interface = self.netlink.interface(name).await?;
            row.interface = Some(interface.map_or(dataplane::NO_INTERFACE, |interface| interface.index));
        }
        Ok(row)
    }

    /// What the tables are told of these publications, but for their interfaces.
    fn rows(&self, publications: &[Publication]) -> Result<Vec<(Handle, dataplane::PublishedPorts)>> {
        publications.iter().map(|one| Ok((one.handle(), self.row(one)?))).collect()
    }

    fn row(&self, publication: &Publication) -> Result<dataplane::PublishedPorts> {
        let endpoint = match &publication.target {
            Target::Container(name) => {
                self.container(name)?.link().ok_or_else(|| no_container(name))?.handle()
            }
            Target::Remote(remote) => remote.handle(),
        };
        Ok(dataplane::PublishedPorts {
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
        let exact = |proto, first, last| (proto, first, last);
        let mut candidates: HashMap<_, Vec<&Publication>> = specs
            .iter()
            .map(|spec| (exact(spec.proto, spec.host.first(), spec.host.last()), Vec::new()))
            .collect();
        for one in self.store.state.publications.iter().filter(|one| !one.is_draining()) {
            if let Some(list) = candidates.get_mut(&exact(one.proto, one.host_port, one.host_port_end)) {
                list.push(one);
            }
        }
        let mut seen = HashSet::new();
        let mut found: Vec<Publication> = Vec::with_capacity(specs.len());
        for spec in specs {
            let key = exact(spec.proto, spec.host.first(), spec.host.last());
            let publication = self.named(spec, candidates.get(&key).map_or(&[], Vec::as_slice))?;
            if seen.insert(publication.handle()) {
                found.push(publication.clone());
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

    /// The one publication that the words mean, of those that have the very ports.
    fn named<'a>(&'a self, spec: &UnpublishSpec, candidates: &[&'a Publication]) -> Result<&'a Publication> {
        let means = |publication: &Publication| {
            let host_ip = publication.host_ip;
            let address = match spec.host_ip {
                None => true,
                Some(wanted) => host_ip == Some(wanted) || (wanted.is_unspecified() && host_ip.is_none()),
            };
            address && spec.target.is_none_or(|target| publication.target_port == target.first())
        };
        let whole: Vec<&Publication> = candidates.iter().copied().filter(|one| means(one)).collect();
        match whole.as_slice() {
            [one] => Ok(one),
            // Without an address the publication on all of them is meant, if there is one.
            [_, _, ..] => whole.iter().find(|one| one.host_ip.is_none()).copied().ok_or_else(|| {
                let list = whole.iter().map(|one| one.spec()).collect::<Vec<_>>().join(", ");
                Error::conflict(format!("{spec} is published on several addresses: {list}"))
                    .hint("name the address: 127.0.0.1:8080")
            }),
            [] => {
                let ports = spec.host.first()..=spec.host.last();
                let mut all = self.store.state.publications.iter();
                let part = all.find(|one| {
                    !one.is_draining() && one.shares(spec.proto, None, ports.clone()) && means(one)
                });
                Err(match part {
                    Some(part) => Error::invalid(format!("{spec} is a part of {}", part.spec()))
                        .hint("a range is taken back as a whole"),
                    None => not_published(spec),
                })
            }
        }
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
