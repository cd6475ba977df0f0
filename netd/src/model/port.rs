//! What `-p` and `publish` take: Docker's words for a published port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const EXAMPLE: &str =
    "for example 8080:80, 127.0.0.1:8080:80, 53:53/udp, 8000-8010:9000-9010 or [::1]:8080:80";

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The one with this number; none if it is another's.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }

    /// Its number (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => netd_common::wire::ip::protocol::TCP,
            Self::Udp => netd_common::wire::ip::protocol::UDP,
            Self::Sctp => netd_common::wire::ip::protocol::SCTP,
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::malformed(format!("'{text}' is not a protocol with ports"))
                .expected("use tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One port or some that follow each other; never empty, never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// From the first to the last; `None` if that is the wrong way round or begins at 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || last < first { None } else { Some(Self { first, last }) }
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl FromStr for PortRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let port = |text: &str| {
            // `u16::from_str` takes a sign, which no port has.
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port != 0).ok_or_else(|| {
                Error::malformed(format!("'{text}' is not a port"))
                    .expected("a port is a number from 1 to 65535")
            })
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        Self::new(first, last).ok_or_else(|| {
            Error::malformed(format!("range {text} ends before it begins"))
                .expected(format!("did you mean {last}-{first}?"))
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Which host ports are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostPorts {
    /// Whichever are free, as many as the target has.
    Any,
    /// These, as many as the target has.
    Range(PortRange),
    /// One of these, the first that is free, for the target's one port.
    FirstFree(PortRange),
}

/// A port to be published: `[HOSTIP:][HOSTPORT[-END]]:PORT[-END][/PROTO]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortSpec {
    /// The one host address; all if none.
    pub host_ip: Option<IpAddr>,
    /// The host's ports.
    pub host: HostPorts,
    /// The container's ports.
    pub target: PortRange,
    /// The protocol.
    pub proto: Protocol,
}

impl PortSpec {
    /// Whether both name a host port in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (HostPorts::Range(own), HostPorts::Range(others)) = (self.host, other.host) else { return false };
        self.proto == other.proto
            && own.first() <= others.last()
            && others.first() <= own.last()
            && meet(self.host_ip, other.host_ip)
    }
}

impl FromStr for PortSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let about = |error: Error| context(text, &error);
        let (rest, proto) = protocol(text)?;
        let (host_ip, rest) = host_address(text, rest)?;
        let (host, target) = match rest.split_once(':') {
            Some((host, target)) => (host, target),
            None if host_ip.is_none() => ("", rest),
            None => return Err(invalid(text, "the container port is missing")),
        };
        if target.is_empty() {
            return Err(invalid(text, "the container port is missing"));
        }
        let target: PortRange = target.parse().map_err(about)?;
        let host = if host.is_empty() || host == "0" {
            HostPorts::Any
        } else {
            let host: PortRange = host.parse().map_err(about)?;
            if host.count() == target.count() {
                HostPorts::Range(host)
            } else if target.count() == 1 {
                HostPorts::FirstFree(host)
            } else {
                return Err(invalid(
                    text,
                    &format!("{host} is {} ports, but {target} is {}", host.count(), target.count()),
                ));
            }
        };
        Ok(Self { host_ip, host, target, proto })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, self.host_ip)?;
        match self.host {
            HostPorts::Any => {}
            HostPorts::Range(range) | HostPorts::FirstFree(range) => write!(f, "{range}")?,
        }
        write!(f, ":{}/{}", self.target, self.proto)
    }
}

/// A publication to be taken back, by what it was published as: `[HOSTIP:]HOSTPORT[-END][:PORT[-END]][/PROTO]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnpublishSpec {
    /// The one host address; the publication on all of them if none.
    pub host_ip: Option<IpAddr>,
    /// The host's ports.
    pub host: PortRange,
    /// The container's ports, if they were said.
    pub target: Option<PortRange>,
    /// The protocol.
    pub proto: Protocol,
}

