//! Networks on the host: a bridge, its addresses, its subnets in the tables.

use super::lifecycle::Resource;
use super::publication::Published;
use super::transaction::Transaction;
use crate::dataplane::HookPoint;
use crate::error::{Error, NetworkError, Result};
use crate::link::{Family, Sysctl};
use crate::model::{
    BRIDGE, Container, IfName, Lifecycle, Link, Name, Network, NetworkRequest, State, is_predefined,
};
use crate::plan::network as plan;

/// A network as something that netd makes.
pub(super) struct Bridged(pub(super) Network);

impl Resource for Bridged {
    fn record(&self, state: &mut State) {
        state.networks.insert(self.0.name.clone(), self.0.clone());
    }

    fn mark(&self, state: &mut State, lifecycle: Lifecycle) {
        if let Some(network) = state.networks.get_mut(&self.0.name) {
            network.lifecycle = lifecycle;
        }
    }

    async fn apply(&self, transaction: &mut Transaction) -> Result<()> {
        let network = &self.0;
        transaction.ensure_dataplane().await?;
        if network.unmanaged {
            transaction.check_routed(network)?;
        } else if network.adopted {
            transaction.switch_forwarding(network)?;
        } else {
            transaction.make_bridge(network).await?;
        }
        transaction.put_subnets(network)?;
        // The gateway is an address of the host from now on.
        transaction.observe().await?;
        transaction.follow_host().await
    }

    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()> {
        let mut errors = Vec::new();
        // What was switched on an adopted bridge stands in the record, which may be newer than this copy.
        let recorded = transaction.store.state.networks.get(&self.0.name);
        let network = recorded.cloned().unwrap_or_else(|| self.0.clone());
        let is_other = |_, name: &str| name != network.bridge.as_str();
        errors.extend(transaction.detach_unless(HookPoint::Bridge, is_other).await.err());
        match transaction.netlink.interface(&network.bridge).await {
            Ok(Some(bridge)) if plan::is_bridge_of(&network, &bridge) => {
                if network.adopted {
                    errors.extend(transaction.switch_back(&network).err());
                } else {
                    errors.extend(transaction.netlink.delete(bridge.index).await.err());
                }
            }
            // Not there, or somebody else's by now.
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        if let Some(dataplane) = &transaction.dataplane {
            for subnet in &network.subnets {
                errors.extend(dataplane.tables.remove_subnet(subnet.net).err());
            }
        }
        errors.extend(transaction.observe().await.err());
        Error::all(errors)
    }

    fn forget(&self, state: &mut State) {
        state.networks.remove(&self.0.name);
    }
}

impl Transaction {
    /// Makes a network.
    pub async fn create_network(&mut self, request: NetworkRequest) -> Result<Name> {
        let name = request.name.clone();
        if is_predefined(&name) {
            return Err(NetworkError::Exists { name: name.to_string(), predefined: true }.into());
        }
        for trusted in &request.trusted {
            if !self.observed.link(trusted).is_some_and(Link::is_readable) {
                tracing::warn!(
                    "{trusted} is not an interface of this host now that netd can use; it is trusted once it is one"
                );
            }
        }
        let network = plan::network(self.view(), request)?;
        self.make(&Bridged(network)).await?;
        Ok(name)
    }

    /// The network of a bridge that somebody else has made, which a front end is to publish ports on: the one that adopted it, or an
    /// unmanaged one of the bridge's name, which goes with its last container.
    pub async fn ensure_unmanaged(&mut self, bridge: &IfName) -> Result<Name> {
        if let Some(network) = self.store.state.networks.values().find(|network| network.bridge == *bridge) {
            return Ok(network.name.clone());
        }
        let request = NetworkRequest {
            bridge: Some(bridge.clone()),
            adopt: true,
            unmanaged: true,
            transient: true,
            ..NetworkRequest::new(bridge.as_str().parse()?)
        };
        self.create_network(request).await
    }

    /// Makes network `bridge` if it is asked for and missing.
    pub(super) async fn ensure_network(&mut self, name: &Name) -> Result<()> {
        if name.as_str() == BRIDGE && !self.store.state.networks.contains_key(name) {
            let network = plan::default_network(self.view())?;
            self.make(&Bridged(network)).await?;
        }
        Ok(())
    }

