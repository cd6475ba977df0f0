//! What is there → a file that asks for it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;

use serde::Serialize;
use toml::Spanned;

use super::words::{Attachment, Connect, Container, Document, Lists, Network, Publish, Said, Settings};
use crate::error::{Doing as _, Result};
use crate::model::{
    self, Access, GatewayMode, HOST, NONE, Policy, Publication, Sandbox, State, Target, duration, hosts,
    sources,
};
use crate::observe::Observed;
use crate::plan::container::default_mac;
use crate::plan::network::default_bridge;

/// A file that asks for what is there.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct SavedState {
    document: Document,
    #[serde(skip)]
    notes: Vec<String>,
}

impl SavedState {
    /// As TOML. What a file cannot ask for is named in comments.
    pub fn toml(&self) -> Result<String> {
        let notes = self.notes.iter().map(|note| format!("# not in this file: {note}\n"));
        let mut text: String = notes.collect();
        if !text.is_empty() {
            text.push('\n');
        }
        let document = toml::to_string_pretty(&self.document).doing(|| "write TOML".into())?;
        Ok(text + &document)
    }
}

/// The file for these records.
pub(crate) fn saved(state: &State, observed: &Observed) -> SavedState {
    let mut notes = Vec::new();
    let mut document = Document {
        settings: settings(state),
        timeouts: state
            .timeouts
            .iter()
            .map(|(state, seconds)| (Spanned::new(0..0, state.to_owned()), Said::new(duration(seconds))))
            .collect(),
        access: lists(&state.access),
        network: state.networks.values().map(|network| self::network(network, observed)).collect(),
        ..Document::default()
    };
    for container in state.containers.values() {
        match self::container(state, container, &mut notes) {
            Ok(container) => document.container.push(container),
            Err(why) => notes.push(format!("container {}, with its ports: {why}", container.name)),
        }
    }
    let names: HashSet<&String> = document.container.iter().map(|saved| saved.name.0.get_ref()).collect();
    let is_saved = |one: &&Publication| match one.target() {
        Target::Container(name) => names.contains(&name.to_string()),
        Target::Remote(_) => true,
    };
    let saved = state.publications.iter().filter(|one| !one.is_draining()).filter(is_saved);
    let publish = publish(saved);
    document.publish = publish;
    SavedState { document, notes }
}

fn settings(state: &State) -> Settings {
    let own = &state.preferences;
    let uplinks = texts(&own.uplinks);
    Settings {
        uplinks: (!uplinks.is_empty()).then_some(uplinks),
        xdp: (own.xdp != model::XdpMode::default()).then(|| said(own.xdp)),
        max_connections: own.max_connections.map(Said::new),
        serve: own.no_serve.then(|| Said::new(false)),
        quota: (!state.quota.is_default()).then(|| said(state.quota)),
    }
}

fn lists(access: &Access) -> Lists {
    let (allow, deny) = sources(access);
    let texts = |list: Vec<model::Source>| list.iter().map(|source| said(source.0)).collect();
    Lists { allow: texts(allow), deny: texts(deny) }
}

fn network(network: &model::Network, observed: &Observed) -> Network {
    let subnets = network.subnets.iter();
    let is_chosen = |subnet: &&model::Subnet| hosts(subnet.net).next() == Some(subnet.gateway);
    let modes: Vec<GatewayMode> = subnets.clone().map(|subnet| subnet.mode).collect();
    let name = |subnet: &model::Subnet| if subnet.net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
    let gateway_modes =
        match modes.as_slice() {
            [mode, rest @ ..] if rest.iter().all(|other| other == mode) => {
                if *mode == GatewayMode::default() { Vec::new() } else { vec![said(mode)] }
            }
            _ => {
                subnets.clone().map(|subnet| Said::new(format!("{}={}", name(subnet), subnet.mode))).collect()
            }
        };
    let is_made = !network.adopted;
    Network {
        name: said(&network.name),
        subnets: subnets.clone().map(|subnet| said(subnet.net)).collect(),
        gateways: subnets
            .clone()
            .filter(|subnet| is_made && !is_chosen(subnet) && subnet.mode != GatewayMode::Isolated)
            .map(|subnet| said(subnet.gateway))
            .collect(),
        bridge: (is_made && default_bridge(&network.name).as_ref() != Some(&network.bridge))
            .then(|| said(&network.bridge)),
        adopt: network.adopted.then(|| said(&network.bridge)),
        unmanaged: network.unmanaged,
        mtu: (is_made && network.mtu != observed.default_mtu()).then(|| Said::new(network.mtu)),
        // A subnet of IPv6 says it.
        ipv6: false,
        internal: network.internal,
        icc: network.icc,
        masquerade: network.masquerade,
        snat_addresses: subnets.filter_map(|subnet| subnet.snat.map(said)).collect(),
        gateway_modes,
        trusted_interfaces: texts(&network.trusted),
    }
}

