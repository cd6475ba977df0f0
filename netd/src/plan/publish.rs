//! Published ports: which host ports a request gets, and what is in its way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::View;
use super::uplink::uplinks;
use crate::error::{Holder, HostError, PublicationError, Result};
use crate::model::{
    HostPorts, IfName, Lifecycle, Link, Place, Policy, PortRange, PortSpec, Publication, Taken, Target,
    TargetSet,
};
use crate::observe::{LocalPorts, Observed};

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// What the ports lead to.
    pub target: &'a Target,
    /// The ports.
    pub specs: &'a [PortSpec],
    /// Who may use them.
    pub policy: &'a Policy,
    /// The publications whose ports are taken over.
    pub replaced: &'a HashMap<PortSpec, Publication>,
}

/// The records of publications, one for each specification and place. The snapshot must have the host's sockets.
pub(crate) fn publications(view: View<'_>, wanted: Wanted<'_>, places: &[Place]) -> Result<Vec<Publication>> {
    let Wanted { target, specs, policy, replaced } = wanted;
    check_interface(view, policy.interface.as_ref())?;
    let terms =
        Terms { targets: view.state.targets(target), policy: policy.clone().shared(), applied: false };
    let mut planning = Planning::new(view);
    for (spec, place) in specs.iter().zip(places) {
        planning.add(&terms, spec, *place, replaced.contains_key(spec))?;
    }
    Ok(planning.planned)
}

/// What publications have in common, besides their ports.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// What they lead to.
    pub targets: Arc<TargetSet>,
    /// Who may use them, if not everybody.
    pub policy: Option<Arc<Policy>>,
    /// Whether a file asks for them.
    pub applied: bool,
}

/// Publications that are planned one after another: the ports of each are in use for the next.
#[derive(Debug)]
pub(crate) struct Planning<'a> {
    view: View<'a>,
    taken: Taken,
    new: Taken,
    /// The records so far.
    pub planned: Vec<Publication>,
}

impl<'a> Planning<'a> {
    /// Begins with the ports that the records and the host's sockets have. The snapshot must have the sockets.
    pub(crate) fn new(view: View<'a>) -> Self {
        Self { view, taken: taken(view), new: Taken::default(), planned: Vec::new() }
    }

    /// Adds a publication. One that takes over the ports of another finds them in use.
    pub(crate) fn add(
        &mut self,
        terms: &Terms,
        spec: &PortSpec,
        place: Place,
        takes_over: bool,
    ) -> Result<()> {
        let host_ip = host_address(self.view.observed, spec)?;
        let at = |host: PortRange| Publication {
            lifecycle: Lifecycle::Adding,
            number: place.number,
            proto: spec.proto,
            host_ip,
            policy: terms.policy.clone(),
            host_port: host.first(),
            host_port_end: host.last(),
            targets: Arc::clone(&terms.targets),
            target_port: spec.target.first(),
            slot: place.handle.slot(),
            generation: place.handle.generation(),
            applied: terms.applied,
        };
        let is_free = |wanted: &Publication| {
            let has = |taken: &Taken| taken.has_any(wanted.proto, wanted.host_ip, &wanted.host_ports());
            !has(&self.new) && (takes_over || !has(&self.taken))
        };
        let publication = match spec.host {
            HostPorts::Range(host) => {
                let wanted = at(host);
                if !is_free(&wanted) {
                    let holder = holder(self.view, &self.planned, &wanted);
                    return Err(PublicationError::Taken { spec: wanted.spec(), holder }.into());
                }
                wanted
            }
            HostPorts::FirstFree(range) => {
                let found = ranges(range.first()..=range.last(), 1).map(at).find(is_free);
                let (spec, range) = (spec.to_string(), range.to_string());
                found.ok_or(PublicationError::RangeTaken { spec, range })?
            }
            HostPorts::Any => {
                let ports = &self.view.observed.local_ports;
                let found = free_ranges(ports, spec.target.count()).map(at).find(is_free);
                let (spec, count) = (spec.to_string(), spec.target.count());
                found.ok_or(PublicationError::NoFreePorts { spec, count })?
            }
        };
        self.new.insert(publication.proto, publication.host_ip, publication.host_ports());
        self.planned.push(publication);
        Ok(())
    }
}

