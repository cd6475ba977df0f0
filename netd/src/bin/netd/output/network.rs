//! Networks as text.

use netd::report::{ByFamily, Member, Network};

use super::format::{facts, join, or_dash, table, yes};
use super::text::Text;

/// One word if it is the same in both families, or if there is but one.
fn modes(ByFamily { ipv4, ipv6 }: ByFamily<Option<&'static str>>) -> String {
    match (ipv4, ipv6) {
        (Some(four), Some(six)) if four != six => format!("ipv4={four},ipv6={six}"),
        (one, other) => or_dash(one.or(other)),
    }
}

impl Text for Vec<Network<usize>> {
    fn text(&self) -> String {
        table(
            "NAME\tDRIVER\tBRIDGE\tMODE\tCONTAINERS\tSUBNETS",
            self.iter().map(|network| {
                let cells = [
                    network.name.clone(),
                    network.driver.to_owned(),
                    or_dash(network.bridge.as_ref()),
                    modes(network.gateway_mode),
                    network.containers.to_string(),
                    join(&network.subnets),
                ];
                cells.join("\t")
            }),
        )
    }
}

impl Text for Network<Vec<Member>> {
    fn text(&self) -> String {
        let mut lines = vec![
            ("name", self.name.clone()),
            ("driver", self.driver.to_owned()),
            ("bridge", or_dash(self.bridge.as_ref())),
            ("subnets", join(&self.subnets)),
            ("gateways", join(&self.gateways)),
            ("MTU", or_dash(self.mtu)),
            ("unmanaged", yes(self.unmanaged)),
            ("internal", yes(self.internal)),
            ("ICC", yes(self.icc)),
            ("masquerade", yes(self.masquerade)),
            ("gateway mode", modes(self.gateway_mode)),
            ("trusted interfaces", join(&self.trusted_interfaces)),
        ];
        for member in &self.containers {
            lines.push((
                "container",
                format!("{} {} {}", member.name, join(&member.addresses), or_dash(member.mac.as_ref())),
            ));
        }
        facts(&lines)
    }
}