    /// Removes a network; with `force` the containers on it as well.
    pub async fn remove_network(&mut self, name: &Name, force: bool) -> Result<()> {
        let Some(network) = self.store.state.networks.get(name).cloned() else {
            let name = name.to_string();
            return Err(if is_predefined(&name.parse()?) {
                NetworkError::Predefined { name }
            } else {
                NetworkError::NotFound { name }
            }
            .into());
        };
        let state = &self.store.state;
        let members: Vec<Container> =
            state.containers.values().filter(|container| container.is_on(name.as_str())).cloned().collect();
        if !members.is_empty() && !force {
            let containers = members.iter().map(|member| member.name.to_string()).collect();
            return Err(NetworkError::HasContainers { name: name.to_string(), containers }.into());
        }
        // The routing table is asked for other hosts as if packets came in by the bridge of this network.
        let remotes: Vec<_> = state
            .publications
            .iter()
            .filter(|one| name.as_str() == BRIDGE && one.target().remote().is_some())
            .cloned()
            .collect();
        if let Some(remote) = remotes.first().filter(|_remote| !force) {
            let (publication, target) = (remote.spec(), remote.target().to_string());
            return Err(NetworkError::Needed { name: name.to_string(), publication, target }.into());
        }
        let mut errors = Vec::new();
        errors.extend(self.unmake(&Published::of(remotes)).await.err());
        errors.extend(self.remove_recorded(members).await.err());
        errors.extend(self.unmake(&Bridged(network)).await.err());
        Error::all(errors)
    }

    pub(super) async fn make_bridge(&mut self, network: &Network) -> Result<()> {
        let index = self.netlink.create_bridge(&network.bridge, network.mac, network.mtu).await?;
        let bridge = network.bridge.as_str();
        // The kernel answers route lookups of BPF programs only for an input interface with forwarding on. This is netd's own; the
        // host's global switch stays as it is.
        forwarding(Family::V4, network).set(self.host(), "1")?;
        let has_ipv6 = network.gated().any(|subnet| subnet.gateway.is_ipv6());
        Sysctl::set_ipv6(bridge, self.host(), has_ipv6)?;
        // Containers without IPv6 have IPv6 clients all the same, and so have other hosts that are published for.
        if has_ipv6 || self.observed.has_ipv6 {
            forwarding(Family::V6, network).set(self.host(), "1")?;
        }
        for subnet in network.gated() {
            self.netlink.add_address(index, subnet.gateway, subnet.net.prefix_len()).await?;
        }
        self.netlink.set_up(index).await
    }

    /// Writes the subnets of a network: what is for them, or claims to come from them, netd decides. Those of an unmanaged one are the
    /// stack's.
    pub(super) fn put_subnets(&self, network: &Network) -> Result<()> {
        let tables = &self.dataplane()?.tables;
        let mut managed = network.subnets.iter().filter(|_subnet| !network.unmanaged);
        managed.try_for_each(|subnet| tables.put_subnet(subnet.net, network.number))
    }

    /// Refuses a network that is to be unmanaged, and whose bridge the kernel does not route.
    fn check_routed(&self, network: &Network) -> Result<()> {
        let bridge = network.bridge.to_string();
        if forwarding(Family::V4, network).get(self.host())? != "1" {
            return Err(NetworkError::NotRouted { bridge }.into());
        }
        if self.observed.has_ipv6 && forwarding(Family::V6, network).get(self.host())? != "1" {
            tracing::warn!(
                "the kernel does not forward IPv6 packets of {bridge}, so published ports of its containers have no IPv6 clients; \
                 to change that: sysctl -w net.ipv6.conf.{bridge}.forwarding=1"
            );
        }
        Ok(())
    }

    /// Switches forwarding on on an adopted bridge, where it is off, and records that.
    pub(super) fn switch_forwarding(&mut self, network: &Network) -> Result<()> {
        for (family, number) in families(self.observed.has_ipv6) {
            let switch = forwarding(family, network);
            if switch.get(self.host())? == "1" {
                continue;
            }
            if let Some(record) = self.store.state.networks.get_mut(&network.name) {
                record.forwarding_set.push(number);
            }
            self.store.save()?;
            switch.set(self.host(), "1")?;
        }
        Ok(())
    }

    /// Switches forwarding off again where netd has switched it on.
    fn switch_back(&self, network: &Network) -> Result<()> {
        let set = |number: &u8| network.forwarding_set.contains(number);
        let families = families(self.observed.has_ipv6);
        let mut switched = families.filter(|(_, number)| set(number));
        switched.try_for_each(|(family, _)| forwarding(family, network).set(self.host(), "0"))
    }
}

/// The families that the host has, with their numbers.
fn families(has_ipv6: bool) -> impl Iterator<Item = (Family, u8)> {
    [(Family::V4, 4)].into_iter().chain(has_ipv6.then_some((Family::V6, 6)))
}

/// Whether the kernel forwards what comes from a network's bridge.
pub(super) fn forwarding(family: Family, network: &Network) -> Sysctl {
    Sysctl::interface(family, network.bridge.as_str(), "forwarding")
}