/// The ports that publications and the host's sockets have.
fn taken(view: View<'_>) -> Taken {
    let mut taken = Taken::default();
    for one in view.state.publications.iter().filter(|one| !one.is_draining()) {
        taken.insert(one.proto, one.host_ip, one.host_ports());
    }
    for (proto, address, port) in view.observed.listeners().ports() {
        taken.insert(proto, address, port..=port);
    }
    taken
}

/// Every range of `count` ports that begins with one of these.
fn ranges(first: impl IntoIterator<Item = u16>, count: u32) -> impl Iterator<Item = PortRange> {
    first.into_iter().filter_map(move |first| {
        let last = u16::try_from(u32::from(first) + count - 1).ok()?;
        PortRange::new(first, last)
    })
}

/// Every range of `count` ports of which the kernel gives none to the host's sockets, whose connections would have them as well.
fn free_ranges(ports: &LocalPorts, count: u32) -> impl Iterator<Item = PortRange> {
    let is_free = |range: &PortRange| !(range.first()..=range.last()).any(|port| ports.are_given(port));
    ranges(ports.never_given(), count).filter(is_free)
}

/// Who has one of the ports that `wanted` wants.
fn holder(view: View<'_>, planned: &[Publication], wanted: &Publication) -> Holder {
    let holds = |other: &&Publication| !other.is_draining() && other.overlaps(wanted);
    if let Some(other) = view.state.publications.iter().chain(planned).find(holds) {
        return Holder::Publication {
            spec: other.spec(),
            target: other.target().to_string(),
            interface: other.interface().map(ToString::to_string),
        };
    }
    let listeners = view.observed.listeners();
    listeners.holder(wanted.proto, wanted.host_ip, wanted.host_ports()).unwrap_or(Holder::Unknown)
}

/// Refuses an interface by which no client comes in.
pub(crate) fn check_interface(view: View<'_>, wanted: Option<&IfName>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    if view.observed.link(wanted).is_none() {
        return Err(HostError::NoInterface { name: wanted.to_string() }.into());
    }
    let uplinks: Vec<String> =
        uplinks(view).into_iter().filter(Link::is_readable).map(|uplink| uplink.name).collect();
    if uplinks.iter().any(|name| name == wanted.as_str()) {
        return Ok(());
    }
    Err(PublicationError::NotAnUplink { interface: wanted.to_string(), uplinks }.into())
}

/// The one host address of a specification, if it has one. It must be the host's, or the host must allow programs to bind
/// addresses that it may get later, as those that keepalived moves.
fn host_address(observed: &Observed, spec: &PortSpec) -> Result<Option<IpAddr>> {
    let Some(address) = spec.host_ip else { return Ok(None) };
    let [nonlocal4, nonlocal6] = observed.nonlocal_bind;
    let may_come = if address.is_ipv4() { nonlocal4 } else { nonlocal6 };
    let own = observed.own_addresses();
    let is_own = own.contains(&address) || observed.local_prefixes.iter().any(|net| net.contains(&address));
    if is_own || may_come || address.is_unspecified() || address.is_loopback() {
        return Ok(Some(address));
    }
    let own = own.into_iter().filter(|own| own.is_ipv4() == address.is_ipv4()).collect();
    Err(PublicationError::NotOwnAddress { spec: spec.to_string(), address, own }.into())
}

/// The publications that have the very ports of these specifications, for those that somebody has.
pub(crate) fn replaced(view: View<'_>, specs: &[PortSpec]) -> Result<HashMap<PortSpec, Publication>> {
    let mut replaced = HashMap::new();
    for spec in specs {
        replaced.extend(replaced_by(view, spec)?.map(|one| (*spec, one.clone())));
    }
    Ok(replaced)
}

