//! What netd tells: plain results, and with them the JSON contract.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::access::Access;
pub use super::change::{Action, Change, ValueChange};
use super::count::Count;
pub use super::difference::Difference;
use super::programs::ProgramsVersion;
pub use super::programs::Upgraded;

/// A quantity in each direction, seen from the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InOut<T> {
    /// To the container.
    #[serde(rename = "in")]
    pub inward: T,
    /// From the container.
    pub out: T,
}

/// Connections of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// With a packet in the last two minutes; none if they were not counted, since that looks at every connection.
    pub active: Option<u64>,
    /// Ever made.
    pub total: u64,
}

/// A publication: an element of `netd ports --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// tcp, udp or sctp.
    pub proto: &'static str,
    /// The one host address it is on; all if null.
    pub host_ip: Option<IpAddr>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// The container, or the address of a host that is none.
    pub target: String,
    /// Its address.
    pub target_ip: IpAddr,
    /// Its first port.
    pub target_port: u16,
    /// Its last port.
    pub target_port_end: u16,
    /// Who may use it.
    pub access: Access,
    /// The one interface that clients come in by; any if null.
    pub interface: Option<String>,
    /// Whether a host that is no container sees the clients' own addresses.
    pub keep_source: bool,
    /// Whether another publication has its ports, and only its connections are left.
    pub draining: bool,
    /// Packets that passed.
    pub packets: InOut<u64>,
    /// Bytes that passed.
    pub bytes: InOut<u64>,
    /// Connections.
    pub flows: Flows,
    /// Packets dropped on their way.
    pub dropped: u64,
}

impl Port {
    /// Whether it leads to a host that is no container.
    pub fn is_remote(&self) -> bool {
        self.target.parse() == Ok(self.target_ip)
    }
}

#[cfg(test)]
impl Port {
    /// A port of a container without packets.
    pub(crate) fn example() -> Self {
        Self {
            proto: "tcp",
            host_ip: None,
            host_port: 8080,
            host_port_end: 8080,
            target: "web".to_owned(),
            target_ip: [172, 17, 0, 2].into(),
            target_port: 80,
            target_port_end: 80,
            access: Access::default(),
            interface: None,
            keep_source: false,
            draining: false,
            packets: InOut { inward: 0, out: 0 },
            bytes: InOut { inward: 0, out: 0 },
            flows: Flows { active: None, total: 0 },
            dropped: 0,
        }
    }
}

/// A connection: an element of `netd flows --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// tcp, udp, icmp, ipv6-icmp, or the protocol's number.
    pub proto: String,
    /// Its conntrack state: `syn_sent`, `established`, `one_way` and so on.
    pub state: &'static str,
    /// For how long no packet has passed, milliseconds (to the second, nearly).
    pub idle_ms: u64,
    /// The container that it leads to or comes from, or the address of a host that is none.
    pub container: String,
    /// The publication that let it in; null if it goes out, or in by its network's gateway mode.
    pub publication: Option<String>,
    /// The packets of whoever began it, as they come in.
    pub original: Direction,
    /// The answers, as they come in.
    pub reply: Direction,
}

/// One direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Direction {
    /// Source address.
    pub src: IpAddr,
    /// Source port, or an echo request's number.
    pub src_port: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port, or an echo reply's number.
    pub dst_port: u16,
    /// Packets that passed.
    pub packets: u64,
    /// Bytes that passed.
    pub bytes: u64,
}

/// Something for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByFamily<T> {
    /// Of IPv4.
    pub ipv4: T,
    /// Of IPv6.
    pub ipv6: T,
}

/// The idle timeout of a conntrack state: an element of `netd timeouts --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeout {
    /// The conntrack state, as in `netd flows`.
    pub state: &'static str,
    /// What holds, seconds.
    pub seconds: u32,
    /// What holds if nobody says otherwise, seconds.
    pub default_seconds: u32,
    /// Where that is from.
    pub source: &'static str,
}

/// A setting: an element of `netd get --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Its value if nobody sets it.
    pub default: String,
    /// `set` or `default`.
    pub source: &'static str,
}

