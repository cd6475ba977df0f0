//! Networks: those that are missing, those that differ, and those that no file asks for any more.

use std::fmt::Display;

use super::planner::Planner;
use crate::error::{NetworkError, Result};
use crate::model::{
    BRIDGE, Change, GatewayMode, Name, Network, NetworkRequest, Publication, Subnet, ValueChange,
};
use crate::plan::network::{self as plan, bridge_of};

impl Planner<'_> {
    /// Plans all networks.
    pub(super) fn networks(&mut self) -> Result<()> {
        let desired = self.desired;
        let is_asked_for = |name: &Name| desired.networks.iter().any(|network| network.value.name == *name);
        let pruned: Vec<Network> = self
            .view
            .state
            .networks
            .values()
            .filter(|one| self.prune && one.applied && !is_asked_for(&one.name))
            .filter(|one| one.name.as_str() != BRIDGE || !self.needs_bridge())
            .cloned()
            .collect();
        for network in pruned {
            self.plan.changes.push(Change::removed("network", &network.name));
            self.remove_network(network);
        }
        let mut missing = Vec::new();
        for wanted in &desired.networks {
            match self.view.state.networks.get(&wanted.value.name) {
                Some(present) => {
                    if wanted.check(self.compare_network(present, &wanted.value))? {
                        missing.push(wanted);
                    }
                }
                None => missing.push(wanted),
            }
        }
        for wanted in missing {
            let made = self.beside(|view| plan::network(view, wanted.value.clone()));
            let network = wanted.check(made)?;
            self.make_network(Network { applied: true, ..network });
        }
        Ok(())
    }

    /// Plans network `bridge`, if it is not there.
    pub(super) fn ensure_bridge(&mut self) -> Result<()> {
        if self.after.networks.contains_key(&BRIDGE.parse()?) {
            return Ok(());
        }
        let network = self.beside(plan::default_network)?;
        self.make_network(network);
        Ok(())
    }

    fn make_network(&mut self, mut network: Network) {
        network.number = self.full.network_number();
        let mut values = vec![("subnet", nets(&network))];
        if network.adopted {
            values.push(("adopt", network.bridge.to_string()));
        }
        self.plan.changes.push(Change::added("network", &network.name, values));
        for state in [&mut self.full, &mut self.after] {
            state.networks.insert(network.name.clone(), network.clone());
        }
        self.plan.new.networks.push(network);
    }

    fn remove_network(&mut self, network: Network) {
        self.after.networks.remove(&network.name);
        if !network.adopted
            && let Ok(bridge) = bridge_of(self.view.observed, &network)
        {
            let before = self.reduced.as_ref().unwrap_or(self.view.observed);
            self.reduced = Some(before.without(bridge.index));
        }
        self.gone.networks.push(network);
    }

    /// Plans what differs of a network that is there. Whether it must be made anew.
    fn compare_network(&mut self, present: &Network, wanted: &NetworkRequest) -> Result<bool> {
        let fixed = fixed_differences(present, wanted);
        if let Some(difference) = fixed.first() {
            let name = present.name.as_str();
            let containers = self.after.containers.values().filter(|container| container.is_on(name));
            let mut users: Vec<String> = containers.map(|container| container.name.to_string()).collect();
            // The routing table is asked for other hosts as if packets came in by this network's bridge.
            let remotes = self.view.state.publications.iter().filter(|one| one.target().remote().is_some());
            users.extend(remotes.filter(|_one| name == BRIDGE).map(Publication::spec));
            if !users.is_empty() {
                return Err(NetworkError::Fixed {
                    name: present.name.to_string(),
                    what: difference.what.clone(),
                    from: difference.from.clone().unwrap_or_else(|| "none".to_owned()),
                    to: difference.to.clone().unwrap_or_else(|| "none".to_owned()),
                    users,
                }
                .into());
            }
            self.plan.changes.push(Change::removed("network", &present.name));
            self.remove_network(present.clone());
            return Ok(true);
        }
        let record = changed(present, wanted);
        let differences = differences(present, &record);
        if !differences.is_empty() {
            plan::check_terms(self.view, wanted, &record.subnets)?;
            self.plan.changes.push(Change::changed("network", &record.name, differences));
        }
        if record != *present {
            for state in [&mut self.full, &mut self.after] {
                state.networks.insert(record.name.clone(), record.clone());
            }
            self.plan.values.networks.push(record);
        }
        Ok(false)
    }
}

