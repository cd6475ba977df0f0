//! The lookups of the policy, implemented with the maps and the kernel.

use netd_common::abi::{EndpointRow, LocalPorts, PortRow, PublicationRow, UplinkRow};
use netd_common::flow::{FlowKey, Handle, Tuple};
use netd_common::policy::{Lookups, Route, Socket, Tables};
use netd_common::wire::bytes::{Be16, Ipv6};

use super::context::Context;
use super::inet::Inet;
use super::{fib, host_flows, host_socket, tables};

/// The maps and the kernel, for the program with this context.
pub(crate) struct Kernel(pub(crate) Context);

impl Tables for Kernel {
    #[inline(always)]
    fn port(&self, protocol: u8, port: Be16) -> Option<PortRow> {
        tables::port(protocol, port)
    }

    #[inline(always)]
    fn publication(&self, handle: Handle) -> Option<&PublicationRow> {
        tables::publication(handle).map(|row| &*row)
    }

    #[inline(always)]
    fn endpoint(&self, handle: Handle) -> Option<&EndpointRow> {
        tables::endpoint(handle)
    }

    #[inline(always)]
    fn endpoint_behind(&self, ifindex: u32) -> Option<&EndpointRow> {
        tables::endpoint_behind(ifindex)
    }

    #[inline(always)]
    fn container_at(&self, address: Ipv6) -> Option<&EndpointRow> {
        tables::endpoint_at(address)
    }

    #[inline(always)]
    fn is_allowed_address(&self, endpoint: &EndpointRow, address: Ipv6) -> bool {
        tables::is_allowed_address(endpoint, address)
    }

    #[inline(always)]
    fn uplink(&self, ifindex: u32) -> Option<&UplinkRow> {
        tables::uplink(ifindex)
    }

    #[inline(always)]
    fn is_trusted(&self, network: u32, ifindex: u32) -> bool {
        tables::is_trusted(network, ifindex)
    }

    #[inline(always)]
    fn access(&self, publication: Handle, source: Ipv6) -> Option<bool> {
        tables::access(publication, source)
    }

    #[inline(always)]
    fn local_ports(&self) -> LocalPorts {
        tables::local_ports()
    }
}

impl<A: Inet> Lookups<A> for Kernel {
    #[inline(always)]
    fn bound_port(&self, protocol: u8, address: A, port: Be16) -> Option<Handle> {
        tables::bound_port(protocol, address, port)
    }

    #[inline(always)]
    fn target_port(&self, endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle> {
        tables::target_port::<A>(endpoint, protocol, port)
    }

    #[inline(always)]
    fn endpoint_at(&self, address: A) -> Option<&EndpointRow> {
        tables::endpoint_at(address)
    }

    #[inline(always)]
    fn is_ipsec_peer(&self, address: A) -> bool {
        tables::is_ipsec_peer(address)
    }

    #[inline(always)]
    fn is_local(&self, address: A) -> bool {
        tables::is_local(address)
    }

    #[inline(always)]
    fn network_of(&self, address: A) -> Option<u32> {
        tables::network_of(address)
    }

    #[inline(always)]
    fn is_broadcast(&self, address: A) -> bool {
        tables::is_broadcast(address)
    }

    #[inline(always)]
    fn route(&self, input: u32, protocol: u8, tuple: &Tuple<A>) -> Route<A> {
        fib::lookup(self.0, input, protocol, tuple)
    }

    #[inline(always)]
    fn local_socket(&self, key: &FlowKey<A>) -> Option<Socket> {
        host_socket::lookup(self.0, key)
    }

    #[inline(always)]
    fn is_noted(&self, key: &FlowKey<A>) -> bool {
        host_flows::is_noted(key)
    }
}
