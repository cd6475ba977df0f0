//! The instance as a whole, and what the user should know of it.

use std::path::Path;

use netd_common::abi::capacity;

use super::Session;
use crate::apply::takes_frames;
use crate::dataplane::{self, Dataplane, HookPoint, TcHook};
use crate::error::Result;
use crate::link::Netlink;
use crate::model::report::{
    Attachment, Drop, Features, Fill, Follower, Quota, Setting, Status, TableFill, Warning, XdpAbsence,
};
use crate::model::{Count, Link, Preferences, XdpMode};
use crate::observe::{Observed, kernel_release};
use crate::plan::View;
use crate::plan::uplink::{Obstacle, all_uplinks, ipsec_peers, obstacle, route_mtus, uplinks};
use crate::store::{self, FollowerNote};

impl Session {
    /// The instance as a whole.
    pub async fn report_status(&self) -> Result<Status> {
        let netlink = Netlink::open(&self.settings.host)?;
        let observed = Observed::read(&self.settings.host, &netlink).await?;
        let programs = match &self.dataplane {
            Some(dataplane) => attachments(dataplane)?,
            None => Vec::new(),
        };
        let cgroup2 = dataplane::cgroup_root()?.map(|root| root.display().to_string());
        let mut warnings = self.warnings(&observed, &programs, cgroup2.is_some())?;
        warnings.extend(self.filter_warnings(&netlink, &observed).await?);
        let follower = self.follower()?;
        let problem = follower.as_ref().and_then(|note| note.problem.clone());
        warnings.extend(problem.map(|problem| Warning::FollowerFails { problem }));
        let unserved = follower.as_ref().and_then(|note| note.metrics_problem.clone());
        warnings.extend(unserved.map(|problem| Warning::NoMetrics { problem }));
        Ok(Status {
            instance: self.instance.clone(),
            state_dir: self.settings.state_dir.display().to_string(),
            pins: self.dataplane.as_ref().map(|dataplane| dataplane.pins().display().to_string()),
            version: self.dataplane.as_ref().map(Dataplane::version),
            networks: self.state.networks.len(),
            containers: self.state.containers.len(),
            publications: self.state.publications.len(),
            xdp: self.state.preferences.xdp.name(),
            programs,
            flows: self.dataplane.as_ref().map(fill).transpose()?,
            drops: self.dataplane.as_ref().map_or_else(|| Ok(Vec::new()), drops)?,
            follower: follower.map(described_follower),
            features: Features {
                kernel: kernel_release()?,
                tcx: self.settings.tc == TcHook::Tcx,
                cgroup2,
                btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            },
            warnings,
        })
    }

    /// All settings.
    pub fn report_settings(&self) -> Vec<Setting> {
        let defaults = Preferences::default().all();
        let all = self.state.preferences.all().into_iter().zip(defaults);
        all.map(|(setting, default)| Setting {
            name: setting.name().name(),
            value: setting.value(),
            default: default.value(),
            source: if setting == default { "default" } else { "set" },
        })
        .collect()
    }

    /// How much of the flow tables one container may have, and how full they are.
    pub fn report_quota(&self) -> Result<Quota> {
        let tables = self.dataplane.as_ref().map(|dataplane| dataplane.tables.fill()).transpose()?;
        let tables = tables.unwrap_or_default().iter().map(table_fill).collect();
        Ok(Quota { percent: self.state.quota.percent(), tables })
    }

