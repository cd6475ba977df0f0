//! The words of a file, as TOML has them. Texts that mean something are read later, so that their errors name their place.
//!
//! The comments are also the descriptions of the JSON Schema.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

/// A value, and the bytes of the file that it is from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Said<T>(pub(super) Spanned<T>);

impl<T> Said<T> {
    /// A value to be written.
    pub(super) fn new(value: T) -> Self {
        Self(Spanned::new(0..0, value))
    }
}

impl<T: JsonSchema> JsonSchema for Said<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Desired state of netd: networks, containers, published ports and settings of a host.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Document {
    /// Settings, as 'netd set' and 'netd quota' have them. What is not named is as by default.
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub(super) settings: Settings,
    /// Idle timeouts by connection state, as 'netd timeouts' has them, for example established = "1d".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) timeouts: BTreeMap<Spanned<String>, Said<String>>,
    /// Who may use the published ports that have no lists of their own, as 'netd access' has it.
    #[serde(skip_serializing_if = "Lists::is_empty")]
    pub(super) access: Lists,
    /// Networks, as 'netd network create' makes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) network: Vec<Network>,
    /// Containers, as 'netd container add' attaches them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) container: Vec<Container>,
    /// Published ports, as 'netd publish' makes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) publish: Vec<Publish>,
}

/// Settings.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Settings {
    /// Interfaces to the outside. All interfaces that hold routes, if there is no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uplinks: Option<Vec<Said<String>>>,
    /// Uplinks with the XDP program: off, auto or native.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) xdp: Option<Said<String>>,
    /// Tracked IPv4 connections, fixed at first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<Said<u32>>,
    /// Whether commands start 'netd serve'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serve: Option<Said<bool>>,
    /// How much of the flow tables one container may have, for example "50%".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<Said<String>>,
}

impl Settings {
    fn is_empty(&self) -> bool {
        let Self { uplinks, xdp, max_connections, serve, quota } = self;
        uplinks.is_none() && xdp.is_none() && max_connections.is_none() && serve.is_none() && quota.is_none()
    }
}

/// Who may use published ports. The longest prefix that contains an address decides.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Lists {
    /// Only these sources are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) allow: Vec<Said<String>>,
    /// These sources are denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) deny: Vec<Said<String>>,
}

impl Lists {
    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// A network.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Network {
    /// Name of the network. "bridge" is the default network.
    pub(super) name: Said<String>,
    /// Subnets, at most one IPv4 and one IPv6. A free IPv4 subnet is chosen if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subnets: Vec<Said<String>>,
    /// Addresses of the host on the network, one for each subnet. The first of the subnet, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gateways: Vec<Said<String>>,
    /// Name of the bridge interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bridge: Option<Said<String>>,
    /// Use this existing bridge and its addresses. netd never removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) adopt: Option<Said<String>>,
    /// Somebody else routes the adopted bridge: netd publishes ports of its containers and leaves all else alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) unmanaged: bool,
    /// MTU in bytes. That of the default route's interface, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<Said<u32>>,
    /// Whether it has IPv6. A random unique local subnet is chosen if there is no IPv6 subnet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) ipv6: bool,
    /// No connections to or from outside, and no published ports.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) internal: bool,
    /// Whether containers reach each other directly.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub(super) icc: bool,
    /// Whether outgoing connections get an address of the host.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub(super) masquerade: bool,
    /// Source addresses of outgoing connections, at most one IPv4 and one IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) snat_addresses: Vec<Said<String>>,
    /// Gateway modes: nat, nat-unprotected, routed or isolated, for one IP version as ipv4=MODE or ipv6=MODE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gateway_modes: Vec<Said<String>>,
    /// Clients that arrive on these interfaces may also use container addresses for published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trusted_interfaces: Vec<Said<String>>,
}

/// A container: a network namespace that is attached to networks.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Container {
    /// Name of the container.
    pub(super) name: Said<String>,
    /// Identifier that another program gives to the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Said<String>>,
    /// Path of the network namespace to attach. /run/netns/NAME is created if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) netns: Option<Said<String>>,
    /// Networks, the one of its published ports first: "bridge" if there is none. "host" and "none" stand alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) networks: Option<Vec<Said<Attachment>>>,
    /// Ports to publish: HOSTPORT:PORT and the other forms of 'netd publish'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) publish: Vec<Said<String>>,
}

/// A network that a container is on: its name, or a table.
#[derive(Debug)]
pub(super) enum Attachment {
    /// By name.
    Name(String),
    /// With more.
    Table(Box<Connect>),
}

/// A container's interface on a network.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Connect {
    /// Name of the network.
    pub(super) name: Said<String>,
    /// Name of the interface in the container. eth0 for the first network, eth1 for the second and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<Said<String>>,
    /// Addresses, at most one IPv4 and one IPv6. The lowest free ones are chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ip: Vec<Said<String>>,
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mac: Option<Said<String>>,
    /// Further addresses and prefixes that the container may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allowed_addresses: Vec<Said<String>>,
    /// Use an existing veth pair: this interface is its host end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) adopt: Option<Said<String>>,
}

/// Ports that are published to one target.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Publish {
    /// Container name, or IP address of another host.
    pub(super) to: Said<String>,
    /// Only these sources are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allow: Vec<Said<String>>,
    /// These sources are denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) deny: Vec<Said<String>>,
    /// Only clients that arrive on this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<Said<String>>,
    /// For another host: it sees the clients' addresses. Its replies must return through this host.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) keep_source: bool,
    /// Ports as "netd publish" takes them, with host ports: "8080:80", "127.0.0.1:8080:80", "9000-9100:9000-9100/udp".
    pub(super) ports: Vec<Said<String>>,
}

impl<'de> Deserialize<'de> for Attachment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Attachment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a network, or a table with 'name'")
            }

            fn visit_str<E>(self, name: &str) -> Result<Attachment, E> {
                Ok(Attachment::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Attachment, A::Error> {
                let table = Connect::deserialize(MapAccessDeserializer::new(table))?;
                Ok(Attachment::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

impl JsonSchema for Attachment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Attachment".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (name, table) = (generator.subschema_for::<String>(), generator.subschema_for::<Connect>());
        schemars::json_schema!({
            "description": "A network that a container is on: its name, or a table.",
            "anyOf": [name, table],
        })
    }
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_true(flag: &bool) -> bool {
    *flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