fn replaced_by<'a>(view: View<'a>, spec: &PortSpec) -> Result<Option<&'a Publication>> {
    let HostPorts::Range(host) = spec.host else {
        return Err(PublicationError::ReplaceWithoutPorts { spec: spec.to_string() }.into());
    };
    let has = |one: &&Publication| {
        !one.is_draining() && one.shares(spec.proto, spec.host_ip, host.first()..=host.last())
    };
    match view.state.publications.iter().filter(has).collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [one]
            if one.host_ip == spec.host_ip
                && (one.host_port, one.host_port_end) == (host.first(), host.last()) =>
        {
            Ok(Some(one))
        }
        [other, ..] => Err(PublicationError::ReplaceOther {
            spec: spec.to_string(),
            other: other.spec(),
            target: other.target().to_string(),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::model::{Address, LinkLayer, Mac, Protocol, Route, State};
    use crate::observe::Listener;

    /// A host with eth0 (192.0.2.1/24) that holds the default route; the kernel gives all ports but 65532 to 65535 to sockets.
    fn host(listeners: Vec<Listener>) -> Observed {
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: Mac::new([2, 0, 0, 0, 0, 2]),
            layer: LinkLayer::Ethernet,
            ..Link::default()
        };
        let net = "192.0.2.1/24".parse().unwrap();
        let observed = Observed {
            links: vec![link],
            addresses: vec![Address { interface: 2, net, global: true }],
            routes: vec![Route::example("0.0.0.0/0", 2)],
            local_ports: LocalPorts::parse("1024 65531", ""),
            ..Observed::default()
        };
        observed.with_listeners(listeners)
    }

    fn target(name: &str) -> Target {
        Target::Container(name.parse().unwrap())
    }

    fn state(published: &[&str]) -> State {
        let mut state = State::default();
        for words in published {
            let made = plan(&state, &host(Vec::new()), &[words], false).unwrap();
            state.publications.extend(made);
        }
        for one in &mut state.publications {
            one.lifecycle = Lifecycle::Ready;
            one.targets = Arc::new(TargetSet { id: 9, members: [target("old")] });
        }
        state
    }

    fn plan(state: &State, observed: &Observed, words: &[&str], replace: bool) -> Result<Vec<Publication>> {
        let view = View { state, observed };
        let specs: Vec<PortSpec> = words.iter().map(|word| word.parse().unwrap()).collect();
        let places = state.clone().places(specs.len()).unwrap();
        let old = if replace { replaced(view, &specs)? } else { HashMap::new() };
        let (target, policy) = (target("web"), Policy::default());
        let wanted = Wanted { target: &target, specs: &specs, policy: &policy, replaced: &old };
        publications(view, wanted, &places)
    }

    fn planned(published: &[&str], words: &[&str]) -> Result<Vec<String>> {
        let made = plan(&state(published), &host(Vec::new()), words, false)?;
        Ok(made.iter().map(Publication::spec).collect())
    }

    #[test]
    fn ports_are_given_as_asked_for_or_chosen() {
        for (published, words, expected) in [
            (&[][..], &["8080:80"][..], &["8080:80/tcp"][..]),
            (&[], &["80", "81"], &["65532:80/tcp", "65533:81/tcp"]),
            (&["65532:1"], &["80"], &["65533:80/tcp"]),
            (&["65533:1"], &["80-81"], &["65534-65535:80-81/tcp"]),
            (&["8000:1"], &["8000-8002:80"], &["8001:80/tcp"]),
            (&["8080:80"], &["8080:80/udp"], &["8080:80/udp"]),
            (&["127.0.0.1:8080:80"], &["192.0.2.1:8080:80"], &["192.0.2.1:8080:80/tcp"]),
            (&["127.0.0.1:8080:80"], &["[::1]:8080:80"], &["[::1]:8080:80/tcp"]),
        ] {
            assert_eq!(planned(published, words).unwrap(), expected, "{published:?} {words:?}");
        }
    }

    #[test]
    fn what_is_taken_is_a_conflict() {
        for (published, words, text) in [
            (
                &["8080:80"][..],
                &["8080:81"][..],
                "port 8080:81/tcp is in use: published to old as 8080:80/tcp",
            ),
            (&["8000-8010:1-11"], &["8005:5"], "published to old as 8000-8010:1-11/tcp"),
            (&["8080:80"], &["127.0.0.1:8080:80"], "is in use"),
            (&["0.0.0.0:8080:80"], &["127.0.0.1:8080:80"], "is in use"),
            (&[], &["8080:80", "8080:81"], "published to web"),
            (&["8000-8001:1-2"], &["8000-8001:80"], "every port of 8000-8001 is in use"),
            (&["65533:1"], &["80-82"], "no 3 consecutive host ports are free"),
        ] {
            let error = planned(published, words).expect_err(text);
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.chain().contains(text), "{}", error.chain());
        }
    }

    #[test]
    fn a_process_that_listens_has_its_port() {
        let listener = Listener { proto: Protocol::Tcp, address: "0.0.0.0:8080".parse().unwrap(), inode: 0 };
        let observed = host(vec![listener]);
        let error = plan(&state(&[]), &observed, &["8080:80"], false).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Publication(PublicationError::Taken {
                    holder: Holder::Process { process: None, .. },
                    ..
                })
            ),
            "{error}"
        );
        assert!(plan(&state(&[]), &observed, &["[::]:8080:80"], false).is_ok());
    }

    #[test]
    fn an_address_that_is_not_the_hosts_must_be_local_by_a_route_or_allowed() {
        let publish = |observed: &Observed| plan(&state(&[]), observed, &["192.0.2.9:80:80"], false);
        let by_a_route =
            Observed { local_prefixes: vec!["192.0.2.8/29".parse().unwrap()], ..host(Vec::new()) };
        let allowed = |nonlocal_bind| Observed { nonlocal_bind, ..host(Vec::new()) };
        assert!(publish(&by_a_route).is_ok());
        assert!(publish(&allowed([true, false])).is_ok());
        assert!(publish(&allowed([false, true])).is_err());
    }

    #[test]
    fn only_an_address_of_the_host_has_ports() {
        let error = planned(&[], &["192.0.2.9:80:80"]).unwrap_err();
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(
            matches!(&error, Error::Publication(PublicationError::NotOwnAddress { own: list, .. }) if *list == [own]),
            "{error}"
        );
    }

    #[test]
    fn only_the_very_same_ports_can_be_replaced() {
        let observed = host(Vec::new());
        let replace = |published: &[&str], word: &str| plan(&state(published), &observed, &[word], true);
        assert_eq!(replace(&["8080:80"], "8080:81").unwrap().len(), 1);
        assert_eq!(replace(&["8000-8001:1-2"], "8000-8001:5-6").unwrap().len(), 1);
        assert_eq!(replace(&[], "8080:81").unwrap().len(), 1, "nobody has it");
        for (published, word) in [(&["8000-8001:1-2"][..], "8000:1"), (&["8080:80"], "127.0.0.1:8080:80")] {
            let error = replace(published, word).expect_err(word);
            assert!(matches!(error, Error::Publication(PublicationError::ReplaceOther { .. })), "{error}");
        }
        let error = replace(&[], "80").unwrap_err();
        assert!(matches!(error, Error::Publication(PublicationError::ReplaceWithoutPorts { .. })), "{error}");
    }

    #[test]
    fn clients_come_in_by_uplinks() {
        let (state, observed) = (State::default(), host(Vec::new()));
        let view = View { state: &state, observed: &observed };
        assert!(check_interface(view, Some(&"eth0".parse().unwrap())).is_ok());
        let error = check_interface(view, Some(&"nosuch".parse().unwrap())).unwrap_err();
        assert!(matches!(error, Error::Host(HostError::NoInterface { .. })), "{error}");
    }
}
