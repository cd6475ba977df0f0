//! Results as text or JSON: the only room that writes to stdout.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use tabwriter::TabWriter;

use netd::dataplane::{Dropped, Fill};
use netd::error::{Doing as _, Error, Result};
use netd::report::{ByFamily, Container, Flow, Member, Network, Port, Removed, Status, Timeout};
use netd::spec::Access;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

/// A result that people can read.
pub(crate) trait Text {
    /// Writes it, with a newline at the end if it is not empty.
    fn text(&self) -> String;
}

impl Output {
    /// As JSON if `json`, else as text.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are printed as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result.
    pub(crate) fn print<T: Text + Serialize>(self, result: &T) -> Result<()> {
        if self.json { json(result) } else { raw(&result.text()) }
    }

    /// Prints a result that is told in JSON only; as text it is no news.
    pub(crate) fn print_json_only<T: Serialize>(self, result: &T) -> Result<()> {
        if self.json { json(result) } else { Ok(()) }
    }

    /// Prints a failure: one line on stderr and a hint, or an object on stdout.
    pub(crate) fn fail(self, kind: &str, message: &str, hint: Option<&str>) {
        if self.json {
            let error = FailureBody {
                kind: kind.to_owned(),
                message: message.to_owned(),
                hint: hint.map(str::to_owned),
            };
            // Whoever should hear of it has hung up.
            let _gone = json(&Failure { error });
        }
        let (red, plain) = if io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}error:{plain} {message}\n");
        for line in hint.iter().flat_map(|hint| hint.lines()) {
            // Writing to a string does not fail.
            let _ok = writeln!(text, "hint: {line}");
        }
        let _gone = io::stderr().write_all(text.as_bytes());
    }

    /// Prints netd's own kind of failure.
    pub(crate) fn fail_with(self, error: &Error) {
        let kind = serde_json::to_value(error.kind()).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("system");
        self.fail(kind, &error.chain(), error.hint_text());
    }
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// The failure.
    pub(crate) error: FailureBody,
}

/// What is told of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FailureBody {
    /// usage, or a [`Kind`](netd::error::Kind).
    pub(crate) kind: String,
    /// The message with its causes.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

fn json<T: Serialize>(result: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(result).doing(|| "write JSON".into())?;
    text.push('\n');
    raw(&text)
}

