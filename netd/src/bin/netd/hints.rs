//! What a user can do about a failure, in the words of the command line.

use netd::{
    ContainerError, Error, Holder, HostError, Lack, NetworkError, PublicationError, StateError, SubnetFault,
};

/// What to do about a failure; none if there is nothing to advise.
pub(crate) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Malformed { expected, .. } => expected.clone(),
        Error::Network(error) => network(error),
        Error::Container(error) => container(error),
        Error::Publication(error) => publication(error),
        Error::Host(error) => host(error),
        Error::State(error) => state(error),
        Error::System { lack, .. } => lack.as_ref().map(lacking),
        Error::InFile { error, .. } => in_file(error).or_else(|| hint(error)),
        Error::Many(errors) => errors.iter().find_map(hint),
        _ => None,
    }
}

/// What a hint of a command says in other words of a file.
fn in_file(error: &Error) -> Option<String> {
    let advice = match error {
        Error::Network(NetworkError::NotFound { name }) => {
            format!("define it in a file, with [[network]], or: netd network create {name}")
        }
        Error::Container(ContainerError::NotFound { name }) if !name.contains('.') => {
            format!("define it in a file, with [[container]], or: netd container add {name}")
        }
        Error::Network(NetworkError::BridgeTaken { .. }) => "choose another bridge".to_owned(),
        Error::Network(NetworkError::Overlap { .. }) => "choose another subnet, or none to get a free one".to_owned(),
        Error::Network(NetworkError::BadGateway { first, .. }) => format!("for example {first}"),
        Error::Network(NetworkError::SubnetTwice { .. }) => "give one subnet of each IP version".to_owned(),
        Error::Publication(PublicationError::Taken { holder: Holder::Publication { .. }, .. }) => {
            "choose another host port, or unpublish that one; a file replaces only what has the same host ports"
                .to_owned()
        }
        Error::Publication(PublicationError::Taken { .. }) => "choose another host port".to_owned(),
        Error::Container(ContainerError::BadAddress { .. }) => {
            "leave ip out to get the lowest free address".to_owned()
        }
        _ => return None,
    };
    Some(advice)
}

