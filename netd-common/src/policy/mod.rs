//! Decisions about packets that have no flow: whether the connection is allowed, and which NAT it gets.
//!
//! The functions here are pure. They look up facts through [`Lookups`], which the BPF programs implement with maps and
//! the kernel's routing table, and the tests with plain collections. So TC, XDP and the tests run the same code.
//!
//! | room | decides about |
//! |---|---|
//! | [`inbound`] | packets from outside |
//! | [`broadcast`] | packets that are broadcast on an uplink's link |
//! | [`outbound`] | packets from containers |
//! | [`direct`] | packets to a container's own address from beyond its network |
//! | [`forward`] | packets to a published port of another host |
//! | [`forwarded`] | packets that the host's stack forwards into a network |
//! | [`host`] | which packets are the host's own |
//! | [`early_drop`] | which packets from outside XDP may drop |
//! | [`source_port`] | the source port of a connection whose source address is translated |
//! | [`source_guard`] | the addresses that a container may send from |
//! | [`publication`] | which publication a packet is for |

pub mod broadcast;
pub mod direct;
pub mod early_drop;
pub mod forward;
pub mod forwarded;
pub mod host;
pub mod inbound;
pub mod outbound;
pub mod publication;
pub mod source_guard;
pub mod source_port;

use crate::abi::{EndpointRow, FamilyRows, LocalPorts, PortRow, PublicationRow, UplinkRow};
use crate::flow::handle::Handle;
use crate::flow::key::{FlowKey, Tuple, Zone};
use crate::verdict::Reason;
use crate::wire::bytes::{Address, Be16, Ipv6};
use crate::wire::ip::Ip;
use crate::wire::transport::Transport;

/// Lookups in tables that both families share.
pub trait Tables {
    /// The publications of a host port; `None` for a protocol without ports.
    fn port(&self, protocol: u8, port: Be16) -> Option<PortRow>;
    /// The live publication of a handle.
    fn publication(&self, handle: Handle) -> Option<&PublicationRow>;
    /// The live endpoint of a handle.
    fn endpoint(&self, handle: Handle) -> Option<&EndpointRow>;
    /// The container whose host-side veth has this interface index.
    fn endpoint_behind(&self, ifindex: u32) -> Option<&EndpointRow>;
    /// The container that has an address of either family, IPv4 in its mapped form.
    fn container_at(&self, address: Ipv6) -> Option<&EndpointRow>;
    /// Whether a container may use an address (IPv4 in its mapped form) that is not its own: it was allowed to, and no other
    /// container has it.
    fn is_allowed_address(&self, endpoint: &EndpointRow, address: Ipv6) -> bool;
    /// The uplink of this interface index.
    fn uplink(&self, ifindex: u32) -> Option<&UplinkRow>;
    /// Whether a network (by number) trusts what arrives on an interface.
    fn is_trusted(&self, network: u32, ifindex: u32) -> bool;
    /// Whether the access list of a publication allows a source; `None` if the publication has no list. The list of
    /// [`Handle::NONE`] is the global one.
    fn access(&self, publication: Handle, source: Ipv6) -> Option<bool>;
    /// The ports that the kernel gives to the host's own sockets.
    fn local_ports(&self) -> LocalPorts;
}

