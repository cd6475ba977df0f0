//! Connections, their timeouts and dropped packets as text.

use std::net::SocketAddr;

use netd::report::Dropped;
use netd::report::{Direction, Flow, Quota, TableFill, Timeout};

use netd::duration;

use super::format::{bytes, table};
use super::text::Text;

impl Text for Vec<Flow> {
    fn text(&self) -> String {
        table(
            "PROTO\tSTATE\tIDLE\tSOURCE\tDESTINATION\tBYTES",
            self.iter().map(|flow| {
                // Two lines a connection, as one is too wide for a terminal: the originator's packets and the replies.
                format!(
                    "{}\t{}\t{}s\t{}\n\t{}\t\t{}",
                    flow.proto,
                    flow.state,
                    flow.idle_ms / 1000,
                    direction(&flow.original),
                    flow.container,
                    direction(&flow.reply),
                )
            }),
        )
    }
}

fn direction(direction: &Direction) -> String {
    let source = SocketAddr::new(direction.src, direction.src_port);
    let destination = SocketAddr::new(direction.dst, direction.dst_port);
    format!("{source}\t{destination}\t{}", bytes(direction.bytes))
}

impl Text for Vec<Timeout> {
    fn text(&self) -> String {
        table(
            "STATE\tTIMEOUT\tDEFAULT\tSOURCE",
            self.iter().map(|Timeout { state, seconds, default_seconds, source }| {
                format!("{state}\t{}\t{}\t{source}", duration(*seconds), duration(*default_seconds))
            }),
        )
    }
}

impl Text for Quota {
    fn text(&self) -> String {
        let mut text = format!("quota: {}%\n", self.percent);
        if !self.tables.is_empty() {
            text.push('\n');
            text += &tables(&self.tables);
        }
        text
    }
}

/// The flow tables.
pub(super) fn tables(tables: &[TableFill]) -> String {
    table(
        "TABLE\tFAMILY\tCONNECTIONS\tCAPACITY\tQUOTA",
        tables.iter().map(|TableFill { table, family, connections, capacity, quota }| {
            format!("{table}\t{family}\t{connections}\t{capacity}\t{quota}")
        }),
    )
}

impl Text for Dropped {
    fn text(&self) -> String {
        let Self { reason, src, src_port, dst, dst_port, protocol, bytes, interface } = self;
        let (src, dst) = (SocketAddr::new(*src, *src_port), SocketAddr::new(*dst, *dst_port));
        format!("{reason} {src} -> {dst} protocol {protocol} length {bytes} ifindex {interface}\n")
    }
}
