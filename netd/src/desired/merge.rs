//! Several files → one desired state. Lists add up; a scalar that two files set to different values is an error.

use std::collections::HashMap;
use std::fmt::Display;

use super::parse::Reader;
use super::words::{Container, Document, Said, Settings};
use crate::error::{Error, Position, Result};
use crate::model::{
    Access, At, Desired, DesiredContainer, DesiredFile, DesiredPublication, HostPorts, IfName, Name,
    OwnerKey, Policy, PortSpec, Quota, Setting, Source, Taken, TargetSpec, TimeoutSpec,
};

impl Desired {
    /// What these files ask for together. An error names file, line and column.
    pub fn parse(files: &[DesiredFile]) -> Result<Self> {
        let mut merged = Merged::default();
        for file in files {
            let (reader, document) = Reader::open(file)?;
            merged.add(&reader, &document)?;
        }
        merged.finish()
    }
}

/// What the files so far ask for.
#[derive(Default)]
struct Merged {
    desired: Desired,
    scalars: HashMap<String, At<String>>,
    uplinks: Option<At<Vec<IfName>>>,
    allow: Vec<Source>,
    deny: Vec<Source>,
    networks: HashMap<Name, Position>,
    containers: HashMap<Name, Position>,
    keys: HashMap<OwnerKey, Position>,
    ports: Taken,
}

impl Merged {
    fn add(&mut self, reader: &Reader, said: &Document) -> Result<()> {
        self.settings(reader, &said.settings)?;
        for (state, Said(duration)) in &said.timeouts {
            let at = reader.place(state);
            let text = format!("{}={}", state.get_ref(), duration.get_ref());
            let timeout: TimeoutSpec = text.parse().map_err(|error: Error| error.at(&at))?;
            if self.is_new(&format!("timeout {}", state.get_ref()), &at, duration.get_ref())? {
                self.desired.timeouts.push(At { at, value: timeout });
            }
        }
        let lists = reader.access(&said.access.allow, &said.access.deny)?;
        self.allow.extend(lists.allow);
        self.deny.extend(lists.deny);
        // A source may be allowed by one file and denied by another.
        for (said, others) in [(&said.access.allow, &self.deny), (&said.access.deny, &self.allow)] {
            for one in said {
                let source: At<Source> = reader.read(one)?;
                source.check(Access::new(others.clone(), vec![source.value]))?;
            }
        }
        for network in &said.network {
            let network = reader.network(network)?;
            unique("network", &mut self.networks, network.value.name.clone(), &network.at)?;
            self.desired.networks.push(network);
        }
        for container in &said.container {
            self.container(reader, container)?;
        }
        for publish in &said.publish {
            let publication = reader.publication(publish)?;
            self.publication(publication)?;
        }
        Ok(())
    }

    fn settings(&mut self, reader: &Reader, said: &Settings) -> Result<()> {
        for uplink in said.uplinks.iter().flatten() {
            let At { at, value: name } = reader.read::<IfName>(uplink)?;
            let all = self.uplinks.get_or_insert(At { at, value: Vec::new() });
            if !all.value.contains(&name) {
                all.value.push(name);
            }
        }
        if let Some(xdp) = &said.xdp {
            self.setting(&reader.at(xdp), "xdp")?;
        }
        if let Some(most) = &said.max_connections {
            let At { at, value } = reader.at(most);
            self.setting(&At { at, value: value.to_string() }, "max-connections")?;
        }
        if let Some(serve) = &said.serve {
            let At { at, value } = reader.at(serve);
            self.setting(&At { at, value: if value { "on" } else { "off" }.to_owned() }, "serve")?;
        }
        if let Some(quota) = &said.quota {
            let said = reader.read::<Quota>(quota)?;
            if self.is_new("quota", &said.at, &said.value)? {
                self.desired.quota = Some(said);
            }
        }
        Ok(())
    }