/// Lookups that depend on the family.
pub trait Lookups<A>: Tables {
    /// The publication on one address of the host; the unspecified address stands for all of the family.
    fn bound_port(&self, protocol: u8, address: A, port: Be16) -> Option<Handle>;
    /// The publication whose target is this port of an endpoint.
    fn target_port(&self, endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle>;
    /// The container that has an address.
    fn endpoint_at(&self, address: A) -> Option<&EndpointRow>;
    /// Whether an IPsec policy of the host is for packets from or to an address. netd sends packets past the policies, so it refuses
    /// these.
    fn is_ipsec_peer(&self, address: A) -> bool;
    /// The number of the netd network in whose subnet an address lies.
    fn network_of(&self, address: A) -> Option<u32>;
    /// Whether an address lies in the subnet of a netd network.
    #[inline(always)]
    fn is_in_network(&self, address: A) -> bool {
        self.network_of(address).is_some()
    }
    /// Whether an address is the host's own, as the last netd command found it; for addresses that the routing table does not tell.
    fn is_local(&self, address: A) -> bool;
    /// Whether an address is the broadcast address of one of the host's IPv4 networks.
    fn is_broadcast(&self, address: A) -> bool;
    /// The kernel's route for a packet with this protocol and tuple that arrives on the interface `input`: rules of the
    /// routing policy may look at all of them (`ip rule … ipproto … dport`). Protocol and ports are zero where only the
    /// addresses count.
    fn route(&self, input: u32, protocol: u8, tuple: &Tuple<A>) -> Route<A>;
    /// Whether an interface is an uplink whose reverse path is strict.
    #[inline(always)]
    fn has_strict_reverse_path(&self, ifindex: u32) -> bool
    where
        A: FamilyRows,
    {
        self.uplink(ifindex).is_some_and(UplinkRow::has_strict_reverse_path::<A>)
    }
    /// The local socket that would receive packets of `key`; the kernel tells it for TCP and UDP only.
    fn local_socket(&self, key: &FlowKey<A>) -> Option<Socket>;
    /// Whether an exchange of the host itself with the sender of packets of `key` is noted, see [`Decision::Note`].
    fn is_noted(&self, key: &FlowKey<A>) -> bool;
}

/// A result of the kernel's routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<A> {
    /// Leave by this interface to this next hop; unspecified if the kernel is to find the next hop itself.
    Via(u32, A),
    /// The address is the host's own or a broadcast address of its networks, or there is no route: the lookup does not
    /// tell these apart, and the stack handles each of them.
    Local,
    /// A route forbids it: why the packet is dropped.
    Refused(Reason),
}

/// A local socket of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A TCP socket that listens, or a UDP socket that is connected to nobody.
    Unconnected,
    /// A TCP socket whose connection with the sender has ended.
    TimeWait,
    /// A TCP or UDP socket that is connected to the sender, or about to be.
    Connected,
}

/// A packet that has no flow.
#[derive(Clone, Copy)]
pub struct Packet<'a, A> {
    /// Its IP header.
    pub ip: &'a Ip<A>,
    /// Its transport header, if it has one; see [`Self::new`].
    transport: Transport,
    /// Why it has no transport header.
    unreadable: Option<Reason>,
    /// The zone that it comes from.
    pub zone: Zone,
    /// The interface that it arrives on.
    pub ifindex: u32,
}

impl<'a, A> Packet<'a, A> {
    /// A packet with its transport header, or the reason why it has none: [`Reason::Fragment`] for a later fragment
    /// whose first one has not arrived.
    ///
    /// The two cases are kept in two fields, so that no field is undefined: the verifier refuses a program that spills
    /// an undefined value to the stack.
    #[inline(always)]
    pub const fn new(ip: &'a Ip<A>, transport: Result<Transport, Reason>, zone: Zone, ifindex: u32) -> Self {
        let (transport, unreadable) = match transport {
            Ok(transport) => (transport, None),
            Err(reason) => (Transport::bare(Be16::new(0), Be16::new(0)), Some(reason)),
        };
        Self { ip, transport, unreadable, zone, ifindex }
    }

    /// The transport header.
    #[inline(always)]
    pub const fn transport(&self) -> Result<&Transport, Reason> {
        match self.unreadable {
            None => Ok(&self.transport),
            Some(reason) => Err(reason),
        }
    }

    /// Addresses and ports; the latter are zero if they are not known.
    #[inline(always)]
    pub fn tuple(&self) -> Tuple<A>
    where
        A: Address,
    {
        let ports = Tuple {
            src_port: self.transport.src_port,
            dst_port: self.transport.dst_port,
            ..Tuple::default()
        };
        Tuple { src: self.ip.src, dst: self.ip.dst, ..ports }
    }

