//! The rows of endpoints in the BPF tables.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_common::abi::{self, EndpointRow, FamilyRows as _, network_flag};
use netd_common::wire::bytes::{Address as _, Ipv4, Ipv6};

use crate::model::{GatewayMode, Interface, Network, Remote, Subnet};

/// The row of a container's interface: `index` is that of its host's end, `bridge` that of its network's bridge.
pub(crate) fn interface(interface: &Interface, network: &Network, index: u32, bridge: u32) -> EndpointRow {
    let (subnet4, subnet6) = places(interface, network);
    let flag = |is_on: bool, flag: u32| if is_on { flag } else { 0 };
    EndpointRow {
        handle: interface.handle(),
        ifindex: index,
        mtu: interface.mtu,
        ethernet: EndpointRow::ethernet(interface.mac.bytes(), network.mac.bytes()),
        bridge,
        network: network.number,
        flags: flag(!network.icc, network_flag::NO_ICC)
            | flag(network.internal, network_flag::INTERNAL)
            | flag(!network.masquerade, network_flag::NO_MASQUERADE)
            | flag(!interface.allowed.is_empty(), network_flag::MORE_ADDRESSES)
            | flag(network.unmanaged, network_flag::UNMANAGED)
            | flag(!masquerades6(network), network_flag::NO_MASQUERADE6)
            | network.subnets.iter().fold(0, |flags, subnet| flags | mode_flags(subnet)),
        subnet4,
        subnet6,
    }
}

/// The row of a target that is no container: `bridge` is the index of the bridge of `network`, which is `bridge`.
pub(crate) fn remote(remote: &Remote, network: &Network, bridge: u32) -> EndpointRow {
    let mut row =
        EndpointRow { handle: remote.handle(), bridge, network: network.number, ..EndpointRow::default() };
    if remote.keep_source {
        row.flags = network_flag::NO_MASQUERADE | network_flag::NO_MASQUERADE6;
    }
    match remote.address {
        IpAddr::V4(address) => {
            let none = Ipv4::UNSPECIFIED;
            row.subnet4 = abi::Subnet::new(address.into(), none, none, none);
        }
        IpAddr::V6(address) => {
            let none = Ipv6::UNSPECIFIED;
            row.subnet6 = abi::Subnet::new(address.into(), none, none, none);
        }
    }
    row
}

/// An interface's addresses in each family, for its row. In an unmanaged network they may be of any subnet; only the bridge's own
/// address can stand there for clients that the container could not answer.
fn places(interface: &Interface, network: &Network) -> (abi::Subnet<Ipv4>, abi::Subnet<Ipv6>) {
    let (mut four, mut six) = (abi::Subnet::default(), abi::Subnet::default());
    for address in &interface.addresses {
        let subnet = network.subnet_of(*address);
        let managed = subnet.filter(|_subnet| !network.unmanaged);
        let net = managed.map_or_else(|| IpNet::from(*address), |subnet| subnet.net);
        let gateway =
            subnet.filter(|subnet| subnet.mode != GatewayMode::Isolated).map(|subnet| subnet.gateway);
        let snat = subnet.and_then(|subnet| subnet.snat);
        match (address, net) {
            (IpAddr::V4(address), IpNet::V4(net)) => {
                four = abi::Subnet::new((*address).into(), net.netmask().into(), ipv4(gateway), ipv4(snat));
            }
            (IpAddr::V6(address), IpNet::V6(net)) => {
                six = abi::Subnet::new((*address).into(), net.netmask().into(), ipv6(gateway), ipv6(snat));
            }
            _ => {}
        }
    }
    (four, six)
}

/// An IPv4 address, or the unspecified one.
fn ipv4(address: Option<IpAddr>) -> Ipv4 {
    match address {
        Some(IpAddr::V4(address)) => address.into(),
        _ => Ipv4::UNSPECIFIED,
    }
}

/// An IPv6 address, or the unspecified one.
fn ipv6(address: Option<IpAddr>) -> Ipv6 {
    match address {
        Some(IpAddr::V6(address)) => address.into(),
        _ => Ipv6::UNSPECIFIED,
    }
}

/// The datapath's flags for a subnet's gateway mode.
fn mode_flags(subnet: &Subnet) -> u32 {
    let four = match subnet.mode {
        GatewayMode::Nat | GatewayMode::Isolated => 0,
        GatewayMode::NatUnprotected => network_flag::UNPROTECTED,
        GatewayMode::Routed => network_flag::ROUTED | network_flag::NO_MASQUERADE,
    };
    if subnet.gateway.is_ipv4() { Ipv4::flag(four) } else { Ipv6::flag(four) }
}

/// Whether IPv6 connections to outside are masqueraded: those from unique local addresses, and those that are given an address.
fn masquerades6(network: &Network) -> bool {
    let is_local = |net: &IpNet| matches!(net.addr(), IpAddr::V6(address) if address.is_unique_local());
    let named = |subnet: &Subnet| subnet.snat.is_some_and(|snat| snat.is_ipv6());
    network.masquerade && network.subnets.iter().any(|subnet| is_local(&subnet.net) || named(subnet))
}
