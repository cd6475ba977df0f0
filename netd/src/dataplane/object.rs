//! The embedded object: loaded once per instance, then pinned; every later command opens the pins.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, ProgramArray};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use netd_common::abi::{capacity, name, stage};

use super::wire::Wire;
use crate::error::{Doing as _, Error, Kind, Result};

/// The BPF programs, compiled by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETD_DATAPLANE_OBJECT"));

/// Names of the TC programs in the object.
pub(super) mod program {
    use aya::programs::{CgroupSockAddrAttachType as Hook, CgroupSockAttachType};

    /// On each uplink before the stack, if the user wants that.
    pub(in super::super) const UPLINK_XDP: &str = "uplink_xdp";
    /// On the ingress of each uplink.
    pub(in super::super) const UPLINK_INGRESS: &str = "uplink_ingress";
    /// On the ingress of each container's host-side veth.
    pub(in super::super) const CONTAINER_INGRESS: &str = "container_ingress";
    /// Where dropped packets are told of.
    pub(in super::super) const REPORT: &str = "report";
    /// On the root of the cgroup hierarchy, for sockets, and the hook that each is for.
    pub(in super::super) const SOCKET: [(&str, Hook); 8] = [
        ("connect4", Hook::Connect4),
        ("connect6", Hook::Connect6),
        ("sendmsg4", Hook::UDPSendMsg4),
        ("sendmsg6", Hook::UDPSendMsg6),
        ("recvmsg4", Hook::UDPRecvMsg4),
        ("recvmsg6", Hook::UDPRecvMsg6),
        ("getpeername4", Hook::GetPeerName4),
        ("getpeername6", Hook::GetPeerName6),
    ];
    /// The same, for the ends of sockets.
    pub(in super::super) const SOCKET_END: (&str, CgroupSockAttachType) =
        ("sock_release", CgroupSockAttachType::SockRelease);
}

/// Folder of the maps below an instance's pins.
pub(super) const MAPS: &str = "maps";
/// Folder of the programs below an instance's pins.
pub(super) const PROGRAMS: &str = "programs";
/// Folder of the links below an instance's pins.
pub(super) const LINKS: &str = "links";

/// Parses the object and makes its maps, nothing pinned yet. `host_netns` is the cookie of the host's namespace,
/// `connections` for how many there is to be room.
pub fn load(host_netns: u64, connections: u32) -> Result<Ebpf> {
    let cookie = Wire(host_netns);
    let mut parser = EbpfLoader::new();
    for (table, rows) in capacity::flows(connections) {
        parser.map_max_entries(table, rows);
    }
    let mut object = parser
        .override_global("HOST_NETNS", &cookie, true)
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .load(OBJECT)
        .map_err(|error| refused("load the BPF object", error))?;
    for (name, program) in object.programs_mut() {
        let loaded = match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            _ => continue,
        };
        loaded.map_err(|error| refused(&format!("load BPF program {name}"), error))?;
    }
    fill_stages(&mut object)?;
    Ok(object)
}

/// Lets each stage's number lead to its program.
fn fill_stages(object: &mut Ebpf) -> Result<()> {
    let what = || format!("fill BPF map {}", name::STAGES);
    let mut programs = Vec::new();
    for (number, name) in (0..).zip(stage::PROGRAMS) {
        let program = object.program(name).ok_or_else(|| missing("program", name))?;
        let fd = program.fd().doing(what)?.try_clone().doing(what)?;
        programs.push((number, fd));
    }
    let map = object.map_mut(name::STAGES).ok_or_else(|| missing("map", name::STAGES))?;
    let mut stages = ProgramArray::try_from(map).doing(what)?;
    programs.iter().try_for_each(|(number, program)| stages.set(*number, program, 0)).doing(what)
}

/// The kernel's no to a program or map, told apart by what the user can do about it.
fn refused(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let denied = {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut denied = false;
        while let Some(error) = cause {
            denied |= error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied);
            cause = error.source();
        }
        denied
    };
    let error = Error::system(what, error);
    if denied {
        error.hint("loading BPF programs needs root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
    } else {
        error.hint("netd needs kernel 5.15 or newer with BPF, BTF and cgroup v2; `netd -v status` says what was found")
    }
}

/// Loads the object and pins everything below `pins`, all or nothing: the folder appears complete under its name.
pub(super) fn load_and_pin(pins: &Path, host_netns: u64, connections: u32) -> Result<()> {
    let staging = staging(pins);
    remove_tree(&staging)?;
    for folder in [MAPS, PROGRAMS, LINKS] {
        let folder = staging.join(folder);
        fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
    }
    let mut object = load(host_netns, connections)?;
    for name in name::ALL {
        let map = object.map(name).ok_or_else(|| missing("map", name))?;
        map.pin(staging.join(MAPS).join(name)).doing(|| format!("pin BPF map {name}"))?;
    }
    for (name, program) in object.programs_mut() {
        program.pin(staging.join(PROGRAMS).join(name)).doing(|| format!("pin BPF program {name}"))?;
    }
    fs::rename(&staging, pins).doing(|| format!("rename {} to {}", staging.display(), pins.display()))
}

/// Where an instance's pins are put together; the BPF file system takes no dots in names.
pub(super) fn staging(pins: &Path) -> PathBuf {
    let mut path = pins.as_os_str().to_owned();
    path.push("-new");
    path.into()
}

fn missing(what: &str, name: &str) -> Error {
    Error::new(Kind::System, format!("the BPF object has no {what} {name}"))
}

