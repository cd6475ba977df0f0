//! The XDP stage: which uplinks have it, and why others have not.

use super::host::Host;
use crate::dataplane::{AttachedProgram, Dataplane, HookPoint};
use crate::error::{Error, Result};
use crate::link::{Interface, takes_xdp_frames};
use crate::spec::XdpMode;

impl Host {
    /// Which uplinks are to have it.
    pub(super) fn xdp(&self) -> XdpMode {
        self.settings.xdp.unwrap_or(self.store.state.xdp)
    }

    /// Puts it on the uplinks that are to have it and takes it off all others. A command that asks for it on every uplink
    /// fails and changes nothing if one cannot; a later one is not held up by that.
    pub(super) fn follow_xdp(&mut self, uplinks: &[Interface], interfaces: &[Interface]) -> Result<()> {
        let (mode, strict) = (self.xdp(), self.settings.xdp == Some(XdpMode::Native));
        let dataplane = self.dataplane()?;
        let before = dataplane.attached(HookPoint::Xdp)?;
        if mode != XdpMode::Off || !before.is_empty() {
            let ours = dataplane.xdp_id()?;
            let mut wanted = Vec::new();
            for uplink in uplinks {
                match obstacle(mode, uplink, interfaces, ours) {
                    None => wanted.push(uplink),
                    Some(obstacle) if strict => return Err(obstacle),
                    Some(_) => {}
                }
            }
            let mut added = Vec::new();
            for uplink in &wanted {
                let has_it = before.iter().any(|(index, _)| *index == uplink.index);
                if has_it && uplink.xdp == Some(ours) {
                    continue;
                }
                match dataplane.attach_xdp(uplink.index, &uplink.name) {
                    Ok(()) => added.push(uplink),
                    Err(error) if strict => {
                        for uplink in added {
                            dataplane.detach_xdp(uplink.index, &uplink.name)?;
                        }
                        return Err(error.hint(format!(
                            "the driver of {} must run XDP programs at its MTU; --xdp auto leaves out those that do not",
                            uplink.name
                        )));
                    }
                    Err(error) => tracing::info!("{}", error.chain()),
                }
            }
            for (index, name) in &before {
                if !wanted.iter().any(|uplink| uplink.index == *index) {
                    dataplane.detach_xdp(*index, name)?;
                }
            }
        }
        if mode != self.store.state.xdp {
            self.store.state.xdp = mode;
            self.store.save()?;
        }
        Ok(())
    }

    /// Whether an uplink takes the frames that others redirect to it. Where the kernel does not say, a card with the stage of
    /// its own does, since its driver has queues for XDP then; of a veth that depends on its peer.
    pub(super) fn takes_frames(&self, uplink: &Interface) -> Result<bool> {
        if !self.dataplane()?.attached(HookPoint::Xdp)?.iter().any(|(index, _)| *index == uplink.index) {
            return Ok(false);
        }
        Ok(takes_xdp_frames(&self.netns, uplink.index)?.unwrap_or(uplink.hardware))
    }

    /// What the user should know of it.
    pub(super) fn xdp_warnings(
        &self,
        uplinks: &[Interface],
        interfaces: &[Interface],
    ) -> Result<Vec<String>> {
        let mode = self.xdp();
        let mut warnings = Vec::new();
        if mode == XdpMode::Off {
            return Ok(warnings);
        }
        let dataplane = self.dataplane()?;
        let (ours, attached) = (dataplane.xdp_id()?, dataplane.attached(HookPoint::Xdp)?);
        for uplink in uplinks.iter().filter(|uplink| uplink.ethernet) {
            if attached.iter().any(|(index, _)| *index == uplink.index) {
                if !self.takes_frames(uplink)? {
                    warnings.push(format!(
                        "{} takes no frames from other uplinks' XDP stages, so what leaves by it goes by TC{}",
                        uplink.name,
                        if uplink.kind.as_deref() == Some(VETH) {
                            ": its peer needs `ethtool -K PEER gro on`"
                        } else {
                            ""
                        }
                    ));
                }
                continue;
            }
            let why = obstacle(mode, uplink, interfaces, ours).map_or_else(
                || format!("{}'s driver refuses it; `netd -v status` says why", uplink.name),
                |obstacle| obstacle.chain(),
            );
            warnings.push(format!("{} has no XDP stage: {why}", uplink.name));
        }
        Ok(warnings)
    }
}

