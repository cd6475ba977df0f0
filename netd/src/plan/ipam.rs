//! Which subnet a network gets, and which address an interface.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{ContainerError, NetworkError, Result};
use crate::model::{hosts, is_host};

/// A subnet that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The subnet.
    pub net: IpNet,
    /// Who uses it, for people.
    pub holder: String,
}

/// Docker's default address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in parts of 20 bits.
fn pools() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..=240).step_by(16).map(|third| (Ipv4Addr::new(192, 168, third, 0), 20));
    large.chain(small).filter_map(|(address, len)| Ipv4Net::new(address, len).ok())
}

/// The first pool that overlaps nothing in use.
pub(crate) fn free_subnet(in_use: &[Held]) -> Result<IpNet> {
    let free = pools().map(IpNet::V4).find(|pool| overlap(*pool, in_use).is_none());
    Ok(free.ok_or(NetworkError::NoFreeSubnet)?)
}

/// A unique local IPv6 subnet (RFC 4193 §3.2.1) that overlaps nothing in use.
pub(crate) fn free_subnet6(in_use: &[Held]) -> Result<IpNet> {
    const TRIES: u32 = 16;
    let mut tries = (0..TRIES).map(|_try| unique_local(random()));
    Ok(tries.find(|subnet| overlap(*subnet, in_use).is_none()).ok_or(NetworkError::NoFreeSubnet6)?)
}

/// fd, 40 bits of `random`, and subnet number 0.
fn unique_local(random: u64) -> IpNet {
    let prefix = (0xfd_u128 << 120) | ((u128::from(random) & 0xff_ffff_ffff) << 80);
    Ipv6Net::new_assert(prefix.into(), 64).into()
}

/// A random number: the standard library seeds each table's hasher anew.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What a subnet overlaps; a default route overlaps nothing.
pub(crate) fn overlap(subnet: IpNet, in_use: &[Held]) -> Option<&Held> {
    in_use
        .iter()
        .find(|Held { net, .. }| net.prefix_len() > 0 && (net.contains(&subnet) || subnet.contains(net)))
}

/// An address of a subnet: the one wished for, if it is free, or the lowest that is. `taken` are addresses and the containers that
/// have them.
pub(crate) fn address(
    subnet: IpNet,
    gateway: IpAddr,
    taken: &[(IpAddr, String)],
    wished: Option<IpAddr>,
) -> Result<IpAddr> {
    let holder = |address| taken.iter().find(|(held, _)| *held == address).map(|(_, holder)| holder.clone());
    let Some(address) = wished else {
        let held: HashSet<&IpAddr> = taken.iter().map(|(held, _)| held).collect();
        let free = hosts(subnet).find(|address| *address != gateway && !held.contains(address));
        return Ok(free.ok_or(ContainerError::SubnetFull { subnet })?);
    };
    let error = if !is_host(subnet, address) {
        ContainerError::BadAddress { address, subnet }
    } else if address == gateway {
        ContainerError::AddressIsGateway { address, subnet }
    } else if let Some(container) = holder(address) {
        ContainerError::AddressTaken { address, container }
    } else {
        return Ok(address);
    };
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(nets: &[&str]) -> Vec<Held> {
        nets.iter().map(|net| Held { net: net.parse().unwrap(), holder: "a route".to_owned() }).collect()
    }

    #[test]
    fn the_first_pool_that_touches_no_route_is_taken() {
        assert_eq!(free_subnet(&used(&["0.0.0.0/0"])).unwrap().to_string(), "172.17.0.0/16");
        assert_eq!(free_subnet(&used(&["172.17.5.0/24"])).unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(free_subnet(&used(&["172.16.0.0/12"])).unwrap().to_string(), "192.168.0.0/20");
        assert!(free_subnet(&used(&["172.16.0.0/12", "192.168.0.0/16"])).is_err());
    }

    #[test]
    fn a_unique_local_prefix_has_forty_random_bits() {
        assert_eq!(unique_local(u64::MAX).to_string(), "fdff:ffff:ffff::/64");
        assert_eq!(unique_local(0).to_string(), "fd00::/64");
        assert_ne!(free_subnet6(&[]).unwrap(), free_subnet6(&[]).unwrap());
        assert!(free_subnet6(&used(&["fd00::/8"])).is_err());
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (subnet, gateway) = ("10.0.0.0/29".parse().unwrap(), ip("10.0.0.1"));
        let mut taken = Vec::new();
        for last in 2..=6 {
            let address = address(subnet, gateway, &taken, None).unwrap();
            assert_eq!(address, ip(&format!("10.0.0.{last}")));
            taken.push((address, format!("c{last}")));
        }
        assert!(address(subnet, gateway, &taken, None).is_err());
        for wrong in ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.7", "10.0.0.9", "::1"] {
            assert!(address(subnet, gateway, &taken, Some(ip(wrong))).is_err(), "{wrong}");
        }
        let (subnet, gateway) = ("fd00:1::/64".parse().unwrap(), ip("fd00:1::1"));
        assert_eq!(address(subnet, gateway, &[], None).unwrap(), ip("fd00:1::2"));
        assert_eq!(address(subnet, gateway, &[], Some(ip("fd00:1::abcd"))).unwrap(), ip("fd00:1::abcd"));
        for wrong in ["fd00:1::", "fd00:1::1", "fd00:2::5", "10.0.0.2"] {
            assert!(address(subnet, gateway, &[], Some(ip(wrong))).is_err(), "{wrong}");
        }
    }
}
