//! The text of one file → its words, and what they mean.

use std::str::FromStr;
use std::sync::Arc;

use toml::Spanned;

use super::words::{Attachment, Connect, Container, Document, Network, Publish, Said};
use crate::error::{ContainerError, Error, NetworkError, Position, Result};
use crate::model::{
    Access, At, BRIDGE, DesiredFile, DesiredNetworks, DesiredPublication, GatewayModes, HOST, HostPorts,
    IfName, InterfaceRequest, ModeSpec, NONE, Name, NetworkRequest, Policy, PortSpec, Source, check_subnet,
    gateway_of, parse_address, parse_prefix, parse_subnet,
};

/// How like a known key a wrong one must be to be taken for it (Damerau-Levenshtein; 1 is equal).
const ALIKE: f64 = 0.6;

/// The text of a file, and where its lines begin.
pub(super) struct Reader {
    file: Arc<str>,
    text: String,
    lines: Vec<usize>,
}

impl Reader {
    /// Parses a file.
    pub(super) fn open(file: &DesiredFile) -> Result<(Self, Document)> {
        let ends = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        let reader = Self { file: file.name.as_str().into(), text: file.text.clone(), lines };
        let document = toml::from_str(&file.text).map_err(|error| reader.explain(&error))?;
        Ok((reader, document))
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Position { file: Arc::clone(&self.file), line, column: before.chars().count() + 1 }
    }

    /// Where a value stands.
    pub(super) fn place<T>(&self, said: &Spanned<T>) -> Position {
        self.position(said.span().start)
    }

    /// A value with its place.
    pub(super) fn at<T: Clone>(&self, Said(said): &Said<T>) -> At<T> {
        At { at: self.place(said), value: said.get_ref().clone() }
    }

    /// What a text means, with its place.
    pub(super) fn read<T: FromStr<Err = Error>>(&self, said: &Said<String>) -> Result<At<T>> {
        self.read_by(said, str::parse)
    }

    /// The same by a function.
    pub(super) fn read_by<T>(
        &self,
        said: &Said<String>,
        parse: impl FnOnce(&str) -> Result<T>,
    ) -> Result<At<T>> {
        let At { at, value } = self.at(said);
        let value = parse(&value).map_err(|error| error.at(&at))?;
        Ok(At { at, value })
    }

    fn list<T>(&self, said: &[Said<String>], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
        said.iter().map(|one| Ok(self.read_by(one, &parse)?.value)).collect()
    }

    fn optional<T: FromStr<Err = Error>>(&self, said: Option<&Said<String>>) -> Result<Option<T>> {
        said.map(|one| Ok(self.read(one)?.value)).transpose()
    }

    /// What the TOML library or serde says, in netd's words.
    fn explain(&self, error: &toml::de::Error) -> Error {
        let at = self.position(error.span().map_or(0, |span| span.start));
        // Names are between backticks.
        let names: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        let said = match (error.message(), names.as_slice()) {
            (message, [wrong, known @ ..]) if message.starts_with("unknown field") => {
                let error = Error::malformed(format!("there is no key '{wrong}' here"));
                match nearest(wrong, known) {
                    Some(right) => error.expected(format!("did you mean '{right}'?")),
                    None => error.expected(format!("the keys are {}", known.join(", "))),
                }
            }
            (message, [missing]) if message.starts_with("missing field") => {
                Error::malformed(format!("key '{missing}' is missing"))
            }
            (message, _) => {
                let line = message.lines().collect::<Vec<_>>().join(", ").replace('`', "'");
                let (line, expected) = plain(&line);
                let error = Error::malformed(line);
                match expected {
                    Some(expected) => error.expected(expected),
                    None => error,
                }
            }
        };
        said.at(&at)
    }

    /// A network.
    pub(super) fn network(&self, said: &Network) -> Result<At<NetworkRequest>> {
        let name: At<Name> = self.read(&said.name)?;
        if [HOST, NONE].contains(&name.value.as_str()) {
            let error = NetworkError::Exists { name: name.value.to_string(), predefined: true };
            return name.check(Err(error.into()));
        }
        let mut request = NetworkRequest::new(name.value.clone());
        for subnet in &said.subnets {
            let subnet = self.read_by(subnet, parse_subnet)?;
            subnet.check(check_subnet(subnet.value))?;
            let family = if subnet.value.addr().is_ipv4() { 4 } else { 6 };
            if request.subnets.iter().any(|other| other.addr().is_ipv4() == subnet.value.addr().is_ipv4()) {
                return subnet.check(Err(NetworkError::SubnetTwice { family }.into()));
            }
            request.subnets.push(subnet.value);
        }
        for gateway in &said.gateways {
            let gateway = self.read_by(gateway, parse_address)?;
            let is_of = |net: &&ipnet::IpNet| net.addr().is_ipv4() == gateway.value.is_ipv4();
            if let Some(subnet) = request.subnets.iter().find(is_of) {
                gateway.check(gateway_of(*subnet, Some(gateway.value)))?;
            }
            request.gateways.push(gateway.value);
        }
        if let Some(mtu) = said.mtu.as_ref().map(|mtu| self.at(mtu)) {
            if !NetworkRequest::MTU.contains(&mtu.value) {
                let (least, most) = (NetworkRequest::MTU.start(), NetworkRequest::MTU.end());
                let error = Error::malformed(format!("the MTU must be between {least} and {most}"));
                return mtu.check(Err(error));
            }
            request.mtu = Some(mtu.value);
        }
        request.adopt = said.adopt.is_some();
        request.bridge = self.optional(said.adopt.as_ref().or(said.bridge.as_ref()))?;
        (request.unmanaged, request.ipv6, request.internal) = (said.unmanaged, said.ipv6, said.internal);
        (request.icc, request.masquerade) = (said.icc, said.masquerade);
        request.snat = self.list(&said.snat_addresses, parse_address)?;
        let modes: Vec<ModeSpec> = self.list(&said.gateway_modes, str::parse)?;
        request.modes = name.check(GatewayModes::new(&modes))?;
        request.trusted = self.list(&said.trusted_interfaces, str::parse)?;
        let together = match said {
            Network { adopt: Some(adopt), bridge: Some(_), .. } => Some((adopt, "adopt", "bridge")),
            Network { adopt: Some(adopt), mtu: Some(_), .. } => Some((adopt, "adopt", "mtu")),
            Network { masquerade: false, snat_addresses, .. } => {
                snat_addresses.first().map(|address| (address, "snat-addresses", "masquerade = false"))
            }
            _ => None,
        };
        match together {
            Some((place, one, other)) => {
                let message = format!("{one} cannot be used together with {other}");
                self.at(place).check(Err(Error::malformed(message)))
            }
            None => Ok(At { at: name.at, value: request }),
        }
    }

