//! The network configuration: what a runtime writes to the plugin's standard input.

use std::collections::HashSet;
use std::net::IpAddr;

use netd::{HostPorts, PortRange, PortSpec, Protocol};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure::{Code, Failure};

/// The versions of the specification that are spoken.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The network's name.
    pub(super) name: String,
    /// The ports to publish, each once.
    pub(super) ports: Vec<PortSpec>,
    /// What the plugins before this one have answered.
    pub(super) previous: Option<Value>,
    /// Conditions on clients, as arguments of iptables: of IPv4 and of IPv6.
    pub(super) conditions: [Vec<String>; 2],
    /// For GC: the attachments that are in use, by container and interface.
    pub(super) valid: Vec<(String, String)>,
}

/// The keys as the specification writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    cni_version: String,
    name: String,
    prev_result: Option<Value>,
    backend: Option<String>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    runtime_config: RuntimeConfig,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Vec<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    /// Their keys are written in any case: containerd writes HostPort, Podman hostPort.
    port_mappings: Option<Vec<Map<String, Value>>>,
}

impl Config {
    /// Reads a configuration; what it asks for and netd does not do is a failure.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Failure> {
        let wrong = |error: serde_json::Error| {
            Failure::new(Code::Decode, format!("the network configuration cannot be read: {error}"))
        };
        let said: Said = serde_json::from_slice(text).map_err(wrong)?;
        if !VERSIONS.contains(&said.cni_version.as_str()) {
            let (asked, known) = (&said.cni_version, VERSIONS.join(", "));
            return Err(Failure::new(Code::Version, format!("cniVersion '{asked}' is not one of {known}")));
        }
        if said.name.is_empty() {
            return Err(Failure::new(Code::Config, "the network has no name"));
        }
        match said.backend.as_deref() {
            // Either names how rules are made, and netd makes none.
            None | Some("iptables" | "nftables") => {}
            Some(other) => {
                return Err(Failure::new(
                    Code::Config,
                    format!("backend '{other}' is not iptables or nftables"),
                ));
            }
        }
        if said.masq_all {
            let why = "netd keeps the clients' addresses; remove masqAll from the configuration";
            return Err(Failure::unsupported("masqAll is not supported", why));
        }
        if said.mark_masq_bit.is_some() && said.external_set_mark_chain.is_some() {
            let message = "markMasqBit and externalSetMarkChain cannot be used together";
            return Err(Failure::new(Code::Config, message));
        }
        if said.mark_masq_bit.is_some_and(|bit| !(0..=31).contains(&bit)) {
            return Err(Failure::new(Code::Config, "markMasqBit must be between 0 and 31"));
        }
        let mut seen = HashSet::new();
        let mut ports = Vec::new();
        for mapping in said.runtime_config.port_mappings.unwrap_or_default() {
            let port = port(&mapping)?;
            if seen.insert(port) {
                ports.push(port);
            }
        }
        let conditions = [said.conditions_v4, said.conditions_v6].map(Option::unwrap_or_default);
        let text_of =
            |attachment: &Map<String, Value>, key| Some(field(attachment, key)?.as_str()?.to_owned());
        let valid = said.valid_attachments.iter();
        let valid = valid.filter_map(|one| Some((text_of(one, "containerID")?, text_of(one, "ifname")?)));
        Ok(Self { name: said.name, ports, previous: said.prev_result, conditions, valid: valid.collect() })
    }
}

/// A field whose name is written in any case.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn port(mapping: &Map<String, Value>) -> Result<PortSpec, Failure> {
    let shown = Value::Object(mapping.clone());
    let wrong = |what: &str| Failure::new(Code::Config, format!("port mapping {shown}: {what}"));
    let number = |name: &str| {
        let number = field(mapping, name).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let range = number.and_then(|port| PortRange::new(port, port));
        range.ok_or_else(|| wrong(&format!("{name} is not a port from 1 to 65535")))
    };
    let text = |name: &str| match field(mapping, name) {
        None | Some(Value::Null) => Ok(""),
        Some(value) => value.as_str().ok_or_else(|| wrong(&format!("{name} is not a text"))),
    };
    let proto: Protocol = match text("protocol")? {
        "" => Protocol::Tcp,
        name => name.parse().map_err(|_unknown| wrong("the protocol is not tcp, udp or sctp"))?,
    };
    let host_ip: Option<IpAddr> = match text("hostIP")? {
        "" => None,
        address => Some(address.parse().map_err(|_not_one| wrong("hostIP is not an IP address"))?),
    };
    Ok(PortSpec {
        host_ip,
        host: HostPorts::Range(number("hostPort")?),
        target: number("containerPort")?,
        proto,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, Failure> {
        Config::parse(text.as_bytes())
    }

    fn code(text: &str) -> u64 {
        parsed(text).unwrap_err().to_json("1.0.0")["code"].as_u64().unwrap()
    }

    #[test]
    fn port_mappings_are_written_in_any_case_and_counted_once() {
        let config = parsed(
            r#"{"cniVersion":"1.0.0","name":"n","type":"portmap","capabilities":{"portMappings":true},"snat":true,
                "runtimeConfig":{"portMappings":[
                  {"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":""},
                  {"hostPort":8080,"containerPort":80,"protocol":"TCP"},
                  {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"127.0.0.1"},
                  {"hostPort":54,"containerPort":54,"hostIP":"::1"}]}}"#,
        )
        .unwrap();
        let specs: Vec<String> = config.ports.iter().map(ToString::to_string).collect();
        assert_eq!(specs, ["8080:80/tcp", "127.0.0.1:53:5353/udp", "[::1]:54:54/tcp"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_code() {
        assert_eq!(code("{"), 6);
        assert_eq!(code(r#"{"cniVersion":"2.0.0","name":"n"}"#), 1);
        assert_eq!(code(r#"{"cniVersion":"1.0.0"}"#), 7);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"n","masqAll":true}"#), 2);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"n","backend":"ipvs"}"#), 7);
        assert_eq!(
            code(
                r#"{"cniVersion":"1.0.0","name":"n","markMasqBit":4,"externalSetMarkChain":"KUBE-MARK-MASQ"}"#
            ),
            7
        );
        for mapping in [
            r#"{"hostPort":0,"containerPort":80}"#,
            r#"{"hostPort":80}"#,
            r#"{"hostPort":80,"containerPort":70000}"#,
            r#"{"hostPort":80,"containerPort":80,"protocol":"icmp"}"#,
            r#"{"hostPort":80,"containerPort":80,"hostIP":"localhost"}"#,
        ] {
            let text = format!(
                r#"{{"cniVersion":"0.4.0","name":"n","runtimeConfig":{{"portMappings":[{mapping}]}}}}"#
            );
            assert_eq!(code(&text), 7, "{mapping}");
        }
    }
}