/// Whether a network that is removed has what a new one needs.
pub(super) fn is_in_the_way(old: &Network, new: &Network) -> bool {
    let overlap = |one: &Subnet, other: &Subnet| one.net.contains(&other.net) || other.net.contains(&one.net);
    old.name == new.name
        || old.bridge == new.bridge
        || old.subnets.iter().any(|one| new.subnets.iter().any(|other| overlap(one, other)))
}

/// What differs and is decided when the network is made. What is not asked for was chosen then, and stays.
fn fixed_differences(present: &Network, wanted: &NetworkRequest) -> Vec<ValueChange> {
    let mut found = Vec::new();
    let mut compare = |what: &str, from: String, to: String| found.extend(ValueChange::of(what, from, to));
    for is_ipv4 in [true, false] {
        let own = present.subnets.iter().find(|subnet| subnet.net.addr().is_ipv4() == is_ipv4);
        let net = own.map(|subnet| subnet.net.to_string()).unwrap_or_default();
        let asked = wanted.subnets.iter().find(|net| net.addr().is_ipv4() == is_ipv4);
        match asked {
            Some(asked) => compare("subnet", net, asked.to_string()),
            None if !is_ipv4 && wanted.ipv6 && own.is_none() => compare("ipv6", "no".into(), "yes".into()),
            // An adopted bridge brings its subnets.
            None if !is_ipv4 && !wanted.ipv6 && own.is_some() && !wanted.adopt => {
                compare("ipv6", "yes".into(), "no".into());
            }
            None => {}
        }
        let asked = wanted.gateways.iter().find(|gateway| gateway.is_ipv4() == is_ipv4);
        if let (Some(asked), Some(own)) = (asked, own) {
            compare("gateway", own.gateway.to_string(), asked.to_string());
        }
        if let Some(own) = own {
            let mode = wanted.modes.of(own.gateway);
            if (mode == GatewayMode::Isolated) != (own.mode == GatewayMode::Isolated) {
                compare("gateway mode", own.mode.to_string(), mode.to_string());
            }
        }
    }
    if let Some(bridge) = &wanted.bridge {
        compare("bridge", present.bridge.to_string(), bridge.to_string());
    }
    compare("adopt", yes(present.adopted), yes(wanted.adopt));
    compare("unmanaged", yes(present.unmanaged), yes(wanted.unmanaged));
    if let Some(mtu) = wanted.mtu {
        compare("mtu", present.mtu.to_string(), mtu.to_string());
    }
    compare("internal", yes(present.internal), yes(wanted.internal));
    compare("icc", yes(present.icc), yes(wanted.icc));
    found
}

/// The record with what can be changed while containers are on the network.
fn changed(present: &Network, wanted: &NetworkRequest) -> Network {
    let subnet = |subnet: &Subnet| {
        let is_of = |address: &&std::net::IpAddr| address.is_ipv4() == subnet.gateway.is_ipv4();
        let snat = wanted.snat.iter().find(is_of).copied();
        Subnet { mode: wanted.modes.of(subnet.gateway), snat, ..*subnet }
    };
    Network {
        subnets: present.subnets.iter().map(subnet).collect(),
        masquerade: wanted.masquerade,
        trusted: wanted.trusted.clone(),
        applied: true,
        ..present.clone()
    }
}

fn differences(present: &Network, record: &Network) -> Vec<ValueChange> {
    let modes = |network: &Network| list(network.subnets.iter().map(|subnet| subnet.mode));
    let snat = |network: &Network| list(network.subnets.iter().filter_map(|subnet| subnet.snat));
    [
        ValueChange::of("masquerade", yes(present.masquerade), yes(record.masquerade)),
        ValueChange::of("snat address", snat(present), snat(record)),
        ValueChange::of("gateway mode", modes(present), modes(record)),
        ValueChange::of("trusted interface", list(&present.trusted), list(&record.trusted)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn nets(network: &Network) -> String {
    list(network.subnets.iter().map(|subnet| subnet.net))
}

/// Values, separated by commas.
pub(super) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}
