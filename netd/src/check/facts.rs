//! What is read for a comparison, besides the snapshot of the host.

use std::collections::{HashMap, HashSet};

use netd_common::abi::EndpointRow;
use netd_common::flow::Handle;

use crate::dataplane::{AttachedProgram, Dataplane, HookPoint};
use crate::error::Result;
use crate::link::{Family, Netlink, Sysctl};
use crate::model::{IfName, Name, Publication, Sandbox, State};
use crate::netns::Netns;
use crate::observe::Observed;

/// What the kernel says.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Whether forwarding is on on a network's bridge: of IPv4 and of IPv6, by the bridge's name. None without IPv6.
    pub forwarding: HashMap<IfName, [Option<bool>; 2]>,
    /// Containers whose namespace is not at its path.
    pub lost: HashSet<Name>,
    /// The programs and tables; none if they are gone.
    pub programs: Option<Programs>,
}

/// The programs and rows.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// Each program that should be somewhere.
    pub hooked: Vec<Hooked>,
    /// The rows of containers' interfaces, by their handles.
    pub endpoints: HashMap<Handle, EndpointRow>,
    /// The publications that have a row.
    pub publications: HashSet<Handle>,
}

/// A program on its hook.
#[derive(Clone, Debug)]
pub(crate) struct Hooked {
    /// What netd's pins say.
    pub program: AttachedProgram,
    /// How often it is there.
    pub count: usize,
    /// The program of somebody else that sees packets first.
    pub before: Option<String>,
}

impl Facts {
    /// Reads it. `thorough` asks as well what costs much for each container and changes nothing that netd could put right: whose
    /// namespace is at its path, and whose program is before netd's.
    pub(crate) async fn read(
        host: &Netns,
        netlink: &Netlink,
        dataplane: Option<&Dataplane>,
        state: &State,
        observed: &Observed,
        thorough: bool,
    ) -> Result<Self> {
        let mut facts = Self::default();
        for network in state.networks.values().filter(|network| !network.unmanaged) {
            let bridge = &network.bridge;
            if observed.link(bridge).is_some() {
                facts.forwarding.insert(bridge.clone(), forwarding(host, bridge)?);
            }
        }
        for container in state.containers.values() {
            let is_asked =
                || thorough || container.interfaces.iter().any(|one| observed.link(&one.host).is_none());
            if let Sandbox::Namespace { path, cookie, .. } = &container.sandbox
                && is_asked()
                && Netns::proven(path, *cookie)?.is_none()
            {
                facts.lost.insert(container.name.clone());
            }
        }
        if let Some(dataplane) = dataplane {
            facts.programs = Some(Programs::read(netlink, dataplane, state, observed, thorough).await?);
        }
        Ok(facts)
    }
}

impl Programs {
    async fn read(
        netlink: &Netlink,
        dataplane: &Dataplane,
        state: &State,
        observed: &Observed,
        thorough: bool,
    ) -> Result<Self> {
        let mut hooked = Vec::new();
        for program in dataplane.attachments()? {
            let (mut count, mut before) = (usize::from(program.attached), None);
            if let Some((point, index)) = program.place
                && let Some(link) = observed.link_at(index)
                && point != HookPoint::Xdp
            {
                if program.is_filter() {
                    let filters = netlink.filters(index, point == HookPoint::Bridge).await?;
                    let ours = dataplane.program_id(point)?;
                    count = filters.iter().filter(|filter| filter.program() == Some(ours)).count();
                } else if thorough {
                    // The interface may have gone meanwhile.
                    before = dataplane.before(point, index, &link.name).unwrap_or_default();
                }
            }
            hooked.push(Hooked { program, count, before });
        }
        let mut slots: Vec<u32> = state.interfaces().map(|(_, one)| u32::from(one.slot)).collect();
        slots.sort_unstable();
        let rows = dataplane.tables.endpoints(&slots)?;
        let publications: Vec<Handle> = state.publications.iter().map(Publication::handle).collect();
        Ok(Self {
            hooked,
            endpoints: rows.into_iter().map(|row| (row.handle, row)).collect(),
            publications: dataplane.tables.present(&publications)?,
        })
    }
}

/// Whether forwarding is on on an interface, of IPv4 and of IPv6.
fn forwarding(host: &Netns, interface: &IfName) -> Result<[Option<bool>; 2]> {
    let is_on = |family| -> Result<Option<bool>> {
        let switch = Sysctl::interface(family, interface.as_str(), "forwarding");
        if host.run(|| switch.exists())? { Ok(Some(switch.get(host)? == "1")) } else { Ok(None) }
    };
    Ok([is_on(Family::V4)?, is_on(Family::V6)?])
}