    fn warnings(
        &self,
        observed: &Observed,
        programs: &[Attachment],
        has_cgroup: bool,
    ) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        for full in self.report_quota()?.tables.into_iter().filter(|one| one.table == "established") {
            if full.connections >= u64::from(full.capacity) {
                warnings.push(Warning::TableFull { family: full.family, capacity: full.capacity });
            }
        }
        for program in programs.iter().filter(|program| !program.attached) {
            let (program, on) = (program.program.clone(), program.on.clone());
            warnings.push(Warning::NotAttached { program, on });
        }
        if let Some(dataplane) = &self.dataplane {
            let view = View { state: &self.state, observed };
            let uplinks = uplinks(view);
            let addresses = observed.locals().count() + observed.broadcasts.len();
            for (what, wanted, room) in [
                ("uplinks", all_uplinks(view).len(), capacity::UPLINKS),
                ("addresses", addresses, capacity::LOCALS),
                ("route MTUs", route_mtus(&observed.routes).len(), capacity::ROUTE_MTUS),
                ("IPsec peers", ipsec_peers(observed).len(), capacity::IPSEC_PEERS),
            ] {
                if wanted > room as usize {
                    warnings.push(Warning::Limit { what, wanted, room });
                }
            }
            warnings.extend(self.xdp_warnings(dataplane, &uplinks, &observed.links)?);
            for uplink in uplinks.iter().filter(|uplink| !uplink.is_readable()) {
                warnings.push(Warning::UnknownLinkLayer { uplink: uplink.name.clone() });
            }
            let peers = ipsec_peers(observed).into_iter().filter(|(_, is_protected)| *is_protected);
            warnings.extend(peers.map(|(peers, _)| Warning::Ipsec { peers }));
            if uplinks.is_empty() {
                warnings.push(Warning::NoUplink);
            }
        }
        if !has_cgroup {
            warnings.push(Warning::NoCgroup);
        }
        Ok(warnings)
    }

    /// Uplinks with tc filters of the user's on their ingress, which see no packet that netd sends on.
    async fn filter_warnings(&self, netlink: &Netlink, observed: &Observed) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        if self.dataplane.is_some() {
            let ours = (self.settings.tc == TcHook::Clsact).then_some(dataplane::CLSACT_PRIORITY);
            let view = View { state: &self.state, observed };
            for uplink in uplinks(view).into_iter().filter(Link::is_readable) {
                let filters = netlink.filters(uplink.index, false).await?;
                if filters.iter().any(|filter| Some(filter.priority()) != ours) {
                    warnings.push(Warning::IngressFilter { uplink: uplink.name });
                }
            }
        }
        Ok(warnings)
    }

    fn xdp_warnings(&self, dataplane: &Dataplane, uplinks: &[Link], links: &[Link]) -> Result<Vec<Warning>> {
        let mode = self.state.preferences.xdp;
        if mode == XdpMode::Off {
            return Ok(Vec::new());
        }
        let (ours, attached) = (dataplane.xdp_id()?, dataplane.attached(HookPoint::Xdp)?);
        let mut warnings = Vec::new();
        for uplink in uplinks.iter().filter(|uplink| uplink.is_ethernet()) {
            let name = uplink.name.clone();
            if !attached.iter().any(|(index, _)| *index == uplink.index) {
                let why = match obstacle(mode, uplink, links, ours) {
                    None => XdpAbsence::Driver,
                    Some(Obstacle::Veth) => XdpAbsence::Veth,
                    Some(Obstacle::NoCard) => XdpAbsence::NoCard,
                    Some(other) => XdpAbsence::Impossible(other.to_string()),
                };
                warnings.push(Warning::NoXdp { uplink: name, why });
            } else if !takes_frames(&self.settings.host, uplink, &attached)? {
                let is_veth = uplink.kind.as_deref() == Some(crate::plan::container::KIND);
                warnings.push(Warning::TakesNoFrames { uplink: name, is_veth });
            }
        }
        Ok(warnings)
    }
}

/// The process that follows the host, as reports have it.
pub(super) fn described_follower(note: FollowerNote) -> Follower {
    let now = store::unix_millis();
    Follower {
        pid: note.pid,
        passes: note.passes,
        repaired: note.repaired,
        problem: note.problem,
        last_pass_unix_ms: note.last_pass,
        lag_ms: note.waiting_since.map_or(0, |since| now.saturating_sub(since)),
    }
}

/// Every program and whether it is attached.
fn attachments(dataplane: &Dataplane) -> Result<Vec<Attachment>> {
    let programs = dataplane.attachments()?.into_iter();
    Ok(programs
        .map(|one| Attachment {
            program: one.program.to_owned(),
            on: one.on,
            hook: one.hook,
            attached: one.attached,
        })
        .collect())
}

/// A flow table, as reports have it.
pub(super) fn table_fill(of: &dataplane::TableFill) -> TableFill {
    TableFill {
        table: if of.is_established { "established" } else { "unreplied" },
        family: if of.is_v6 { "ipv6" } else { "ipv4" },
        connections: of.connections,
        capacity: of.capacity,
        quota: of.quota,
    }
}

fn fill(dataplane: &Dataplane) -> Result<Fill> {
    let dataplane::Fill { rows, capacity, max_connections } = dataplane.tables.flow_fill()?;
    let tables = dataplane.tables.fill()?.iter().map(table_fill).collect();
    Ok(Fill { rows, capacity, max_connections, tables })
}

pub(super) fn drops(dataplane: &Dataplane) -> Result<Vec<Drop>> {
    let drops = dataplane.tables.drops()?.into_iter();
    Ok(drops
        .map(|(reason, row)| Drop {
            reason: reason.name(),
            text: reason.text(),
            count: Count { packets: row.packets, bytes: row.bytes },
        })
        .collect())
}