/// Every program and whether it sits where it should.
pub(super) fn attachments(dataplane: &Dataplane, interfaces: &[Interface]) -> Result<Vec<AttachedProgram>> {
    let ours = dataplane.xdp_id()?;
    dataplane.attachments(|index| {
        interfaces.iter().any(|interface| interface.index == index && interface.xdp == Some(ours))
    })
}

/// The kind of a veth's end.
const VETH: &str = "veth";

/// Why an uplink cannot have the stage, or should not.
fn obstacle(mode: XdpMode, uplink: &Interface, interfaces: &[Interface], ours: u32) -> Option<Error> {
    let name = &uplink.name;
    if mode == XdpMode::Off {
        return Some(Error::invalid("it is off"));
    }
    if let Some(other) = uplink.xdp.filter(|id| *id != ours) {
        return Some(
            Error::conflict(format!("{name} has an XDP program already, number {other}, which netd does not replace"))
                .hint(format!(
                    "`bpftool prog show id {other}` says what it is; take it off, or leave {name} out with --xdp auto"
                )),
        );
    }
    if !uplink.ethernet {
        return Some(
            Error::invalid(format!("{name} is no Ethernet interface, and XDP reads Ethernet frames"))
                .hint("leave it out with --uplink or --xdp auto"),
        );
    }
    let is_vlan_on_it =
        |one: &&Interface| one.below == Some(uplink.index) && one.kind.as_deref() == Some("vlan");
    if let Some(vlan) = interfaces.iter().find(is_vlan_on_it) {
        return Some(
            Error::conflict(format!(
                "VLAN {} is on {name}, and a tag that the device has taken off is not seen by XDP",
                vlan.name
            ))
            .hint("make the VLAN the uplink, or leave the XDP stage out with --xdp auto"),
        );
    }
    match uplink.kind.as_deref() {
        Some(VETH) if mode == XdpMode::Auto => {
            Some(Error::invalid(format!("{name} is a veth, where XDP costs TCP its segmentation offload")))
        }
        _ if mode == XdpMode::Auto && !uplink.hardware => {
            Some(Error::invalid(format!("{name} is no network card")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(mode: XdpMode, uplink: &Interface, others: &[Interface]) -> Option<String> {
        obstacle(mode, uplink, others, 7).map(|error| error.chain())
    }

    #[test]
    fn a_card_has_the_stage_unless_something_is_in_its_way() {
        let card = Interface {
            index: 2,
            name: "eth0".to_owned(),
            ethernet: true,
            hardware: true,
            ..Interface::default()
        };
        let veth = Interface { hardware: false, kind: Some("veth".to_owned()), ..card.clone() };
        let bridge = Interface { hardware: false, kind: Some("bridge".to_owned()), ..card.clone() };
        let ours = Interface { xdp: Some(7), ..card.clone() };
        let theirs = Interface { xdp: Some(8), ..card.clone() };
        let tunnel = Interface { ethernet: false, ..card.clone() };
        let vlan = Interface { index: 3, below: Some(2), kind: Some("vlan".to_owned()), ..card.clone() };
        let peer = Interface { index: 3, below: Some(2), ..veth.clone() };
        for mode in [XdpMode::Auto, XdpMode::Native] {
            assert_eq!(why(mode, &card, &[]), None);
            assert_eq!(why(mode, &ours, &[]), None);
            assert_eq!(why(mode, &card, std::slice::from_ref(&peer)), None, "no VLAN");
            assert!(why(mode, &theirs, &[]).is_some_and(|why| why.contains("number 8")));
            assert!(why(mode, &tunnel, &[]).is_some());
            assert!(why(mode, &card, std::slice::from_ref(&vlan)).is_some());
        }
        for soft in [&veth, &bridge] {
            assert!(why(XdpMode::Auto, soft, &[]).is_some());
            assert_eq!(why(XdpMode::Native, soft, &[]), None, "as the user wants it");
        }
        assert!(why(XdpMode::Off, &card, &[]).is_some());
    }
}