/// Prints text as it is. A reader that has gone away (`| head`) is no failure.
pub(crate) fn raw(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::system("write to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Prints one of many results that come one by one: a line of text, or an object on a line of its own.
pub(crate) fn line<T: Serialize>(output: Output, text: &str, result: &T) -> Result<()> {
    if !output.json {
        return raw(&format!("{text}\n"));
    }
    raw(&format!("{}\n", serde_json::to_string(result).doing(|| "write JSON".into())?))
}

/// Tells something by the way, on stderr.
pub(crate) fn note(text: &str) {
    // Whoever should hear of it has hung up.
    let _gone = io::stderr().write_all(text.as_bytes());
}

/// Lines of cells as columns.
fn table(header: &str, rows: impl IntoIterator<Item = String>) -> String {
    let mut writer = TabWriter::new(Vec::new()).padding(2);
    let mut text = header.to_owned();
    for row in rows {
        text.push('\n');
        text.push_str(&row);
    }
    text.push('\n');
    let written = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
    match written.ok().and_then(|()| writer.into_inner().ok()).and_then(|bytes| String::from_utf8(bytes).ok())
    {
        Some(columns) => columns.lines().fold(String::new(), |mut all, line| {
            all.push_str(line.trim_end());
            all.push('\n');
            all
        }),
        None => text,
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn join<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        "-".to_owned()
    } else {
        values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// An address as it stands before a port.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A number of bytes as people say it, in powers of 1000.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let (mut tenths, mut unit) = (count / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

/// The host side of a publication, as `ss` writes a listener: `*:8080`, `192.0.2.1%eth0:8080`.
fn published(port: &Port) -> String {
    let address = port.host_ip.map_or_else(|| "*".to_owned(), bracketed);
    let interface = port.interface.as_ref().map_or_else(String::new, |name| format!("%{name}"));
    format!("{address}{interface}:{}", range(port.host_port, port.host_port_end))
}

/// Where a publication leads: `*:8080->80/tcp`.
fn arrow(port: &Port) -> String {
    format!("{}->{}/{}", published(port), range(port.target_port, port.target_port_end), port.proto)
}

/// Access lists in a table cell: `any`, or the sources, with `!` before those that are denied.
fn sources(access: &Access) -> String {
    if access.is_empty() {
        return "any".to_owned();
    }
    let rules = access.rules().map(|(net, allowed)| format!("{}{net}", if allowed { "" } else { "!" }));
    rules.collect::<Vec<_>>().join(",")
}

impl Text for Access {
    fn text(&self) -> String {
        if self.is_empty() {
            return "open to all\n".to_owned();
        }
        let rule =
            |(net, allowed): (IpNet, bool)| format!("{}\t{net}", if allowed { "allow" } else { "deny" });
        let others = if self.others() == Some(true) { "allow" } else { "deny" };
        table("RULE\tSOURCE", self.rules().map(rule).chain([format!("{others}\teverybody else")]))
    }
}

/// What `publish` tells: where the ports are.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Published(pub(crate) Vec<Port>);

impl Text for Published {
    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |text, port| text + &arrow(port) + " " + &port.target + "\n")
    }
}

impl Text for Vec<Port> {
    fn text(&self) -> String {
        table(
            "PROTO\tHOST\tFROM\tCONTAINER\tTARGET\tFLOWS\tIN\tOUT\tDROPPED",
            self.iter().map(|port| {
                format!(
                    "{}\t{}{}\t{}\t{}\t{}:{}\t{}/{}\t{} pkt {}\t{} pkt {}\t{}",
                    port.proto,
                    published(port),
                    if port.draining { " (draining)" } else { "" },
                    sources(&port.access),
                    port.target,
                    bracketed(port.target_ip),
                    range(port.target_port, port.target_port_end),
                    port.flows.active,
                    port.flows.total,
                    port.packets.inward,
                    bytes(port.bytes.inward),
                    port.packets.out,
                    bytes(port.bytes.out),
                    port.dropped,
                )
            }),
        )
    }
}

impl Text for Vec<Flow> {
    fn text(&self) -> String {
        table(
            "PROTO\tPHASE\tIDLE\tFROM\tTO\tANSWERED BY\tAS\tCONTAINER\tORIGINAL\tREPLY",
            self.iter().map(|flow| {
                let Flow { original, reply, .. } = flow;
                format!(
                    "{}\t{}\t{}s\t{}\t{}\t{}\t{}\t{}\t{} pkt {}\t{} pkt {}",
                    flow.proto,
                    flow.phase,
                    flow.idle_ms / 1000,
                    SocketAddr::new(original.src, original.src_port),
                    SocketAddr::new(original.dst, original.dst_port),
                    SocketAddr::new(reply.src, reply.src_port),
                    SocketAddr::new(reply.dst, reply.dst_port),
                    flow.container,
                    original.packets,
                    bytes(original.bytes),
                    reply.packets,
                    bytes(reply.bytes),
                )
            }),
        )
    }
}

impl Text for Vec<Timeout> {
    fn text(&self) -> String {
        let duration = |seconds: u32| humantime::format_duration(Duration::from_secs(seconds.into()));
        table(
            "PHASE\tTIMEOUT\tDEFAULT\tSOURCE",
            self.iter().map(|Timeout { phase, seconds, default_seconds, source }| {
                format!("{phase}\t{}\t{}\t{source}", duration(*seconds), duration(*default_seconds))
            }),
        )
    }
}

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
            "NAME\tDRIVER\tSUBNET\tGATEWAY\tMODE\tBRIDGE\tMTU\tCONTAINERS",
            self.iter().map(|network| {
                format!(
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    network.name,
                    network.driver,
                    join(&network.subnets),
                    join(&network.gateways),
                    modes(network.gateway_mode),
                    or_dash(network.bridge.as_ref()),
                    or_dash(network.mtu),
                    network.containers
                )
            }),
        )
    }
}

/// Aligned `name value` lines.
fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string does not fail.
        let _ok = writeln!(text, "{:width$}{value}", format!("{name}:"));
        text
    })
}

fn yes(flag: bool) -> String {
    if flag { "yes".to_owned() } else { "no".to_owned() }
}

