//! What every payload says of itself: who sent it, whom it is for, and its number.

use std::fmt::{self, Display, Formatter};
use std::str::{FromStr, SplitAsciiWhitespace};

use netd_tests::stimulus::{number, view};

/// Somebody who sends and receives. The processes of one host are told apart by their flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// The host.
    Host,
    /// The neighbour on its first uplink.
    Client,
    /// The router on its second uplink.
    Outside,
    /// A container: its place, and how many had the place before.
    Container(u8, u16),
}

/// Whom a payload is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meant {
    /// One party.
    For(Party),
    /// Who holds this group of published ports, see [`crate::ground::GROUPS`].
    Holder(u8),
    /// Whoever gets it: it is sent for its headers' sake.
    Anybody,
    /// It must not arrive.
    Nobody,
}

/// A payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// Its sender.
    pub(crate) from: Party,
    /// Its receiver.
    pub(crate) meant: Meant,
    /// The flow that it belongs to; 0 if to none.
    pub(crate) flow: u32,
    /// Its number in the flow.
    pub(crate) seq: u32,
    /// Whether it wants an answer.
    pub(crate) asks: bool,
}

/// The bit by which a burst's flow is told from the plan's.
pub(crate) const BURST: u32 = 1 << 31;

/// What every payload begins with.
const MAGIC: &str = "storm ";

impl Label {
    /// What its receiver answers.
    pub(crate) fn answer(self, by: Party) -> Self {
        Self { from: by, meant: Meant::For(self.from), asks: false, ..self }
    }

    /// As bytes: a line.
    pub(crate) fn bytes(self) -> Vec<u8> {
        format!("{self}\n").into_bytes()
    }

    /// The label at the beginning of a payload.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        fn word<T: FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
            words.next()?.parse().ok()
        }
        let line = payload.split(|byte| *byte == b'\n').next()?;
        let mut words = std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?.split_ascii_whitespace();
        Some(Self {
            from: word(&mut words)?,
            meant: word(&mut words)?,
            flow: word(&mut words)?,
            seq: word(&mut words)?,
            asks: words.next()? == "ask",
        })
    }

    /// The label in an IP packet. An echo's reply is for who sent the request, whose label it repeats.
    pub(crate) fn in_packet(packet: &[u8]) -> Option<Self> {
        let ip = view(packet)?;
        let skip = match ip.protocol {
            number::TCP => usize::from(packet.get(ip.start + 12)? >> 4) * 4,
            number::UDP | number::ICMP => 8,
            _ => 0,
        };
        let label = Self::parse(packet.get(ip.start + skip..)?)?;
        let is_reply = ip.protocol == number::ICMP && packet[ip.start] == 0;
        Some(if is_reply { label.answer(Party::Outside) } else { label })
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.asks { "ask" } else { "tell" };
        write!(f, "{MAGIC}{} {} {} {} {kind}", self.from, self.meant, self.flow, self.seq)
    }
}

impl Display for Party {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Client => f.write_str("client"),
            Self::Outside => f.write_str("outside"),
            Self::Container(place, life) => write!(f, "c{place}.{life}"),
        }
    }
}

impl FromStr for Party {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "host" => Ok(Self::Host),
            "client" => Ok(Self::Client),
            "outside" => Ok(Self::Outside),
            _ => {
                let (place, life) = word.strip_prefix('c').and_then(|rest| rest.split_once('.')).ok_or(())?;
                Ok(Self::Container(place.parse().map_err(drop)?, life.parse().map_err(drop)?))
            }
        }
    }
}

impl Display for Meant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(party) => party.fmt(f),
            Self::Holder(group) => write!(f, "group{group}"),
            Self::Anybody => f.write_str("anybody"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

impl FromStr for Meant {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "anybody" => Ok(Self::Anybody),
            "nobody" => Ok(Self::Nobody),
            _ => match word.strip_prefix("group") {
                Some(group) => group.parse().map(Self::Holder).map_err(drop),
                None => word.parse().map(Self::For),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let parties = [Party::Host, Party::Client, Party::Outside, Party::Container(3, 21)];
        let meant =
            parties.map(Meant::For).into_iter().chain([Meant::Holder(7), Meant::Anybody, Meant::Nobody]);
        for (seq, meant) in (1..).zip(meant) {
            for from in parties {
                let label = Label { from, meant, flow: 9, seq, asks: seq % 2 == 0 };
                assert_eq!(Label::parse(&label.bytes()), Some(label));
            }
        }
        assert_eq!(Label::parse(b"storm c1 host 1 1 ask\n"), None);
    }
}