fn network(error: &NetworkError) -> Option<String> {
    let advice = match error {
        NetworkError::NotFound { name } => {
            format!("'netd network ls' lists the networks; to create one: netd network create {name}")
        }
        NetworkError::Exists { predefined: true, .. } => "bridge, host and none are built in".to_owned(),
        NetworkError::Exists { name, .. } => format!("'netd network inspect {name}' shows it"),
        NetworkError::HasContainers { name, .. } => {
            format!("remove them first; to remove all at once: netd network rm --force {name}")
        }
        NetworkError::Fixed { .. } => {
            "first remove what uses it: take that out of the files and apply, or use the commands".to_owned()
        }
        NetworkError::Needed { .. } => "unpublish it first, or use --force".to_owned(),
        NetworkError::BridgeGone { name, .. } => {
            format!("to create it again: netd repair; to remove the network: netd network rm --force {name}")
        }
        NetworkError::NotABridge { interface } => format!("'ip link show {interface}' shows what it is"),
        NetworkError::BridgeTaken { .. } => "choose another bridge with --bridge".to_owned(),
        NetworkError::Overlap { .. } => {
            "choose another subnet with --subnet, or omit it to get a free one".to_owned()
        }
        NetworkError::NoFreeSubnet => "choose a subnet: --subnet 10.20.0.0/24".to_owned(),
        NetworkError::NoFreeSubnet6 => "choose a subnet: --subnet fd12:3456:789a::/64".to_owned(),
        NetworkError::SubnetTwice { .. } => "give --subnet at most once for each IP version".to_owned(),
        NetworkError::BadSubnet { subnet, why } => match (why, subnet.addr().is_ipv4()) {
            (SubnetFault::HostBits, _) => format!("did you mean {}?", subnet.trunc()),
            (SubnetFault::TooSmall, true) => "use a prefix length of at most 30".to_owned(),
            (SubnetFault::TooSmall, false) => "use a prefix length of at most 126".to_owned(),
            (SubnetFault::Reserved, true) => {
                "use a private range: 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 (RFC 1918)".to_owned()
            }
            (SubnetFault::Reserved, false) => {
                "use a prefix of yours, or a unique local one: fd and 40 random bits (RFC 4193)".to_owned()
            }
        },
        NetworkError::BadGateway { first, .. } => format!("for example --gateway {first}"),
        NetworkError::ExtraGateway { .. } => "give one --gateway for each --subnet".to_owned(),
        NetworkError::SnatNotOwn { .. } => {
            "replies would not return to this host; 'ip address' lists its addresses".to_owned()
        }
        NetworkError::ExtraSnat { .. } => "give one --snat-address for each subnet".to_owned(),
        NetworkError::ModeWithoutIpv6 { .. } => "add --ipv6, or an IPv6 --subnet".to_owned(),
        NetworkError::ModeTwice => "give one mode for both families, or ipv4=MODE and ipv6=MODE".to_owned(),
        NetworkError::IsolatedNotInternal { .. } => {
            "add --internal: without a host address on the network there is no way out".to_owned()
        }
        NetworkError::IsolatedGateway { .. } => "omit --gateway".to_owned(),
        NetworkError::ModeInternal { .. } => "an internal network needs mode nat or isolated".to_owned(),
        NetworkError::RoutedSnat { .. } => "omit --snat-address, or choose mode nat".to_owned(),
        NetworkError::TrustedInternal { .. } => "omit --internal or --trusted-interface".to_owned(),
        NetworkError::UnmanagedMade { .. } => "name the bridge with --adopt, or omit --unmanaged".to_owned(),
        NetworkError::UnmanagedTerms { .. } => "omit that option, or omit --unmanaged".to_owned(),
        NetworkError::NotRouted { bridge } => format!(
            "to let the kernel forward: sysctl -w net.ipv4.conf.{bridge}.forwarding=1; to let netd route: omit --unmanaged"
        ),
        _ => return None,
    };
    Some(advice)
}

fn container(error: &ContainerError) -> Option<String> {
    let advice = match error {
        ContainerError::NotFound { name } if name.contains('.') => {
            "host names are not resolved; use an IP address".to_owned()
        }
        ContainerError::NotFound { .. } => "'netd container ls' lists the containers".to_owned(),
        ContainerError::NoOutput { others, .. } if others.is_empty() => {
            "only the output of detached runs is kept: netd run -d".to_owned()
        }
        ContainerError::NoOutput { others, .. } => {
            format!(
                "only the output of detached runs is kept (netd run -d); there is that of {}",
                others.join(", ")
            )
        }
        ContainerError::Run { .. } => "choose another name, or wait until the run has ended".to_owned(),
        ContainerError::Fixed { name, .. } => {
            format!("to make it anew, which ends its connections: netd container rm {name}, then apply")
        }
        ContainerError::NoProcess { .. } => "give the ID of a process in the container".to_owned(),
        ContainerError::NotConnected { container, .. } => {
            format!("'netd container inspect {container}' shows its networks")
        }
        ContainerError::NetworkTwice { .. } | ContainerError::InterfaceTwice { .. } => {
            "choose another network, or another name with --interface".to_owned()
        }
        ContainerError::InterfaceInUse { publication, .. } => format!("first: netd unpublish {publication}"),
        ContainerError::NotAdoptable { interface } => {
            format!("'ip -d link show {interface}' shows what it is")
        }
        ContainerError::Exists { name } => format!("to remove it: netd container rm {name}"),
        ContainerError::NotANamespace { .. } => {
            "give a path such as /run/netns/NAME or /proc/PID/ns/net".to_owned()
        }
        ContainerError::NamespaceExists { path } => {
            format!("attach it with --netns {}, or choose another name", path.display())
        }
        ContainerError::NamespaceReplaced { container, .. }
        | ContainerError::LostInterface { container, .. } => {
            format!("the container is gone; to remove its record: netd container rm {container}")
        }
        ContainerError::HostNamespace { .. } => {
            "use --network host for a container that shares the host's network".to_owned()
        }
        ContainerError::NamespaceTaken { container, .. } => {
            format!("'netd container inspect {container}' shows it")
        }
        ContainerError::HostWithNamespace => "omit --netns and --pid".to_owned(),
        ContainerError::NoPorts { network } if network == "host" => {
            "omit -p: services on the host network are reachable without it".to_owned()
        }
        ContainerError::NoPorts { .. } => "omit -p, or choose another network with --network".to_owned(),
        ContainerError::NoInterface { .. } => {
            "omit --ip and --mac, or choose another network with --network".to_owned()
        }
        ContainerError::InterfaceExists { .. } => {
            "if the container has a network already, publish to its address: netd publish 8080:80 172.17.0.2"
                .to_owned()
        }
        ContainerError::SubnetFull { .. } => "remove a container, or use a larger subnet".to_owned(),
        ContainerError::BadAddress { .. } => "omit --ip to get the lowest free address".to_owned(),
        ContainerError::ExtraAddress { .. } => "give one --ip for each subnet of the network".to_owned(),
        _ => return None,
    };
    Some(advice)
}