/// A network: an element of `netd network ls --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network<Members> {
    /// Its name.
    pub name: String,
    /// bridge, host or null, as Docker calls them.
    pub driver: &'static str,
    /// Its bridge interface.
    pub bridge: Option<String>,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// The host's addresses on it.
    pub gateways: Vec<IpAddr>,
    /// MTU, bytes.
    pub mtu: Option<u32>,
    /// Whether somebody else routes it.
    pub unmanaged: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections leave in the host's name.
    pub masquerade: bool,
    /// What lies between its containers and the outside: nat, nat-unprotected, routed or isolated.
    pub gateway_mode: ByFamily<Option<&'static str>>,
    /// The interfaces by which published ports are reached by the containers' own addresses as well.
    pub trusted_interfaces: Vec<String>,
    /// How many containers are on it, or which.
    pub containers: Members,
}

/// A container as its network shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: Option<String>,
}

/// A container's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, bits.
    pub prefix_len: u8,
    /// Where it sends what is for elsewhere.
    pub gateway: Option<IpAddr>,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// The network it is on.
    pub network: String,
    /// The host's end of its veth pair.
    pub host_interface: String,
    /// Its MAC address.
    pub mac: String,
    /// MTU, bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Further addresses and prefixes that the container may use.
    pub allowed_addresses: Vec<IpNet>,
    /// Whether somebody else made it, so that netd does not remove it.
    pub adopted: bool,
}

/// A container: `netd container inspect --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The network it is on.
    pub network: String,
    /// The key that its owner knows it by.
    pub key: Option<String>,
    /// Path of its network namespace.
    pub sandbox: String,
    /// Its first interface. The facts below are about that one; [`Self::interfaces`] has all of them.
    pub interface: Option<String>,
    /// The host's end of its veth pair.
    pub host_interface: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// MTU, bytes.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Every interface, the first one included.
    pub interfaces: Vec<Interface>,
    /// What is published of it.
    pub ports: Vec<Port>,
    /// Its connections in the flow tables: those that it opened, and those to it from outside.
    pub flows: Vec<TableFill>,
    /// What its interface counted, seen from the container.
    pub counters: InOut<Count>,
}

/// A detached run of which output is kept: `netd container inspect --json`, once its container is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptRun {
    /// The name that its container has or had.
    pub name: String,
    /// The run.
    pub run: Run,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Its command goes on, or has not been started yet.
    Running,
    /// It has ended, or was killed with its supervisor.
    Ended,
}

/// What is kept of a detached run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// How far it has come.
    pub status: RunStatus,
    /// The command and its arguments; a long one is cut.
    pub command: Vec<String>,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended; null as well if its supervisor was killed.
    pub ended: Option<Timestamp>,
    /// Its exit status as shells return it: 128 plus the signal's number for a command that was killed.
    pub exit_status: Option<u8>,
    /// The signal that has killed it.
    pub signal: Option<String>,
    /// What has failed.
    pub problem: Option<String>,
    /// How many bytes of its output are lost, since they could not be written.
    pub dropped_bytes: u64,
    /// The folder of its output.
    pub log: String,
}

/// A program on its hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The program's name.
    pub program: String,
    /// The interface or cgroup.
    pub on: String,
    /// The mechanism: tcx, clsact, xdp or cgroup.
    pub hook: &'static str,
    /// Whether the kernel has it there now.
    pub attached: bool,
}

/// How full the flow tables are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fill {
    /// Rows in use.
    pub rows: u64,
    /// Rows there is room for.
    pub capacity: u64,
    /// Tracked IPv4 connections there is room for.
    pub max_connections: u32,
    /// Each of them.
    pub tables: Vec<TableFill>,
}

/// How full a flow table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TableFill {
    /// `established`, or `unreplied` for all connections that are not: half-open and ended ones too.
    pub table: &'static str,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Connections in it; of one container, if the report is about one.
    pub connections: u64,
    /// Connections there is room for.
    pub capacity: u32,
    /// How many the container may have while the others keep theirs. If the report is not about one: how many a
    /// container without connections may have.
    pub quota: u64,
}