    /// The networks of a container.
    pub(super) fn networks(&self, said: &Container) -> Result<DesiredNetworks> {
        let Some(networks) = &said.networks else {
            let value = InterfaceRequest::new("eth0".parse()?, BRIDGE.parse()?);
            return Ok(DesiredNetworks::Interfaces(vec![At { at: self.place(&said.name.0), value }]));
        };
        let mut interfaces = Vec::new();
        for (number, one) in networks.iter().enumerate() {
            let at = self.place(&one.0);
            let (network, table) = match one.0.get_ref() {
                Attachment::Name(name) => (name.parse::<Name>().map_err(|error| error.at(&at))?, None),
                Attachment::Table(table) => (self.read::<Name>(&table.name)?.value, Some(&**table)),
            };
            if [HOST, NONE].contains(&network.as_str()) {
                let network = network.to_string();
                let error = match (networks.len(), table) {
                    (1, None) if network == HOST => return Ok(DesiredNetworks::Host),
                    (1, None) => return Ok(DesiredNetworks::None),
                    (1, Some(_)) => ContainerError::NoInterface { network },
                    _ => ContainerError::NotCombinable { network },
                };
                return Err(Error::from(error).at(&at));
            }
            let name: IfName = format!("eth{number}").parse()?;
            let mut request = InterfaceRequest::new(name, network);
            if let Some(table) = table {
                self.complete(&mut request, table)?;
            }
            interfaces.push(At { at, value: request });
        }
        Ok(if interfaces.is_empty() {
            DesiredNetworks::None
        } else {
            DesiredNetworks::Interfaces(interfaces)
        })
    }

    fn complete(&self, request: &mut InterfaceRequest, said: &Connect) -> Result<()> {
        if let Some(name) = &said.interface {
            request.name = self.read(name)?.value;
        }
        request.addresses = self.list(&said.ip, parse_address)?;
        request.mac = self.optional(said.mac.as_ref())?;
        request.allowed = self.list(&said.allowed_addresses, parse_prefix)?;
        request.adopt = self.optional(said.adopt.as_ref())?;
        Ok(())
    }

    /// Publications.
    pub(super) fn publication(&self, said: &Publish) -> Result<DesiredPublication> {
        let target = self.read(&said.to)?;
        let access = self.access(&said.allow, &said.deny)?;
        let interface = self.optional(said.interface.as_ref())?;
        let ports = said.ports.iter().map(|port| self.port(port)).collect::<Result<_>>()?;
        let policy = Policy { access, interface };
        Ok(DesiredPublication { target, ports, policy, keep_source: said.keep_source })
    }

    /// A port to publish. A file that leaves the choice to netd would mean another port each time.
    pub(super) fn port(&self, said: &Said<String>) -> Result<At<PortSpec>> {
        let port: At<PortSpec> = self.read(said)?;
        match port.value.host {
            HostPorts::Range(_) => Ok(port),
            HostPorts::Any | HostPorts::FirstFree(_) => {
                let text = said.0.get_ref();
                let error = Error::malformed(format!("'{text}' leaves the host port to netd"))
                    .expected("a file names the host ports, for example 8080:80 or 8000-8010:9000-9010");
                port.check(Err(error))
            }
        }
    }

    /// Access lists.
    pub(super) fn access(&self, allow: &[Said<String>], deny: &[Said<String>]) -> Result<Access> {
        let allowed: Vec<Source> = self.list(allow, str::parse)?;
        let mut denied = Vec::new();
        for one in deny {
            let source: At<Source> = self.read(one)?;
            denied.push(source.value);
            source.check(Access::new(allowed.clone(), denied.clone()))?;
        }
        Access::new(allowed, denied)
    }
}

/// What serde says of a value of another type, in plain words, and how to write it.
fn plain(message: &str) -> (String, Option<&'static str>) {
    for (serde, word, example) in [
        ("expected a sequence", "expected a list", Some("write values in brackets: [\"one\", \"two\"]")),
        ("expected a boolean", "expected true or false", Some("write true or false, without quotes")),
        ("expected u32", "expected a whole number", Some("write a number without quotes")),
        ("expected a string", "expected a text", Some("write it in quotes: \"…\"")),
        ("expected struct", "expected a table", None),
    ] {
        if let Some((before, _)) = message.split_once(serde) {
            return (format!("{before}{word}"), example);
        }
    }
    (message.to_owned(), None)
}

/// The known key that a wrong one was meant to be.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |right: &str| strsim::normalized_damerau_levenshtein(wrong, right);
    let best = known.iter().copied().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= ALIKE).then_some(best)
}