fn publication(error: &PublicationError) -> Option<String> {
    let advice = match error {
        PublicationError::NotFound { .. } => "'netd ports' lists the published ports".to_owned(),
        PublicationError::PartOfRange { whole, .. } => {
            format!("a range can only be unpublished as a whole: netd unpublish {whole}")
        }
        PublicationError::Ambiguous { .. } => "name the address, for example 127.0.0.1:8080".to_owned(),
        PublicationError::Taken { holder: Holder::Publication { .. }, .. } => {
            "choose another host port, or move the port with --replace".to_owned()
        }
        PublicationError::Taken { .. } | PublicationError::RangeTaken { .. } => {
            "choose another host port, or omit it to get a free one".to_owned()
        }
        PublicationError::NoFreePorts { .. } => "publish a smaller range".to_owned(),
        PublicationError::ReplaceWithoutPorts { .. } => {
            "name the ports as they are published: --replace 8080:80".to_owned()
        }
        PublicationError::ReplaceOther { other, .. } => {
            format!(
                "only the same address and ports can be replaced, a range as a whole; published is {other}"
            )
        }
        PublicationError::NotOwnAddress { own, .. } if own.is_empty() => return None,
        PublicationError::NotOwnAddress { address, own, .. } => {
            let own: Vec<_> = own.iter().map(ToString::to_string).collect();
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let own = own.join(", ");
            format!(
                "the host has {own}; to publish an address that it will get later, set net.{family}.ip_nonlocal_bind=1"
            )
        }
        PublicationError::Families { .. } => {
            "another host can only serve clients of its own IP version".to_owned()
        }
        PublicationError::NoPorts { network, .. } if network == "host" => {
            "services on the host network are reachable without it".to_owned()
        }
        PublicationError::KeepSource { .. } => {
            "omit --keep-source: containers always see the clients' addresses".to_owned()
        }
        PublicationError::NotUnicast { .. } => {
            "the target is a container, or the unicast address of another host".to_owned()
        }
        PublicationError::TargetIsHost { .. } => {
            "services on this host are reachable without netd; the target is a container or another host"
                .to_owned()
        }
        PublicationError::NoContainerHas { .. } => "'netd container ls' lists the containers".to_owned(),
        PublicationError::NoUplink { .. } => {
            "netd forwards through interfaces that hold routes, or those of the setting uplinks".to_owned()
        }
        PublicationError::NotAnUplink { uplinks, .. } => format!(
            "clients arrive on {}; to publish for the host itself, use 127.0.0.1",
            if uplinks.is_empty() { "no interface".to_owned() } else { uplinks.join(", ") }
        ),
        _ => return None,
    };
    Some(advice)
}

