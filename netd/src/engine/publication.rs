//! Published ports.

use std::collections::HashSet;
use std::net::IpAddr;

use netd_common::flow::Handle;

use super::Host;
use super::container::no_container;
use crate::dataplane;
use crate::error::{Error, Result};
use crate::listeners::{self, Listeners};
use crate::spec::{Access, HostPorts, Name, PortRange, PortSpec, Source, UnpublishSpec};
use crate::store::{Attachment, Container, Phase, Publication};

/// Host ports that somebody has or is about to have, for looking for free ones.
struct Taken<'a> {
    publications: &'a [Publication],
    listeners: Listeners,
}

impl Taken<'_> {
    /// Who has one of the ports that `wanted` wants, in words.
    fn holder(&self, planned: &[Publication], wanted: &Publication) -> Option<String> {
        if let Some(other) = self.publications.iter().chain(planned).find(|other| other.overlaps(wanted)) {
            return Some(format!("published for container {} as {}", other.target, other.spec()));
        }
        self.listeners.holder(wanted.proto, wanted.host_ip, wanted.host_port..=wanted.host_port_end)
    }
}

impl Host {
    /// Publishes ports of a container, all or nothing. Returns what was made of them.
    pub async fn publish(
        &mut self,
        target: &Name,
        specs: &[PortSpec],
        access: &Access,
    ) -> Result<Vec<Publication>> {
        let container = self.container(target)?.clone();
        let publications = self.plan_ports(&container, specs, access).await?;
        self.store.state.publications.extend(publications.iter().cloned());
        self.store.save()?;
        let mut made = self.raise_publications(&publications);
        if made.is_ok() {
            for publication in &mut self.store.state.publications {
                if publications.iter().any(|new| new.handle() == publication.handle()) {
                    publication.phase = Phase::Ready;
                }
            }
            made = self.store.save();
        }
        if let Err(error) = made {
            if let Err(second) = self.take_back(&publications) {
                tracing::warn!("undoing: {}", second.chain());
            }
            return Err(error);
        }
        Ok(publications)
    }

    /// Checks what is asked for against the host and what is published; changes nothing.
    pub(super) async fn plan_ports(
        &mut self,
        container: &Container,
        specs: &[PortSpec],
        access: &Access,
    ) -> Result<Vec<Publication>> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let target = &container.name;
        if !matches!(container.attachment, Attachment::Bridge(_)) {
            return Err(Error::invalid(format!(
                "container {target} is on network {}, which has no ports to publish",
                container.network
            )));
        }
        if self.store.state.networks.get(&container.network).is_some_and(|network| network.internal) {
            return Err(Error::invalid(format!(
                "network {} is internal: nothing on it can be published",
                container.network
            )));
        }
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
                access: access.clone(),
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

    pub(super) fn raise_publications(&self, publications: &[Publication]) -> Result<()> {
        for publication in publications {
            let row = self.row(publication)?;
            let tables = &self.dataplane()?.tables;
            // Nobody is let in before it is said who may.
            tables.set_access(publication.handle(), &publication.access)?;
            tables.publish(publication.handle(), &row)?;
        }
        Ok(())
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

    fn row(&self, publication: &Publication) -> Result<dataplane::Publication> {
        let container = self.container(&publication.target)?;
        let link = container.link().ok_or_else(|| no_container(&publication.target))?;
        Ok(dataplane::Publication {
            protocol: publication.proto.number(),
            host_address: publication.host_ip,
            host_port: publication.host_port,
            host_port_end: publication.host_port_end,
            target_port: publication.target_port,
            endpoint: link.handle(),
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
        self.take_back(&found)?;
        Ok(found)
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
            .filter(|publication| container.is_none_or(|name| publication.target == *name))
            .cloned()
            .collect();
        self.take_back(&all)?;
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
                publication.proto == spec.proto
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

fn not_published(spec: &UnpublishSpec) -> Error {
    Error::not_found(format!("{spec} is not published")).hint("`netd ports` lists what is")
}
