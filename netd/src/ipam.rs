//! Which subnet a network gets, and which address a container. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::{Error, Result};
use crate::spec::is_host;

/// Docker's default address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in parts of 20 bits.
fn pools() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..=240).step_by(16).map(|third| (Ipv4Addr::new(192, 168, third, 0), 20));
    large.chain(small).filter_map(|(address, len)| Ipv4Net::new(address, len).ok())
}

/// The first pool that overlaps nothing in use.
pub fn free_subnet(in_use: &[(IpNet, String)]) -> Result<Ipv4Net> {
    pools().find(|pool| overlap(*pool, in_use).is_none()).ok_or_else(|| {
        Error::conflict("every default address pool overlaps a route or a network of this host")
            .hint("choose a subnet: --subnet 10.20.0.0/24")
    })
}

/// What a subnet overlaps, in the words that it came with; a default route overlaps nothing.
pub fn overlap(subnet: Ipv4Net, in_use: &[(IpNet, String)]) -> Option<&str> {
    in_use.iter().find_map(|(held, holder)| match held {
        IpNet::V4(held) if held.prefix_len() > 0 && (held.contains(&subnet) || subnet.contains(held)) => {
            Some(holder.as_str())
        }
        _ => None,
    })
}

/// A container's address: the one wished for, if it is free, or the lowest that is.
pub fn address(
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    taken: &[(Ipv4Addr, String)],
    wished: Option<IpAddr>,
) -> Result<Ipv4Addr> {
    let holder = |address| taken.iter().find(|(held, _)| *held == address).map(|(_, holder)| holder);
    match wished {
        None => subnet.hosts().find(|address| *address != gateway && holder(*address).is_none()).ok_or_else(
            || {
                Error::conflict(format!("every address of {subnet} is taken"))
                    .hint("remove a container, or use a larger subnet")
            },
        ),
        Some(IpAddr::V4(address)) if is_host(subnet, address) => {
            if address == gateway {
                Err(Error::conflict(format!("{address} is the gateway of {subnet}")))
            } else if let Some(holder) = holder(address) {
                Err(Error::conflict(format!("{address} is the address of container {holder}")))
            } else {
                Ok(address)
            }
        }
        Some(address) => Err(Error::invalid(format!("{address} is no host's address in {subnet}"))
            .hint("leave --ip out to get the lowest free address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(nets: &[&str]) -> Vec<(IpNet, String)> {
        nets.iter().map(|net| (net.parse().unwrap(), format!("route {net}"))).collect()
    }

    #[test]
    fn the_first_pool_that_touches_no_route_is_taken() {
        assert_eq!(free_subnet(&used(&["0.0.0.0/0"])).unwrap().to_string(), "172.17.0.0/16");
        assert_eq!(free_subnet(&used(&["172.17.5.0/24"])).unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(free_subnet(&used(&["172.16.0.0/12"])).unwrap().to_string(), "192.168.0.0/20");
        assert!(free_subnet(&used(&["172.16.0.0/12", "192.168.0.0/16"])).is_err());
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let subnet: Ipv4Net = "10.0.0.0/29".parse().unwrap();
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let mut taken = Vec::new();
        for last in 2..=6 {
            let address = address(subnet, gateway, &taken, None).unwrap();
            assert_eq!(address, Ipv4Addr::new(10, 0, 0, last));
            taken.push((address, format!("c{last}")));
        }
        assert!(address(subnet, gateway, &taken, None).is_err());
        for wrong in ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.7", "10.0.0.9", "::1"] {
            assert!(address(subnet, gateway, &taken, Some(wrong.parse().unwrap())).is_err(), "{wrong}");
        }
    }
}