/// How much of the flow tables one container may have: `netd quota --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Its share in what the others leave, percent.
    pub percent: u8,
    /// The tables, once there are any.
    pub tables: Vec<TableFill>,
}

/// A dropped packet: a line of `netd log --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Why, by name.
    pub reason: &'static str,
    /// Source address.
    pub src: IpAddr,
    /// Source port; zero if there is none.
    pub src_port: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port; zero if there is none.
    pub dst_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Length of the frame, bytes.
    pub bytes: u32,
    /// Index of the interface that it came in by.
    pub interface: u32,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drop {
    /// The reason's name.
    pub reason: &'static str,
    /// What it means.
    pub text: &'static str,
    /// How many.
    #[serde(flatten)]
    pub count: Count,
}

/// What the kernel offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Its release.
    pub kernel: String,
    /// Whether TC programs are chained by links (6.6).
    pub tcx: bool,
    /// Where cgroup v2 is mounted.
    pub cgroup2: Option<String>,
    /// Whether it describes its types.
    pub btf: bool,
}

/// The process that follows the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Follower {
    /// Its process number.
    pub pid: i32,
    /// How often it has looked at the host.
    pub passes: u64,
    /// How many differences it has put right.
    pub repaired: u64,
    /// Why its last look failed; none if it did not.
    pub problem: Option<String>,
    /// When its last look ended, milliseconds of Unix time; none before that.
    pub last_pass_unix_ms: Option<u64>,
    /// For how long a change of the host has waited for it, milliseconds; zero if none waits.
    pub lag_ms: u64,
}

/// `netd status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The instance: its namespace's cookie and its state folder's key.
    pub instance: String,
    /// Where its state is.
    pub state_dir: String,
    /// Where its pins are.
    pub pins: Option<String>,
    /// Which netd the loaded programs are of; none if none are loaded.
    pub version: Option<ProgramsVersion>,
    /// Networks, without host and none.
    pub networks: usize,
    /// Containers.
    pub containers: usize,
    /// Publications.
    pub publications: usize,
    /// Which uplinks are to have the XDP stage: off, auto or native.
    pub xdp: &'static str,
    /// The programs.
    pub programs: Vec<Attachment>,
    /// Rows of the flow table, two a connection.
    pub flows: Option<Fill>,
    /// What was dropped.
    pub drops: Vec<Drop>,
    /// The process that follows the host; none if there is none.
    pub follower: Option<Follower>,
    /// What the kernel offers.
    pub features: Features,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// Counters and gauges of an instance: `netd metrics --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// This netd.
    pub build: ProgramsVersion,
    /// Which netd the loaded programs are of; none if none are loaded.
    pub programs: Option<ProgramsVersion>,
    /// How many networks there are, without host and none.
    pub networks: usize,
    /// How many containers there are.
    pub containers: usize,
    /// The publications.
    pub ports: Vec<Port>,
    /// The flow tables, once there are any.
    pub tables: Vec<TableFill>,
    /// The share of one container in what the others leave of each flow table, percent.
    pub quota_percent: u8,
    /// What each container has of the flow tables.
    pub quotas: Vec<ContainerFill>,
    /// What was dropped, by reason.
    pub drops: Vec<Drop>,
    /// The process that follows the host; none if there is none.
    pub follower: Option<Follower>,
}

/// What a container has of the flow tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerFill {
    /// Its name.
    pub container: String,
    /// Each table.
    pub tables: Vec<TableFill>,
}

