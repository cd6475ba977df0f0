//! Published ports and access lists as text.

use ipnet::IpNet;
use netd::Access;
use netd::report::{Flows, Port};
use serde::Serialize;

use super::format::{bracketed, bytes, range, table};
use super::text::Text;

/// How many ports a table cell names.
const PORTS_IN_A_CELL: usize = 2;

/// The ports that a command has published.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Published(pub(crate) Vec<Port>);

impl Text for Published {
    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |text, port| text + &arrow(port) + " " + &port.target + "\n")
    }
}

/// The host side of a publication, as `ss` writes a listener: `*:8080`, `192.0.2.1%eth0:8080`.
fn host_side(port: &Port) -> String {
    let address = port.host_ip.map_or_else(|| "*".to_owned(), bracketed);
    let interface = port.interface.as_ref().map_or_else(String::new, |name| format!("%{name}"));
    format!("{address}{interface}:{}", range(port.host_port, port.host_port_end))
}

/// Where a publication leads: `*:8080->80/tcp`.
pub(super) fn arrow(port: &Port) -> String {
    format!("{}->{}/{}", host_side(port), range(port.target_port, port.target_port_end), port.proto)
}

/// The first ports in a table cell, and how many more there are.
pub(super) fn cell(ports: &[Port]) -> String {
    let mut shown: Vec<_> = ports.iter().take(PORTS_IN_A_CELL).map(arrow).collect();
    match ports.len().saturating_sub(PORTS_IN_A_CELL) {
        0 => {}
        more => shown.push(format!("+{more}")),
    }
    if shown.is_empty() { "-".to_owned() } else { shown.join(" ") }
}

impl Text for Vec<Port> {
    fn text(&self) -> String {
        table(
            "PROTO\tHOST\tTARGET\tFLOWS\tIN\tOUT\tDROPPED",
            self.iter().map(|port| {
                let cells = [
                    port.proto.to_owned(),
                    format!("{}{}", host_side(port), if port.draining { " (draining)" } else { "" }),
                    target(port),
                    flows(port.flows),
                    bytes(port.bytes.inward),
                    bytes(port.bytes.out),
                    port.dropped.to_string(),
                ];
                // Few ports have access lists; they have lines of their own (with all cells, for the
                // columns to go on), as the table is wide enough.
                let rules = port
                    .access
                    .rules()
                    .map(|(net, allowed)| format!("\n\t{} {net}\t\t\t\t\t", verb(allowed)));
                cells.join("\t") + &rules.collect::<String>()
            }),
        )
    }
}

/// `active/total`, or the total alone.
fn flows(of: Flows) -> String {
    of.active.map_or_else(|| of.total.to_string(), |active| format!("{active}/{}", of.total))
}

const fn verb(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "deny" }
}

/// `web:80`, or `192.0.2.10:80` and `[2001:db8::10]:80` for another host.
fn target(port: &Port) -> String {
    let name = port.target.parse().map_or_else(|_name| port.target.clone(), bracketed);
    format!("{name}:{}", range(port.target_port, port.target_port_end))
}

impl Text for Access {
    fn text(&self) -> String {
        if self.is_empty() {
            return "everybody is allowed\n".to_owned();
        }
        let rule = |(net, allowed): (IpNet, bool)| format!("{}\t{net}", verb(allowed));
        let others = verb(self.others() == Some(true));
        table("RULE\tSOURCE", self.rules().map(rule).chain([format!("{others}\teverybody else")]))
    }
}