    fn setting(&mut self, said: &At<String>, name: &str) -> Result<()> {
        let setting: Setting = said.check(format!("{name}={}", said.value).parse())?;
        if self.is_new(name, &said.at, &setting.value())? {
            self.desired.settings.push(At { at: said.at.clone(), value: setting });
        }
        Ok(())
    }

    /// Whether nobody has set this; an error if it is set to something else.
    fn is_new(&mut self, what: &str, at: &Position, value: &impl Display) -> Result<bool> {
        let value = value.to_string();
        match self.scalars.get(what) {
            None => {
                self.scalars.insert(what.to_owned(), At { at: at.clone(), value });
                Ok(true)
            }
            Some(before) if before.value == value => Ok(false),
            Some(before) => {
                let message = format!("{what} is {value} here, but {} at {}", before.value, before.at);
                Err(Error::malformed(message).expected("set it at one of these places").at(at))
            }
        }
    }

    fn container(&mut self, reader: &Reader, said: &Container) -> Result<()> {
        let name: At<Name> = reader.read(&said.name)?;
        unique("container", &mut self.containers, name.value.clone(), &name.at)?;
        let key = said.key.as_ref().map(|key| reader.read::<OwnerKey>(key)).transpose()?;
        if let Some(key) = &key {
            unique("key", &mut self.keys, key.value.clone(), &key.at)?;
        }
        let netns = said.netns.as_ref().map(|path| reader.read_by(path, absolute)).transpose()?;
        let networks = reader.networks(said)?;
        let ports: Vec<At<PortSpec>> =
            said.publish.iter().map(|port| reader.port(port)).collect::<Result<_>>()?;
        if !ports.is_empty() {
            let target = At { at: name.at.clone(), value: TargetSpec::Container(name.value.clone()) };
            let policy = Policy::default();
            self.publication(DesiredPublication { target, ports, policy, keep_source: false })?;
        }
        let key = key.map(|key| key.value);
        self.desired.containers.push(DesiredContainer { name, key, netns, networks });
        Ok(())
    }

    fn publication(&mut self, new: DesiredPublication) -> Result<()> {
        for At { at, value: port } in &new.ports {
            let HostPorts::Range(host) = port.host else { continue };
            let ports = host.first()..=host.last();
            if self.ports.has_any(port.proto, port.host_ip, &ports) {
                let message = match self.holder(&new, port) {
                    Some(holder) => format!("port {port} is in use: published at {holder}"),
                    None => format!("port {port} is published twice"),
                };
                let hint = "publish each host port once; another host port or host address is needed";
                return Err(Error::malformed(message).expected(hint).at(at));
            }
            self.ports.insert(port.proto, port.host_ip, ports);
        }
        self.desired.publications.push(new);
        Ok(())
    }

    /// Where another publication has one of a port's host ports.
    fn holder<'a>(&'a self, new: &'a DesiredPublication, port: &PortSpec) -> Option<&'a Position> {
        let before = self.desired.publications.iter().flat_map(|one| &one.ports);
        let mut all = before.chain(&new.ports);
        all.find(|other| other.value.overlaps(port)).map(|other| &other.at)
    }

    fn finish(mut self) -> Result<Desired> {
        if let Some(At { at, value }) = self.uplinks {
            self.desired.settings.push(At { at, value: Setting::Uplinks(value) });
        }
        self.desired.access = Access::new(self.allow, self.deny)?;
        Ok(self.desired)
    }
}

/// Refuses a name that something of its kind has already.
fn unique<K: std::hash::Hash + Eq + Display>(
    what: &str,
    known: &mut HashMap<K, Position>,
    name: K,
    at: &Position,
) -> Result<()> {
    match known.get(&name) {
        Some(before) => {
            let error = Error::malformed(format!("{what} {name} is already defined at {before}"));
            Err(error.expected("define it at one of these places").at(at))
        }
        None => {
            known.insert(name, at.clone());
            Ok(())
        }
    }
}

fn absolute(path: &str) -> Result<std::path::PathBuf> {
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(Error::malformed(format!("'{path}' is not an absolute path"))
            .expected("for example /run/netns/NAME"))
    }
}
