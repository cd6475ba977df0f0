//! The results of a case in both worlds, and whether they agree.

use netd_tests::stimulus::{Lie, is_right, reassemble};
use netd_tests::twins::{End, Outcome};

use super::play::Case;

/// What arrived at each end.
pub(super) type Arrived = Vec<(End, Vec<u8>)>;

/// The results of a case in each world, with reassembled datagrams.
pub(super) struct Seen<'a> {
    /// What was sent.
    pub(super) case: &'a Case,
    /// The result of nftables.
    pub(super) nft: Arrived,
    /// The result of netd.
    pub(super) netd: Arrived,
    /// Whether conntrack called a packet invalid.
    pub(super) judged: bool,
}

impl Seen<'_> {
    /// What is expected in a world.
    pub(super) fn expected(&self, world: usize) -> Option<Vec<(End, Vec<u8>)>> {
        let (end, packets) = self.case.expected.as_ref()?;
        Some(reassemble(packets[world].clone()).into_iter().map(|packet| (*end, packet)).collect())
    }

    pub(super) fn netd_translates(&self) -> bool {
        self.expected(1).is_some_and(|expected| expected == self.netd)
    }

    pub(super) fn nft_translates(&self) -> bool {
        self.expected(0).is_some_and(|expected| expected == self.nft)
    }
}

impl<'a> Seen<'a> {
    pub(super) fn new(case: &'a Case, outcomes: &[Outcome; 2]) -> Self {
        let [nft, netd] = outcomes;
        Self { case, nft: whole(nft), netd: whole(netd), judged: nft.judged }
    }

    /// The common result of both worlds, if it is not a translation; an error if that result is wrong.
    pub(super) fn agreement(&self) -> Option<Result<&'static str, &'static str>> {
        if scrub(&self.nft) != scrub(&self.netd) {
            return None;
        }
        let case = self.case;
        if case.stimulus.lie == Lie::None && !self.netd.iter().all(|(_, packet)| is_right(packet)) {
            return Some(Err("both worlds send a wrong checksum"));
        }
        let is_passed_on = |(end, _): &(End, Vec<u8>)| case.expected.is_some() && case.to == Some(*end);
        if self.netd.iter().any(is_passed_on) && case.to != Some(case.from) {
            return Some(Err("both worlds translate otherwise than expected"));
        }
        Some(Ok(match (&self.netd[..], case.to) {
            ([], _) => "dropped",
            ([(end, _), ..], Some(to)) if *end == to => "told",
            _ => "answered",
        }))
    }
}

/// What arrived, with reassembled datagrams.
pub(super) fn whole(outcome: &Outcome) -> Arrived {
    let at = |end| outcome.arrived.iter().filter(move |(at, _)| *at == end).map(|(_, packet)| packet.clone());
    End::ALL
        .into_iter()
        .flat_map(|end| reassemble(at(end).collect()).into_iter().map(move |packet| (end, packet)))
        .collect()
}

/// What arrived, without the numbers that a host chooses at random: IPv4's identification, IPv6's flow label.
pub(super) fn scrub(arrived: &Arrived) -> Arrived {
    let blank = |packet: &Vec<u8>| {
        let mut packet = packet.clone();
        if packet[0] >> 4 == 6 {
            packet[1] &= 0xf0;
            packet[2..4].fill(0);
        } else {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        packet
    };
    arrived.iter().map(|(end, packet)| (*end, blank(packet))).collect()
}
