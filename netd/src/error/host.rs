//! Failures about the host: its interfaces and its kernel.

use super::kind::Kind;

/// A failure about the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// netd is not root.
    #[error("netd needs to be root")]
    NotRoot,
    /// What netd pins would end with this process.
    #[error("/sys/fs/bpf is hidden here, and a mount of this command ends with it")]
    PrivateMounts,
    /// The kernel is too old.
    #[error("kernel {release} is too old")]
    OldKernel {
        /// The kernel's release.
        release: String,
        /// The oldest that will do.
        oldest: (u32, u32),
    },
    /// The interface does not exist.
    #[error("there is no interface {name}")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// The loopback interface leads nowhere.
    #[error("{name} is the loopback interface, which cannot be an uplink")]
    LoopbackUplink {
        /// Its name.
        name: String,
    },
    /// The interface leads to containers.
    #[error("{name} leads to containers of netd, so it cannot be an uplink")]
    OwnUplink {
        /// Its name.
        name: String,
    },
    /// The interface that should be made exists.
    #[error("interface {name} already exists")]
    InterfaceExists {
        /// Its name.
        name: String,
        /// The name of the veth's other end, which may be what exists.
        peer: Option<String>,
    },
    /// Somebody else removed the interface just after it was made.
    #[error("another program removed interface {name} while netd created it")]
    InterfaceVanished {
        /// Its name.
        name: String,
    },
    /// The interface's index does not fit into a flow's key.
    #[error("interface index {index} is too large for the flow table")]
    IndexTooLarge {
        /// The index.
        index: u32,
    },
    /// No name is free for a bridge.
    #[error("no bridge name is free")]
    NoBridgeName,
    /// An XDP program of somebody else's is on the interface.
    #[error("{interface} already has XDP program {program}, which netd does not replace")]
    ForeignXdp {
        /// The interface.
        interface: String,
        /// The program's number.
        program: u32,
    },
    /// XDP reads Ethernet frames.
    #[error("{interface} is not an Ethernet interface, which XDP needs")]
    XdpNotEthernet {
        /// The interface.
        interface: String,
    },
    /// XDP does not see tags that the device has taken off.
    #[error("VLAN {vlan} is on {interface}, and XDP does not see VLAN tags that the device removes")]
    XdpUnderVlan {
        /// The interface.
        interface: String,
        /// The VLAN on it.
        vlan: String,
    },
    /// The driver does not run the XDP program.
    #[error("the driver of {interface} does not run the XDP program: {why}")]
    XdpRefused {
        /// The interface.
        interface: String,
        /// What the kernel says.
        why: String,
    },
}

impl HostError {
    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotRoot => Kind::Permission,
            Self::OldKernel { .. } | Self::IndexTooLarge { .. } | Self::PrivateMounts => Kind::Unsupported,
            Self::NoInterface { .. } => Kind::NotFound,
            Self::InterfaceExists { .. }
            | Self::InterfaceVanished { .. }
            | Self::NoBridgeName
            | Self::ForeignXdp { .. }
            | Self::XdpUnderVlan { .. } => Kind::Conflict,
            Self::XdpNotEthernet { .. } | Self::LoopbackUplink { .. } | Self::OwnUplink { .. } => {
                Kind::Invalid
            }
            Self::XdpRefused { .. } => Kind::System,
        }
    }
}