impl FromStr for UnpublishSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let about = |error: Error| context(text, &error);
        let (rest, proto) = protocol(text)?;
        let (host_ip, rest) = host_address(text, rest)?;
        let (host, target) = match rest.split_once(':') {
            Some((host, target)) => (host, Some(target.parse().map_err(about)?)),
            None => (rest, None),
        };
        if host.is_empty() || host == "0" {
            return Err(invalid(text, "the host port is missing"));
        }
        Ok(Self { host_ip, host: host.parse().map_err(about)?, target, proto })
    }
}

impl fmt::Display for UnpublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, self.host_ip)?;
        write!(f, "{}", self.host)?;
        if let Some(target) = self.target {
            write!(f, ":{target}")?;
        }
        write!(f, "/{}", self.proto)
    }
}

/// Whether two publications have a host address in common.
pub(crate) fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    one == other || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
}

fn write_address(f: &mut fmt::Formatter<'_>, address: Option<IpAddr>) -> fmt::Result {
    match address {
        Some(IpAddr::V4(address)) => write!(f, "{address}:"),
        Some(IpAddr::V6(address)) => write!(f, "[{address}]:"),
        None => Ok(()),
    }
}

/// Cuts the protocol off the end; TCP if there is none.
fn protocol(text: &str) -> Result<(&str, Protocol)> {
    match text.rsplit_once('/') {
        Some((rest, behind)) if let Some((proto, target)) = behind.split_once(':') => {
            let _known: Protocol = proto.parse().map_err(|error| context(text, &error))?;
            Err(Error::malformed(format!("'{text}': the protocol goes at the end"))
                .expected(format!("for example {rest}:{target}/{proto}")))
        }
        Some((rest, proto)) => Ok((rest, proto.parse().map_err(|error| context(text, &error))?)),
        None => Ok((text, Protocol::Tcp)),
    }
}

/// Cuts the host address off the front.
fn host_address<'a>(text: &str, rest: &'a str) -> Result<(Option<IpAddr>, &'a str)> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (address, rest) = bracketed
            .split_once("]:")
            .ok_or_else(|| invalid(text, "']:' is missing after the IPv6 address"))?;
        let address = address
            .parse()
            .map_err(|_not_one| invalid(text, &format!("'{address}' is not an IPv6 address")))?;
        return Ok((Some(checked(text, IpAddr::V6(address))?), rest));
    }
    // With two colons the first part is an address; with one it could be an address or a port, and ports have no dots.
    let colons = rest.matches(':').count();
    if colons > 2 {
        return Err(invalid(text, "an IPv6 address needs brackets"));
    }
    match rest.split_once(':') {
        Some((first, after)) if colons == 2 || first.contains('.') => {
            let address = first.parse().map_err(|_not_one| {
                Error::malformed(format!("'{text}': '{first}' is not an IP address"))
                    .expected("use an address of this host; host names are not resolved")
            })?;
            Ok((Some(checked(text, IpAddr::V4(address))?), after))
        }
        _ => Ok((None, rest)),
    }
}

/// An address that a host can have.
fn checked(text: &str, address: IpAddr) -> Result<IpAddr> {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_multicast() || broadcast {
        return Err(invalid(text, &format!("{address} is not a unicast address")));
    }
    Ok(address)
}

fn invalid(text: &str, why: &str) -> Error {
    Error::malformed(format!("'{text}': {why}")).expected(EXAMPLE)
}

