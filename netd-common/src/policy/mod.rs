//! Decisions about packets that have no flow: who may connect to what, and which NAT the connection gets.
//!
//! The functions here are pure. What they need to know they ask of [`Lookups`], which the BPF programs implement over
//! maps and the kernel's routing table, and the tests over plain collections. So TC, XDP and the tests run one code.
//!
//! | room | decides about |
//! |---|---|
//! | [`inbound`] | packets from outside |
//! | [`outbound`] | packets from containers |
//! | [`direct`] | packets to a container's own address from beyond its network |
//! | [`forward`] | packets to a published port whose target is not a container |
//! | [`host`] | which packets are the host's own |
//! | [`early_drop`] | which packets from outside XDP may drop |
//! | [`source_port`] | the source port of a connection whose source address is translated |
//! | [`source_guard`] | the addresses that a container may send from |
//! | [`publication`] | which publication a packet is for |

pub mod direct;
pub mod early_drop;
pub mod forward;
pub mod host;
pub mod inbound;
pub mod outbound;
pub mod publication;
pub mod source_guard;
pub mod source_port;

use crate::abi::{EndpointRow, FamilyRows, LocalPorts, PortRow, PublicationRow, UplinkRow};
use crate::flow::handle::Handle;
use crate::flow::key::{FlowKey, Zone};
use crate::verdict::Reason;
use crate::wire::bytes::{Be16, Ipv6};
use crate::wire::ip::Ip;
use crate::wire::transport::Transport;

/// Answers from tables that both families share.
pub trait Tables {
    /// Who has a host port; `None` for a protocol without ports.
    fn port(&self, protocol: u8, port: Be16) -> Option<PortRow>;
    /// The live publication of a handle.
    fn publication(&self, handle: Handle) -> Option<&PublicationRow>;
    /// The live endpoint of a handle.
    fn endpoint(&self, handle: Handle) -> Option<&EndpointRow>;
    /// The container whose host-side veth has this interface index.
    fn endpoint_behind(&self, ifindex: u32) -> Option<&EndpointRow>;
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

/// Answers that depend on the family.
pub trait Lookups<A>: Tables {
    /// The publication on one address of the host; the unspecified address stands for all of the family.
    fn bound_port(&self, protocol: u8, address: A, port: Be16) -> Option<Handle>;
    /// The publication whose target is this port of an endpoint.
    fn target_port(&self, endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle>;
    /// The container that has an address.
    fn endpoint_at(&self, address: A) -> Option<&EndpointRow>;
    /// Whether an address lies in the subnet of a netd network.
    fn is_in_network(&self, address: A) -> bool;
    /// The kernel's route from `src` to `dst`, for a packet that arrives on the interface `input`.
    fn route(&self, input: u32, src: A, dst: A) -> Route<A>;
    /// The local socket that would receive packets of `key`; the kernel tells it for TCP and UDP only.
    fn local_socket(&self, key: &FlowKey<A>) -> Option<Socket>;
    /// Whether the host itself is in an exchange with the sender of packets of `key` that no socket tells of: see
    /// [`Decision::Note`].
    fn is_noted(&self, key: &FlowKey<A>) -> bool;
}

/// An answer of the kernel's routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<A> {
    /// Leave by this interface to this next hop; unspecified if the kernel is to find the next hop itself.
    Via(u32, A),
    /// The address is the host's own or a broadcast address of its networks, or there is no route: the lookup does not
    /// tell these apart, and the stack handles each of them.
    Local,
    /// A route forbids it.
    None,
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
    /// The side that it comes from.
    pub zone: Zone,
    /// The interface that it arrives on.
    pub ifindex: u32,
}

impl<'a, A> Packet<'a, A> {
    /// A packet with its transport header, or why it has none: [`Reason::Fragment`] for a later fragment whose first one
    /// has not arrived.
    ///
    /// The two cases are kept in two fields, so that no field is undefined: the verifier refuses a program that spills an
    /// undefined value to the stack.
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

    /// Whether it is a later fragment whose first one has not arrived.
    #[inline(always)]
    pub const fn awaits_first_fragment(&self) -> bool {
        matches!(self.unreadable, Some(Reason::Fragment))
    }
}

/// What becomes of a packet that has no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to the next program and the host's stack.
    Pass,
    /// The same. It belongs to an exchange of the host that no socket tells of, which is noted: a datagram to an unconnected
    /// socket, or a packet of a protocol without ports.
    Note,
    /// It opens a connection, with the NAT that was filled in.
    Open,
    /// It goes to a container's own address: [`direct`] decides.
    Direct,
    /// It is for a published port whose target is not a container: [`forward`] decides.
    Forward,
    /// It goes from a container to an address of the host: [`outbound::hairpin`] decides.
    Hairpin,
    /// It leaves the host by this interface: [`outbound::leave`] decides.
    Leave(u32),
    /// It is an IPv4 packet from a container to its gateway, and may be an answer to an IPv6 client.
    MayBeNat46,
    /// It is a later fragment whose first one has not arrived: a copy waits for that one.
    Queue(Then),
}

/// What becomes of a fragment itself when a copy of it is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Then {
    /// It is consumed.
    End = 0,
    /// It also goes on to the host's stack, since it may be for the host.
    Pass = 1,
}

/// Why a packet is dropped, and which publication counts the drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The publication that counts it as well; none if the packet was for none.
    pub publication: Handle,
}

impl From<Reason> for Refusal {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, publication: Handle::NONE }
    }
}

/// Whether a source may open a connection from outside: not an address that no answer can be sent to, not a link-local
/// one, which no router forwards (RFC 4291 §2.5.6), and not an IPv4-mapped one, which must not be on the wire
/// (RFC 4942 §2.2).
#[inline(always)]
pub fn may_open<A: FamilyRows>(src: A) -> bool {
    let is_odd = src.is_loopback() || src.is_not_one_hosts() || src.is_link_local() || src.is_mapped();
    !is_odd && src != A::UNSPECIFIED
}

/// Whether the source of a packet is an address of the host or a broadcast address of one of its networks. The stack
/// treats such a packet from outside as a martian, so it is left to the stack.
#[inline(always)]
pub fn is_from_host<A: FamilyRows, L: Lookups<A>>(lookups: &L, ip: &Ip<A>, bridge: u32) -> bool {
    matches!(lookups.route(bridge, ip.dst, ip.src), Route::Local)
}

/// Whether connections of an endpoint leave with the host's address as their source.
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
