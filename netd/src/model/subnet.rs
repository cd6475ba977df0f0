//! A network's subnet and gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{NetworkError, Result, SubnetFault};

/// Checks a network's subnet: no host bits, room for a gateway and a container, and no addresses that no host may have.
pub fn check_subnet(subnet: IpNet) -> Result<()> {
    let (longest, reserved) = match subnet {
        IpNet::V4(subnet) => (30, is_reserved(subnet)),
        IpNet::V6(subnet) => (126, is_reserved6(subnet)),
    };
    let why = if subnet.trunc() != subnet {
        SubnetFault::HostBits
    } else if subnet.prefix_len() > longest {
        SubnetFault::TooSmall
    } else if reserved {
        SubnetFault::Reserved
    } else {
        return Ok(());
    };
    Err(NetworkError::BadSubnet { subnet, why }.into())
}

/// This network, loopback, link-local, multicast and reserved ranges (RFC 6890).
fn is_reserved(subnet: Ipv4Net) -> bool {
    const RANGES: [(Ipv4Addr, u8); 5] = [
        (Ipv4Addr::UNSPECIFIED, 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(224, 0, 0, 0), 4),
        (Ipv4Addr::new(240, 0, 0, 0), 4),
    ];
    RANGES.iter().any(|(address, len)| {
        Ipv4Net::new(*address, *len).is_ok_and(|range| range.contains(&subnet) || subnet.contains(&range))
    })
}

/// Everything but global and unique local addresses (RFC 4291 §2.4, RFC 4193).
fn is_reserved6(subnet: Ipv6Net) -> bool {
    const RANGES: [(Ipv6Addr, u8); 2] =
        [(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3), (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)];
    !RANGES
        .iter()
        .any(|(address, len)| Ipv6Net::new(*address, *len).is_ok_and(|range| range.contains(&subnet)))
}

/// The gateway of a subnet: the one wished for, if it can be, or the first address.
pub fn gateway_of(subnet: IpNet, wished: Option<IpAddr>) -> Result<IpAddr> {
    let first = hosts(subnet).next().unwrap_or(subnet.network());
    match wished {
        None => Ok(first),
        Some(gateway) if is_host(subnet, gateway) => Ok(gateway),
        Some(gateway) => Err(NetworkError::BadGateway { gateway, subnet, first }.into()),
    }
}

/// The addresses of a subnet that can be hosts', the lowest first.
pub fn hosts(subnet: IpNet) -> impl Iterator<Item = IpAddr> {
    subnet.hosts().filter(move |address| is_host(subnet, *address))
}

/// Whether an address in a subnet can be a host's: neither the network's own (which in IPv6 is every router's, RFC 4291
/// §2.6.1) nor IPv4's broadcast address.
pub fn is_host(subnet: IpNet, address: IpAddr) -> bool {
    subnet.contains(&address)
        && address != subnet.network()
        && (address.is_ipv6() || address != subnet.broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(text: &str) -> bool {
        check_subnet(text.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_subnet_has_room_and_no_odd_addresses() {
        assert!(is_good("10.20.0.0/24"));
        assert!(is_good("192.0.2.0/30"));
        for bad in ["10.0.0.1/24", "10.0.0.0/31", "127.0.0.0/16", "224.0.0.0/24", "0.0.0.0/0"] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn an_ipv6_subnet_is_ones_own() {
        for good in ["fd00:1::/64", "2001:db8::/48", "fc00::/7", "fd00::/126"] {
            assert!(is_good(good), "{good}");
        }
        for bad in ["fd00::1/64", "fd00::/127", "fe80::/64", "ff00::/8", "::/0", "::1/128", "64:ff9b::/96"] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn a_gateway_is_a_hosts_address_in_the_subnet() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let subnet = "10.20.0.0/24".parse().unwrap();
        assert_eq!(gateway_of(subnet, None).unwrap(), address("10.20.0.1"));
        assert!(gateway_of(subnet, Some(address("10.20.0.254"))).is_ok());
        for bad in ["10.20.0.0", "10.20.0.255", "10.20.1.1", "fd00::1"] {
            assert!(gateway_of(subnet, Some(address(bad))).is_err(), "{bad}");
        }
        let subnet = "fd00:1::/64".parse().unwrap();
        assert_eq!(gateway_of(subnet, None).unwrap(), address("fd00:1::1"));
        assert!(gateway_of(subnet, Some(address("fd00:1::ffff:ffff:ffff:ffff"))).is_ok());
        assert!(gateway_of(subnet, Some(address("fd00:1::"))).is_err());
    }
}