fn host(error: &HostError) -> Option<String> {
    let advice = match error {
        HostError::NotRoot => "run it with sudo".to_owned(),
        HostError::OldKernel { oldest: (major, minor), .. } => {
            format!("netd needs Linux {major}.{minor} or newer")
        }
        HostError::PrivateMounts => {
            "'ip netns exec' mounts another /sys; use: nsenter --net=/run/netns/NAME netd ...".to_owned()
        }
        HostError::NoInterface { .. } => "'ip link' lists the interfaces".to_owned(),
        HostError::InterfaceExists { name, peer: None } => {
            format!("remove it or choose another name; 'ip link show {name}' shows what it is")
        }
        HostError::InterfaceExists { peer: Some(peer), .. } => {
            format!("or the namespace already has an interface {peer}")
        }
        HostError::ForeignXdp { interface, program } => format!(
            "'bpftool prog show id {program}' shows it; detach it, or skip {interface}: netd set xdp=auto"
        ),
        HostError::XdpNotEthernet { .. } => "to skip it: netd set xdp=auto".to_owned(),
        HostError::XdpUnderVlan { .. } => {
            "use the VLAN as the uplink, or skip it: netd set xdp=auto".to_owned()
        }
        HostError::XdpRefused { .. } => {
            "to skip interfaces that cannot run the program: netd set xdp=auto".to_owned()
        }
        _ => return None,
    };
    Some(advice)
}

fn state(error: &StateError) -> Option<String> {
    let advice = match error {
        StateError::NotUnderstood { path, .. } => {
            format!("'netd down' removes what netd can still find; then remove {}", path.display())
        }
        StateError::SetAside { path } => format!(
            "'ip netns' lists namespaces, 'ip netns delete NAME' removes one; the records are in {}",
            path.display()
        ),
        StateError::Busy { .. } => "wait until it has ended, or end it; then try again".to_owned(),
        StateError::Followed => "'netd status' shows its process; end that one first".to_owned(),
        StateError::Schema { .. } => "use the version of netd that wrote it".to_owned(),
        StateError::Capacity { .. } => {
            "the tables are made at first use; to make them again: netd down, netd set max-connections=N"
                .to_owned()
        }
        StateError::ProgramsGone => "to load them again: netd repair".to_owned(),
        StateError::OtherVersion { .. } => {
            "to replace them by those of this netd, with all connections: netd upgrade".to_owned()
        }
        StateError::CannotCarry { .. } => {
            "use the version that made it, or run 'netd down' and set up again".to_owned()
        }
        _ => return None,
    };
    Some(advice)
}

/// What a machine lacks, and where it comes from.
fn lacking(lack: &Lack) -> String {
    match lack {
        Lack::NetCapabilities => "netd needs to be root with CAP_NET_ADMIN and CAP_SYS_ADMIN".to_owned(),
        Lack::BpfCapabilities => {
            "loading BPF programs needs root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_owned()
        }
        Lack::BpfSupport => {
            "netd needs Linux 5.15 or newer with BPF, BTF and cgroup v2; 'netd status' shows what was found"
                .to_owned()
        }
        Lack::BpfFs => {
            "netd keeps its programs and tables there; /sys must be mounted and writable".to_owned()
        }
        Lack::NetnsCookies => {
            "network namespaces have cookies since Linux 5.14; netd needs 5.15 or newer".to_owned()
        }
        Lack::BridgePort => {
            "a Linux bridge has at most 1,023 ports; use another network: netd network create".to_owned()
        }
        Lack::Route(address) => {
            format!("the host itself must reach the address; see 'ip route get {address}'")
        }
        _ => "the kernel lacks something that netd needs".to_owned(),
    }
}