impl Text for Network<Vec<Member>> {
    fn text(&self) -> String {
        let mut lines = vec![
            ("name", self.name.clone()),
            ("driver", self.driver.to_owned()),
            ("bridge", or_dash(self.bridge.as_ref())),
            ("subnets", join(&self.subnets)),
            ("gateways", join(&self.gateways)),
            ("mtu", or_dash(self.mtu)),
            ("internal", yes(self.internal)),
            ("icc", yes(self.icc)),
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

impl Text for Vec<Container> {
    fn text(&self) -> String {
        table(
            "NAME\tNETWORK\tADDRESS\tHOST INTERFACE\tSANDBOX\tPORTS",
            self.iter().map(|container| {
                let addresses: Vec<_> = container.addresses.iter().map(|address| address.ip).collect();
                let ports: Vec<_> = container.ports.iter().map(arrow).collect();
                format!(
                    "{}\t{}\t{}\t{}\t{}\t{}",
                    container.name,
                    container.network,
                    join(&addresses),
                    or_dash(container.host_interface.as_ref()),
                    container.sandbox,
                    join(&ports)
                )
            }),
        )
    }
}

impl Text for Container {
    fn text(&self) -> String {
        let mut lines = vec![
            ("name", self.name.clone()),
            ("network", self.network.clone()),
            ("sandbox", self.sandbox.clone()),
            ("interface", or_dash(self.interface.as_ref())),
            ("host interface", or_dash(self.host_interface.as_ref())),
            ("mac", or_dash(self.mac.as_ref())),
            ("mtu", or_dash(self.mtu)),
        ];
        for address in &self.addresses {
            lines.push(("address", format!("{}/{}", address.ip, address.prefix_len)));
            lines.push(("gateway", or_dash(address.gateway)));
        }
        for port in &self.ports {
            lines.push(("port", arrow(port)));
        }
        let counters = [("received", self.counters.inward), ("sent", self.counters.out)];
        for (name, count) in counters {
            lines.push((name, format!("{} packets, {}", count.packets, bytes(count.bytes))));
        }
        facts(&lines)
    }
}

impl Text for Status {
    fn text(&self) -> String {
        let mut text = facts(&[
            ("instance", self.instance.clone()),
            ("state", self.state_dir.clone()),
            ("pins", or_dash(self.pins.as_ref())),
            ("networks", self.networks.to_string()),
            ("containers", self.containers.to_string()),
            ("published ports", self.publications.to_string()),
            ("XDP stage", self.xdp.to_owned()),
            (
                "flow rows",
                self.flows.map_or_else(
                    || "-".to_owned(),
                    |Fill { rows, capacity, max_connections }| {
                        format!("{rows} of {capacity}, for {max_connections} connections")
                    },
                ),
            ),
            (
                "kernel",
                format!(
                    "{} (tcx {}, BTF {}, cgroup v2 {})",
                    self.features.kernel,
                    yes(self.features.tcx),
                    yes(self.features.btf),
                    or_dash(self.features.cgroup2.as_ref())
                ),
            ),
        ]);
        if !self.programs.is_empty() {
            text.push('\n');
            text += &table(
                "PROGRAM\tHOOK\tON\tATTACHED",
                self.programs.iter().map(|program| {
                    format!(
                        "{}\t{}\t{}\t{}",
                        program.program,
                        program.hook,
                        program.on,
                        yes(program.attached)
                    )
                }),
            );
        }
        let drops: Vec<_> = self.drops.iter().filter(|drop| drop.count.packets > 0).collect();
        if !drops.is_empty() {
            text.push('\n');
            text += &table(
                "DROPPED\tPACKETS\tBYTES\tWHY",
                drops.iter().map(|drop| {
                    format!("{}\t{}\t{}\t{}", drop.reason, drop.count.packets, drop.count.bytes, drop.text)
                }),
            );
        }
        for warning in &self.warnings {
            // Writing to a string does not fail.
            let _ok = writeln!(text, "\nwarning: {warning}");
        }
        text
    }
}

impl Text for Dropped {
    fn text(&self) -> String {
        let Self { reason, src, src_port, dst, dst_port, protocol, bytes, interface } = self;
        let (from, to) = (SocketAddr::new(*src, *src_port), SocketAddr::new(*dst, *dst_port));
        format!("{reason} {from} -> {to} protocol {protocol} {bytes} bytes by interface {interface}")
    }
}

impl Text for Removed {
    fn text(&self) -> String {
        self.removed.iter().fold(String::new(), |text, one| text + one + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_three_or_four_digits() {
        for (count, said) in
            [(0, "0B"), (999, "999B"), (1000, "1.0kB"), (123_456, "123.4kB"), (1_073_741_824, "1.0GB")]
        {
            assert_eq!(bytes(count), said);
        }
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(table("A\tB", ["long\tx".to_owned()]), "A     B\nlong  x\n");
    }
}