    /// Whether it is a later fragment whose first one has not arrived.
    #[inline(always)]
    pub const fn awaits_first_fragment(&self) -> bool {
        matches!(self.unreadable, Some(Reason::Fragment))
    }
}

/// The decision about a packet that has no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to the next program and the host's stack.
    Pass,
    /// It comes from a container and is for the host or its link, and goes on with a TTL of 1: then the stack delivers it, but does
    /// not forward it. The stack routes by more than the lookup knows (marks, rules of netfilter), and would forward it with the
    /// container's own address.
    Local,
    /// It goes on as it is, and belongs to an exchange of the host, which is noted, since no socket tells of it or none will once
    /// it has closed.
    Note,
    /// It opens a connection, with the NAT that was filled in.
    Open,
    /// It goes to a container's own address: [`direct`] decides.
    Direct,
    /// It is for a published port of another host: [`forward`] decides.
    Forward,
    /// It goes from a container to an address of the host: [`outbound::hairpin`] decides.
    Hairpin,
    /// It leaves the host by this interface: [`outbound::leave`] decides.
    Leave(u32),
    /// It is an IPv4 packet from a container to its gateway, and may be a reply to an IPv6 client.
    MayBeNat46,
    /// It is a later fragment whose first one has not arrived: a copy is queued.
    Queue(Then),
}

/// What happens to the fragment itself when a copy of it is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Then {
    /// It is consumed.
    End = 0,
    /// It also goes on to the host's stack, since it may be for the host.
    Pass = 1,
}

/// The reason for a drop, and the publication that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The publication that also counts it; none if the packet was for none.
    pub publication: Handle,
}

impl From<Reason> for Refusal {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, publication: Handle::NONE }
    }
}

/// Whether a source may open a connection from outside. Excluded are addresses that cannot receive a reply, link-local
/// ones, which no router forwards (RFC 4291 §2.5.6), and IPv4-mapped ones, which must not be on the wire (RFC 4942
/// §2.2).
#[inline(always)]
pub fn may_open<A: FamilyRows>(src: A) -> bool {
    let is_odd = src.is_loopback() || src.is_not_one_hosts() || src.is_link_local() || src.is_mapped();
    !is_odd && src != A::UNSPECIFIED
}

/// Whether the stack treats a packet from outside as a martian, for its source: an address of the host, or a broadcast address of
/// one of its networks; where the reverse path is strict, also one that is not reached by the interface that the packet came in
/// by. Such a packet is left to the stack.
#[inline(always)]
pub fn has_martian_source<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    bridge: u32,
) -> bool {
    match lookups.route(bridge, 0, &Tuple::between(packet.ip.dst, packet.ip.src)) {
        Route::Local => true,
        Route::Via(oif, _) if oif == packet.ifindex => false,
        Route::Via(_, _) | Route::Refused(_) => lookups.has_strict_reverse_path(packet.ifindex),
    }
}

/// Whether connections of an endpoint to outside are masqueraded.
#[inline(always)]
pub fn is_masqueraded<A: FamilyRows>(endpoint: &EndpointRow) -> bool {
    endpoint.flags & A::flag(crate::abi::network_flag::NO_MASQUERADE) == 0
}

/// The source address of masqueraded connections of an endpoint that leave by an uplink: the one that is configured for
/// its network, or the uplink's.
#[inline(always)]
pub fn snat_address<A: FamilyRows>(endpoint: &EndpointRow, uplink: &UplinkRow) -> Result<A, Reason> {
    let configured = A::subnet(endpoint).snat();
    let address = if configured == A::UNSPECIFIED { A::masquerade(uplink) } else { configured };
    if address == A::UNSPECIFIED { Err(Reason::NoWayOut) } else { Ok(address) }
}