/// Refuses pins whose maps are not laid out as this program believes: opening them would corrupt memory, since the kernel
/// copies as many bytes as *its* row has.
pub(super) fn check_layout(pins: &Path) -> Result<()> {
    for expected in layout::ALL {
        let path = pins.join(MAPS).join(expected.name);
        let info = MapInfo::from_pin(&path).doing(|| format!("open {}", path.display()))?;
        let found = (info.key_size(), info.value_size(), info.max_entries());
        // The flow tables have as many rows as they were made with.
        let rows = expected.rows.unwrap_or_else(|| info.max_entries());
        if found != (expected.key, expected.value, rows) {
            return Err(Error::conflict(format!(
                "table {} was made by another version of netd (key, row, rows: {found:?}, expected {:?})",
                expected.name,
                (expected.key, expected.value, rows)
            ))
            .hint("take it down with the version that made it, or run `netd down`, and set up anew"));
        }
    }
    Ok(())
}

/// What the maps must look like, from the one place that says so.
mod layout {
    #![expect(clippy::cast_possible_truncation, reason = "rows are small, and there are few reasons")]

    use netd_common::abi::{
        BoundPortKey, DenyCacheRow, DropRow, EndpointRow, FlowRow, FragmentKey, FragmentRow, PortRow,
        PublicationRow, QueuedFragmentKey, QueuedFragmentRow, SocketKey, SocketRow, SourceKey, TargetPortKey,
        TrustKey, UplinkRow, capacity, name,
    };
    use netd_common::bytes::{Ipv4, Ipv6};
    use netd_common::flow::{FlowKey, Handle};
    use netd_common::track::State;
    use netd_common::verdict::Reason;

    pub(super) struct Layout {
        pub(super) name: &'static str,
        pub(super) key: u32,
        pub(super) value: u32,
        /// None if that is the user's to say.
        pub(super) rows: Option<u32>,
    }

    const fn of<K, V>(name: &'static str, rows: u32) -> Layout {
        Layout { rows: Some(rows), ..flows::<K, V>(name) }
    }

    const fn flows<K, V>(name: &'static str) -> Layout {
        Layout { name, key: size_of::<K>() as u32, value: size_of::<V>() as u32, rows: None }
    }

    /// An LPM trie's key has its prefix length in front.
    type Prefix<T> = ([u8; 4], T);

    pub(super) const ALL: [Layout; name::ALL.len()] = [
        flows::<FlowKey<Ipv4>, FlowRow<Ipv4>>(name::FLOWS),
        flows::<FlowKey<Ipv6>, FlowRow<Ipv6>>(name::FLOWS6),
        flows::<FlowKey<Ipv4>, FlowRow<Ipv4>>(name::UNREPLIED),
        flows::<FlowKey<Ipv6>, FlowRow<Ipv6>>(name::UNREPLIED6),
        of::<FragmentKey<Ipv4>, FragmentRow>(name::FRAGMENTS, capacity::FRAGMENTS),
        of::<FragmentKey<Ipv6>, FragmentRow>(name::FRAGMENTS6, capacity::FRAGMENTS),
        of::<QueuedFragmentKey<Ipv4>, QueuedFragmentRow>(name::FRAGMENT_QUEUE, capacity::FRAGMENT_QUEUE),
        of::<QueuedFragmentKey<Ipv6>, QueuedFragmentRow>(name::FRAGMENT_QUEUE6, capacity::FRAGMENT_QUEUE),
        of::<u32, EndpointRow>(name::ENDPOINTS, capacity::ENDPOINTS),
        of::<u32, Handle>(name::ENDPOINT_OF, capacity::ENDPOINTS),
        of::<Ipv6, Handle>(name::ADDRESSES, capacity::ADDRESSES),
        of::<u32, PublicationRow>(name::PUBLICATIONS, capacity::PUBLICATIONS),
        of::<u32, PortRow>(name::PORTS, capacity::PORTS),
        of::<Prefix<BoundPortKey<Ipv4>>, Handle>(name::BOUND_PORTS, capacity::BOUND_PORTS),
        of::<Prefix<BoundPortKey<Ipv6>>, Handle>(name::BOUND_PORTS6, capacity::BOUND_PORTS),
        of::<Prefix<TargetPortKey>, Handle>(name::TARGET_PORTS, capacity::TARGET_PORTS),
        of::<Prefix<Ipv4>, u32>(name::SUBNETS, capacity::SUBNETS),
        of::<Prefix<Ipv6>, u32>(name::SUBNETS6, capacity::SUBNETS),
        of::<Prefix<SourceKey>, u32>(name::SOURCES, capacity::SOURCES),
        of::<u32, UplinkRow>(name::UPLINKS, capacity::UPLINKS),
        of::<TrustKey, u32>(name::TRUSTED, capacity::TRUSTED),
        of::<Ipv6, u32>(name::LOCALS, capacity::LOCALS),
        of::<SocketKey, SocketRow>(name::SOCKETS, capacity::SOCKETS),
        of::<u32, u32>(name::TIMEOUTS, State::ALL.len() as u32),
        of::<u32, DropRow>(name::DROPS, Reason::ALL.len() as u32),
        of::<u32, DenyCacheRow<Ipv4>>(name::DENY_CACHE, capacity::DENY_CACHE),
        of::<u32, DenyCacheRow<Ipv6>>(name::DENY_CACHE6, capacity::DENY_CACHE),
        of::<u32, u32>(name::EPOCH, 1),
        of::<u32, u32>(name::STAGES, capacity::STAGES),
    ];
}

/// Removes a folder of pins with everything in it; absent is fine. The kernel frees what nobody else holds.
pub(super) fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}