/// Something that does not work as a user may expect. In JSON it is its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A program was taken off its hook.
    NotAttached {
        /// The program.
        program: String,
        /// The interface or cgroup.
        on: String,
    },
    /// The packets of an uplink begin with a header that netd does not know.
    UnknownLinkLayer {
        /// The uplink.
        uplink: String,
    },
    /// An uplink has tc filters of the user's on its ingress.
    IngressFilter {
        /// The uplink.
        uplink: String,
    },
    /// The host has an IPsec policy.
    Ipsec {
        /// Whom it is for.
        peers: IpNet,
    },
    /// No interface holds a route.
    NoUplink,
    /// No cgroup v2 is mounted.
    NoCgroup,
    /// The host has more of something than the tables have room for.
    Limit {
        /// What.
        what: &'static str,
        /// How many there are.
        wanted: usize,
        /// How many there is room for.
        room: u32,
    },
    /// The process that follows the host could not do so the last time.
    FollowerFails {
        /// Why.
        problem: String,
    },
    /// The process that follows the host does not serve metrics everywhere where it should.
    NoMetrics {
        /// Why.
        problem: String,
    },
    /// The table of established connections is full.
    TableFull {
        /// `ipv4` or `ipv6`.
        family: &'static str,
        /// The connections that it has room for.
        capacity: u32,
    },
    /// An uplink has no XDP program although XDP is on.
    NoXdp {
        /// The uplink.
        uplink: String,
        /// Why.
        why: XdpAbsence,
    },
    /// An uplink takes no frames that other uplinks' XDP programs redirect to it.
    TakesNoFrames {
        /// The uplink.
        uplink: String,
        /// Whether it is a veth, whose peer decides.
        is_veth: bool,
    },
}

/// Why an uplink has no XDP program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdpAbsence {
    /// Its driver refuses it.
    Driver,
    /// It is a veth, where XDP costs TCP its segmentation offload.
    Veth,
    /// It is no network card.
    NoCard,
    /// Something is in its way.
    Impossible(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAttached { program, on } => write!(f, "{program} is not attached to {on}"),
            Self::UnknownLinkLayer { uplink } => {
                write!(
                    f,
                    "{uplink} is neither an Ethernet nor an IP interface: published ports are not reachable through it"
                )
            }
            Self::IngressFilter { uplink } => write!(
                f,
                "the tc filters on the ingress of {uplink} do not see what netd sends on to containers"
            ),
            Self::Ipsec { peers } => write!(
                f,
                "an IPsec policy of this host is for {peers}: netd does not carry it out, and refuses connections with these"
            ),
            Self::NoUplink => {
                f.write_str("no interface holds a route: published ports are reachable from this host only")
            }
            Self::NoCgroup => f.write_str(
                "no cgroup v2 is mounted: published ports are not reachable from this host itself",
            ),
            Self::Limit { what, wanted, room } => {
                write!(
                    f,
                    "the host has {wanted} {what}, and netd takes the first {room}: the others are not served"
                )
            }
            Self::FollowerFails { problem } => {
                write!(f, "changes of the host could not be followed: {problem}")
            }
            Self::NoMetrics { problem } => write!(f, "metrics are not served as set: {problem}"),
            Self::TableFull { family, capacity } => {
                write!(f, "all {capacity} established {family} connections are in use: new ones are refused")
            }
            Self::NoXdp { uplink, why } => write!(f, "{uplink} has no XDP program: {why}"),
            Self::TakesNoFrames { uplink, is_veth } => {
                write!(
                    f,
                    "{uplink} takes no frames from other uplinks' XDP programs, so what leaves by it goes through TC"
                )?;
                if *is_veth { f.write_str(": its peer needs generic receive offload (GRO)") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for XdpAbsence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver => f.write_str("its driver refuses it"),
            Self::Veth => f.write_str("it is a veth, where XDP turns off TCP segmentation offload"),
            Self::NoCard => f.write_str("it is not a network card"),
            Self::Impossible(why) => f.write_str(why),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a repair has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What it has put right.
    pub repaired: Vec<Difference>,
    /// What it could not.
    pub left: Vec<Difference>,
}

/// Something that was removed with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemovedItem {
    /// A container.
    Container {
        /// Its name.
        name: String,
    },
    /// A network.
    Network {
        /// Its name.
        name: String,
    },
    /// The output of a detached run.
    Output {
        /// The run's name.
        name: String,
    },
    /// The BPF programs and tables.
    Programs,
    /// What was left of an instance whose namespace is gone.
    Instance {
        /// The namespace's cookie.
        cookie: String,
    },
}

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Names of networks and containers, specifications of ports.
    pub removed: Vec<String>,
}