fn context(text: &str, error: &Error) -> Error {
    let expected = match error {
        Error::Malformed { expected: Some(expected), .. } => expected,
        _ => EXAMPLE,
    };
    let message = error.to_string();
    // A word that is wrong as a whole is named once.
    let message =
        if message.starts_with(&format!("'{text}'")) { message } else { format!("'{text}': {message}") };
    Error::malformed(message).expected(expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(text: &str) -> PortSpec {
        text.parse().unwrap_or_else(|error: Error| panic!("{text}: {}", error.chain()))
    }

    #[test]
    fn dockers_words_mean_what_docker_means() {
        let range = |first, last| PortRange::new(first, last).unwrap();
        let tcp = |host_ip: Option<&str>, host, target| PortSpec {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host,
            target,
            proto: Protocol::Tcp,
        };
        let web = range(80, 80);
        assert_eq!(spec("80"), tcp(None, HostPorts::Any, web));
        assert_eq!(spec("8080:80"), tcp(None, HostPorts::Range(range(8080, 8080)), web));
        assert_eq!(spec("0:80"), tcp(None, HostPorts::Any, web));
        assert_eq!(spec(":80"), tcp(None, HostPorts::Any, web));
        assert_eq!(spec("127.0.0.1::80"), tcp(Some("127.0.0.1"), HostPorts::Any, web));
        assert_eq!(
            spec("127.0.0.1:8080:80"),
            tcp(Some("127.0.0.1"), HostPorts::Range(range(8080, 8080)), web)
        );
        assert_eq!(spec("[::1]:8080:80"), tcp(Some("::1"), HostPorts::Range(range(8080, 8080)), web));
        assert_eq!(spec("8000-8010:80"), tcp(None, HostPorts::FirstFree(range(8000, 8010)), web));
        assert_eq!(
            spec("8000-8010:9000-9010"),
            tcp(None, HostPorts::Range(range(8000, 8010)), range(9000, 9010))
        );
        assert_eq!(spec("53:53/UDP").proto, Protocol::Udp);
        assert_eq!(spec("1-65535:1-65535/sctp").target.count(), 65535);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            ":",
            "a",
            "80:",
            "65536",
            "8080:65536",
            "0",
            "8080:0",
            "-1:80",
            "+80:80",
            "80/",
            "80/icmp",
            "80/tcp/udp",
            "9-8:80",
            "8000-8001:80-82",
            "8000-8010:80-81",
            "::80:80",
            "1.2.3:80:80",
            "localhost:80:80",
            "1.2.3.4:80",
            "[::1]:80",
            "[::1]80:80",
            "[1.2.3.4]:80:80",
            "224.0.0.1:80:80",
            "255.255.255.255:80:80",
            "80:80:80:80",
            " 80:80",
            "80:80 ",
            "80-:80",
            "8 0:80",
            "host:80",
        ] {
            let error = bad.parse::<PortSpec>().expect_err(bad);
            assert!(matches!(error, Error::Malformed { expected: Some(_), .. }), "{bad}: {}", error.chain());
        }
    }

    #[test]
    fn what_was_published_can_be_named_to_be_taken_back() {
        for (text, shown) in [
            ("8080", "8080/tcp"),
            ("8080/udp", "8080/udp"),
            ("8080:80", "8080:80/tcp"),
            ("127.0.0.1:8080", "127.0.0.1:8080/tcp"),
            ("[::1]:8080:80/tcp", "[::1]:8080:80/tcp"),
            ("8000-8010", "8000-8010/tcp"),
        ] {
            assert_eq!(text.parse::<UnpublishSpec>().unwrap().to_string(), shown);
        }
        for bad in ["", "0", ":80", "127.0.0.1::80", "x", "8080/x"] {
            assert!(bad.parse::<UnpublishSpec>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_shows_itself(text in "[0-9a-f.:/\\[\\]tcpuds-]{0,24}") {
            if let Ok(spec) = text.parse::<PortSpec>() {
                prop_assert_eq!(spec.to_string().parse::<PortSpec>().unwrap(), spec);
            }
            if let Ok(spec) = text.parse::<UnpublishSpec>() {
                prop_assert_eq!(spec.to_string().parse::<UnpublishSpec>().unwrap(), spec);
            }
        }
    }
}
