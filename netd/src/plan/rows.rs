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

/// An interface's addresses in each family, for its row.
fn places(interface: &Interface, network: &Network) -> (abi::Subnet<Ipv4>, abi::Subnet<Ipv6>) {
    if network.unmanaged {
        return unmanaged_places(interface, network);
    }
    let (mut four, mut six) = (abi::Subnet::default(), abi::Subnet::default());
    for (address, Subnet { net, gateway, snat, mode }) in interface.addresses.iter().zip(&network.subnets) {
        let isolated = *mode == GatewayMode::Isolated;
        match (address, net, gateway) {
            (IpAddr::V4(address), IpNet::V4(net), IpAddr::V4(gateway)) => {
                let mask = net.netmask().into();
                let snat = snat.and_then(|snat| match snat {
                    IpAddr::V4(snat) => Some(snat.into()),
                    IpAddr::V6(_) => None,
                });
                let snat = snat.unwrap_or(Ipv4::UNSPECIFIED);
                let gateway = if isolated { Ipv4::UNSPECIFIED } else { (*gateway).into() };
                four = abi::Subnet::new((*address).into(), mask, gateway, snat);
            }
            (IpAddr::V6(address), IpNet::V6(net), IpAddr::V6(gateway)) => {
                let mask = net.netmask().into();
                let snat = snat.and_then(|snat| match snat {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(snat) => Some(snat.into()),
                });
                let snat = snat.unwrap_or(Ipv6::UNSPECIFIED);
                let gateway = if isolated { Ipv6::UNSPECIFIED } else { (*gateway).into() };
                six = abi::Subnet::new((*address).into(), mask, gateway, snat);
            }
            _ => {}
        }
    }
    (four, six)
}

/// The same in an unmanaged network, where addresses may be of any subnet. Only the bridge's own address can stand for clients that
/// the container could not answer.
fn unmanaged_places(interface: &Interface, network: &Network) -> (abi::Subnet<Ipv4>, abi::Subnet<Ipv6>) {
    let (mut four, mut six) = (abi::Subnet::default(), abi::Subnet::default());
    for address in &interface.addresses {
        match (address, network.subnet_of(*address).map(|subnet| subnet.gateway)) {
            (IpAddr::V4(address), gateway) => {
                let gateway = match gateway {
                    Some(IpAddr::V4(gateway)) => gateway.into(),
                    _ => Ipv4::UNSPECIFIED,
                };
                let mask = std::net::Ipv4Addr::BROADCAST.into();
                four = abi::Subnet::new((*address).into(), mask, gateway, Ipv4::UNSPECIFIED);
            }
            (IpAddr::V6(address), gateway) => {
                let gateway = match gateway {
                    Some(IpAddr::V6(gateway)) => gateway.into(),
                    _ => Ipv6::UNSPECIFIED,
                };
                let mask = std::net::Ipv6Addr::from_bits(u128::MAX).into();
                six = abi::Subnet::new((*address).into(), mask, gateway, Ipv6::UNSPECIFIED);
            }
        }
    }
    (four, six)
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
