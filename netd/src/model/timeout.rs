//! How long connections may be idle.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use netd_common::flow::state::State;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest timeout, seconds: a year. What is idle for longer is nobody's.
const LONGEST: u32 = 365 * 24 * 60 * 60;

/// A state of connections and how long they may be idle in it: `STATE=DURATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutSpec {
    state: State,
    seconds: u32,
}

impl TimeoutSpec {
    /// The state.
    pub(crate) const fn state(self) -> State {
        self.state
    }
}

impl FromStr for TimeoutSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, duration) = text.split_once('=').ok_or_else(|| {
            Error::malformed(format!("'{text}' has no duration")).expected("for example two_way=10m")
        })?;
        let state = State::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            let names = State::ALL.map(State::name).join(", ");
            Error::malformed(format!("'{text}': there is no state '{name}'"))
                .expected(format!("the states are {names}"))
        })?;
        Ok(Self { state, seconds: seconds(text, duration)? })
    }
}

/// A duration in whole seconds, with a unit or without.
fn seconds(text: &str, duration: &str) -> Result<u32> {
    let parsed = match duration.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_not_a_number) => humantime::parse_duration(duration),
    };
    let parsed = parsed.map_err(|error| match error {
        humantime::DurationError::UnknownUnit { unit, .. } => {
            Error::malformed(format!("'{text}': '{unit}' is not a unit")).expected("use s, m, h or d")
        }
        _ => Error::malformed(format!("'{text}': '{duration}' is not a duration"))
            .expected("for example 30s, 10m, 2h or 5d; without a unit, seconds"),
    })?;
    u32::try_from(parsed.as_secs()).ok().filter(|seconds| (1..=LONGEST).contains(seconds)).ok_or_else(|| {
        Error::malformed(format!("'{text}': a timeout of {duration} is out of range"))
            .expected("use 1s to 365d")
    })
}

/// Seconds as a timeout is written: `2h4m`.
pub fn duration(seconds: u32) -> String {
    let mut rest = seconds;
    let parts = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)].map(|(unit, size)| {
        let count = rest / size;
        rest %= size;
        if count > 0 { format!("{count}{unit}") } else { String::new() }
    });
    if seconds == 0 { "0s".to_owned() } else { parts.concat() }
}

/// The timeouts that are not as by default: seconds by the state's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeouts(BTreeMap<String, u32>);

impl Timeouts {
    /// Whether all of them are as by default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long a connection in this state may be idle.
    pub fn seconds(&self, state: State) -> u32 {
        self.0.get(state.name()).copied().unwrap_or(state.default_timeout())
    }

    /// Those that are not as by default, by the state's name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(state, seconds)| (state.as_str(), *seconds))
    }

    /// Sets one to its default.
    pub(crate) fn reset(&mut self, state: State) {
        self.0.remove(state.name());
    }

    /// Changes one.
    pub fn change(&mut self, TimeoutSpec { state, seconds }: TimeoutSpec) {
        self.0.insert(state.name().to_owned(), seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_said_in_seconds_or_with_a_unit() {
        for (text, state, seconds) in [
            ("one_way=1", State::UdpOneWay, 1),
            ("two_way=90s", State::UdpTwoWay, 90),
            ("echo=2m", State::Echo, 120),
            ("time_wait=1h", State::TimeWait, 3600),
            ("established=5d", State::Established, 432_000),
            ("generic=365d", State::Generic, LONGEST),
        ] {
            assert_eq!(text.parse::<TimeoutSpec>().unwrap(), TimeoutSpec { state, seconds }, "{text}");
        }
        for bad in [
            "",
            "echo",
            "echo=",
            "echo=0",
            "echo=0s",
            "echo=10ms",
            "echo=-1",
            "echo=1.5",
            "echo=366d",
            "echo=5x",
            "udp=5s",
            "=5s",
            "echo=99999999999999999999",
        ] {
            let error = bad.parse::<TimeoutSpec>().expect_err(bad);
            assert!(matches!(error, Error::Malformed { expected: Some(_), .. }), "{bad}");
        }
    }

    #[test]
    fn durations_use_the_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (7440, "2h4m"), (432_000, "5d"), (86_401, "1d1s")] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!("echo=1d1s".parse::<TimeoutSpec>().unwrap().seconds, 86_401);
    }

    #[test]
    fn what_is_not_changed_is_as_by_default() {
        let mut timeouts = Timeouts::default();
        timeouts.change("echo=7s".parse().unwrap());
        assert_eq!(timeouts.seconds(State::Echo), 7);
        assert_eq!(timeouts.seconds(State::UdpTwoWay), State::UdpTwoWay.default_timeout());
    }
}
