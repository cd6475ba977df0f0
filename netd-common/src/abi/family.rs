//! Parts of rows that exist for each of the two families.

use crate::wire::bytes::{Ipv4, Ipv6};
use crate::wire::ip::Family;

use super::endpoint::{EndpointRow, Subnet};
use super::uplink::UplinkRow;

/// A family's part of rows that hold both.
pub trait FamilyRows: Family {
    /// An endpoint's addresses in this family.
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self>;

    /// The address of an uplink that masqueraded connections get; unspecified if it has none.
    fn masquerade(uplink: &UplinkRow) -> Self;

    /// This family's bit of a pair of [`network_flag`](super::network_flag)s, of which `flag` is IPv4's.
    #[inline(always)]
    fn flag(flag: u32) -> u32 {
        if Self::IS_V6 { flag << 1 } else { flag }
    }
}

impl FamilyRows for Ipv4 {
    #[inline(always)]
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self> {
        endpoint.subnet4
    }

    #[inline(always)]
    fn masquerade(uplink: &UplinkRow) -> Self {
        uplink.address4
    }
}

impl FamilyRows for Ipv6 {
    #[inline(always)]
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self> {
        endpoint.subnet6
    }

    #[inline(always)]
    fn masquerade(uplink: &UplinkRow) -> Self {
        uplink.address6
    }
}