/// A container; why not, if a file cannot ask for it.
fn container(
    state: &State,
    container: &model::Container,
    notes: &mut Vec<String>,
) -> std::result::Result<Container, &'static str> {
    if container.run.is_some() {
        return Err("it ends with its command");
    }
    let netns = match &container.sandbox {
        Sandbox::Namespace { path, .. } if path.starts_with("/proc") => {
            return Err("its namespace is that of a process");
        }
        Sandbox::Namespace { path, made: false, .. } => match path.to_str() {
            Some(path) => Some(said(path)),
            None => return Err("the path of its namespace is not text"),
        },
        Sandbox::Namespace { .. } | Sandbox::Host => None,
    };
    let mut networks = Vec::new();
    let mut has_route = false;
    for (number, interface) in container.interfaces.iter().enumerate() {
        let network = state.networks.get(&interface.network);
        let gateways: Vec<_> = network.into_iter().flat_map(model::Network::gateways).collect();
        let expected = if has_route || interface.adopted { Vec::new() } else { gateways };
        if interface.gateways != expected {
            notes.push(format!(
                "the gateways of interface {} of container {}",
                interface.name, container.name
            ));
        }
        has_route |= !interface.gateways.is_empty();
        networks.push(Said::new(attachment(number, interface)));
    }
    if networks.is_empty() {
        let name = if matches!(container.sandbox, Sandbox::Host) { HOST } else { NONE };
        networks.push(Said::new(Attachment::Name(name.to_owned())));
    }
    Ok(Container {
        name: said(&container.name),
        key: container.key.as_ref().map(said),
        netns,
        networks: Some(networks),
        publish: Vec::new(),
    })
}

fn attachment(number: usize, interface: &model::Interface) -> Attachment {
    let is_made = !interface.adopted;
    Attachment::Table(Box::new(Connect {
        name: said(&interface.network),
        interface: (interface.name.as_str() != format!("eth{number}")).then(|| said(&interface.name)),
        ip: if is_made { texts(&interface.addresses) } else { Vec::new() },
        mac: (is_made && interface.mac != default_mac(&interface.addresses)).then(|| said(interface.mac)),
        allowed_addresses: texts(&interface.allowed),
        adopt: interface.adopted.then(|| said(&interface.host)),
    }))
}

/// Publications, those with the same target and terms together.
fn publish<'a>(publications: impl Iterator<Item = &'a Publication>) -> Vec<Publish> {
    let everybody = Policy::default();
    let mut groups: BTreeMap<_, Vec<&Publication>> = BTreeMap::new();
    for one in publications {
        let policy = one.policy.as_deref().unwrap_or(&everybody);
        let keeps_source = one.target().remote().is_some_and(|remote| remote.keep_source);
        let (allow, deny) = sources(&policy.access);
        let terms = (one.target().to_string(), keeps_source, policy.interface.clone(), allow, deny);
        groups.entry(terms).or_default().push(one);
    }
    let texts = |list: Vec<model::Source>| list.iter().map(|source| said(source.0)).collect();
    let mut all = Vec::new();
    for ((to, keep_source, interface, allow, deny), mut ports) in groups {
        ports.sort_by_key(|one| (one.host_ip, one.host_port, one.proto));
        all.push(Publish {
            to: said(to),
            allow: texts(allow),
            deny: texts(deny),
            interface: interface.map(said),
            keep_source,
            ports: ports.into_iter().map(|one| Said::new(written(one))).collect(),
        });
    }
    all
}

/// A publication as it is written for `-p`, without the protocol if that is TCP.
fn written(one: &Publication) -> String {
    let spec = one.spec();
    spec.strip_suffix("/tcp").map_or_else(|| spec.clone(), str::to_owned)
}

fn said(value: impl Display) -> Said<String> {
    Said::new(value.to_string())
}

fn texts<T: Display>(values: &[T]) -> Vec<Said<String>> {
    values.iter().map(said).collect()
}
