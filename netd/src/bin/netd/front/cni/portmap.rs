//! What the plugin `portmap` does.

use std::path::PathBuf;

use netd::report::Port;
use netd::{HostPorts, IfName, Name, OwnerKey, OwnerRequest, PortSpec, Result as NetdResult, Session};
use serde_json::Value;

use super::conditions::Conditions;
use super::config::Config;
use super::environment::variable;
use super::failure::{Code, Failure};
use crate::command::{Caller, change, take_away};

/// What the keys of this front end begin with.
const OWNER: &str = "cni";
/// How many characters of a container's identifier its name has.
const SHORT: usize = 12;

/// An attachment of a container to a network.
#[derive(Clone, Debug)]
struct Attachment {
    network: String,
    container: String,
    interface: IfName,
}

impl Attachment {
    /// The one that the environment names.
    fn of(config: &Config) -> Result<Self, Failure> {
        let (container, interface) = (variable("CNI_CONTAINERID")?, variable("CNI_IFNAME")?);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !container.starts_with(|c: char| c.is_ascii_alphanumeric()) || !container.chars().all(fits) {
            return Err(Failure::new(
                Code::Environment,
                format!("CNI_CONTAINERID '{container}' is not valid"),
            ));
        }
        let wrong =
            |_not_one| Failure::new(Code::Environment, format!("CNI_IFNAME '{interface}' is not valid"));
        let interface = interface.parse().map_err(wrong)?;
        Ok(Self { network: config.name.clone(), container, interface })
    }

    /// The key by which netd finds it again.
    fn key(&self) -> Result<OwnerKey, Failure> {
        let Self { network, container, interface } = self;
        Ok(format!("{OWNER}/{container}/{interface}/{network}").parse::<OwnerKey>()?)
    }

    /// The attachment that a key is of; none if it is not of this front end.
    fn parse(key: &OwnerKey) -> Option<Self> {
        let mut parts = key.as_str().splitn(4, '/');
        if parts.next() != Some(OWNER) {
            return None;
        }
        let (container, interface, network) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            container: container.to_owned(),
            interface: interface.parse().ok()?,
            network: network.to_owned(),
        })
    }

    /// The container's name in reports.
    fn name(&self) -> NetdResult<Name> {
        let short: String = self.container.chars().take(SHORT).collect();
        format!("{OWNER}-{short}").parse()
    }
}

/// Publishes the ports. Returns what the plugins before this one have answered.
pub(super) fn add(config: &Config) -> Result<Value, Failure> {
    let previous = config.previous.clone();
    let previous = previous.ok_or_else(|| {
        Failure::new(
            Code::Config,
            "there is no prevResult: portmap must come after the plugin that makes the interface",
        )
    })?;
    if config.ports.is_empty() {
        return Ok(previous);
    }
    let attachment = Attachment::of(config)?;
    let conditions = Conditions::parse(&config.conditions)?;
    let request = OwnerRequest {
        key: attachment.key()?,
        name: attachment.name()?,
        netns: PathBuf::from(variable("CNI_NETNS")?),
        inner: attachment.interface.clone(),
        ports: config.ports.iter().map(|port| with_address(*port, conditions.host_ip)).collect(),
        policy: conditions.policy,
    };
    Caller::new()?.run(async |settings| {
        change(settings, async |host| {
            // Podman maps the same ports on each of a container's networks. The first one has them.
            let is_mapped = |key: &OwnerKey| {
                Attachment::parse(key)
                    .is_some_and(|other| other.container == attachment.container && *key != request.key)
            };
            if host.owner_keys().any(is_mapped) {
                return Ok(());
            }
            host.publish_for_owner(request).await.map(|_name| ())
        })
        .await
    })?;
    Ok(previous)
}

/// A port on the one address of a condition, if it has none of its own.
fn with_address(port: PortSpec, host_ip: Option<std::net::IpAddr>) -> PortSpec {
    PortSpec { host_ip: port.host_ip.or(host_ip), ..port }
}

/// Takes the ports back. Nothing to take back is fine, also without namespace and `prevResult`.
pub(super) fn del(config: &Config) -> Result<(), Failure> {
    let key = Attachment::of(config)?.key()?;
    let caller = Caller::new()?;
    if Session::open(&caller.settings)?.is_idle() {
        return Ok(());
    }
    caller
        .run(async |settings| take_away(settings, async |host| host.remove_for_owner(&[key]).await).await)?;
    Ok(())
}

/// Fails if a port is not published as it was asked for.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    if config.ports.is_empty() {
        return Ok(());
    }
    let attachment = Attachment::of(config)?;
    let key = attachment.key()?;
    let host_ip = Conditions::parse(&config.conditions)?.host_ip;
    let caller = Caller::new()?;
    let session = Session::open(&caller.settings)?;
    let Some(name) = session.container_of(&key) else {
        let message = format!("no ports of container {} are published", attachment.container);
        return Err(Failure::new(Code::UnknownContainer, message));
    };
    let published = session.report_ports(Some(name), false)?;
    for port in &config.ports {
        let wanted = with_address(*port, host_ip);
        if !published.iter().any(|one| is(one, &wanted)) {
            return Err(Failure::new(Code::Engine, format!("port {wanted} is not published")));
        }
    }
    Ok(())
}

/// Whether a published port is what a specification asks for.
fn is(port: &Port, wanted: &PortSpec) -> bool {
    let HostPorts::Range(host) = wanted.host else { return false };
    port.proto == wanted.proto.name()
        && port.host_ip == wanted.host_ip
        && (port.host_port, port.host_port_end) == (host.first(), host.last())
        && port.target_port == wanted.target.first()
}

/// Removes the ports of a network's attachments that are not in use any more.
pub(super) fn collect(config: &Config) -> Result<(), Failure> {
    Caller::new()?.run(async |settings| {
        take_away(settings, async |host| {
            let is_gone = |key: &&OwnerKey| {
                Attachment::parse(key).is_some_and(|one| {
                    one.network == config.name
                        && !config.valid.contains(&(one.container, one.interface.to_string()))
                })
            };
            let gone: Vec<OwnerKey> = host.owner_keys().filter(is_gone).cloned().collect();
            host.remove_for_owner(&gone).await
        })
        .await
    })?;
    Ok(())
}

/// Fails if no ports can be published now.
pub(super) fn status() -> Result<(), Failure> {
    let opened = Caller::new().and_then(|caller| Session::open(&caller.settings));
    opened
        .map(|_session| ())
        .map_err(|error| Failure::new(Code::NotAvailable, format!("netd: {}", error.chain())))
}
