//! Values whose type says too little, or whose error has to explain the command line.
//!
//! Names, MAC addresses, access lists and the like are parsed by the library's types.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use netd::{
    Error, NetworkRequest, PortSpec, TargetSpec, UnpublishSpec, parse_address, parse_prefix, parse_subnet,
};

use crate::hints;

/// A value that cannot be accepted, and what to write instead.
#[derive(Debug)]
pub(crate) struct Refused {
    message: String,
    hint: Option<String>,
}

impl Refused {
    fn new(message: String) -> Self {
        Self { message, hint: None }
    }

    fn hint(self, hint: String) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// What to write instead.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { message: error.chain(), hint: hints::hint(&error) }
    }
}

/// A number within a range; `what` begins the sentence that refuses another.
fn number<T>(text: &str, range: &RangeInclusive<T>, what: &str) -> Result<T, Refused>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        Refused::new(format!("'{text}': {what} must be between {} and {}", range.start(), range.end()))
    })
}

/// MTU in bytes.
pub(super) fn mtu(text: &str) -> Result<u32, Refused> {
    number(text, &NetworkRequest::MTU, "the MTU")
}

/// A process ID.
pub(super) fn process(text: &str) -> Result<i32, Refused> {
    number(text, &(1..=i32::MAX), "a process ID")
}

/// A port, host byte order.
pub(super) fn port(text: &str) -> Result<u16, Refused> {
    number(text, &(1..=u16::MAX), "a port")
}

/// An IP address.
pub(super) fn address(text: &str) -> Result<IpAddr, Refused> {
    Ok(parse_address(text)?)
}

/// A subnet.
pub(super) fn subnet(text: &str) -> Result<IpNet, Refused> {
    Ok(parse_subnet(text)?)
}

/// An address or a prefix.
pub(super) fn prefix(text: &str) -> Result<IpNet, Refused> {
    Ok(parse_prefix(text)?)
}

/// How many of the last lines are meant; all of them if none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<usize>);

/// A number of lines, or `all`.
pub(super) fn tail(text: &str) -> Result<Tail, Refused> {
    match text {
        "all" => Ok(Tail(None)),
        number => number.parse().map(|lines| Tail(Some(lines))).map_err(|_not_one| {
            Refused::new(format!("'{text}' is not a number of lines"))
                .hint("for example 100, or all".to_owned())
        }),
    }
}

/// A time, as `docker logs --since` takes it: with an offset or in the local time zone, in seconds since 1970, or a duration
/// before now.
pub(super) fn since(text: &str) -> Result<Timestamp, Refused> {
    let ago = || Timestamp::now().checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    let local = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok()?.timestamp());
    let seconds = || Timestamp::from_second(text.parse().ok()?).ok();
    seconds().or_else(|| text.parse().ok()).or_else(local).or_else(ago).ok_or_else(|| {
        Refused::new(format!("'{text}' is neither a time nor a duration"))
            .hint("for example 2026-01-31T12:00:00Z, 2026-01-31 12:00 (local time) or 10m".to_owned())
    })
}

/// Whether a word can only be meant as a name: it begins with a letter, and has nothing that separates ports.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && !text.contains([':', '/'])
}

/// A port to publish. A name in its place is a target that was given first.
pub(super) fn port_to_publish(text: &str) -> Result<PortSpec, Refused> {
    if is_name(text) {
        return Err(Refused::new(format!("'{text}' is not a port"))
            .hint(format!("the target comes last: netd publish 8080:80 {text}")));
    }
    Ok(text.parse::<PortSpec>()?)
}

/// A published port. A name in its place is a container whose ports are meant.
pub(super) fn port_to_unpublish(text: &str) -> Result<UnpublishSpec, Refused> {
    if is_name(text) {
        return Err(Refused::new(format!("'{text}' is not a port"))
            .hint(format!("to unpublish all ports of a container: netd unpublish --container {text}")));
    }
    Ok(text.parse::<UnpublishSpec>()?)
}

/// A target. A port in its place means that the target is missing, or that it was given with its port.
pub(super) fn target(text: &str) -> Result<TargetSpec, Refused> {
    // A container may be called 80, but not 8080:80.
    if text.contains([':', '/']) && text.parse::<IpAddr>().is_err() && text.parse::<PortSpec>().is_ok() {
        return Err(Refused::new(format!("the target is missing after '{text}'"))
            .hint(format!("the target comes last: netd publish {text} web")));
    }
    Ok(text.parse::<TargetSpec>()?)
}

/// `publish -p PORT`, as one writes it for `run`.
pub(super) fn needless_p(text: &str) -> Result<String, Refused> {
    Err(Refused::new(format!("publish takes ports without -p: netd publish {text} web")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let is = |text: &str, expected: &str| {
            assert_eq!(since(text).unwrap(), expected.parse().unwrap(), "{text}");
        };
        is("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z");
        is("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.5Z");
        is("1769860800", "2026-01-31T12:00:00Z");
        let local = DateTime::constant(2026, 1, 31, 12, 0, 0, 0).to_zoned(TimeZone::system()).unwrap();
        for text in ["2026-01-31T12:00:00", "2026-01-31 12:00", "2026-01-31 12:00:00"] {
            assert_eq!(since(text).unwrap(), local.timestamp(), "{text}");
        }
        let midnight = DateTime::constant(2026, 1, 31, 0, 0, 0, 0).to_zoned(TimeZone::system()).unwrap();
        assert_eq!(since("2026-01-31").unwrap(), midnight.timestamp());
        for (text, seconds) in [("10m", 600), ("1h30m", 5400), ("90s", 90)] {
            let (before, at, after) = (Timestamp::now(), since(text).unwrap(), Timestamp::now());
            let span = SignedDuration::from_secs(seconds);
            assert!(before - span <= at && at <= after - span, "{text}");
        }
        for text in ["", "yesterday", "10", "10x"] {
            assert_eq!(since(text).is_ok(), text == "10", "{text}");
        }
    }

    #[test]
    fn a_tail_is_a_number_or_all() {
        assert_eq!(tail("all").unwrap(), Tail(None));
        assert_eq!(tail("0").unwrap(), Tail(Some(0)));
        assert!(tail("-1").is_err() && tail("x").is_err());
    }
}
